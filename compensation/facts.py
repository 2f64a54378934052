"""What the event log is told of commands: that one is exhausted, or, where that is all one can know, that it was sent.

Attempts, refusals and deadlines are rows of this package and not facts of a saga.
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


def append_news(changed: Sequence[tuple[CommandSnapshot, datetime]]) -> None:
    """Tell the log of those of the changes that it should know, and have it applied. In the caller's transaction."""
    news = [_fact(kind, standing, at) for standing, at in changed if (kind := _kind(standing))]
    if news:
        event_log.append(news)
        wakeup.nudge_on_commit("apply")


def _kind(standing: CommandSnapshot) -> str | None:
    if standing.status == CommandStatus.EXHAUSTED:
        return EXHAUSTED
    sending_is_enough = standing.confirmation == ConfirmationKind.PUBLISHED
    return PUBLISHED if sending_is_enough and standing.status == CommandStatus.PUBLISHED else None


def _fact(kind: str, standing: CommandSnapshot, at: datetime) -> NewFact:
    word = "exhausted" if kind == EXHAUSTED else "published"
    return NewFact(
        source=Source.COMPENSATION,
        # Once a round: saying it again changes nothing.
        event_id=f"{standing.id}:{word}:{standing.round}",
        stream=standing.stream,
        type=kind,
        key=standing.key,
        entity=standing.entity,
        occurred_at=at,
        payload={"name": standing.name, "entity": standing.entity, "round": standing.round},
        routing_key=standing.routing_key,
    )
