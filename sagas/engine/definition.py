"""The words in which a saga type is written down.

A definition is data: frozen, compared by value, validated by `sagas.engine.problems` at start. Nothing here acts;
`evolve`, `decide` and `status` read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property


class StepStatus(StrEnum):
    """What a step can be; the names are part of the HTTP contract. PENDING is never stored."""

    PENDING = "PENDING"
    STARTED = "STARTED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    COMPENSATING = "COMPENSATING"
    COMPENSATED = "COMPENSATED"
    COMPENSATION_FAILED = "COMPENSATION_FAILED"


# Within a step facts only ever move up this ladder, so their order of arrival cannot matter.
FACT_RANK = {
    StepStatus.STARTED: 1,
    StepStatus.COMPLETED: 2,
    StepStatus.FAILED: 3,
    StepStatus.COMPENSATED: 4,
}
RANK_STATUS = {rank: status for status, rank in FACT_RANK.items()}


class Entity(StrEnum):
    """Whose step an event moves."""

    TASK = "task"  # the saga's own
    LANE = "lane"  # the entity that the event names; without one the event is parked
    LANE_ELSE_TASK = "lane, else task"
    EACH = "each listed"  # one for each id of the event's list field
    EVENT = "the event's id"  # no entity came to be


class Fails(StrEnum):
    """What an event's failure fails."""

    LANE = "lane"
    SAGA = "saga"
    LANE_ELSE_SAGA = "lane, else saga"
    UPLOAD = "upload"  # one entity that never came to be: nothing to undo


class Confirmation(StrEnum):
    """What counts as the answer to a command."""

    EVENT = "event"
    PUBLISHED = "published"
    MANUAL = "manual"


@dataclass(frozen=True, slots=True)
class Step:
    """One kind of step; a SagaStep row is one of these for one entity.

    `outcome` names the step type whose outcome completes this one, where it only reports a start.
    """

    type: str
    service: str
    outcome: str = ""


@dataclass(frozen=True, slots=True)
class Announcement:
    """Where an event says how many lanes there will be: `count`, else `total` minus `failed`, inside `container`."""

    container: str
    count: str
    total: str
    failed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """What an event does to a saga. The default does nothing but open the lane that it names."""

    step: Step | None = None
    becomes: StepStatus | None = None
    fails: Fails | None = None
    processes: bool = False  # the entity's lane; without an entity every lane that has the definition's milestone
    proves: str = ""  # a milestone of the entity's lane
    ends_intake: bool = False  # no lanes will be announced after this
    echoes_undo: bool = False  # the echo of our own undo: ends the intake only where nothing else ever did
    announces: Announcement | None = None
    confirms: str = ""  # a command
    refuses: str = ""  # a command
    rank: int = field(init=False, repr=False, default=0)  # of `becomes`; 0 where it makes a step nothing

    def __post_init__(self) -> None:
        if self.becomes is not None:
            object.__setattr__(self, "rank", FACT_RANK.get(self.becomes, 0))

    @property
    def about_one_lane(self) -> bool:
        """Whether it says something of a lane that only an event about that one lane can say."""
        fails_lane = self.fails in (Fails.LANE, Fails.LANE_ELSE_SAGA)
        return bool(fails_lane or self.processes or self.proves or self.confirms or self.refuses)


