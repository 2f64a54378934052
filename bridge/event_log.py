"""The one door: facts become rows of the event log, each exactly once, together with the word that they wait."""

import random
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple, TypeVar

import orjson
from django.db import DataError, Error, OperationalError, connection, transaction

from bridge import clock, quarantine, retention, sql, wakeup
from bridge.codec import get_codec
from bridge.envelope import Envelope, Rejected, content_hash
from bridge.errors import AlreadyDecided, StillUnreadable
from bridge.models import Duplicate, Event, QuarantineCode, Quarantined, QuarantineStatus, Source

T = TypeVar("T")

_EVENT_FIELDS = (
    "source",
    "event_id",
    "stream",
    "type",
    "key",
    "entity",
    "correlation_id",
    "occurred_at",
    "received_at",
    "topic",
    "message_id",
    "producer",
    "note",
    "payload",
    "body_hash",
)
_TRIES = 5
_DEADLOCK, _SERIALIZATION_FAILURE = "40P01", "40001"
_LIMIT_EXCEEDED = "54"  # a class of codes: rows or parameters too large together
_ID = {"id": "text"}
# LATERAL … OFFSET 0: one index probe an id, whatever the planner makes of their number.
_KNOWN = f"""
    SELECT r.id, e.pk, e.body_hash FROM {sql.recordset(_ID)}
    CROSS JOIN LATERAL (
        SELECT id AS pk, body_hash FROM bridge_event WHERE source = 'pulsar' AND event_id = r.id OFFSET 0
    ) AS e
"""  # noqa: S608 (constants of this module)
_CONFLICT = "another event with this id is already in the log, and its content is another"
_PRUNED = "its event was in the log, and has left it with its saga, which ended long ago"


class NewFact(NamedTuple):
    """A fact of our own, to be appended. `routing_key` says which saga applies it, `lane` which lane of it, if told."""

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
    """How many messages of a batch became events, were known already, or went to quarantine."""

    stored: int = 0
    duplicates: int = 0
    quarantined: int = 0

    def __add__(self, other: "StoreResult") -> "StoreResult":
        return StoreResult(
            self.stored + other.stored, self.duplicates + other.duplicates, self.quarantined + other.quarantined
        )


def routing_key(stream: str, key: str, entity: str = "") -> str:
    """What an event waits under: its saga's key, or, where it names none, its entity's."""
    return f"{stream}:{key}" if key else f"{stream}:@{entity}"


def append(facts: Sequence[NewFact]) -> list[int]:
    """Add facts of our own to the log, and have them wait to be applied. In the caller's transaction.

    May be repeated: a fact whose (source, event_id) is known is left as it is. Returns the pks of the new ones.
    """
    now = clock.now()
    return list(_insert(_row_of_fact(fact, now) for fact in facts).values())


def store_batch(envelopes: Sequence[Envelope], rejected: Sequence[Rejected] = ()) -> StoreResult:
    """Put what came from Pulsar into the log, and what could not be read into quarantine.

    Opens its own transaction; when this returns outside of one, all of it is committed. May be repeated: what is known
    already becomes a Duplicate row, or goes to quarantine if the same id now has other content. What was pruned is a
    duplicate too, of which no row is kept. An event that the database refuses goes to quarantine alone. Deadlocks are
    tried again; every other database error is the caller's.
    """
    try:
        return _again_after_deadlocks(lambda: _store(envelopes, rejected))
    except (Error, orjson.JSONEncodeError) as error:
        if not envelopes or not _is_refusal(error):
            raise
        if len(envelopes) == 1:
            refused = [*rejected, _refused(envelopes[0], error)]
            return _again_after_deadlocks(lambda: _store((), refused))
    middle = len(envelopes) // 2
    return store_batch(envelopes[:middle], rejected) + store_batch(envelopes[middle:])


