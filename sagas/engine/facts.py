"""What the engine folds: facts from the services, decisions of people, and news of our own commands.

A fact never changes. Its time is when it happened, as its source says; when it arrived plays no part.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

# Decisions of people on a saga.
SAGA_ADOPTED = "SagaAdopted"  # {started_at}
SAGA_CANCELLED = "SagaCancelled"  # {reason}; of a lane if the fact names one
COMPENSATION_FORCED = "CompensationForced"  # {reason}; of a lane if the fact names one
SAGA_TERMINATED = "SagaTerminated"  # {reason, claimed: [command id]}

# Decisions of people on commands: {commands: [[entity, command, round]]}
COMMANDS_RETRIED = "CommandsRetried"
COMMANDS_SKIPPED = "CommandsSkipped"
COMMANDS_MARKED_DONE = "CommandsMarkedDone"
COMMANDS_WITHDRAWN = "CommandsWithdrawn"

# News of our own commands: {name, round}; the fact's entity is the lane.
COMMAND_EXHAUSTED = "CommandExhausted"
COMMAND_PUBLISHED = "CommandPublished"

SAGA_DECISIONS = frozenset({SAGA_ADOPTED, SAGA_CANCELLED, COMPENSATION_FORCED, SAGA_TERMINATED})
COMMAND_DECISIONS = frozenset({COMMANDS_RETRIED, COMMANDS_SKIPPED, COMMANDS_MARKED_DONE, COMMANDS_WITHDRAWN})
COMMAND_NEWS = frozenset({COMMAND_EXHAUSTED, COMMAND_PUBLISHED})

# Where facts of our own come from. No wire message can pass for one: the log is unique by (source, event id).
WIRE = "pulsar"
OPERATOR = "operator"
COMPENSATION = "compensation"


class Fact(NamedTuple):
    """One row of the event log, as the engine sees it.

    `entity` is what the event itself names, `lane` what an attachment's routing named; both may be empty.
    `content` is the body where the meaning needs it, else empty.
    """

    id: str
    type: str
    occurred_at: datetime
    source: str = WIRE
    entity: str = ""
    lane: str = ""
    correlation: str = ""
    content: Mapping[str, Any] = {}  # never written to

    @property
    def names(self) -> str:
        """The entity that this fact is about: its own beats the attachment's."""
        return self.entity or self.lane
