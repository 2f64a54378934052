"""What the commands' owner may say of them: owed, released, confirmed, given up, tried again, refused.

Every function here works in the CALLER's transaction, on any number of commands with a constant number of statements,
may be called twice with the same words, and takes its row locks in the order of the ids. Publishers and sweepers never
wait for a row while they hold another, so nobody can be in a deadlock with these functions.

Words of different rank may come in any order; what holds in the end is the highest: confirmed, then given up (skipped,
withdrawn: the first of them stays), then exhausted in the current round, then on its way.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from compensation.retry import RetryPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCommand:
    """A command that is owed. `body` is the whole message and is never changed again; `topic` is a short name.

    `invalid`: what the service would refuse for its shape, in words. `confirmed`: when and by which event it had been
    confirmed before it was owed; such a command is never sent. `confirmation_timeout` is seconds.
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
    withdrawn: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """One word on a command. `round` is the number of the round that a retry opens, and means nothing otherwise."""

    command_id: UUID
    status: Literal["confirmed", "skipped", "withdrawn", "retried"]
    at: datetime
    by_hand: bool = False
    event_id: str = ""
    round: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The service's word that it could not do it this time."""

    command_id: UUID
    error: str
    at: datetime
    event_id: str = ""


def plan(commands: Sequence[NewCommand]) -> None:
    """Write down commands that are owed; one whose id is known stays as it is.

    Raises IntegrityError if a saga's entity is owed the same command under two ids.
    """
    raise NotImplementedError


def release(ids: Sequence[UUID], now: datetime) -> None:
    """Let commands be published from `now` on, for the first time; those that were released stay as they are."""
    raise NotImplementedError


def settle(settlements: Sequence[Settlement]) -> None:
    """Say that commands are confirmed, given up, or tried again in a new round with a full policy, due at once."""
    raise NotImplementedError


def refuse(refusals: Sequence[Refusal]) -> None:
    """End the open attempt of each command, if it has one: the next is due by its policy, or it is exhausted.

    Not to be called twice for one event: the second call would end the next attempt.
    """
    raise NotImplementedError


def claimed_ids(saga_id: UUID) -> list[UUID]:
    """Commands of a saga that may have been sent and are neither confirmed, given up nor exhausted.

    Locks every unsettled command of the saga until the caller's transaction ends, so that none is claimed meanwhile.
    """
    raise NotImplementedError
