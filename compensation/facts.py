"""The facts about commands in the event log: exhausted, required again after that, sent where this confirms it.

That it was sent is an outcome of this package: the id of this fact derives from the command alone, so that a command
has at most one in the log, and whatever comes after it, also of another round, only ends its attempt. The others may
come once in each round. Attempts, refusals and deadlines are rows of this package, not facts of a saga.
"""

from collections.abc import Sequence
from datetime import datetime

from bridge import event_log, wakeup
from bridge.event_log import NewFact
from bridge.models import Source
from compensation.models import CommandStatus, ConfirmationKind
from compensation.snapshot import CommandSnapshot

EXHAUSTED = "CommandExhausted"
PUBLISHED = "CommandPublished"
REQUIRED_AGAIN = "CommandRequiredAgain"

# Of facts that there may be once in each round.
_SUFFIX = {EXHAUSTED: "exhausted", REQUIRED_AGAIN: "required"}


def append_facts(changed: Sequence[tuple[CommandSnapshot, datetime]]) -> None:
    """Append the facts that these changes make, and wake up whoever applies them. Runs in the caller's transaction."""
    _append([_fact(kind, snapshot, at) for snapshot, at in changed if (kind := _kind(snapshot))])


def append_new_rounds(required_again: Sequence[CommandSnapshot], now: datetime) -> None:
    """Append that exhausted commands are required again, each in its new round: no person opened it.

    Runs in the caller's transaction.
    """
    _append([_fact(REQUIRED_AGAIN, snapshot, now) for snapshot in required_again])


def _append(new: Sequence[NewFact]) -> None:
    if new:
        event_log.append(new)
        wakeup.nudge_on_commit("apply")


def _kind(snapshot: CommandSnapshot) -> str | None:
    if snapshot.status == CommandStatus.EXHAUSTED:
        return EXHAUSTED
    sending_is_enough = snapshot.confirmation == ConfirmationKind.PUBLISHED
    return PUBLISHED if sending_is_enough and snapshot.status == CommandStatus.PUBLISHED else None


def _fact(kind: str, snapshot: CommandSnapshot, at: datetime) -> NewFact:
    return NewFact(
        source=Source.COMPENSATION,
        event_id=_event_id(kind, snapshot),
        stream=snapshot.stream,
        type=kind,
        key=snapshot.key,
        entity=snapshot.entity,
        occurred_at=at,
        payload={"name": snapshot.name, "entity": snapshot.entity, "round": snapshot.round},
        routing_key=snapshot.routing_key,
    )


def _event_id(kind: str, snapshot: CommandSnapshot) -> str:
    """Return the id of a fact: appending it again, or another outcome of the same command, changes nothing."""
    return f"{snapshot.id}:{_SUFFIX[kind]}:{snapshot.round}" if kind in _SUFFIX else f"{snapshot.id}:outcome"
