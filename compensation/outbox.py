"""What the commands' owner may say of them: owed, released, confirmed, given up, tried again, refused.

Every function here works in the CALLER's transaction, on any number of commands with a constant number of statements,
may be called twice with the same words, and takes its row locks in the order of the ids. Publishers and sweepers never
wait for a row while they hold another, so nobody can be in a deadlock with these functions.

Words of different rank may come in any order; what holds in the end is the highest: confirmed, then given up (skipped,
withdrawn: the first of them stays), then exhausted in the current round, then on its way.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from random import random
from typing import Any, Literal
from uuid import UUID

from bridge import clock, wakeup
from compensation import facts, statements
from compensation.errors import bounded
from compensation.models import GIVEN_UP, UNSENT, AttemptOutcome, CommandStatus
from compensation.retry import RetryPolicy
from compensation.snapshot import CommandSnapshot, SettlementStatus, ended_as
from compensation.statements import AttemptEnd


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCommand:
    """A command that is owed. `body` is the whole message and is never changed again; `topic` is a short name.

    `invalid`: what the service would refuse for its shape, in words. `confirmed`: when and by which event it had been
    confirmed before it was owed; such a command is never sent. `confirmed_by_service`: that event was a service's.
    `confirmation_timeout` is seconds. `held_by`: another saga that knows the entity, which holds the command if it
    could be sent at all.
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
    held_by: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """One word on a command, said at `at` by the clock of who said it.

    `round` is the number of the round that a retry opens, and else nothing.

    `event_id` names the event or decision that said it; `by_hand` says that a person did.
    """

    command_id: UUID
    status: SettlementStatus
    at: datetime
    by_hand: bool = False
    event_id: str = ""
    round: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandRefusal:
    """The service's word that it could not do it this time. `at`: by the service's clock.

    The wait for the next attempt begins then, or, where that clock must be wrong, when the attempt began or now.
    """

    command_id: UUID
    error: str
    at: datetime
    event_id: str = ""


_RANK: dict[SettlementStatus, int] = {"confirmed": 0, "skipped": 1, "withdrawn": 1, "retried": 2}


def plan(commands: Sequence[NewCommand]) -> dict[str, int]:
    """Write down commands that are owed; one whose id is known stays as it is.

    Returns how many of each service are new and may be sent one day, which is what `breaker.count` counts.
    Raises IntegrityError if a saga's entity is owed the same command under two ids.
    """
    if not commands:
        return {}
    planned = [(_planned(command), command) for command in commands]
    new = statements.insert([_row(standing, command) for standing, command in planned])
    fresh = [(standing, command) for standing, command in planned if standing.id in new]
    facts.append_news([(standing, command.planned_at) for standing, command in fresh])
    held = {str(command.id) for command in commands if command.held_by}
    if any(standing.next_at and standing.id not in held for standing, _ in fresh):
        wakeup.nudge_on_commit("publish")
    return Counter(standing.service for standing, _ in fresh if standing.status == CommandStatus.PLANNED)


def release(ids: Sequence[UUID], now: datetime) -> None:
    """Let commands be published from `now` on, for the first time; those that were released stay as they are."""
    if ids and statements.release(map(str, ids), now):
        wakeup.nudge_on_commit("publish")


def settle(settlements: Sequence[Settlement]) -> None:
    """Say that commands are confirmed, given up, or tried again in a new round with a full policy, due at once.

    What a service confirms although no attempt was ever begun is marked (`Command.confirmed_unsent_at`).
    """
    if not settlements:
        return
    now = clock.now()
    words = _by_command(settlements)
    changed: list[tuple[CommandSnapshot, datetime]] = []
    ends: list[AttemptEnd] = []
    found = statements.lock(words)
    unsent = _never_sent(found)
    for before in found:
        after = before
        for word in words[before.id]:
            at = min(word.at, now) if word.status == "retried" else word.at
            after = after.settle(word.status, at, word.by_hand, word.event_id, word.round)
        if after is before:
            continue
        if before.id in unsent and after.status == CommandStatus.CONFIRMED and not after.by_hand:
            after = after.confirmed_unsent(now)
        at = _believable(words[before.id][0].at, before, now)
        changed.append((after, at))
        if outcome := ended_as(before, after):
            ends.append({"command_id": before.id, "outcome": outcome, "ended_at": at, "error": ""})
    _store(changed, ends)
    if any(after.status in UNSENT for after, _ in changed):
        wakeup.nudge_on_commit("publish")


