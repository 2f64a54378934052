"""Store each event exactly once and enqueue it for applying, in one transaction."""

import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

import orjson
from django.db import DataError, Error, OperationalError, connection, transaction

from bridge import clock, collapsed, look_up, quarantine, readings, retention, routing, sql, statements, wakeup
from bridge.codec import get_codec
from bridge.envelope import Envelope, Rejected, content_hash
from bridge.errors import AlreadyDecided, StillUnreadable
from bridge.models import Duplicate, Event, QuarantineCode, Quarantined, QuarantineStatus, Source
from bridge.once import AROUND_MIDNIGHT, Once
from bridge.reasons import Reason
from bridge.sqlstate import sqlstate

T = TypeVar("T")
# What is known of an event that was stored before: its pk, None if it was pruned, and the hash of its content.
Stored = tuple[int | None, bytes]

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
    return [pk for _once, pk in _insert(_row_of_fact(fact, now) for fact in facts)]


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
        known = _known([envelope]).get(envelope.once)
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


class _StoredBefore(Exception):
    """Events were inserted that had been stored before, where no unique key shows it: see `_insert_new`."""

    def __init__(self, keys: Iterable[Once]) -> None:
        super().__init__()
        self.keys = frozenset(keys)


def _store(
    envelopes: Sequence[Envelope], rejected: Sequence[Rejected], before: frozenset[Once] = frozenset()
) -> StoreResult:
    """Store a batch in one transaction. `before`: keys of events that were stored before, which are not inserted."""
    first, repeats = _first_of_each(envelopes)
    try:
        with transaction.atomic():
            excess = _take_excess(list(first.values()))
            known = before | excess  # nearly always empty
            new = [item for once, item in first.items() if once not in known] if known else list(first.values())
            inserted = _insert_new(new)
            repeats.extend(envelope for once, envelope in first.items() if once not in inserted)
            duplicates, conflicts = _compare([envelope for envelope in repeats if envelope.once not in excess])
            _insert_duplicates(duplicates)
            quarantine.keep([*rejected, *conflicts])
    except _StoredBefore as found:
        return _store(envelopes, rejected, before | found.keys)
    return StoreResult(len(inserted), len(duplicates), len(rejected) + len(conflicts), len(excess))


def _first_of_each(envelopes: Sequence[Envelope]) -> tuple[dict[Once, Envelope], list[Envelope]]:
    """Separate the first message of each event from its repeats in the same batch, also across midnight."""
    first: dict[Once, Envelope] = {}
    nights: set[tuple[datetime, str]] = set()
    repeats: list[Envelope] = []
    for envelope in envelopes:
        once, midnight = envelope.once, envelope.midnight
        night = (midnight.at, envelope.event_id) if midnight else None
        if once in first or night in nights:
            repeats.append(envelope)
            continue
        first[once] = envelope
        if night:
            nights.add(night)
    return first, repeats


def _take_excess(envelopes: Sequence[Envelope]) -> set[Once]:
    """Count the events that are beyond the number that their type stores; return their keys. Most batches have none."""
    collapsing = [envelope for envelope in envelopes if envelope.collapse_after]
    if not collapsing:
        return set()
    collapsed.lock(collapsing)
    return collapsed.take_excess(collapsing, _known(collapsing))


def _store_one(envelope: Envelope) -> int:
    try:
        with transaction.atomic():
            inserted = _insert_new([envelope])
    except _StoredBefore:
        inserted = {}
    if inserted:
        return inserted[envelope.once]
    return _same_event(envelope, *_stored([envelope])[envelope.once])


def _same_event(envelope: Envelope, pk: int | None, body_hash: bytes) -> int:
    """Return the pk of the known event with the envelope's id. Raises StillUnreadable: other content, or pruned."""
    if body_hash != envelope.body_hash:
        raise StillUnreadable(_CONFLICT)
    if pk is None:
        raise StillUnreadable(_PRUNED)
    return pk


def _insert_new(envelopes: Sequence[Envelope]) -> dict[Once, int]:
    """Insert events; return key → pk of the new ones.

    Raises _StoredBefore, so that the transaction is rolled back, if some of them had been stored before without a
    conflict of keys: they were pruned, or their id is in the log on the other side of midnight. Both are looked up
    after the insert and in a new statement, whose snapshot sees what others committed meanwhile.
    """
    inserted = dict(_insert(map(_row_of_envelope, envelopes)))
    # Nearly always all of them.
    new = [item for item in envelopes if item.once in inserted] if len(inserted) < len(envelopes) else envelopes
    near = [envelope for envelope in new if envelope.midnight]
    old = [envelope for envelope in new if retention.is_old(envelope.occurred_at, envelope.received_at)]
    if near:
        _lock_ids({envelope.event_id for envelope in near})
    before = _across_midnight(near).keys() | _pruned(old).keys()
    if before:
        raise _StoredBefore(before)
    readings.insert([(inserted[envelope.once], envelope) for envelope in new if envelope.further])
    return inserted


