"""The vocabulary of a saga type's definition.

A definition is data: frozen, compared by value, validated by `sagas.engine.problems` at start. It has no behaviour of
its own; `evolve`, `decide` and `status` read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property


class StepStatus(StrEnum):
    """The status of a step. The names are part of the HTTP contract. PENDING is never stored."""

    PENDING = "PENDING"
    STARTED = "STARTED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    COMPENSATING = "COMPENSATING"
    COMPENSATED = "COMPENSATED"
    COMPENSATION_FAILED = "COMPENSATION_FAILED"


# Facts only ever raise the rank of a step, so their order of arrival does not matter.
FACT_RANK = {
    StepStatus.STARTED: 1,
    StepStatus.COMPLETED: 2,
    StepStatus.FAILED: 3,
    StepStatus.COMPENSATED: 4,
}
RANK_STATUS = {rank: status for status, rank in FACT_RANK.items()}


class Entity(StrEnum):
    """Which entity's step an event changes. The texts are those of GET definitions."""

    SAGA = "task"  # the saga itself
    LANE = "lane"  # the entity that the event names; an event without one stays unmatched
    LANE_ELSE_SAGA = "lane, else task"
    EACH = "each listed"  # one for each id of the event's list field
    EVENT = "the event's id"  # a failed upload: there is no entity


class Fails(StrEnum):
    """What the failure that an event reports makes fail."""

    LANE = "lane"
    SAGA = "saga"
    LANE_ELSE_SAGA = "lane, else saga"
    UPLOAD = "upload"  # an entity that was never created: nothing to undo


class Confirmation(StrEnum):
    """What counts as the confirmation of a command."""

    EVENT = "event"
    PUBLISHED = "published"
    MANUAL = "manual"


@dataclass(frozen=True, slots=True)
class Step:
    """One kind of step; a SagaStep row is one of these for one entity.

    `outcome` names the step type whose outcome completes this step, where this step only reports a start.
    """

    type: str
    service: str
    outcome: str = ""


