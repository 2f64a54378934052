"""A definition in which `manage.py check` finds nothing works in every part; of any other, check says what is wrong."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from django.conf import settings
from hypothesis import note
from hypothesis import strategies as st

from bridge.catalog import REGION
from bridge.codec import Codec
from bridge.envelope import Envelope, Message
from bridge.topics import get_topics
from sagaproject.composition import bridge_catalog
from sagas.applying import command_building
from sagas.checks import check_definitions
from sagas.definitions import describe, image_processing, registry
from sagas.engine.change import lane_change
from sagas.engine.decide import LANE_SCOPE, SAGA_SCOPE, LaneContext, LaneView, SagaIdentity
from sagas.engine.definition import Confirmation, Definition, Entity, Event, Fails, Retry, StepStatus
from sagas.engine.expected import expected
from sagas.engine.facts import Fact
from sagas.engine.fold import replay
from sagas.engine.state import LaneState, SagaState
from tests import order_saga
from tests.properties.profiles import holds_for
from tests.properties.test_expected import shown
from tests.stories import MIDNIGHT, SAGA_ID

ORDERS, IMAGES = order_saga.DEFINITION, dataclasses.replace(image_processing.DEFINITION, version=4)
NOW = datetime(2026, 3, 2, tzinfo=UTC)
KEY, ENTITY = "8f14e45f-ceea-467f-ab3b-2e9c1b0d5a11", "0c9d1b7e-44a1-4d2f-9a53-6f7f3d9c2b22"
JUNK: list[Any] = [
    None, True, 0, 1, -1, 2**31, 0.5, math.nan, math.inf, "", " ", "x", "a.b", "id", "=", "entity", "a\0", "\ud800",
    "{region}", "{region}-{region}", "processing.{region}.started", "processing.{region}.{region}", "a/b/c",
    "x-partition-3", "processing.usa.started", "orders-paid", "shop-commands", "OrderPaid",
    "RetrievalStarted", "order", "x" * 300,
    (), ("x",), ("",), [], {}, {"x": "number"}, {"order_id": "text"}, {"x": "id", "": "ids"}, {"reason": "=\0"},
    object(), StepStatus.COMPENSATING, "STARTED", *Entity, *Fails, *Confirmation, Retry(), Retry(maximum_attempts=0),
    Retry(initial_interval=9.0, maximum_interval=1.0), Retry(non_retryable_errors=("",)),
    Retry(confirmation_timeout=1e300),
]  # fmt: skip
SAMPLES = {"id": KEY, "ids": [ENTITY, KEY], "text": "words", "integer": 3, "object": {"total_images": 2}}


def nodes(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Each part of a definition with the way to it."""
    yield path, value
    for name, part in parts(value):
        yield from nodes(part, (*path, name))


def parts(value: Any) -> list[tuple[Any, Any]]:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(item.name, getattr(value, item.name)) for item in dataclasses.fields(value) if item.init]
    if isinstance(value, tuple):
        return list(enumerate(value))
    return list(value.items()) if isinstance(value, Mapping) else []


def put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """The same with another part at the end of that way."""
    if not path:
        return new
    name, rest = path[0], path[1:]
    part = put(dict(parts(value))[name], rest, new)
    if isinstance(value, tuple):
        return (*value[:name], part, *value[name + 1 :])
    if isinstance(value, Mapping):
        return {**value, name: part}
    return dataclasses.replace(value, **{name: part})


def spoiled(definition: Any, chance: random.Random) -> Any:
    """The definition with one part replaced, repeated, left out, or exchanged for one of another place."""
    path, value = chance.choice(list(nodes(definition)))
    others = [*JUNK, *(part for base in (ORDERS, IMAGES) for _, part in nodes(base))]
    # Mostly of the same type: what is not even that is found by one rule for all.
    alike = [part for part in others if type(part) is type(value)] if chance.random() < 0.9 else []
    new = chance.choice(alike or others)
    if isinstance(value, tuple) and value:
        one = chance.randrange(len(value))
        new = chance.choice([new, (*value, value[one]), value[:one] + value[one + 1 :], (*value, new)])
    try:
        return put(definition, path, new)
    except TypeError:  # not even Python lets it be written down
        return definition