def _lock_ids(event_ids: Iterable[str]) -> None:
    """Lock ids of events close to midnight until the transaction ends.

    Of two writers that insert one id on both sides of midnight, the second waits here, and then sees the other's row.
    Nobody who holds such a lock waits for a row that is being inserted, so nobody waits in a circle.
    """
    rows = [{"event_id": event_id} for event_id in sorted(event_ids)]
    statements.LOCK_IDS.rows(sql.dump({"event_id": "text"}, rows))


def _compare(repeats: Sequence[Envelope]) -> tuple[list[tuple[int | None, Envelope]], list[Rejected]]:
    """Separate duplicates of events in the log from messages with the same id and different content.

    Each duplicate comes with the pk of its event; None if that was pruned.
    """
    duplicates: list[tuple[int | None, Envelope]] = []
    conflicts: list[Rejected] = []
    known = _stored(repeats)
    for envelope in repeats:
        pk, body_hash = known[envelope.once]
        if body_hash == envelope.body_hash:
            duplicates.append((pk, envelope))
        else:
            conflicts.append(
                Rejected(envelope.message, envelope.received_at, QuarantineCode.CONFLICTING_CONTENT, _CONFLICT)
            )
    return duplicates, conflicts


def _stored(envelopes: Sequence[Envelope]) -> dict[Once, Stored]:
    """Return what is known of events that could not be inserted: key → pk and hash, for each of them."""
    known = _known(envelopes)
    rest = {envelope.once for envelope in envelopes} - known.keys()
    # As long as the key of the earlier release is there too, an id on any other day is in the way of its insert.
    return known | {once: _on_any_day(once.event_id) for once in rest}


def _on_any_day(event_id: str) -> Stored:
    pks = look_up.by_event_id([event_id], [Source.PULSAR])
    pk, body_hash = Event.objects.filter(id__in=pks).order_by("id").values_list("id", "body_hash")[0]
    return pk, bytes(body_hash)


def _known(envelopes: Sequence[Envelope]) -> dict[Once, Stored]:
    """Return which events are stored already, or were before they were pruned."""
    if not envelopes:
        return {}
    known = _on_their_day({envelope.once for envelope in envelopes})
    rest = [envelope for envelope in envelopes if envelope.once not in known]
    return known | _pruned(rest) | _across_midnight(rest)


def _on_their_day(keys: Iterable[Once]) -> dict[Once, Stored]:
    parameters = sql.dump(statements.ONCE, [key._asdict() for key in keys])
    return _by_key(statements.KNOWN_EVENTS.rows([*parameters, *parameters]))


def _across_midnight(envelopes: Sequence[Envelope]) -> dict[Once, Stored]:
    """Return which events are in the log under the same id, on the other side of the same midnight."""
    rows = [
        {**envelope.once._asdict(), "other_day": midnight.other_day, "midnight": midnight.at}
        for envelope in envelopes
        if (midnight := envelope.midnight)
    ]
    if not rows:
        return {}
    parameters = sql.dump(statements.AROUND_MIDNIGHT, rows)
    return _by_key(statements.OTHER_DAY_EVENTS.rows([*parameters, AROUND_MIDNIGHT, AROUND_MIDNIGHT]))


def _pruned(envelopes: Sequence[Envelope]) -> dict[Once, Stored]:
    """Return which events were pruned, on their day or, close to midnight, on the day next to it."""
    days = {envelope.once: [envelope.once] for envelope in envelopes}
    for envelope in envelopes:
        if midnight := envelope.midnight:
            days[envelope.once].append(Once(midnight.other_day, envelope.event_id))
    found = retention.remembered([key for keys in days.values() for key in keys])
    return {once: (None, found[key]) for once, keys in days.items() for key in keys[::-1] if key in found}


def _by_key(rows: Iterable[tuple[Any, ...]]) -> dict[Once, Stored]:
    return {Once(day, event_id): (pk, bytes(body_hash)) for day, event_id, pk, body_hash in rows}


# --- rows -------------------------------------------------------------------------------------------------------------


def _row_of_fact(fact: NewFact, now: datetime) -> dict[str, Any]:
    return {
        **fact._asdict(),
        "correlation_id": "",
        "day": None,
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
        "day": envelope.day,
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


def _insert(rows: Iterable[Mapping[str, Any]]) -> list[tuple[Once, int]]:
    """Insert new events as Event and Pending rows in one statement; return key and pk of the new ones."""
    # Two writers that insert the same ids in different orders deadlock, even with ON CONFLICT.
    ordered = sorted(rows, key=lambda row: row["event_id"])
    if not ordered:
        return []
    found = statements.INSERT_EVENTS.rows(sql.dump(statements.event_columns(), ordered))
    return [(Once(day, event_id), pk) for day, event_id, pk in found]


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
