"""What time does to commands: answers that did not come, and claims whose process did not come back.

Everything is found from the database alone, a page at a time, by any number of sweepers at once.
"""

from datetime import datetime, timedelta
from random import random

from django.db import transaction

from bridge import heartbeats
from bridge.models import Event, Pending
from compensation import facts, rows, switches
from compensation.models import Outcome
from compensation.rows import AttemptEnd
from compensation.standing import Standing
from compensation.switches import Switches

PAGE = 500
# As long as Celery lets a task live at all.
LOST_AFTER_SECONDS = 60.0
# A confirmation may wait among events that are not applied yet: while these are older, no deadline passes.
BEHIND_SECONDS = 5.0


def pass_deadlines(now: datetime) -> int:
    """End the attempts whose answer is overdue; returns how many. Opens its own transactions, may be repeated.

    Time in which no answer could come, or none was wanted, does not count: while the bridge is not well, events wait to
    be applied, or publishing is paused, deadlines rest, and afterwards each clock starts again from the beginning.
    """
    well_since = heartbeats.bridge_state(now).well_since
    if well_since is None or _is_behind(now):
        return 0
    passed = 0
    while page := _pass_page(now, well_since):
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


def _pass_page(now: datetime, well_since: datetime) -> list[bool]:
    """One page: passes what is overdue, and moves deadlines on where time did not count; says of each which it was."""
    with transaction.atomic(durable=True):
        standing = switches.read()
        if standing.everything_paused:
            return []
        overdue = rows.lock_overdue(now, standing.paused, PAGE)
        late: list[Standing] = []
        moved: list[Standing] = []
        for command in overdue:
            due_at = _due_at(command, well_since, standing)
            if due_at <= now:
                late.append(command)
            else:
                moved.append(command.deadline_moved(due_at))
        rows.write(moved)
        _end(late, Outcome.DEADLINE, now)
    return [True] * len(late) + [False] * len(moved)


def _due_at(command: Standing, well_since: datetime, standing: Switches) -> datetime:
    starts = (command.published_at, well_since, standing.changed_at(command.service))
    return max(start for start in starts if start) + timedelta(seconds=command.confirmation_timeout)


def _recover_page(now: datetime) -> int:
    with transaction.atomic(durable=True):
        lost = rows.lock_lost(now - timedelta(seconds=LOST_AFTER_SECONDS), PAGE)
        _end(lost, Outcome.SUPERSEDED, now)
    return len(lost)


def _end(commands: list[Standing], outcome: Outcome, now: datetime) -> None:
    """End the attempts of locked commands: each waits for its next one, or is exhausted."""
    after = [command.failed(outcome, "", now, random()) for command in commands]  # noqa: S311 (jitter)
    ends: list[AttemptEnd] = [
        {"command_id": command.id, "outcome": outcome, "ended_at": now, "error": ""} for command in commands
    ]
    rows.write(after)
    rows.end_attempts(ends)
    facts.append_news([(standing, now) for standing in after])


def _is_behind(now: datetime) -> bool:
    oldest = Pending.objects.order_by("id").values_list("id", flat=True).first()
    if oldest is None:
        return False
    received_at = Event.objects.filter(id=oldest).values_list("received_at", flat=True).first()
    return received_at is not None and received_at < now - timedelta(seconds=BEHIND_SECONDS)