@st.composite
def listed(draw: st.DrawFn) -> list[Any]:
    """One to three definitions for the registry, versions and types of which may collide, with mistakes in them."""
    chance = random.Random(draw(st.integers(0, 2**32)))
    found = []
    for base in draw(st.lists(st.sampled_from([ORDERS, IMAGES]), min_size=1, max_size=3)):
        definition: Any = base
        if chance.random() < 0.5:
            definition = dataclasses.replace(definition, version=chance.choice([2, 3, 4]))
        for _ in range(draw(st.integers(0, 3))):
            definition = spoiled(definition, chance)
        found.append(definition)
    return found


@holds_for(listed())
def test_what_check_lets_pass_works_and_what_cannot_work_it_names(definitions: list[Any]) -> None:
    with registry.also(*definitions):
        problems = [error.msg for error in check_definitions(None)]
        note("\n".join(problems))
        if problems:
            for problem in problems:
                assert "version " in problem or "of the registry is not a Definition" in problem
                assert "cannot be made" not in problem, "a problem without a sentence of its own"
            return
        assert all(isinstance(item, Definition) for item in definitions)
        use_the_bridge(definitions)
        for definition in definitions:
            use_the_engine(definition)


def use_the_bridge(definitions: list[Definition]) -> None:
    """Each event comes in, on each of its topics, with and without its type."""
    catalog = bridge_catalog()
    codec, topics = Codec(catalog, settings.BRIDGE_MAX_BODY), get_topics()
    assert topics.subscriptions(catalog.topics).topics
    assert REGION not in catalog.probe_topic
    for definition in definitions:
        for event in definition.events:
            for topic in event.topics:
                names = topics.names(topics.full(topic.replace(REGION, "usa")))
                for type_ in (event.type, *event.aliases, names.short, None):
                    raw = orjson.dumps({**body(definition, event), "type": type_})
                    found = codec.decode(Message(names.shown, names.short, "1:1:1:1", 0, raw, {}), NOW)
                    if type_ in (event.type, *event.aliases) or not event.always_typed:
                        assert isinstance(found, Envelope), found
                        assert found.type == event.type
                        assert (definition.name, KEY) in {(one.stream, one.key) for one in found.readings}


def body(definition: Definition, event: Event) -> dict[str, Any]:
    fields = {name: SAMPLES[kind] for name, kind in event.fields.items() if "." not in name}
    keys = {definition.entity_field or "x": ENTITY, definition.key_field: KEY}
    return {"id": "e-1", "timestamp": "2026-03-01T12:00:00"} | fields | keys


def use_the_engine(definition: Definition) -> None:
    """Each event folds, whatever it names; each command can be written, and the definition be drawn."""
    for scope in (LANE_SCOPE, SAGA_SCOPE):
        identity = SagaIdentity(definition, scope, SAGA_ID, KEY)
        facts = [
            Fact(f"{number}-{entity}", event.type, MIDNIGHT, entity=entity, content=content)
            for number, event in enumerate(definition.events)
            for entity in ("", ENTITY)
            for content in (body(definition, event), {})
        ]
        fold = replay(identity, facts)
        for lane in fold.lanes.values():
            expected(definition, shown(lane), shown(fold.lanes.get(KEY)))
    lane = LaneState(ENTITY, True, MIDNIGHT, milestones=definition.milestones)
    planned = lane_change(None, LaneView(identity, LaneContext(failed=True), lane), SagaState()).planned
    assert [required.compensation for required in planned] == list(definition.compensations)
    for required in planned:
        command = command_building.new_command(fold.change(), required, NOW)
        orjson.dumps(command.body).decode()
    assert orjson.dumps(describe.data(definition))
    assert describe.table(definition)
    assert describe.mermaid(definition)


@pytest.mark.parametrize("junk", [None, 7, "image_processing", image_processing, [], object()])
def test_what_is_no_definition_at_all_is_reported(junk: Any) -> None:
    with registry.also(junk):
        [error] = check_definitions(None)
    assert error.msg.startswith("definition 4 of the registry is not a Definition, but a value of")
