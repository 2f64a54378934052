"""Read the parts of one saga: steps, lanes, commands, events. A page of each takes a constant number of queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from django.db.models import Count, Exists, OuterRef, QuerySet

from bridge import readings
from bridge.models import Duplicate, Event, EventReading
from compensation.deadlines import DeadlineHolds
from compensation.models import Attempt, Command
from compensation.queries import attempts_of
from sagas.models import Lane, SagaEvent, SagaLog, SagaStep
from sagas.queries import holding
from sagas.queries.holding import OnHold
from sagas.queries.ids import is_storable
from sagas.queries.pages import Page, page_of
from sagas.queries.runs import number_of_runs, runs_of_entities, runs_of_lanes

# A detail page shows this many steps; the others are paged.
FIRST_STEPS = 1000


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """An event of a saga: its row in the saga's log, the event, and how often it was delivered again."""

    log: SagaEvent
    event: Event
    duplicates: int


@dataclass(frozen=True, slots=True)
class CommandStory:
    """A command and all its attempts, the oldest first; `on_hold` is why its deadline does not run, if so.

    run: the run of the saga to which it belongs, if that was asked for and there are several.
    """

    command: Command
    attempts: Sequence[Attempt]
    on_hold: OnHold | None = None
    run: int | None = None


@dataclass(frozen=True, slots=True)
class LaneStory:
    """A lane and the number of its run, from 1."""

    lane: Lane
    run: int


def steps(saga_id: UUID) -> QuerySet[SagaStep]:
    """Return all steps of a saga, in the order in which they happened."""
    return SagaStep.objects.filter(saga=saga_id).order_by("occurred_at", "id")


def first_steps(saga_id: UUID) -> list[SagaStep]:
    """Return the steps that a detail page shows."""
    return list(steps(saga_id)[:FIRST_STEPS])


def lanes(saga_id: UUID) -> QuerySet[Lane]:
    """Return all lanes of a saga, in the order in which they opened."""
    return Lane.objects.filter(saga=saga_id, known=True).order_by("opened_at", "id")


def lane_page(
    saga: SagaLog, rows: QuerySet[Lane], offset: int, limit: int, *, total: int | None = None
) -> Page[LaneStory]:
    """Return a page of a saga's lanes, each with its run. Two queries; one if the caller knows the total."""
    page = page_of(rows if number_of_runs(saga) > 1 else rows.defer("state"), offset, limit, total=total)
    stories = map(LaneStory, page.items, runs_of_lanes(saga, page.items))
    return Page(page.total, offset, limit, list(stories))


def commands(saga_id: UUID) -> QuerySet[Command]:
    """Return all commands of a saga, in the order in which they were planned."""
    return Command.objects.filter(saga_id=saga_id).order_by("planned_at", "entity", "name")


def command_page(
    rows: QuerySet[Command],
    offset: int,
    limit: int,
    holds: DeadlineHolds | None = None,
    *,
    saga: SagaLog | None = None,
) -> Page[CommandStory]:
    """Return a page of commands with their attempts. At most six queries.

    saga: of all these commands, to show their runs: one query more if it has several.
    """
    page = page_of(rows, offset, limit)
    attempts = attempts_of([command.id for command in page.items])
    holds = holds or holding.read_for(page.items)
    runs = runs_of_entities(saga, [command.entity for command in page.items]) if saga else {}
    stories = [
        CommandStory(command, attempts.get(command.id, []), holding.on_hold(command, holds), runs.get(command.entity))
        for command in page.items
    ]
    return Page(page.total, offset, limit, stories)


def log(saga_id: UUID, *, type: str = "", entity: str = "") -> QuerySet[SagaEvent]:
    """Return a saga's log, in the order in which its events were applied; only those of a type or entity, if given."""
    rows = SagaEvent.objects.filter(saga=saga_id).order_by("seq")
    wanted = {name: value for name, value in (("type", type), ("entity", entity)) if value}
    if not all(is_storable(value) for value in wanted.values()):
        return rows.none()
    if not wanted:
        return rows
    read = EventReading.objects.filter(id=OuterRef("event"))
    as_read = read.filter(**{name if name == "entity" else f"event__{name}": value for name, value in wanted.items()})
    return rows.filter(Exists(as_read) | (~Exists(read) & Exists(Event.objects.filter(pk=OuterRef("event"), **wanted))))


def event_page(rows: QuerySet[SagaEvent], offset: int, limit: int, *, payload: bool = False) -> Page[LoggedEvent]:
    """Return a page of a log with its events; their bodies only with `payload`. Four queries."""
    page = page_of(rows, offset, limit)
    pks = [row.event for row in page.items]
    events = readings.events(pks, without=["body_hash"] if payload else ["body_hash", "payload"])
    again = deliveries([event.pk for event in events.values()])
    items = [LoggedEvent(row, events[row.event], again.get(events[row.event].pk, 0)) for row in page.items]
    return Page(page.total, offset, limit, items)


def deliveries(events: Sequence[int]) -> dict[int, int]:
    """Return how often each of these events was delivered again, by pk; events that were not are left out."""
    found = Duplicate.objects.filter(event__in=events).order_by().values_list("event").annotate(times=Count("id"))
    return dict(found)
