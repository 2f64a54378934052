"""The interface of the outbox for the package of sagas: plan, release, settle and refuse commands.

Every function here runs in the CALLER's transaction, handles any number of commands with a constant number of
statements, may be called twice with the same arguments (except `refuse`), and takes its row locks in the order of the
ids. Publishers and sweepers never wait for a row while they hold another, so they cannot deadlock with these functions.

Settlements of different rank may arrive in any order; the highest rank wins: confirmed, then skipped or withdrawn (the
first of them stays), then exhausted in the current round, then pending.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any, Literal
from uuid import UUID

from bridge import clock, wakeup
from compensation import facts, held, statements
from compensation.errors import bounded
from compensation.models import GIVEN_UP, UNSENT, AttemptOutcome, Command, CommandStatus
from compensation.retry import RetryPolicy
from compensation.snapshot import CommandSnapshot, SettlementStatus, ended_as
from compensation.statements import AttemptEnd


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCommand:
    """A required command. `body` is the whole message and never changes; `topic` is a short name.

    `invalid`: the code of the reason why the service would refuse the form of its data. `confirmed`: when and by which
    event it was confirmed before it was required; such a command is never sent. `confirmed_by_service`: that event came
    from a service. `exhausted`: its last round was, if it had one. `confirmation_timeout`: seconds. `held_by`: another
    saga that has the entity, because of which it is held if it could be sent at all.
    """

    id: UUID
    saga_id: UUID
    stream: str
    key: str
    routing_key: str
    entity: str
    name: str
    service: str
    topic: str
    body: Mapping[str, Any]
    confirmation: Literal["event", "published", "manual"]
    policy: RetryPolicy
    confirmation_timeout: float
    released: bool
    planned_at: datetime
    invalid: str = ""
    confirmed: tuple[datetime, str] | None = None
    confirmed_by_service: bool = False
    withdrawn: bool = False
    exhausted: bool = False
    held_by: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """An event or a decision that settles or retries a command, made at `at` by the clock of its source.

    `event_id`: the event or decision. `by_hand`: whether a person decided it. `round`: the number of the round that a
    retry opens, else 0.
    """

    command_id: UUID
    status: SettlementStatus
    at: datetime
    by_hand: bool = False
    event_id: str = ""
    round: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandRefusal:
    """The answer of a service that it could not do the compensation this time.

    error: its text, or empty. at: by the service's clock.

    The attempt ended at `at`, or, if that clock must be wrong, when it began or now. The deadline starts again now.
    """

    command_id: UUID
    error: str
    at: datetime
    event_id: str = ""


_RANK: dict[SettlementStatus, int] = {"confirmed": 0, "skipped": 1, "withdrawn": 1, "retried": 2}


def plan(commands: Sequence[NewCommand]) -> dict[str, int]:
    """Store required commands. One whose id is known is not changed, unless it had not been required any more.

    Returns, by service, how many are new and may be sent at some time, which is what `breaker.count` counts; a command
    that is required again is new in this sense.
    Raises IntegrityError if the same command of a saga's entity is planned under two ids.
    """
    if not commands:
        return {}
    planned = [(_planned(command), command) for command in commands]
    new = statements.insert([_row(snapshot, command) for snapshot, command in planned])
    fresh = [(snapshot, command) for snapshot, command in planned if snapshot.id in new]
    facts.append_facts([(snapshot, command.planned_at) for snapshot, command in fresh])
    on_hold = {str(command.id) for command in commands if command.held_by}
    again = _require_again([command for snapshot, command in planned if snapshot.id not in new])
    if any(snapshot.next_at and snapshot.id not in on_hold for snapshot, _ in fresh):
        wakeup.nudge_on_commit("publish")
    return Counter(snapshot.service for snapshot, _ in fresh if snapshot.status == CommandStatus.PLANNED) + again


def end_requirements(ids: Sequence[UUID]) -> None:
    """Mark commands as no longer required, unless they are settled: their task was started again.

    Nothing is sent any more. A service that received one may still carry it out: its confirmation counts.
    """
    if not ids:
        return
    now = clock.now()
    changed: list[tuple[CommandSnapshot, datetime]] = []
    ends: list[AttemptEnd] = []
    for before in statements.lock(map(str, ids)):
        after = before.not_required()
        if after is before:
            continue
        changed.append((after, now))
        if outcome := ended_as(before, after):
            ends.append({"command_id": before.id, "outcome": outcome, "ended_at": now, "error": ""})
    _store(changed, ends)


def mark_overtaken(ids: Sequence[UUID], prompted: Sequence[UUID]) -> None:
    """Mark confirmed commands that were carried out although their task was started again and nothing failed since.

    Such a command was sent before the restart was known, or a person marked it as done: one that was neither is marked
    as never sent. prompted: commands whose mark ends, because something failed after all.
    """
    if not ids and not prompted:
        return
    ended, now = set(map(str, prompted)), clock.now()
    locked = statements.lock(map(str, (*ids, *prompted)))
    marked = [before for before in locked if before.id in ended and before.overtaken_at is not None]
    unmarked = [before for before in locked if before.id not in ended and before.overtaken_at is None]
    confirmed = [before for before in unmarked if before.status == CommandStatus.CONFIRMED]
    sent = statements.attempted(before.id for before in confirmed)
    new = [before for before in confirmed if before.by_hand or before.id in sent]
    statements.write([*(before.overtaken(None) for before in marked), *(before.overtaken(now) for before in new)])


def _require_again(commands: Sequence[NewCommand]) -> Counter[str]:
    """Require known commands again that were not required any more; return how many may be sent, by service."""
    if not commands:
        return Counter()
    now = clock.now()
    by_id = {str(command.id): command for command in commands}
    found = statements.lock(by_id)
    unsent = _never_sent(found)
    changed = []
    new_rounds = []
    for before in found:
        command = by_id[before.id]
        after = _again(before, command, before.id in unsent, now)
        if after is not before:
            changed.append((after, now))
        if command.exhausted and after.round > before.round:
            new_rounds.append(after)
    _store(changed, [])
    facts.append_new_rounds(new_rounds, now)
    held.hold({after.id: str(saga) for after, _ in changed if (saga := by_id[after.id].held_by)}, now)
    pending = [after for after, _ in changed if after.status in UNSENT]
    # Of the requirement that ended; the new one may have to wait for another command of its lane.
    waiting = [after.id for after in pending if not by_id[after.id].released]
    Command.objects.filter(id__in=waiting).update(released_at=None, next_at=None)
    statements.release([after.id for after in pending if by_id[after.id].released], now)
    if pending:
        wakeup.nudge_on_commit("publish")
    return Counter(after.service for after in pending)


def _again(before: CommandSnapshot, command: NewCommand, unsent: bool, now: datetime) -> CommandSnapshot:
    if before.status not in (CommandStatus.NOT_REQUIRED, *GIVEN_UP):
        return before
    if command.confirmed is not None:
        at, event_id = command.confirmed
        after = before.settle("confirmed", at, not command.confirmed_by_service, event_id)
        return after.confirmed_unsent(now) if unsent and command.confirmed_by_service else after
    if command.withdrawn:
        return before.settle("withdrawn", now)
    return before.required_again(now, command.exhausted)


def release(ids: Sequence[UUID], now: datetime) -> None:
    """Release commands, so that they are due from `now` on; commands that were released before are not changed."""
    if ids and statements.release(map(str, ids), now):
        wakeup.nudge_on_commit("publish")


def settle(settlements: Sequence[Settlement]) -> None:
    """Confirm, skip or withdraw commands, or retry them in a new round with all attempts, due at once.

    A command that a service confirms although no attempt was ever made is marked (`Command.confirmed_unsent_at`).
    """
    if not settlements:
        return
    now = clock.now()
    by_command = _by_command(settlements)
    changed: list[tuple[CommandSnapshot, datetime]] = []
    ends: list[AttemptEnd] = []
    found = statements.lock(by_command)
    unsent = _never_sent(found)
    for before in found:
        after = before
        for settlement in by_command[before.id]:
            at = min(settlement.at, now) if settlement.status == "retried" else settlement.at
            after = after.settle(settlement.status, at, settlement.by_hand, settlement.event_id, settlement.round)
        if after is before:
            continue
        if before.id in unsent and after.status == CommandStatus.CONFIRMED and not after.by_hand:
            after = after.confirmed_unsent(now)
        at = _plausible_time(by_command[before.id][0].at, before, now)
        changed.append((after, at))
        if outcome := ended_as(before, after):
            ends.append({"command_id": before.id, "outcome": outcome, "ended_at": at, "error": ""})
    _store(changed, ends)
    if any(after.status in UNSENT for after, _ in changed):
        wakeup.nudge_on_commit("publish")


def refuse(refusals: Sequence[CommandRefusal]) -> None:
    """Count each refusal as an attempt: the open one of its command, or one more. None is sent again because of it.

    The service keeps a command that it refused, and tries and refuses it again automatically. Must not be called twice
    for one event: the second call would count it twice.
    """
    if not refusals:
        return
    now = clock.now()
    by_command: dict[str, list[CommandRefusal]] = defaultdict(list)
    for refusal in sorted(refusals, key=lambda refusal: (refusal.at, refusal.event_id)):
        by_command[str(refusal.command_id)].append(refusal)
    refuse_locked([(before, by_command[before.id]) for before in statements.lock(by_command)], now)


def refuse_locked(refused: Sequence[tuple[CommandSnapshot, Sequence[CommandRefusal]]], now: datetime) -> None:
    """Count the refusals, in their order, of commands that the caller has locked. See `refuse`."""
    changed: list[tuple[CommandSnapshot, datetime]] = []
    ends: list[AttemptEnd] = []
    more: list[dict[str, Any]] = []
    open_attempts = statements.open_attempts(before.id for before, _ in refused)
    for before, refusals in refused:
        after, at = before, now
        for refusal in refusals:
            has_open_attempt = before.id in open_attempts
            at = _plausible_time(refusal.at, before, now)
            counted = after.refused(refusal.error, at, now, has_open_attempt)
            if counted is after:
                break
            after, error = counted, bounded(refusal.error)
            if has_open_attempt:
                open_attempts.discard(before.id)
                ends.append(
                    {"command_id": before.id, "outcome": AttemptOutcome.REFUSED, "ended_at": at, "error": error}
                )
            else:
                more.append(_refused_again(after, at, error))
        if after is not before:
            changed.append((after, at))
    _store(changed, ends)
    statements.insert_attempts(more)


def _refused_again(counted: CommandSnapshot, at: datetime, error: str) -> dict[str, Any]:
    """Return the row of an attempt that the service made unasked, with a copy that it had refused before."""
    return {
        "command_id": counted.id,
        "round": counted.round,
        "number": counted.attempt,
        "started_at": at,
        "ended_at": at,
        "worker": "",
        "message_id": "",
        "outcome": AttemptOutcome.REFUSED,
        "counted": True,
        "error": error,
    }


def claimed_ids(saga_id: UUID) -> list[UUID]:
    """Return the ids of the saga's commands that may have been sent and are neither settled nor exhausted, sorted.

    Locks every unsettled command of the saga until the caller's transaction ends, so that none is claimed until then.
    """
    in_flight = (CommandStatus.PUBLISHING, CommandStatus.PUBLISHED, CommandStatus.WAITING)
    return [UUID(id_) for id_, status in statements.lock_saga(str(saga_id)) if status in in_flight]


def _never_sent(snapshots: Sequence[CommandSnapshot]) -> set[str]:
    """Return the locked commands without any attempt: the service cannot have received them from this service."""
    planned = {snapshot.id for snapshot in snapshots if snapshot.status == CommandStatus.PLANNED}
    # Exhausted, skipped, withdrawn and no longer required commands may or may not have been attempted before.
    undecided = (CommandStatus.EXHAUSTED, CommandStatus.NOT_REQUIRED, *GIVEN_UP)
    ended = {snapshot.id for snapshot in snapshots if snapshot.status in undecided}
    return planned | (ended - statements.attempted(ended) if ended else ended)


def _by_command(settlements: Sequence[Settlement]) -> dict[str, list[Settlement]]:
    """Return the settlements of each command, in the order in which they are applied."""
    ordered = sorted(settlements, key=lambda settlement: (str(settlement.command_id), _precedence(settlement)))
    return {id_: list(group) for id_, group in groupby(ordered, key=lambda settlement: str(settlement.command_id))}


def _precedence(settlement: Settlement) -> tuple[int, int, datetime, str]:
    """Return the sort key: highest rank first, then the highest round of several retries, then the earliest."""
    round = settlement.round if settlement.status == "retried" else 0
    return (_RANK[settlement.status], -round, settlement.at, settlement.event_id)


def _plausible_time(at: datetime, before: CommandSnapshot, now: datetime) -> datetime:
    """Return `at`, limited to the time from the start of the current attempt to now: a service's clock may be wrong.

    A slow clock would reduce the waits between attempts to nothing, a fast one would extend them to hours.
    """
    began = before.claimed_at or before.published_at
    return min(max(at, began) if began else at, now)


def _store(changed: Sequence[tuple[CommandSnapshot, datetime]], ends: Sequence[AttemptEnd]) -> None:
    statements.write([snapshot for snapshot, _ in changed])
    statements.end_attempts(ends)
    facts.append_facts(changed)


def _planned(command: NewCommand) -> CommandSnapshot:
    """Return the first snapshot of a new command."""
    snapshot = CommandSnapshot(
        id=str(command.id),
        stream=command.stream,
        key=command.key,
        routing_key=command.routing_key,
        entity=command.entity,
        name=command.name,
        service=command.service,
        confirmation=command.confirmation,
        invalid=command.invalid,
        policy=command.policy,
        confirmation_timeout=command.confirmation_timeout,
    )
    if command.confirmed is not None:
        at, event_id = command.confirmed
        confirmed = snapshot.settle("confirmed", at, event_id=event_id)
        return confirmed.confirmed_unsent(command.planned_at) if command.confirmed_by_service else confirmed
    if command.withdrawn:
        return snapshot.settle("withdrawn", command.planned_at)
    if command.invalid:
        return snapshot.never_sent(command.planned_at)
    return snapshot.released(command.planned_at) if command.released else snapshot


def _row(snapshot: CommandSnapshot, command: NewCommand) -> dict[str, Any]:
    holds = command.held_by is not None and snapshot.status == CommandStatus.PLANNED
    return {
        **statements.row(snapshot),
        "saga_id": command.saga_id,
        "topic": command.topic,
        "body": command.body,
        "planned_at": command.planned_at,
        "released_at": command.planned_at if command.released else None,
        "held_since": command.planned_at if holds else None,
        "held_by": str(command.held_by) if holds else None,
    }
