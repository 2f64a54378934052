"""Store each event exactly once and enqueue it for applying, in one transaction."""

import random
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

import orjson
from django.db import DataError, Error, OperationalError, connection, transaction

from bridge import clock, collapsed, quarantine, readings, retention, routing, sql, statements, wakeup
from bridge.codec import get_codec
from bridge.envelope import Envelope, Rejected, content_hash
from bridge.errors import AlreadyDecided, StillUnreadable
from bridge.models import Duplicate, QuarantineCode, Quarantined, QuarantineStatus, Source
from bridge.reasons import Reason
from bridge.sqlstate import sqlstate

T = TypeVar("T")

_MAX_ATTEMPTS = 5
_DEADLOCK, _SERIALIZATION_FAILURE = "40P01", "40001"
_LIMIT_EXCEEDED = "54"  # a class of codes: rows or parameters too large together
_CONFLICT = Reason("conflicting-content")
_PRUNED = Reason("pruned")


class NewFact(NamedTuple):
    """A fact of our own, to be appended. `routing_key` names the saga that applies it; `lane` is one of its lanes."""

    source: Source | str
    event_id: str
    stream: str
    type: str
    key: str
    entity: str
    occurred_at: datetime
    payload: Mapping[str, Any]
    routing_key: str
    lane: str | None = None


@dataclass(frozen=True, slots=True)
class StoreResult:
    """How many messages of a batch became events, were duplicates, went to quarantine, or were only counted."""

    stored: int = 0
    duplicates: int = 0
    quarantined: int = 0
    counted: int = 0

    def __add__(self, other: "StoreResult") -> "StoreResult":
        return StoreResult(
            self.stored + other.stored,
            self.duplicates + other.duplicates,
            self.quarantined + other.quarantined,
            self.counted + other.counted,
        )


def append(facts: Sequence[NewFact]) -> list[int]:
    """Append facts of our own to the log and enqueue them. Return the pks of the new ones. Caller's transaction.

    May run twice: a fact whose (source, event_id) is in the log already is skipped.
    """
    now = clock.now()
    return list(_insert(_row_of_fact(fact, now) for fact in facts).values())


def store_batch(envelopes: Sequence[Envelope], rejected: Sequence[Rejected] = ()) -> StoreResult:
    """Store events from Pulsar in the log, and unreadable messages in quarantine.

    Of types that collapse, events beyond their number are only counted (`bridge.collapsed`).

    Opens its own transaction; if the caller has none, everything is committed on return. May run twice: a known event
    becomes a Duplicate row, or goes to quarantine if its content differs. A pruned event is a duplicate too, but gets
    no row. An event that the database rejects goes to quarantine without affecting the others. Deadlocks are retried;
    every other database error is raised.
    """
    try:
        return _retry_deadlocks(lambda: _store(envelopes, rejected))
    except (Error, orjson.JSONEncodeError) as error:
        if not envelopes or not _is_rejection(error):
            raise
        if len(envelopes) == 1:
            all_rejected = [*rejected, _rejected_by_database(envelopes[0], error)]
            return _retry_deadlocks(lambda: _store((), all_rejected))
    middle = len(envelopes) // 2
    return store_batch(envelopes[:middle], rejected) + store_batch(envelopes[middle:])


def requeue(quarantined_id: int, *, actor: str = "", why: str = "") -> int:
    """Decode a quarantined message again, with the current catalog and limits; return the pk of its event.

    In one transaction, the caller's if there is one. Raises NotInQuarantine, AlreadyDecided (it was requeued before) or
    StillUnreadable, and then changes nothing. It also succeeds if the event is in the log already.
    """
    now = clock.now()
    with transaction.atomic():
        row = quarantine.lock(quarantined_id)
        if row.status == QuarantineStatus.REQUEUED:
            raise AlreadyDecided("this message has already been requeued")
        pk = _store_one(_read_again(row, now))
        quarantine.decide(row, QuarantineStatus.REQUEUED, now, actor, why)
        wakeup.nudge_on_commit("apply")
    return pk


def unreadable(row: Quarantined) -> Reason | None:
    """Return why a quarantined message cannot become an event with the current catalog and limits; None if it can.

    Either it is still unreadable, or the log has, or had, an event with its id: with other content, or pruned.
    """
    try:
        envelope = _read_again(row, clock.now())
        known = _known({envelope.event_id}).get(envelope.event_id)
        if known is not None:
            _same_event(envelope, *known)
    except StillUnreadable as error:
        return error.reason
    return None


