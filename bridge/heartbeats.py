"""Heartbeats: one row per process, updated about every second.

Every time in these rows is written and compared by the database's clock. A host whose own clock is wrong therefore
neither looks dead nor makes others look dead. Each row also holds the process's own clock, so that the difference can
be shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import orjson
from django.db.models import DurationField, ExpressionWrapper, F
from django.db.models.functions import Now
from django.utils import timezone

from bridge import reasons, statements
from bridge.models import Heartbeat, HeartbeatKind
from bridge.reasons import Reason

# How old a heartbeat of each kind may be before its process counts as dead. Defined only here. A bridge beats every
# second. The sweep runs every 2 s, but waits behind other tasks of a busy worker. The sweep renews the publisher's
# heartbeat when it is 15 s old.
ALIVE: Mapping[str, timedelta] = {
    HeartbeatKind.BRIDGE: timedelta(seconds=15),
    HeartbeatKind.SWEEPER: timedelta(seconds=30),
    HeartbeatKind.PUBLISHER: timedelta(seconds=45),
}
_FRESH = ALIVE[HeartbeatKind.BRIDGE]
KEPT = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """One row, with ages by the database's clock.

    clock_ahead: seconds by which the process's own clock was ahead of the database's at its last beat; None if unknown.
    well_for: how long it has been connected and caught up without a break; None if it is not so now.
    detail: what the process reports about itself, see `bridge.consumer`.
    """

    name: str
    kind: str
    age: timedelta
    up_for: timedelta
    connected: bool
    well_for: timedelta | None = None
    last_message_age: timedelta | None = None
    clock_ahead: float | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_alive(self) -> bool:
        return self.age < ALIVE[self.kind]

    @property
    def host(self) -> str:
        """The host part of kind:host:pid; empty for names without one."""
        _kind, _, rest = self.name.partition(":")
        return rest.rpartition(":")[0] or rest

    @property
    def error(self) -> str:
        """The error that the process reports, in the current language; empty if there is none."""
        return reasons.text(str(self.detail.get("error") or ""))


@dataclass(frozen=True, slots=True)
class BridgeState:
    """The state of all bridges together. Those whose last beat is too old count as dead.

    alive: how many are alive.
    connected: whether at least one is connected to Pulsar.
    well_for: how long every connected bridge has been connected and caught up without a break; None if not so now.
        A bridge that is behind may hold an awaited confirmation, so one such bridge is enough for None.
    behind_topics: the topics whose messages keep the bridges from catching up.
    errors: texts of the errors that the bridges report, and one for each topic that is not read, in the current
        language.
    """

    alive: int
    connected: bool
    well_for: timedelta | None
    last_message_age: timedelta | None
    per_second: float
    behind_topics: tuple[str, ...]
    errors: tuple[str, ...]


class UnreadTopic(NamedTuple):
    """A topic, or a pattern of topics, that a bridge could not subscribe to, and the code of the reason."""

    topic: str
    since: datetime
    reason: str

    def __str__(self) -> str:
        """Return the English text, for logs."""
        return str(self.as_reason)

    @property
    def as_reason(self) -> Reason:
        return Reason("topic-not-read", {"topic": self.topic, "why": {"code": self.reason}})


def beat(
    name: str,
    kind: HeartbeatKind | str,
    *,
    connected: bool,
    well: bool | None = None,
    last_message_age: timedelta | None = None,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Record that `name` is alive. One statement, in its own transaction unless the caller has one; may run twice.

    well: connected and, where that applies, caught up (default: connected). `well_since` is kept as long as beats
    follow each other within 15 s and `well` is true in all of them.
    """
    values: dict[str, Any] = {
        "name": name,
        "kind": str(kind),
        "fresh": _FRESH,
        "connected": connected,
        "well": connected if well is None else well,
        "last_message_age": last_message_age,
        "detail": orjson.dumps({**(detail or {}), "clock": timezone.now().timestamp()}).decode(),
    }
    statements.BEAT.run(values)


def leave(name: str) -> None:
    """Remove the row of a process that stops in order. May run twice."""
    Heartbeat.objects.filter(name=name).delete()


def delete_stale() -> None:
    """Delete the rows of processes without a beat for a day. May run twice."""
    Heartbeat.objects.filter(beat_at__lt=Now() - KEPT).delete()


def read(*kinds: HeartbeatKind | str) -> list[Beat]:
    """Return the heartbeats of these kinds (default: all), newest first. One query."""
    rows = Heartbeat.objects.filter(kind__in=kinds) if kinds else Heartbeat.objects.all()
    aged = rows.annotate(
        age=_since("beat_at"),
        up_for=_since("started_at"),
        well_for=_since("well_since"),
        heard=_since("last_message_at"),
    )
    return [_beat(row) for row in aged.order_by("-beat_at", "name")]


def bridge_state() -> BridgeState:
    """Return the state of all bridges together. One query."""
    return state_of(read(HeartbeatKind.BRIDGE))


def state_of(bridges: list[Beat]) -> BridgeState:
    """Derive the state of all bridges from their heartbeats."""
    alive = [row for row in bridges if row.is_alive]
    connected = [row for row in alive if row.connected]
    well = [row.well_for for row in connected if row.well_for is not None]
    return BridgeState(
        alive=len(alive),
        connected=bool(connected),
        well_for=min(well) if well and len(well) == len(connected) else None,
        last_message_age=min((row.last_message_age for row in alive if row.last_message_age is not None), default=None),
        per_second=sum(row.detail.get("per_second", 0.0) for row in alive),
        behind_topics=tuple(sorted({topic for row in connected for topic in row.detail.get("behind_topics", ())})),
        errors=(
            *(row.error for row in alive if row.error),
            *(reasons.text(*topic.as_reason) for topic in _unread_topics(alive)),
        ),
    )


def unread_topics() -> list[UnreadTopic]:
    """Return the topics that a living bridge could not subscribe to, each once. One query.

    A bridge reports them in `detail["unread_topics"]` of its heartbeat: objects of topic, since (ISO 8601) and reason.
    """
    return _unread_topics(row for row in read(HeartbeatKind.BRIDGE) if row.is_alive)


def _unread_topics(rows: Iterable[Beat]) -> list[UnreadTopic]:
    found: dict[str, UnreadTopic] = {}
    for row in rows:
        for entry in row.detail.get("unread_topics", ()):
            one = UnreadTopic(entry["topic"], datetime.fromisoformat(entry["since"]), entry["reason"])
            found[one.topic] = min(one, found.get(one.topic, one), key=lambda topic: topic.since)
    return [found[topic] for topic in sorted(found)]


def _since(column: str) -> ExpressionWrapper[Any]:
    return ExpressionWrapper(Now() - F(column), output_field=DurationField())


def _beat(row: Any) -> Beat:
    clock = row.detail.get("clock")
    return Beat(
        name=row.name,
        kind=row.kind,
        age=row.age,
        up_for=row.up_for,
        connected=row.connected,
        well_for=row.well_for,
        last_message_age=row.heard,
        clock_ahead=None if clock is None else clock - row.beat_at.timestamp(),
        detail=row.detail,
    )