def requeue(quarantined_id: int, *, actor: str = "", why: str = "") -> int:
    """Read a quarantined message again, with today's catalog and limits; returns the pk of its event.

    In one transaction, the caller's if there is one. Raises NotInQuarantine, AlreadyDecided (it has been requeued), or
    StillUnreadable, which leave everything as it was. The event may be known by now: that is success too.
    """
    now = clock.now()
    with transaction.atomic():
        row = quarantine.lock(quarantined_id)
        if row.status == QuarantineStatus.REQUEUED:
            raise AlreadyDecided("this message has been requeued before")
        pk = _store_one(_read_again(row, now))
        quarantine.decide(row, QuarantineStatus.REQUEUED, now, actor, why)
        wakeup.nudge_on_commit("apply")
    return pk


def unreadable(row: Quarantined) -> str:
    """Return why a quarantined message cannot be read by today's catalog and limits either; empty where it can."""
    try:
        _read_again(row, clock.now())
    except StillUnreadable as error:
        return error.reason
    return ""


def routing_of(quarantined_id: int) -> list[str]:
    """The key that the event of a quarantined message would wait under, so that the caller can lock it beforehand.

    Empty if the message is not there or still cannot be read. Reads only.
    """
    row = Quarantined.objects.filter(pk=quarantined_id).first()
    try:
        found = _read_again(row, clock.now()) if row else None
    except StillUnreadable:
        return []
    return [routing_key(found.stream, found.key, found.entity)] if found else []


def _read_again(row: Quarantined, now: datetime) -> Envelope:
    """Decode a quarantined message by today's catalog and limits. Raises StillUnreadable."""
    decoded = get_codec().decode(quarantine.message_of(row), now)
    if isinstance(decoded, Rejected):
        raise StillUnreadable(decoded.reason)
    return decoded


# --- one transaction --------------------------------------------------------------------------------------------------


class _WerePruned(Exception):
    """Events were inserted that the log had before, and has let go."""

    def __init__(self, event_ids: Collection[str]) -> None:
        super().__init__()
        self.event_ids = frozenset(event_ids)


def _store(
    envelopes: Sequence[Envelope], rejected: Sequence[Rejected], pruned: frozenset[str] = frozenset()
) -> StoreResult:
    """`pruned`: ids that are known to have been in the log before, and are not inserted."""
    first: dict[str, Envelope] = {}
    repeats = [envelope for envelope in envelopes if first.setdefault(envelope.event_id, envelope) is not envelope]
    try:
        with transaction.atomic():
            inserted = _insert_unpruned([item for event_id, item in first.items() if event_id not in pruned])
            repeats.extend(envelope for event_id, envelope in first.items() if event_id not in inserted)
            duplicates, conflicts = _compare(repeats)
            _insert_duplicates(duplicates)
            quarantine.keep([*rejected, *conflicts])
    except _WerePruned as found:
        return _store(envelopes, rejected, pruned | found.event_ids)
    return StoreResult(len(inserted), len(duplicates), len(rejected) + len(conflicts))


def _store_one(envelope: Envelope) -> int:
    try:
        with transaction.atomic():
            inserted = _insert_unpruned([envelope])
    except _WerePruned:
        raise StillUnreadable(_PRUNED) from None
    if inserted:
        return inserted[envelope.event_id]
    duplicates, _conflicts = _compare([envelope])
    if not duplicates:
        raise StillUnreadable(_CONFLICT)
    pk = duplicates[0][0]
    if pk is None:
        raise StillUnreadable(_PRUNED)
    return pk


def _insert_unpruned(envelopes: Sequence[Envelope]) -> dict[str, int]:
    """Insert what is new; raises _WerePruned, for the transaction to be rolled back, if some of it only seems so.

    Asked afterwards and in a statement of its own: the insert's snapshot may be older than the pruning that made its
    place free. Not asked of what is too young to have been pruned: nearly all that ever comes.
    """
    inserted = _insert(map(_row_of_envelope, envelopes))
    old = [e for e in envelopes if e.event_id in inserted and retention.is_old(e.occurred_at, e.received_at)]
    pruned = retention.remembered([item.event_id for item in old])
    if pruned:
        raise _WerePruned(pruned)
    return inserted