def routing_of(quarantined_id: int) -> list[str]:
    """Return the routing keys of a quarantined message's event, so that the caller can lock them before a requeue.

    One for each saga type that reads it. Empty if the message does not exist or is still unreadable. Reads only.
    """
    row = Quarantined.objects.filter(pk=quarantined_id).first()
    try:
        found = _read_again(row, clock.now()) if row else None
    except StillUnreadable:
        return []
    return [routing.routing_key(*reading) for reading in found.readings] if found else []


def _read_again(row: Quarantined, now: datetime) -> Envelope:
    """Decode a quarantined message with the current catalog and limits. Raises StillUnreadable."""
    decoded = get_codec().decode(quarantine.message_of(row), now)
    if isinstance(decoded, Rejected):
        raise StillUnreadable(decoded.reason)
    return decoded


# --- one transaction --------------------------------------------------------------------------------------------------


class _WerePruned(Exception):
    """Events were inserted that had been in the log before and were pruned."""

    def __init__(self, event_ids: Collection[str]) -> None:
        super().__init__()
        self.event_ids = frozenset(event_ids)


def _store(
    envelopes: Sequence[Envelope], rejected: Sequence[Rejected], pruned: frozenset[str] = frozenset()
) -> StoreResult:
    """Store a batch in one transaction. `pruned`: ids of pruned events, which are not inserted."""
    first: dict[str, Envelope] = {}
    repeats = [envelope for envelope in envelopes if first.setdefault(envelope.event_id, envelope) is not envelope]
    try:
        with transaction.atomic():
            excess = _take_excess(first)
            inserted = _insert_unpruned([item for event_id, item in first.items() if event_id not in pruned | excess])
            repeats.extend(envelope for event_id, envelope in first.items() if event_id not in inserted)
            duplicates, conflicts = _compare([envelope for envelope in repeats if envelope.event_id not in excess])
            _insert_duplicates(duplicates)
            quarantine.keep([*rejected, *conflicts])
    except _WerePruned as found:
        return _store(envelopes, rejected, pruned | found.event_ids)
    return StoreResult(len(inserted), len(duplicates), len(rejected) + len(conflicts), len(excess))


def _take_excess(first: Mapping[str, Envelope]) -> set[str]:
    """Count the events that are beyond the number that their type stores; return their ids. Most batches have none."""
    collapsing = [envelope for envelope in first.values() if envelope.collapse_after]
    if not collapsing:
        return set()
    collapsed.lock(collapsing)
    return collapsed.take_excess(collapsing, _known({envelope.event_id for envelope in collapsing}))


def _store_one(envelope: Envelope) -> int:
    try:
        with transaction.atomic():
            inserted = _insert_unpruned([envelope])
    except _WerePruned:
        raise StillUnreadable(_PRUNED) from None
    if inserted:
        return inserted[envelope.event_id]
    return _same_event(envelope, *_known({envelope.event_id})[envelope.event_id])


def _same_event(envelope: Envelope, pk: int | None, body_hash: bytes) -> int:
    """Return the pk of the known event with the envelope's id. Raises StillUnreadable: other content, or pruned."""
    if body_hash != envelope.body_hash:
        raise StillUnreadable(_CONFLICT)
    if pk is None:
        raise StillUnreadable(_PRUNED)
    return pk


def _insert_unpruned(envelopes: Sequence[Envelope]) -> dict[str, int]:
    """Insert new events. Raises _WerePruned, so that the transaction is rolled back, if some of them were pruned.

    Pruned ids are looked up after the insert and in a separate statement: the insert's snapshot may be older than the
    pruning that removed the row. Events too young to have been pruned, nearly all of them, need no lookup.
    """
    inserted = _insert(map(_row_of_envelope, envelopes))
    old = [e for e in envelopes if e.event_id in inserted and retention.is_old(e.occurred_at, e.received_at)]
    pruned = retention.remembered([item.event_id for item in old])
    if pruned:
        raise _WerePruned(pruned)
    readings.insert([(inserted[e.event_id], e) for e in envelopes if e.further and e.event_id in inserted])
    return inserted


