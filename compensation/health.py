"""The verdict on each part of the service, from its heartbeats and the database: the only place with thresholds.

The admin's start page, GET health, `manage.py doctor` and `manage.py probe` all show what `measure` says, so no two of
them can differ. Ages are by the database's clock (see `bridge.heartbeats`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from bridge import backlog as backlogs
from bridge import heartbeats
from bridge.backlog import Waiting
from bridge.heartbeats import Beat
from bridge.models import HeartbeatKind, Pending
from compensation import switches
from compensation.switches import Switches

# Counting further would cost more than the number is worth.
BACKLOG_CAP = 10_000


class HealthLevel(StrEnum):
    """How bad it is. An error means that something stands still: GET health answers "degraded"."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


class Name(StrEnum):
    """The parts that are judged."""

    BRIDGE = "bridge"
    WORKER = "worker"
    PUBLISHER = "publisher"
    BACKLOG = "backlog"


class State(StrEnum):
    """What is so with a part."""

    WELL = "well"
    NEVER_RAN = "never_ran"
    SILENT = "silent"
    DISCONNECTED = "disconnected"
    PARTLY_AWAY = "partly_away"  # some of several processes are silent or not connected
    BEHIND = "behind"
    STALLED = "stalled"  # messages wait on a topic, and none is taken from it
    PAUSED = "paused"
    PARTLY_PAUSED = "partly_paused"
    LONG = "long"


LEVELS = {
    State.WELL: HealthLevel.OK,
    State.NEVER_RAN: HealthLevel.ERROR,
    State.SILENT: HealthLevel.ERROR,
    State.DISCONNECTED: HealthLevel.ERROR,
    State.PARTLY_AWAY: HealthLevel.WARNING,
    State.BEHIND: HealthLevel.WARNING,
    State.STALLED: HealthLevel.ERROR,
    State.PAUSED: HealthLevel.WARNING,
    State.PARTLY_PAUSED: HealthLevel.WARNING,
    State.LONG: HealthLevel.WARNING,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthPart:
    """The verdict on one part.

    age: since its last sign of life. connected: how many processes are. away: the names of those that are not well.
    paused: the services whose commands are paused. count: of events that wait to be applied.
    topics: of a bridge that is behind or stalled, those on which messages wait.
    """

    name: Name
    state: State
    age: timedelta | None = None
    connected: int = 0
    away: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    last_message_age: timedelta | None = None
    paused: tuple[str, ...] = ()
    count: int = 0
    topics: tuple[str, ...] = ()

    @property
    def level(self) -> HealthLevel:
        return LEVELS[self.state]

    @property
    def is_error(self) -> bool:
        return self.level == HealthLevel.ERROR


@dataclass(frozen=True, slots=True)
class Health:
    """The verdict on every part at one moment, with the heartbeats that it was read from."""

    parts: tuple[HealthPart, ...]
    beats: tuple[Beat, ...]

    @property
    def is_degraded(self) -> bool:
        """Whether something stands still."""
        return any(part.is_error for part in self.parts)

    def part(self, name: Name) -> HealthPart:
        return next(part for part in self.parts if part.name == name)


def measure() -> Health:
    """Judge every part. Four queries; raises DatabaseError if the database does not answer."""
    beats = heartbeats.read()
    parts = (bridge(beats, backlogs.waiting()), worker(beats), publisher(beats, switches.peek()), backlog())
    return Health(parts, tuple(beats))


def bridge(beats: Sequence[Beat], waiting: Sequence[Waiting] = ()) -> HealthPart:
    """Judge the bridges, from their heartbeats and from what the broker says of their topics."""
    rows = [row for row in _of(beats, HeartbeatKind.BRIDGE) if not _is_replaced(row, beats)]
    state = heartbeats.state_of(rows)
    away = tuple(row.name for row in rows if row.age < heartbeats.KEPT and not (row.is_alive and row.connected))
    stalled = tuple(row.topic for row in waiting if row.stalled)
    return HealthPart(
        name=Name.BRIDGE,
        state=_bridge_state(rows, state, away, stalled),
        topics=stalled or state.behind_topics,
        age=rows[0].age if rows else None,
        connected=sum(row.is_alive and row.connected for row in rows),
        away=away,
        errors=state.errors,
        last_message_age=state.last_message_age,
    )


def worker(beats: Sequence[Beat]) -> HealthPart:
    """Judge worker and beat together: beat sends the sweep, a worker runs it, and the sweep writes the heartbeat."""
    rows = _of(beats, HeartbeatKind.SWEEPER)
    return HealthPart(name=Name.WORKER, state=_living_state(rows), age=rows[0].age if rows else None)


def publisher(beats: Sequence[Beat], standing: Switches) -> HealthPart:
    """Judge whether commands can leave, and whether they may."""
    rows = _of(beats, HeartbeatKind.PUBLISHER)
    state = _living_state(rows)
    if state == State.WELL and not any(row.connected for row in rows if row.is_alive):
        state = State.DISCONNECTED
    if standing.everything_paused:
        state = State.PAUSED
    elif state == State.WELL and standing.paused:
        state = State.PARTLY_PAUSED
    return HealthPart(
        name=Name.PUBLISHER,
        state=state,
        age=rows[0].age if rows else None,
        errors=tuple(row.error for row in rows if row.is_alive and row.error),
        paused=tuple(standing.paused),
    )


def backlog() -> HealthPart:
    """Judge the queue of events that wait to be applied."""
    count = Pending.objects.order_by()[:BACKLOG_CAP].count()
    return HealthPart(name=Name.BACKLOG, state=State.LONG if count >= BACKLOG_CAP else State.WELL, count=count)


def _of(beats: Sequence[Beat], kind: HeartbeatKind) -> list[Beat]:
    return [row for row in beats if row.kind == kind]


def _is_replaced(row: Beat, beats: Sequence[Beat]) -> bool:
    """Whether a bridge that fell silent was started again on its host: its row is then of no more interest."""
    later = (other for other in beats if other.kind == row.kind and other.host == row.host and other.name != row.name)
    return not row.is_alive and any(other.is_alive and other.up_for < row.age for other in later)


def _bridge_state(
    rows: Sequence[Beat], state: heartbeats.BridgeState, away: Sequence[str], stalled: Sequence[str]
) -> State:
    if not state.alive:
        return _living_state(rows)
    if not state.connected:
        return State.DISCONNECTED
    if stalled:
        return State.STALLED
    if away:
        return State.PARTLY_AWAY
    return State.BEHIND if state.well_for is None else State.WELL


def _living_state(rows: Sequence[Beat]) -> State:
    if not rows:
        return State.NEVER_RAN
    return State.WELL if any(row.is_alive for row in rows) else State.SILENT