def _compare(repeats: Sequence[Envelope]) -> tuple[list[tuple[int | None, Envelope]], list[Rejected]]:
    """Tell repeats of what is in the log from other content under the same id.

    With the pk of the event; None where it has been pruned.
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
    with connection.cursor() as cursor:
        cursor.execute(_KNOWN, sql.dump(_ID, ({"id": event_id} for event_id in event_ids)))
        known: dict[str, tuple[int | None, bytes]] = {
            event_id: (pk, bytes(body_hash)) for event_id, pk, body_hash in cursor.fetchall()
        }
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
        # As it came, digits and all: the codec has seen that it is JSON that jsonb can hold.
        "payload": message.body,
        "body_hash": envelope.body_hash,
        "routing_key": routing_key(envelope.stream, envelope.key, envelope.entity),
    }


def _insert(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Insert what is new as Event and Pending in one statement; returns event id → pk of the new ones."""
    # Two writers that insert the same ids in different orders deadlock, ON CONFLICT or not.
    ordered = sorted(rows, key=lambda row: row["event_id"])
    if not ordered:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(_insert_sql(), sql.dump(_inserted(), ordered))
        return dict(cursor.fetchall())


@cache
def _inserted() -> dict[str, str]:
    return {**sql.columns_of(Event, *_EVENT_FIELDS), "routing_key": "text", "lane": "text"}


@cache
def _insert_sql() -> str:
    names = sql.names(sql.columns_of(Event, *_EVENT_FIELDS))
    return f"""
        WITH r AS MATERIALIZED (
            SELECT r.* FROM {sql.recordset(_inserted())}
        ), event AS (
            INSERT INTO bridge_event ({names})
            SELECT {names} FROM r
            ON CONFLICT (source, event_id) DO NOTHING
            RETURNING id, source, event_id
        ), pending AS (
            INSERT INTO bridge_pending (id, key, lane)
            SELECT event.id, r.routing_key, r.lane FROM event JOIN r USING (source, event_id)
        )
        SELECT event_id, id FROM event ORDER BY id
    """  # noqa: S608 (the names are the model's columns)


def _insert_duplicates(duplicates: Sequence[tuple[int | None, Envelope]]) -> None:
    rows = [
        {
            "event": pk,
            "received_at": envelope.received_at,
            "topic": envelope.message.topic,
            "message_id": envelope.message.message_id,
        }
        for pk, envelope in duplicates
        if pk is not None
    ]
    if not rows:
        return
    columns = sql.columns_of(Duplicate, "event", "received_at", "topic", "message_id")
    names = sql.names(columns)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO bridge_duplicate ({names}) SELECT {sql.names(columns, 'r')} FROM {sql.recordset(columns)}",  # noqa: S608
            sql.dump(columns, rows),
        )


# --- errors -----------------------------------------------------------------------------------------------------------


def _again_after_deadlocks(work: Callable[[], T]) -> T:
    for attempt in range(1, _TRIES):
        try:
            return work()
        except OperationalError as error:
            # Inside somebody else's transaction only they can start it again.
            if _code_of(error) not in {_DEADLOCK, _SERIALIZATION_FAILURE} or connection.in_atomic_block:
                raise
            time.sleep(random.uniform(0, 0.02 * attempt))  # noqa: S311 (spreads out, hides nothing)
    return work()


def _is_refusal(error: Exception) -> bool:
    """Whether it is the content that is refused: trying again would not help, leaving the offender out would.

    Not so an IntegrityError: that would be our own doing (tables newer than this code), and cost every event.
    """
    if isinstance(error, OperationalError):
        return _code_of(error).startswith(_LIMIT_EXCEEDED)
    return isinstance(error, DataError | orjson.JSONEncodeError)


def _refused(envelope: Envelope, error: Exception) -> Rejected:
    reason = f"the database cannot hold this event ({_code_of(error) or type(error).__name__})"
    return Rejected(envelope.message, envelope.received_at, QuarantineCode.REFUSED_BY_DATABASE, reason)


def _code_of(error: Exception) -> str:
    return getattr(error.__cause__, "pgcode", None) or ""