def _compare(repeats: Sequence[Envelope]) -> tuple[list[tuple[int | None, Envelope]], list[Rejected]]:
    """Separate duplicates of events in the log from messages with the same id and different content.

    Each duplicate comes with the pk of its event; None if that was pruned.
    """
    duplicates: list[tuple[int | None, Envelope]] = []
    conflicts: list[Rejected] = []
    known = _known({envelope.event_id for envelope in repeats})
    for envelope in repeats:
        pk, body_hash = known[envelope.event_id]
        if body_hash == envelope.body_hash:
            duplicates.append((pk, envelope))
        else:
            conflicts.append(
                Rejected(envelope.message, envelope.received_at, QuarantineCode.CONFLICTING_CONTENT, _CONFLICT)
            )
    return duplicates, conflicts


def _known(event_ids: set[str]) -> dict[str, tuple[int | None, bytes]]:
    if not event_ids:
        return {}
    rows = statements.KNOWN_EVENTS.rows(sql.dump(statements.ID, ({"id": event_id} for event_id in event_ids)))
    known: dict[str, tuple[int | None, bytes]] = {event_id: (pk, bytes(body_hash)) for event_id, pk, body_hash in rows}
    pruned = retention.remembered(event_ids - known.keys())
    return known | {event_id: (None, body_hash) for event_id, body_hash in pruned.items()}


# --- rows -------------------------------------------------------------------------------------------------------------


def _row_of_fact(fact: NewFact, now: datetime) -> dict[str, Any]:
    return {
        **fact._asdict(),
        "correlation_id": "",
        "received_at": now,
        "topic": "",
        "message_id": "",
        "producer": "",
        "note": "",
        "body_hash": content_hash(fact.type, fact.payload),
        "unclear": False,
    }


def _row_of_envelope(envelope: Envelope) -> dict[str, Any]:
    message = envelope.message
    return {
        "source": Source.PULSAR.value,
        "event_id": envelope.event_id,
        "stream": envelope.stream,
        "type": envelope.type,
        "key": envelope.key,
        "entity": envelope.entity,
        "correlation_id": envelope.correlation_id,
        "occurred_at": envelope.occurred_at,
        "received_at": envelope.received_at,
        "topic": message.topic,
        "message_id": message.message_id,
        "producer": message.producer,
        "note": envelope.note,
        # The unchanged bytes, so that numbers keep their digits: the codec has checked that jsonb can store them.
        "payload": envelope.payload,
        "body_hash": envelope.body_hash,
        "unclear": envelope.unclear,
        "routing_key": routing.routing_key(envelope.stream, envelope.key, envelope.entity),
    }


def _insert(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Insert new events as Event and Pending rows in one statement; return event id → pk of the new ones."""
    # Two writers that insert the same ids in different orders deadlock, even with ON CONFLICT.
    ordered = sorted(rows, key=lambda row: row["event_id"])
    if not ordered:
        return {}
    return dict(statements.INSERT_EVENTS.rows(sql.dump(statements.event_columns(), ordered)))


def _insert_duplicates(duplicates: Sequence[tuple[int | None, Envelope]]) -> None:
    Duplicate.objects.bulk_create(
        Duplicate(
            event=pk,
            received_at=envelope.received_at,
            topic=envelope.message.topic,
            message_id=envelope.message.message_id,
        )
        for pk, envelope in duplicates
        if pk is not None
    )


# --- errors -----------------------------------------------------------------------------------------------------------


def _retry_deadlocks(run: Callable[[], T]) -> T:
    for attempt in range(1, _MAX_ATTEMPTS):
        try:
            return run()
        except OperationalError as error:
            # Inside a caller's transaction only the caller can start it again.
            if sqlstate(error) not in {_DEADLOCK, _SERIALIZATION_FAILURE} or connection.in_atomic_block:
                raise
            time.sleep(random.uniform(0, 0.02 * attempt))  # noqa: S311 (jitter, not cryptography)
    return run()


def _is_rejection(error: Exception) -> bool:
    """Whether the database rejects the content: a retry would not help, leaving the event out would.

    An IntegrityError does not count: it would be an error of ours (tables newer than this code) and concern all events.
    """
    if isinstance(error, OperationalError):
        return sqlstate(error).startswith(_LIMIT_EXCEEDED)
    return isinstance(error, DataError | orjson.JSONEncodeError)


def _rejected_by_database(envelope: Envelope, error: Exception) -> Rejected:
    reason = Reason(f"refused-by-database:{sqlstate(error) or type(error).__name__}")
    return Rejected(envelope.message, envelope.received_at, QuarantineCode.REFUSED_BY_DATABASE, reason)
