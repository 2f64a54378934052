"""The apply turn on real PostgreSQL, in random batches, against the pure fold of the same facts.

The engine's own properties (tests/properties) say that order, batches and repeats cannot matter to it. Here the path
around it is tried: storing, routing, parking, loading only the lanes that are needed, writing only what changed.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Sequence
from typing import NamedTuple
from unittest import mock

import orjson
import pytest
from django.test import override_settings
from django.utils import timezone
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from bridge import event_log, routing
from bridge.envelope import Envelope, Message, content_hash
from bridge.event_log import NewFact
from bridge.models import Event, Pending
from compensation.models import INACTIVE, Command
from sagas.applying import apply, route
from sagas.applying.replay import compare
from sagas.applying.statements import counts_of
from sagas.definitions import registry
from sagas.engine import facts
from sagas.engine.decide import SagaIdentity
from sagas.engine.definition import Definition, Entity
from sagas.engine.facts import Fact
from sagas.engine.fold import Fold, replay
from sagas.engine.state import saga_from
from sagas.models import Parked, SagaEvent, SagaLog
from tests.integration.story import event
from tests.properties.histories import IMAGES, SCOPES, SENDING_IS_ENOUGH, Happening, facts_of, to_images
from tests.stories import DELETE, MIDNIGHT, image, owed_in

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(300)]

STREAM = "image_processing"
EXAMPLES = 60
# Of two words that give a command up the outbox keeps the first, and the engine's is the same in any order.
SETTLED = {"confirmed": "confirmed", "skipped": "given up", "withdrawn": "given up"}


class Plot(NamedTuple):
    """A tale without names: which of all that can happen to so many images happens, and at which second."""

    images: int
    happens: list[tuple[int, int]]


@st.composite
def plots(draw: st.DrawFn) -> Plot:
    images = draw(st.sampled_from([1, 2, 2, 3, 5, 8]))
    possible = len(to_images(tuple(image(number) for number in range(images))))
    what = st.tuples(st.integers(0, possible - 1), st.integers(0, 5))
    least = draw(st.sampled_from([1, 5, 15, 30]))
    return Plot(images, draw(st.lists(what, min_size=least, max_size=40)))


class Cast(NamedTuple):
    """The names of one example's saga: fresh ones, for the others' rows are still there."""

    saga_id: str
    task: str
    images: tuple[str, ...]

    @classmethod
    def of(cls, images: int) -> Cast:
        return cls(str(uuid.uuid4()), str(uuid.uuid4()), tuple(str(uuid.uuid4()) for _ in range(images)))


def tell(plot: Plot, cast: Cast) -> list[Fact]:
    """A birth, and what the plot says, about this cast."""
    possible = to_images.__wrapped__(cast.images, cast.saga_id)
    told = [(Happening("RetrievalStarted"), 0)] + [(possible[which], second) for which, second in plot.happens]
    return facts_of(told, prefix=f"{cast.task}-")


# --- the one door ---------------------------------------------------------------------------------------------------


def store(batch: Sequence[Fact], cast: Cast) -> None:
    """Wire facts as the bridge stores them, those of our own (and what a person attached to a lane) as we append."""
    own = {fact.id: _own(fact, cast) for fact in batch if fact.source != facts.WIRE or fact.lane}
    event_log.append(list(own.values()))  # which nobody says twice in one breath
    event_log.store_batch([_envelope(fact, cast) for fact in batch if fact.source == facts.WIRE and not fact.lane])


def _own(fact: Fact, cast: Cast) -> NewFact:
    return NewFact(
        source=fact.source,
        event_id=fact.id,
        stream=STREAM,
        type=fact.type,
        key=cast.task,
        entity=fact.entity,
        occurred_at=fact.occurred_at,
        payload=fact.content,
        routing_key=routing.routing_key(STREAM, cast.task),
        lane=fact.lane or None,
    )


def _envelope(fact: Fact, cast: Cast) -> Envelope:
    body = orjson.dumps(fact.content)
    return Envelope(
        message=Message("topic", "topic", fact.id, 0, body, {}),
        event_id=fact.id,
        stream=STREAM,
        type=fact.type,
        key=cast.task,
        entity=fact.entity,
        correlation_id=fact.correlation,
        occurred_at=fact.occurred_at,
        received_at=timezone.now(),
        note="",
        body_hash=content_hash(fact.type, fact.content),
        payload=body,
    )


def batches(story: list[Fact], chance: random.Random) -> list[list[Fact]]:
    """The facts in an order of chance, some of them again, in batches of chance."""
    rest = story + chance.choices(story, k=len(story) // 4)
    chance.shuffle(rest)
    born = next(number for number, fact in enumerate(rest) if fact.type == "RetrievalStarted")
    # A person attaches an event to a lane of a saga that is there.
    early = [fact for fact in rest[:born] if fact.lane]
    rest = [fact for fact in rest[:born] if not fact.lane] + [rest[born], *early, *rest[born + 1 :]]
    found = [rest[: born - len(early) + 1]]
    rest = rest[len(found[0]) :]
    while rest:
        size = chance.choice([1, 1, 2, 3, 10, 40])
        batch, rest = rest[:size], rest[size:]
        found.append(batch)
    return found


# --- side by side ---------------------------------------------------------------------------------------------------


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(plots(), st.sampled_from(SCOPES), st.sampled_from([IMAGES, SENDING_IS_ENOUGH]), st.integers(0, 2**32))
def test_batches_on_the_database_are_the_fold_of_their_facts(
    plot: Plot, scope: str, definition: Definition, seed: int
) -> None:
    chance = random.Random(seed)
    cast = Cast.of(plot.images)
    story = tell(plot, cast)
    note("\n".join(map(str, story)))
    born = mock.patch.object(route, "new_saga_id", return_value=uuid.UUID(cast.saga_id))
    page = override_settings(SAGA_FAILURE_SCOPE=scope, APPLY_PAGE=chance.choice([1, 2, 7, 100]))
    with registry.also(*([definition] if definition is not IMAGES else [])), born, page:
        for batch in batches(story, chance):
            store(batch, cast)
            apply.run_apply()
        taken = [fact for fact in story if not lacks_image(definition, fact)] + new_rounds(story, cast)
        fold = replay(SagaIdentity(definition, scope, cast.saga_id, cast.task), taken)
        assert_stored(fold, taken)
    parked = Event.objects.filter(pk__in=Parked.objects.values("event"), key=cast.task)
    assert {event.event_id for event in parked} == {fact.id for fact in story} - {fact.id for fact in taken}
    assert not Pending.objects.exists()


def lacks_image(definition: Definition, fact: Fact) -> bool:
    """Whether it waits for a person: it should name an image and does not."""
    event = definition.event_of.get(fact.type)
    return event is not None and event.entity is Entity.LANE and not fact.names


def new_rounds(story: list[Fact], cast: Cast) -> list[Fact]:
    """What the outbox itself said: an exhausted command, or one of a new round, is required again."""
    said = Event.objects.filter(key=cast.task, source=facts.COMPENSATION).exclude(event_id__in={f.id for f in story})
    return [
        Fact(event.event_id, event.type, event.occurred_at, event.source, event.entity, content=event.payload)
        for event in said
    ]


def settled(word: str) -> str:
    return SETTLED.get(word, "unanswered")


def assert_stored(fold: Fold, taken: list[Fact]) -> None:
    """The rows say what the fold does: state, status, log and commands."""
    row = SagaLog.objects.get(id=fold.identity.saga_id)
    assert saga_from(row.state, counts_of(row), row.last_event_at) == fold.saga
    assert row.status == fold.status.value
    assert compare(row.id) == []
    log = SagaEvent.objects.filter(saga=row).values_list("event", flat=True)
    ids = Event.objects.filter(pk__in=log).values_list("event_id", flat=True)
    assert sorted(ids) == sorted(fact.id for fact in taken)
    commands = {(command.entity, command.name): command for command in Command.objects.filter(saga_id=row.id)}
    required = {(entity, name): held for entity in fold.lanes for name, held in owed_in(fold, entity).items()}
    assert commands.keys() >= required.keys()
    for place in commands.keys() - required.keys():
        assert commands[place].status in INACTIVE, "it was required until the task was started again"
    for undo, held in required.items():
        assert settled(commands[undo].status) == settled(held), (undo, held, commands[undo].status)
        # Nothing was sent here, so only a person's word can have come before a restart was known.
        overtaken = undo[1] in fold.view(undo[0]).overtaken and commands[undo].by_hand
        assert (commands[undo].overtaken_at is not None) == overtaken
    for entity in {entity for entity, _ in required}:
        for name in fold.view(entity).released:
            assert commands[entity, name].released_at is not None, "the outbox knows that it may leave"


def test_facts_of_an_unknown_lane_are_stored_as_they_fold() -> None:
    task, unknown = (str(uuid.uuid4()) for _ in range(2))
    decided = NewFact(
        source=facts.OPERATOR,
        event_id=f"{task}-skip",
        stream=STREAM,
        type=facts.COMMANDS_SKIPPED,
        key=task,
        entity="",
        occurred_at=MIDNIGHT,
        payload={"reason": "why", "commands": [[unknown, DELETE, 1]]},
        routing_key=routing.routing_key(STREAM, task),
    )
    event_log.append([event("RetrievalStarted", task), decided])
    apply.run_apply()
    event_log.append([event("RetrievalFailed", task, error_message="disk full")])
    apply.run_apply()
    saga = SagaLog.objects.get(key=task)
    assert compare(saga.id) == []
    assert saga.status == "FAILED"
