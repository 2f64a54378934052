"""The health of each part of the service, from its heartbeats and the database: the only place with thresholds.

The admin's start page, GET health, `manage.py doctor` and `manage.py probe` all show the result of `measure`, so they
cannot differ. Ages are by the database's clock (see `bridge.heartbeats`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from bridge import backlog as backlogs
from bridge import heartbeats
from bridge.backlog import UndeliveredTopic
from bridge.heartbeats import Beat
from bridge.models import HeartbeatKind, Pending
from compensation import switches
from compensation.switches import Switches

# The backlog is counted up to this number; counting further would cost too much.
BACKLOG_CAP = 10_000


class HealthLevel(StrEnum):
    """How severe a state is. An error means that something does not work: GET health answers "degraded"."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


class Name(StrEnum):
    """The parts of the service."""

    BRIDGE = "bridge"
    WORKER = "worker"
    PUBLISHER = "publisher"
    BACKLOG = "backlog"


class State(StrEnum):
    """The state of a part."""

    HEALTHY = "well"
    NEVER_RAN = "never_ran"
    SILENT = "silent"
    DISCONNECTED = "disconnected"
    PARTLY_AWAY = "partly_away"  # some of several processes are silent or not connected
    BEHIND = "behind"
    STALLED = "stalled"  # messages wait on a topic, and none is received from it
    PAUSED = "paused"
    PARTLY_PAUSED = "partly_paused"
    LONG = "long"


LEVELS = {
    State.HEALTHY: HealthLevel.OK,
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
    """The health of one part.

    age: since its last heartbeat. connected: the number of connected processes. away: the names of processes that are
    silent or not connected. paused: the services whose commands are paused. count: the events in the backlog. topics:
    those on which messages wait, of a bridge that is behind or stalled.
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
    """The health of every part at one moment, with the heartbeats from which it was derived."""

    parts: tuple[HealthPart, ...]
    beats: tuple[Beat, ...]

    @property
    def is_degraded(self) -> bool:
        """Whether a part has an error."""
        return any(part.is_error for part in self.parts)

    def part(self, name: Name) -> HealthPart:
        return next(part for part in self.parts if part.name == name)


def measure() -> Health:
    """Return the health of every part. Four queries; raises DatabaseError if the database does not answer."""
    beats = heartbeats.read()
    parts = (bridge(beats, backlogs.waiting()), worker(beats), publisher(beats, switches.peek()), backlog())
    return Health(parts, tuple(beats))


def bridge(beats: Sequence[Beat], waiting: Sequence[UndeliveredTopic] = ()) -> HealthPart:
    """Return the health of the bridges, from their heartbeats and the messages that wait on their topics."""
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
    """Return the health of worker and beat: beat sends the sweep, a worker runs it, and that writes the heartbeat."""
    rows = _of(beats, HeartbeatKind.SWEEPER)
    return HealthPart(name=Name.WORKER, state=_heartbeat_state(rows), age=rows[0].age if rows else None)


def publisher(beats: Sequence[Beat], all_switches: Switches) -> HealthPart:
    """Return whether commands can be sent, and whether they may be."""
    rows = _of(beats, HeartbeatKind.PUBLISHER)
    state = _heartbeat_state(rows)
    if state == State.HEALTHY and not any(row.connected for row in rows if row.is_alive):
        state = State.DISCONNECTED
    if all_switches.everything_paused:
        state = State.PAUSED
    elif state == State.HEALTHY and all_switches.paused:
        state = State.PARTLY_PAUSED
    return HealthPart(
        name=Name.PUBLISHER,
        state=state,
        age=rows[0].age if rows else None,
        errors=tuple(row.error for row in rows if row.is_alive and row.error),
        paused=tuple(all_switches.paused),
    )


def backlog() -> HealthPart:
    """Return the health of the backlog: of the events that are not applied yet."""
    count = Pending.objects.order_by()[:BACKLOG_CAP].count()
    return HealthPart(name=Name.BACKLOG, state=State.LONG if count >= BACKLOG_CAP else State.HEALTHY, count=count)


def _of(beats: Sequence[Beat], kind: HeartbeatKind) -> list[Beat]:
    return [row for row in beats if row.kind == kind]


def _is_replaced(row: Beat, beats: Sequence[Beat]) -> bool:
    """Return whether another bridge was started on the host after this one fell silent; its row is then ignored."""
    later = (other for other in beats if other.kind == row.kind and other.host == row.host and other.name != row.name)
    return not row.is_alive and any(other.is_alive and other.up_for < row.age for other in later)


def _bridge_state(
    rows: Sequence[Beat], state: heartbeats.BridgeState, away: Sequence[str], stalled: Sequence[str]
) -> State:
    if not state.alive:
        return _heartbeat_state(rows)
    if not state.connected:
        return State.DISCONNECTED
    if stalled:
        return State.STALLED
    if away:
        return State.PARTLY_AWAY
    return State.BEHIND if state.well_for is None else State.HEALTHY


def _heartbeat_state(rows: Sequence[Beat]) -> State:
    if not rows:
        return State.NEVER_RAN
    return State.HEALTHY if any(row.is_alive for row in rows) else State.SILENT