@dataclass(frozen=True, slots=True)
class Instead:
    """Another meaning for an event whose text begins so: some services report two things by one type."""

    field: str
    begins: str
    means: Meaning


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event type: where it comes from, how it is keyed and what it means."""

    type: str
    topics: tuple[str, ...]
    entity: Entity
    means: Meaning
    instead: tuple[Instead, ...] = ()
    starts: bool = False
    own_key: bool = False  # may name a key of the service's own: the entity then finds the saga
    listed_in: str = ""  # the field with the ids, for Entity.EACH
    error_in: str = "error_message"
    fields: Mapping[str, str] = field(default_factory=dict)  # known fields and their kinds, checked at the door
    # Its messages always carry their type: its topics then say nothing of a message that lacks one. Of several types on
    # one topic all but one must be marked so; the one that is not is the topic's default.
    always_typed: bool = False
    # Other texts that the services write as its type; they count on its topics only.
    aliases: tuple[str, ...] = ()

    @property
    def reads_content(self) -> bool:
        """Whether its meaning needs the body, beyond the keys and times that every event has."""
        return bool(self.instead or self.listed_in or self.means.announces or self.means.fails or self.means.refuses)


@dataclass(frozen=True, slots=True)
class Retry:
    """Overrides of the retry policy and the deadline, in seconds; None takes the environment's value."""

    initial_interval: float | None = None
    backoff_coefficient: float | None = None
    maximum_interval: float | None = None
    maximum_attempts: int | None = None
    non_retryable_errors: tuple[str, ...] = ()
    confirmation_timeout: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Compensation:
    """How one step of a lane is undone.

    `data` is the command's body: field → "entity", "key", or a fixed text that starts with "=". `owed_when` is the
    milestone that makes it owed in a failed lane, empty for always. `after` names commands of the same lane
    that must be answered before this one is published first. `uuids` are fields that the service refuses in
    another shape.
    """

    command: str
    undoes: Step
    service: str
    topic: str
    data: Mapping[str, str]
    owed_when: str = ""
    after: tuple[str, ...] = ()
    confirmation: Confirmation = Confirmation.EVENT
    uuids: tuple[str, ...] = ()
    retry: Retry = Retry()


@dataclass(frozen=True, kw_only=True)
class Definition:
    """A saga type in one version.

    `key_field` and `entity_field` name the body's fields; without an `entity_field` the saga is its own single lane.
    `processed_needs` is the milestone that a lane must have to be processed by an event that speaks for all lanes.
    """

    name: str
    version: int
    key_field: str
    entity_field: str
    events: tuple[Event, ...]
    compensations: tuple[Compensation, ...]
    processed_needs: str = ""
    title: str = ""

    @cached_property
    def entity_title(self) -> str:
        """What people call one entity: "image_id" is an "Image". A saga without entities is called by its title."""
        name = self.entity_field.removesuffix("_id").replace("_", " ").strip()
        return name.capitalize() or self.title or self.name

    @cached_property
    def event_of(self) -> dict[str, Event]:
        """Events by type."""
        return {event.type: event for event in self.events}

    @cached_property
    def compensation_of(self) -> dict[str, Compensation]:
        """Compensations by command."""
        return {compensation.command: compensation for compensation in self.compensations}

    @cached_property
    def undo_of(self) -> dict[tuple[str, str], Compensation]:
        """Compensations by (type, service) of the step that they undo."""
        return {(item.undoes.type, item.undoes.service): item for item in self.compensations}

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """Every step, once, in the order of the file."""
        moved = [meaning.step for event in self.events for meaning in meanings(event) if meaning.step]
        return tuple(dict.fromkeys([*moved, *(item.undoes for item in self.compensations)]))

    @cached_property
    def outcome_of(self) -> dict[tuple[str, str], str]:
        """(type, service) of a step that only reports a start → the step type whose outcome completes it."""
        return {(step.type, step.service): step.outcome for step in self.steps if step.outcome}

    @cached_property
    def processing_steps(self) -> frozenset[str]:
        """The step types that processing a lane completes."""
        return frozenset(e.means.step.type for e in self.events if e.means.processes and e.means.step)

    @cached_property
    def counts_lanes(self) -> bool:
        """Whether an event announces how many lanes there are; without one a single lane is expected."""
        return any(meaning.announces or meaning.ends_intake for event in self.events for meaning in meanings(event))

    @cached_property
    def milestones(self) -> frozenset[str]:
        """Every milestone that some event proves."""
        return frozenset(meaning.proves for event in self.events for meaning in meanings(event) if meaning.proves)


def meanings(event: Event) -> tuple[Meaning, ...]:
    """All that an event of this type can mean."""
    return (event.means, *(other.means for other in event.instead))
