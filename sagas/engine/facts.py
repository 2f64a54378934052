"""What the engine folds: events of the services, decisions of people, and events about our own commands.

A fact never changes. Its time is when it happened, by the clock of its source; when it arrived does not matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

# Decisions of people on a saga.
SAGA_ADOPTED = "SagaAdopted"  # {started_at}
SAGA_CANCELLED = "SagaCancelled"  # {reason}; of one lane if the fact names an entity
COMPENSATION_FORCED = "CompensationForced"  # {reason}; of one lane if the fact names an entity
SAGA_TERMINATED = "SagaTerminated"  # {reason, claimed: [command id]}
INTAKE_CLOSED = "IntakeClosed"  # {reason, lanes}: no further lanes will come; the number is used if no event has one

# Decisions of people on commands: {commands: [[entity, command, round]]}
COMMANDS_RETRIED = "CommandsRetried"
COMMANDS_SKIPPED = "CommandsSkipped"
COMMANDS_MARKED_DONE = "CommandsMarkedDone"
COMMANDS_WITHDRAWN = "CommandsWithdrawn"

# No event came for a long time: {after: [time, event id], seconds}. It counts while no event of the run is later than
# the one that it names.
INTAKE_SILENT = "IntakeSilent"

# A decision on the whole saga is about the run in which its time lies, or, if its content has `run`, that time.
RUN = "run"

# Events about our own commands: {name, round}; the entity of the fact is the lane.
COMMAND_EXHAUSTED = "CommandExhausted"
COMMAND_PUBLISHED = "CommandPublished"
COMMAND_REQUIRED_AGAIN = "CommandRequiredAgain"  # it was exhausted: a new round began

LANE_DECISIONS = frozenset({SAGA_CANCELLED, COMPENSATION_FORCED})  # which may be about one lane
FAILING_DECISIONS = LANE_DECISIONS | {SAGA_TERMINATED}
SAGA_DECISIONS = FAILING_DECISIONS | {SAGA_ADOPTED}
COMMAND_DECISIONS = frozenset({COMMANDS_RETRIED, COMMANDS_SKIPPED, COMMANDS_MARKED_DONE, COMMANDS_WITHDRAWN})
COMMAND_EVENTS = frozenset({COMMAND_EXHAUSTED, COMMAND_PUBLISHED, COMMAND_REQUIRED_AGAIN})

# The sources of facts. No message from Pulsar can pass for a fact of our own: the log is unique by (source, event id).
WIRE = "pulsar"
OPERATOR = "operator"
COMPENSATION = "compensation"
SAGAS = "sagas"


class Fact(NamedTuple):
    """One row of the event log, as the engine sees it.

    `entity` is the entity that the event itself names, `lane` the one that a person named when attaching the event to a
    saga; both may be empty. `content` is the body where the meaning needs it, else empty.
    """

    id: str
    type: str
    occurred_at: datetime
    source: str = WIRE
    entity: str = ""
    lane: str = ""
    correlation: str = ""
    content: Mapping[str, Any] = {}  # never modified

    @property
    def names(self) -> str:
        """The entity that this fact is about: the event's own, else the one named by the attachment."""
        return self.entity or self.lane
