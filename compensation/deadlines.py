"""Expire commands: answers that did not arrive in time, and claims whose process stopped.

Everything is found in the database alone, one page at a time, by any number of sweepers concurrently. `deadline_holds`
is the only place that decides whether and why a deadline is on hold, for the sweep and for every page that shows one.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from random import random
from typing import Protocol
from uuid import UUID

from django.db import transaction
from django.db.models import Subquery

from bridge import clock, collapsed, heartbeats
from bridge.collapsed import Group
from bridge.models import Event, Pending
from compensation import facts, outbox, statements, switches, undelivered
from compensation.answers import refusing_types
from compensation.models import AttemptOutcome, CommandStatus
from compensation.outbox import CommandRefusal
from compensation.snapshot import CommandSnapshot
from compensation.statements import AttemptEnd
from compensation.switches import Pause, Switches
from compensation.undelivered import Answers, Undelivered

PAGE = 500
# How long a claim of a message is leased: the hard time limit of a Celery task. It is not extended.
LEASE_SECONDS = 60.0
# A confirmation may be among the events that are not applied yet: no deadline expires while the oldest is older.
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

    since: when it began, if that is known. pause: for PAUSED, the switch or circuit breaker. topics: for BRIDGE_BEHIND
    and UNDELIVERED, the topics on which messages wait. undelivered: for UNDELIVERED, the messages, and until when they
    hold deadlines at the latest.
    """

    reason: HoldReason
    since: datetime | None = None
    pause: Pause | None = None
    topics: tuple[str, ...] = ()
    undelivered: Undelivered | None = None


class Deadlined(Protocol):
    """What `DeadlineHolds.of` needs from a command: a row or a snapshot."""

    @property
    def service(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def deadline_at(self) -> datetime | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadlineHolds:
    """What keeps deadlines on hold at one moment.

    general: the reason, other than a pause, that applies to every service. well_for: how long the bridges have been
    healthy, None if they are not. answers: the services whose answers may be waiting undelivered, or were.
    """

    switches: Switches
    general: Hold | None
    well_for: timedelta | None
    answers: Answers

    @property
    def everything(self) -> Hold | None:
        """The reason why the deadlines of every service are on hold; None if there is none."""
        return self.of_service(switches.EVERYTHING)

    def of_service(self, service: str) -> Hold | None:
        """Return why the deadlines of this service are on hold; None if they run. A pause takes precedence."""
        pause = self.switches.pause_of(service)
        if pause is not None:
            return Hold(reason=HoldReason.PAUSED, since=pause.changed_at, pause=pause)
        return self.general or self._undelivered(service)

    def of(self, command: Deadlined) -> Hold | None:
        """Return why the deadline of this command is on hold; None if it runs or if the command has none."""
        has_deadline = command.status == CommandStatus.PUBLISHED and command.deadline_at is not None
        return self.of_service(command.service) if has_deadline else None

    def _undelivered(self, service: str) -> Hold | None:
        found = self.answers.waiting.get(service)
        if found is None:
            return None
        return Hold(reason=HoldReason.UNDELIVERED, since=found.since, topics=found.topics, undelivered=found)


def deadline_holds(now: datetime | None = None) -> DeadlineHolds:
    """Return what keeps deadlines on hold. Five queries. now: by the database's clock (default: read from it)."""
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
    """End the attempts whose answer is overdue; return how many. Opens its own transactions; may run twice.

    Time in which no answer could arrive, or sending was paused, does not count: while `deadline_holds` gives a reason,
    deadlines are on hold, and afterwards each one starts again with its full time.
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
    """Make messages due again whose publisher died between claim and record; return how many. May run twice.

    Opens its own transactions. The attempt counts: a command that crashes its publisher must not be retried endlessly.
    """
    recovered = 0
    while page := _recover_page(now):
        recovered += page
    return recovered


def _pass_page(now: datetime, well_since: datetime, answers: Answers) -> list[bool]:
    """Process one page: end what is overdue, postpone where time did not count; return of each whether it ended."""
    with transaction.atomic(durable=True):
        # Read again in this transaction: a pause that was set in the meantime must apply to this page.
        all_switches = switches.read()
        if all_switches.everything_paused:
            return []
        overdue = statements.lock_overdue(now, [*all_switches.paused, *answers.waiting], PAGE)
        late: list[CommandSnapshot] = []
        postponed: list[CommandSnapshot] = []
        for command in overdue:
            due_at = _due_at(command, well_since, all_switches, answers)
            if due_at <= now:
                late.append(command)
            else:
                postponed.append(command.deadline_postponed(due_at))
        statements.write(postponed)
        refused = _refused_uncounted(late)
        outbox.refuse_locked([(command, refused[command.id]) for command in late if command.id in refused], now)
        _end([command for command in late if command.id not in refused], AttemptOutcome.DEADLINE, now)
    return [True] * len(late) + [False] * len(postponed)


def _refused_uncounted(late: Sequence[CommandSnapshot]) -> dict[str, list[CommandRefusal]]:
    """Return a refusal of each command whose refusals the bridge only counted since the last copy left.

    The service still refuses such a command: no further copy leaves, and that is one more attempt. The text of such a
    refusal is not stored.
    """
    groups: dict[Group, list[CommandSnapshot]] = defaultdict(list)
    for command in late:
        for type_ in refusing_types(command.stream, command.name):
            # "": a service may refuse without naming the key; such events are counted by their entity alone.
            for key in (command.key, ""):
                groups[Group(command.stream, key, command.entity, type_)].append(command)
    found: dict[str, list[CommandRefusal]] = {}
    for group, at in collapsed.last_counted(groups).items():
        for command in groups[group]:
            timeout = timedelta(seconds=command.confirmation_timeout)
            if command.deadline_at is not None and at > command.deadline_at - timeout:
                found[command.id] = [CommandRefusal(command_id=UUID(command.id), error="", at=at)]
    return found


def _due_at(command: CommandSnapshot, well_since: datetime, all_switches: Switches, answers: Answers) -> datetime:
    service = command.service
    starts = (command.published_at, well_since, all_switches.changed_at(service), answers.ended.get(service))
    return max(start for start in starts if start) + timedelta(seconds=command.confirmation_timeout)


def _recover_page(now: datetime) -> int:
    with transaction.atomic(durable=True):
        lost = statements.lock_lost(now - timedelta(seconds=LEASE_SECONDS), PAGE)
        _end(lost, AttemptOutcome.SUPERSEDED, now)
    return len(lost)


def _end(commands: list[CommandSnapshot], outcome: AttemptOutcome, now: datetime) -> None:
    """End the attempts of locked commands: each command waits for its next attempt, or is exhausted."""
    after = [command.failed(outcome, "", now, random()) for command in commands]  # noqa: S311 (jitter)
    ends: list[AttemptEnd] = [
        {"command_id": command.id, "outcome": outcome, "ended_at": now, "error": ""} for command in commands
    ]
    statements.write(after)
    statements.end_attempts(ends)
    facts.append_facts([(command, now) for command in after])


def _behind_since(now: datetime) -> datetime | None:
    """Return when the oldest event of the backlog was received, if it has waited too long; else None."""
    oldest = Pending.objects.order_by("id").values("id")[:1]
    # One row by its primary key: PostgreSQL might plan an "id in (…)" as a scan of the whole event log.
    received = Event.objects.filter(id=Subquery(oldest)).order_by().values_list("received_at", flat=True)
    received_at = next(iter(received), None)
    is_late = received_at is not None and received_at < now - timedelta(seconds=BEHIND_SECONDS)
    return received_at if is_late else None