def refuse(refusals: Sequence[CommandRefusal]) -> None:
    """End the open attempt of each command, if it has one: the next is due by its policy, or it is exhausted.

    Several refusals of one command in one call end one attempt. Not to be called twice for one event: the second call
    would end the next attempt.
    """
    if not refusals:
        return
    now = clock.now()
    # The first one speaks: the service nacks and refuses the same message again and again.
    first = {str(refusal.command_id): refusal for refusal in sorted(refusals, key=lambda r: r.at, reverse=True)}
    changed: list[tuple[CommandSnapshot, datetime]] = []
    ends: list[AttemptEnd] = []
    for before in statements.lock(first):
        refusal = first[before.id]
        at = _believable(refusal.at, before, now)
        after = before.failed(AttemptOutcome.REFUSED, refusal.error, at, random())  # noqa: S311 (jitter)
        if after is before:
            continue
        changed.append((after, at))
        error = bounded(refusal.error)
        ends.append({"command_id": before.id, "outcome": AttemptOutcome.REFUSED, "ended_at": at, "error": error})
    _store(changed, ends)


def claimed_ids(saga_id: UUID) -> list[UUID]:
    """Commands of a saga that may have been sent and are neither confirmed, given up nor exhausted, in order.

    Locks every unsettled command of the saga until the caller's transaction ends, so that none is claimed meanwhile.
    """
    in_flight = (CommandStatus.PUBLISHING, CommandStatus.PUBLISHED, CommandStatus.WAITING)
    return [UUID(id_) for id_, status in statements.lock_saga(str(saga_id)) if status in in_flight]


def _never_sent(standings: Sequence[CommandSnapshot]) -> set[str]:
    """Those of the locked commands at which no attempt was ever begun: the service cannot know of them from us."""
    planned = {standing.id for standing in standings if standing.status == CommandStatus.PLANNED}
    # What came to rest may or may not have been tried before.
    rested = {standing.id for standing in standings if standing.status in (CommandStatus.EXHAUSTED, *GIVEN_UP)}
    return planned | (rested - statements.tried(rested) if rested else rested)


def _by_command(settlements: Sequence[Settlement]) -> dict[str, list[Settlement]]:
    """The words on each command, in the order in which they hold."""
    ordered = sorted(settlements, key=lambda settlement: (str(settlement.command_id), _precedence(settlement)))
    return {id_: list(words) for id_, words in groupby(ordered, key=lambda settlement: str(settlement.command_id))}


def _precedence(settlement: Settlement) -> tuple[int, int, datetime, str]:
    """The highest rank first, then the highest round of several retries, then the earliest word."""
    round = settlement.round if settlement.status == "retried" else 0
    return (_RANK[settlement.status], -round, settlement.at, settlement.event_id)


def _believable(at: datetime, before: CommandSnapshot, now: datetime) -> datetime:
    """`at`, but not before the attempt under way began and not after now: the clock of a service may be wrong.

    One that is slow would cut the waits between attempts to nothing, one that is fast would make them hours.
    """
    began = before.claimed_at or before.published_at
    return min(max(at, began) if began else at, now)


def _store(changed: Sequence[tuple[CommandSnapshot, datetime]], ends: Sequence[AttemptEnd]) -> None:
    statements.write([standing for standing, _ in changed])
    statements.end_attempts(ends)
    facts.append_news(changed)


def _planned(command: NewCommand) -> CommandSnapshot:
    """How a command stands at its birth."""
    standing = CommandSnapshot(
        id=str(command.id),
        stream=command.stream,
        key=command.key,
        routing_key=command.routing_key,
        entity=command.entity,
        name=command.name,
        service=command.service,
        confirmation=command.confirmation,
        invalid=bounded(command.invalid),
        policy=command.policy,
        confirmation_timeout=command.confirmation_timeout,
    )
    if command.confirmed is not None:
        at, event_id = command.confirmed
        confirmed = standing.settle("confirmed", at, event_id=event_id)
        return confirmed.confirmed_unsent(command.planned_at) if command.confirmed_by_service else confirmed
    if command.withdrawn:
        return standing.settle("withdrawn", command.planned_at)
    if command.invalid:
        return standing.never_sent(command.planned_at)
    return standing.released(command.planned_at) if command.released else standing


def _row(standing: CommandSnapshot, command: NewCommand) -> dict[str, Any]:
    holds = command.held_by is not None and standing.status == CommandStatus.PLANNED
    return {
        **statements.row(standing),
        "saga_id": command.saga_id,
        "topic": command.topic,
        "body": command.body,
        "planned_at": command.planned_at,
        "released_at": command.planned_at if command.released else None,
        "held_since": command.planned_at if holds else None,
        "held_by": str(command.held_by) if holds else None,
    }
