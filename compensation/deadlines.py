"""What time does to commands: answers that did not come, and claims whose process did not come back.

Everything is found from the database alone, a page at a time, by any number of sweepers at once. `holds` is the one
answer to the question whether a deadline is on hold, and why: for the sweep and for every page that shows a deadline.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from random import random
from typing import Protocol

from django.db import transaction
from django.db.models import Subquery

from bridge import clock, heartbeats
from bridge.models import Event, Pending
from compensation import facts, statements, switches, undelivered
from compensation.models import AttemptOutcome, CommandStatus
from compensation.snapshot import CommandSnapshot
from compensation.statements import AttemptEnd
from compensation.switches import Pause, Switches
from compensation.undelivered import Answers, Undelivered

PAGE = 500
# As long as Celery lets a task live at all.
LOST_AFTER_SECONDS = 60.0
# A confirmation may wait among events that are not applied yet: while these are older, no deadline passes.
BEHIND_SECONDS = 5.0


class HoldReason(StrEnum):
    """Why a deadline is on hold."""

    PAUSED = "paused"
    BRIDGE_AWAY = "bridge_away"
    BRIDGE_BEHIND = "bridge_behind"
    BACKLOG = "backlog"
    UNDELIVERED = "undelivered"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """One reason why deadlines are on hold.

    since: when it began, if that is known. pause: of a pause, the switch or circuit breaker that says whose commands,
    by whom and why. topics: of a bridge that is behind and of undelivered messages, where they wait. undelivered: what
    waits there and until when it holds deadlines at the latest.
    """

    reason: HoldReason
    since: datetime | None = None
    pause: Pause | None = None
    topics: tuple[str, ...] = ()
    undelivered: Undelivered | None = None


class Deadlined(Protocol):
    """What `Holds.of` needs of a command: a row or a snapshot of one."""

    @property
    def service(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def deadline_at(self) -> datetime | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadlineHolds:
    """What keeps deadlines on hold at one moment. well_for: how long the bridges have been well, None if they are not.

    general: the reason that concerns every service and is no pause. answers: which services' answers may wait, or did
    wait, undelivered.
    """

    switches: Switches
    general: Hold | None
    well_for: timedelta | None
    answers: Answers

    @property
    def everything(self) -> Hold | None:
        """The reason that holds the deadlines of every service, if there is one."""
        return self.of_service(switches.EVERYTHING)

    def of_service(self, service: str) -> Hold | None:
        """Why the deadlines of this service are on hold; None if they run. A pause is named before other reasons."""
        pause = self.switches.pause_of(service)
        if pause is not None:
            return Hold(reason=HoldReason.PAUSED, since=pause.changed_at, pause=pause)
        return self.general or self._undelivered(service)

    def of(self, command: Deadlined) -> Hold | None:
        """Why this command's deadline is on hold; None if it runs, or if there is none."""
        has_deadline = command.status == CommandStatus.PUBLISHED and command.deadline_at is not None
        return self.of_service(command.service) if has_deadline else None

    def _undelivered(self, service: str) -> Hold | None:
        found = self.answers.waiting.get(service)
        if found is None:
            return None
        return Hold(reason=HoldReason.UNDELIVERED, since=found.since, topics=found.topics, undelivered=found)


def deadline_holds(now: datetime | None = None) -> DeadlineHolds:
    """Read what keeps deadlines on hold. Five queries; `now` by the database's clock (default: read)."""
    now = now or clock.now()
    state = heartbeats.bridge_state()
    general = None
    if not state.connected:
        general = Hold(reason=HoldReason.BRIDGE_AWAY)
    elif state.well_for is None:
        general = Hold(reason=HoldReason.BRIDGE_BEHIND, topics=state.behind_topics)
    elif (since := _behind_since(now)) is not None:
        general = Hold(reason=HoldReason.BACKLOG, since=since)
    return DeadlineHolds(
        switches=switches.peek(), general=general, well_for=state.well_for, answers=undelivered.read(now)
    )


def pass_deadlines(now: datetime) -> int:
    """End the attempts whose answer is overdue; returns how many. Opens its own transactions, may be repeated.

    Time in which no answer could come, or none was wanted, does not count: while `holds` names a reason, deadlines are
    on hold, and afterwards each clock starts again from the beginning.
    """
    held = deadline_holds(now)
    if held.well_for is None or held.everything:
        return 0
    well_since = now - held.well_for
    passed = 0
    while page := _pass_page(now, well_since, held.answers):
        passed += page.count(True)
    return passed


def recover_lost(now: datetime) -> int:
    """Make commands due again whose publisher died between claim and record; returns how many. May be repeated.

    The attempt counts: a command that kills its publisher must not be tried for ever.
    """
    recovered = 0
    while page := _recover_page(now):
        recovered += page
    return recovered


def _pass_page(now: datetime, well_since: datetime, answers: Answers) -> list[bool]:
    """One page: passes what is overdue, and moves deadlines on where time did not count; says of each which it was."""
    with transaction.atomic(durable=True):
        # Read again in this transaction: a pause that came meanwhile must hold this page.
        standing = switches.read()
        if standing.everything_paused:
            return []
        overdue = statements.lock_overdue(now, [*standing.paused, *answers.waiting], PAGE)
        late: list[CommandSnapshot] = []
        moved: list[CommandSnapshot] = []
        for command in overdue:
            due_at = _due_at(command, well_since, standing, answers)
            if due_at <= now:
                late.append(command)
            else:
                moved.append(command.deadline_moved(due_at))
        statements.write(moved)
        _end(late, AttemptOutcome.DEADLINE, now)
    return [True] * len(late) + [False] * len(moved)


def _due_at(command: CommandSnapshot, well_since: datetime, standing: Switches, answers: Answers) -> datetime:
    service = command.service
    starts = (command.published_at, well_since, standing.changed_at(service), answers.ended.get(service))
    return max(start for start in starts if start) + timedelta(seconds=command.confirmation_timeout)


def _recover_page(now: datetime) -> int:
    with transaction.atomic(durable=True):
        lost = statements.lock_lost(now - timedelta(seconds=LOST_AFTER_SECONDS), PAGE)
        _end(lost, AttemptOutcome.SUPERSEDED, now)
    return len(lost)


def _end(commands: list[CommandSnapshot], outcome: AttemptOutcome, now: datetime) -> None:
    """End the attempts of locked commands: each waits for its next one, or is exhausted."""
    after = [command.failed(outcome, "", now, random()) for command in commands]  # noqa: S311 (jitter)
    ends: list[AttemptEnd] = [
        {"command_id": command.id, "outcome": outcome, "ended_at": now, "error": ""} for command in commands
    ]
    statements.write(after)
    statements.end_attempts(ends)
    facts.append_news([(standing, now) for standing in after])


def _behind_since(now: datetime) -> datetime | None:
    """When the oldest event came in that waits to be applied for too long; None if none does."""
    oldest = Pending.objects.order_by("id").values("id")[:1]
    # One row by its primary key: an "id in (…)" might be planned as a walk over the whole log.
    received = Event.objects.filter(id=Subquery(oldest)).order_by().values_list("received_at", flat=True)
    received_at = next(iter(received), None)
    is_late = received_at is not None and received_at < now - timedelta(seconds=BEHIND_SECONDS)
    return received_at if is_late else None
