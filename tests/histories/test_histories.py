"""Recorded histories fold to what they folded to when they were recorded, for as long as their version exists."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sagas.definitions import image_processing, registry
from sagas.engine.definition import Definition, Noun, StepStatus
from sagas.engine.fold import replay
from sagas.engine.state import SagaCounts, lane_from, saga_from
from tests import order_saga
from tests.histories.record import FINGERPRINTS, FOLDER, NOUNS, STORIES, fact_from, fingerprint, folded, frame_of
from tests.properties.store import Store, assert_stored
from tests.stories import DELETE, ROLLBACK, A, Story

HISTORIES = sorted(path for path in FOLDER.glob("*.json") if path != FINGERPRINTS)
RECORDED = json.loads(FINGERPRINTS.read_text())


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
def test_a_recorded_history_folds_to_the_same_permanently(path: Path) -> None:
    history = json.loads(path.read_text())
    identity, log = frame_of(history), [fact_from(row) for row in history["log"]]
    assert json.loads(json.dumps(folded(identity, log))) == history["folded"]
    random.Random(1).shuffle(log)
    assert json.loads(json.dumps(folded(identity, log))) == history["folded"]


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
def test_its_recorded_state_is_read_back_and_folded_on(path: Path) -> None:
    """A saga that an earlier release stored goes on where it stood, in batches, and plans no undo a second time."""
    history = json.loads(path.read_text())
    identity, log = frame_of(history), [fact_from(row) for row in history["log"]]
    whole = replay(identity, log)
    stored = history["folded"]
    assert saga_from(stored["state"], SagaCounts(**stored["counts"])) == whole.saga
    for entity, was in stored["lanes"].items():
        assert lane_from(entity, was["known"], was["state"], whole.lanes[entity].steps) == whole.lanes[entity]
    store = Store(identity)
    for number in range(0, len(log), 3):
        store.fold(log[number : number + 3])
    assert_stored(store, whole)
    store.fold(log)
    assert_stored(store, whole)


def test_each_story_is_recorded() -> None:
    assert {path.stem for path in HISTORIES} >= {tell.__name__ for tell in STORIES}


@pytest.mark.parametrize("definition", registry.all_definitions(), ids=lambda item: f"{item.name}-{item.version}")
def test_a_definition_does_not_change_without_a_new_version(definition: Definition) -> None:
    name = f"{definition.name} version {definition.version}"
    assert RECORDED.get(name) == fingerprint(definition), (
        f"{name} is not what it was: sagas run on it. Keep the old file, give the change a new version, list both in "
        "the registry, and run python -m tests.histories.record"
    )


def test_a_recorded_version_is_still_there() -> None:
    assert set(RECORDED) == {f"{item.name} version {item.version}" for item in registry.all_definitions()}


def other_values(value: Any) -> Iterator[Any]:
    """The value with one word in it changed, for each of its words."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            if field.init and field.name not in NOUNS:
                yield from (
                    dataclasses.replace(value, **{field.name: other})
                    for other in other_values(getattr(value, field.name))
                )
    elif isinstance(value, tuple):
        yield (*value, "one more")
        yield from (
            (*value[:at], other, *value[at + 1 :]) for at in range(len(value)) for other in other_values(value[at])
        )
    elif isinstance(value, dict):
        yield {**value, "one": "more"}
        yield from ({**value, name: other} for name in value for other in other_values(value[name]))
    elif isinstance(value, StepStatus):
        yield StepStatus.COMPENSATED if value is StepStatus.STARTED else StepStatus.STARTED
    elif isinstance(value, bool):
        yield not value
    else:
        yield f"{value} " if value else "said"


@pytest.mark.parametrize("definition", [image_processing.DEFINITION, order_saga.DEFINITION], ids=lambda item: item.name)
def test_the_fingerprint_sees_each_word(definition: Definition) -> None:
    others = [fingerprint(other) for other in other_values(definition)]
    assert len(others) > 200
    assert len({*others, fingerprint(definition)}) == len(others) + 1, "no two changes look alike"
    assert fingerprint(replace(definition)) == fingerprint(definition)


def test_nouns_and_renamed_fields_leave_the_fingerprint_as_it_was_recorded() -> None:
    called = replace(order_saga.DEFINITION, key_noun=Noun("purchase", "purchases"), entity_noun=Noun("item", "items"))
    assert fingerprint(called) == fingerprint(order_saga.DEFINITION)
    assert fingerprint(called) == "d63cc05e3dd5f9c02c18778e41489e903ea33a99dbcd2c14bfa8b0767810941a"


def test_a_running_saga_stays_on_the_version_that_it_started_with() -> None:
    definition = image_processing.DEFINITION
    deletion_alone = replace(definition, version=definition.version + 2, compensations=definition.compensations[1:])
    with registry.also(deletion_alone):
        assert registry.current(definition.name) is deletion_alone
        old, new = (Story(definition=registry.get(definition.name, version)) for version in (1, deletion_alone.version))
    for story in (old, new):
        story.retrieved(A).anonymized(A).failed(A)
    assert set(old.required(A)) == {ROLLBACK, DELETE}
    assert set(new.required(A)) == {DELETE}