@dataclass(frozen=True, slots=True)
class Announcement:
    """Where an event gives the number of lanes: `count`, else `total` minus `failed`, inside `container`."""

    container: str
    count: str
    total: str
    failed: str

    @property
    def fields(self) -> frozenset[str]:
        """The fields that it reads, with the path of each."""
        return frozenset({self.container, *(f"{self.container}.{name}" for name in self.numbers)})

    @property
    def numbers(self) -> tuple[str, ...]:
        """The fields of the container that hold its numbers."""
        return tuple(filter(None, (self.count, self.total, self.failed)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """What an event does to a saga. The default only opens the lane that the event names."""

    step: Step | None = None
    becomes: StepStatus | None = None
    fails: Fails | None = None
    # Marks the lane of the entity as processed; without an entity, every lane with the milestone `processed_needs`.
    processes: bool = False
    proves: str = ""  # a milestone of the entity's lane
    ends_intake: bool = False  # no further lanes will be announced
    # The event is the echo of our own compensation: it ends the intake only if no other event does.
    echoes_undo: bool = False
    announces: Announcement | None = None
    confirms: str = ""  # a command
    refuses: str = ""  # a command
    rank: int = field(init=False, repr=False, default=0)  # of `becomes`; 0 where that is None

    def __post_init__(self) -> None:
        if self.becomes is not None:
            object.__setattr__(self, "rank", FACT_RANK.get(self.becomes, 0))

    @property
    def about_one_lane(self) -> bool:
        """Whether it reports something that only an event about one single lane can report."""
        fails_lane = self.fails in (Fails.LANE, Fails.LANE_ELSE_SAGA)
        return bool(fails_lane or self.processes or self.proves or self.confirms or self.refuses)


NO_MEANING = Meaning()


@dataclass(frozen=True, slots=True)
class Instead:
    """Another meaning of an event whose text field begins so: some services report two things by one type."""

    field: str
    begins: str
    means: Meaning


@dataclass(frozen=True, slots=True, kw_only=True)
class SuccessField:
    """A field that says whether the reported work succeeded: `success` and `failure` list its values.

    They are compared trimmed and in any case. A failure means `fails`, if the event names the lane that failed. Any
    other event that does not clearly report a success changes nothing and is shown to people.
    """

    field: str
    success: tuple[str, ...]
    failure: tuple[str, ...]
    fails: Meaning

    def is_clear(self, value: object, names_lane: bool) -> bool:
        """Return whether this value of the field says what happened, in an event that names a lane or not."""
        return _is_one_of(value, self.success) or (names_lane and _is_one_of(value, self.failure))

    def meaning(self, value: object, success: Meaning, names_lane: bool) -> Meaning:
        """Return what an event with this value of the field means; `success`: what it means if the work succeeded."""
        if _is_one_of(value, self.success):
            return success
        return self.fails if self.is_clear(value, names_lane) else NO_MEANING


def _is_one_of(value: object, values: tuple[str, ...]) -> bool:
    return isinstance(value, str) and value.strip().casefold() in {known.strip().casefold() for known in values}


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event type: where it comes from, how it is keyed and what it means."""

    type: str
    topics: tuple[str, ...]
    entity: Entity
    means: Meaning
    instead: tuple[Instead, ...] = ()
    success_field: SuccessField | None = None
    starts: bool = False
    own_key: bool = False  # may carry a key of the service's own; the saga is then found by the entity
    listed_in: str = ""  # the field that lists the ids, for Entity.EACH
    error_in: str = "error_message"
    fields: Mapping[str, str] = field(default_factory=dict)  # known fields and their kinds, checked by the bridge
    # Its messages always carry their type, so a message without a type on one of its topics is not of this type. Of
    # several types on one topic, all but one must be marked so; the remaining one is the default of the topic.
    always_typed: bool = False
    # Other names that the services write as its type; they are recognized on its topics only.
    aliases: tuple[str, ...] = ()
    # How many events of one key and entity the bridge stores before it only counts the others; 0: it stores all.
    collapse_after: int = 0
    # Reports that its lanes come into being: its time tells to which run of the saga they belong. For `restarts` only.
    opening: bool = False

    @property
    def needs_key(self) -> bool:
        """Whether it must name the saga's key: it starts the saga, or it is about more than the one lane it names."""
        return self.starts or self.entity not in (Entity.LANE, Entity.LANE_ELSE_SAGA)

    @property
    def reads_content(self) -> bool:
        """Whether its meaning depends on the body, beyond the keys and times that every event has."""
        means = self.means
        return bool(
            self.instead or self.success_field or self.listed_in or means.announces or means.fails or means.refuses
        )

    @property
    def deciding_fields(self) -> frozenset[str]:
        """The fields of the body that its meaning depends on: a message in which one is malformed is unreadable."""
        fields = {self.listed_in, *(other.field for other in self.instead)}
        if self.success_field:
            fields.add(self.success_field.field)
        for meaning in meanings(self):
            if meaning.announces:
                fields |= meaning.announces.fields
        return frozenset(fields - {""})

    def is_unclear(self, content: Mapping[str, object], entity: str) -> bool:
        """Return whether the body does not say whether the work succeeded, in an event that names this entity."""
        stated = self.success_field
        return stated is not None and not stated.is_clear(content.get(stated.field), bool(entity))


@dataclass(frozen=True, slots=True)
class Retry:
    """Overrides of the retry policy and the deadline, in seconds; None means the value of the environment."""

    initial_interval: float | None = None
    backoff_coefficient: float | None = None
    maximum_interval: float | None = None
    maximum_attempts: int | None = None
    non_retryable_errors: tuple[str, ...] = ()
    confirmation_timeout: float | None = None


@dataclass(frozen=True, slots=True)
class Noun:
    """What people call a thing, in English: one of them and several. Whoever shows it translates it."""

    one: str
    many: str

    @classmethod
    def of_field(cls, field_name: str) -> Noun:
        """Return the noun that a field such as "order_id" suggests: "order", "orders"."""
        one = field_name.removesuffix("_id").replace("_", " ").strip()
        return cls(one, f"{one}s")


INTAKE = Noun("intake", "intakes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Compensation:
    """How one step of a lane is undone.

    `data` is the body of the command: field → "entity", "key", or a fixed text that starts with "=". `required_when` is
    the milestone that makes it required in a failed lane; empty: always required. `after` names commands of the same
    lane that must be confirmed, skipped or withdrawn before this one is published for the first time. `uuids` are the
    fields in which the service accepts only a UUID. `noun` is the command's noun for people, such as "image deletion".
    """

    command: str
    undoes: Step
    service: str
    topic: str
    data: Mapping[str, str]
    required_when: str = ""
    after: tuple[str, ...] = ()
    confirmation: Confirmation = Confirmation.EVENT
    uuids: tuple[str, ...] = ()
    retry: Retry = Retry()
    noun: Noun | None = None


@dataclass(frozen=True, kw_only=True)
class Definition:
    """A saga type in one version.

    `key_field` and `entity_field` name fields of the body; without an `entity_field` the saga is its own single lane.
    `processed_needs` is the milestone that a lane must have to be processed by an event about all lanes. `title`,
    `key_noun`, `entity_noun` and `intake_noun` are the type's words for people: the nouns of what a saga is about, of
    the subject of a lane, and of what brings the lanes; the first two are by default those of their fields.
    `public_name` is the `saga_type` of the API; by default the name in capitals. `restarts`: its task may be started
    again after it failed or ended, with new entities; the saga then has several runs (`sagas.engine.runs`), and a
    failure of one run does not undo the lanes of the next. `continues`: the version whose sagas move to this one when
    their task is started again, because it has no runs. No saga begins with such a version, and it differs in nothing
    but its runs.
    """

    name: str
    version: int
    key_field: str
    entity_field: str
    events: tuple[Event, ...]
    compensations: tuple[Compensation, ...]
    processed_needs: str = ""
    title: str = ""
    key_noun: Noun | None = None
    entity_noun: Noun | None = None
    intake_noun: Noun = INTAKE
    public_name: str = ""
    restarts: bool = False
    continues: int = 0

    @cached_property
    def noun_of_key(self) -> Noun:
        """What people call what a saga is about: "task"."""
        return self.key_noun or Noun.of_field(self.key_field)

    @cached_property
    def noun_of_entity(self) -> Noun:
        """What people call the subject of a lane: "image". Without entities, the same as that of the saga."""
        return self.entity_noun or (Noun.of_field(self.entity_field) if self.entity_field else self.noun_of_key)

    @property
    def api_name(self) -> str:
        """The `saga_type` of the API: "IMAGE_PROCESSING"."""
        return self.public_name or self.name.upper()

    @cached_property
    def event_of(self) -> dict[str, Event]:
        """The events by type."""
        return {event.type: event for event in self.events}

    @cached_property
    def compensation_of(self) -> dict[str, Compensation]:
        """The compensations by command."""
        return {compensation.command: compensation for compensation in self.compensations}

    @cached_property
    def confirmed_by_events(self) -> frozenset[str]:
        """The commands that some event confirms."""
        return frozenset(m.confirms for event in self.events for m in meanings(event) if m.confirms)

    @cached_property
    def undo_of(self) -> dict[tuple[str, str], Compensation]:
        """The compensations by (type, service) of the step that they undo."""
        return {(item.undoes.type, item.undoes.service): item for item in self.compensations}

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """Every step, once, in the order of the definition."""
        changed = [meaning.step for event in self.events for meaning in meanings(event) if meaning.step]
        return tuple(dict.fromkeys([*changed, *(item.undoes for item in self.compensations)]))

    @cached_property
    def outcome_of(self) -> dict[tuple[str, str], str]:
        """The step type whose outcome completes a step that only reports a start, by (type, service) of the latter."""
        return {(step.type, step.service): step.outcome for step in self.steps if step.outcome}

    @cached_property
    def processing_steps(self) -> frozenset[str]:
        """The step types of the events that mark a lane as processed."""
        return frozenset(e.means.step.type for e in self.events if e.means.processes and e.means.step)

    @cached_property
    def counts_lanes(self) -> bool:
        """Whether some event announces the number of lanes; otherwise a single lane is expected."""
        return any(meaning.announces or meaning.ends_intake for event in self.events for meaning in meanings(event))

    @cached_property
    def about_lanes_only(self) -> Mapping[bool, frozenset[str]]:
        """The event types that say nothing of the saga as a whole, by whether they name an entity: so most events."""
        return {named: self._types_about_lanes_only(named) for named in (False, True)}

    def _types_about_lanes_only(self, named: bool) -> frozenset[str]:
        return frozenset(
            event.type
            for event in self.events
            if not event.starts and not any(_speaks_of_saga(meaning, named) for meaning in meanings(event))
        )

    @cached_property
    def milestones(self) -> frozenset[str]:
        """Every milestone that an event can prove."""
        return frozenset(meaning.proves for event in self.events for meaning in meanings(event) if meaning.proves)


def meanings(event: Event) -> tuple[Meaning, ...]:
    """Return every meaning that an event of this type can have, except that it means nothing."""
    others = [other.means for other in event.instead]
    return (event.means, *others, *([event.success_field.fails] if event.success_field else []))


def _speaks_of_saga(means: Meaning, named: bool) -> bool:
    """Return whether an event says something of the saga as a whole. named: whether it names an entity."""
    if means.fails in (Fails.SAGA, Fails.UPLOAD) or means.ends_intake or means.echoes_undo or means.announces:
        return True
    return not named and (means.fails is Fails.LANE_ELSE_SAGA or means.processes)
