"""Recorded histories fold to what they folded to when they were recorded, for as long as their version exists."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from sagas.definitions import image_processing, registry
from sagas.engine.definition import Definition
from tests.histories.record import FINGERPRINTS, FOLDER, STORIES, fact_from, fingerprint, folded, frame_of
from tests.stories import DELETE, ROLLBACK, A, Story

HISTORIES = sorted(path for path in FOLDER.glob("*.json") if path != FINGERPRINTS)
RECORDED = json.loads(FINGERPRINTS.read_text())


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
def test_a_recorded_history_folds_to_the_same_for_ever(path: Path) -> None:
    history = json.loads(path.read_text())
    frame, log = frame_of(history), [fact_from(row) for row in history["log"]]
    assert json.loads(json.dumps(folded(frame, log))) == history["folded"]
    random.Random(1).shuffle(log)
    assert json.loads(json.dumps(folded(frame, log))) == history["folded"]


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


def test_the_fingerprint_sees_each_word() -> None:
    definition = image_processing.DEFINITION
    first, *others = definition.events
    other_text = replace(definition, events=(replace(first, starts=False), *others))
    assert fingerprint(other_text) != fingerprint(definition)
    assert fingerprint(replace(definition)) == fingerprint(definition)


def test_a_running_saga_stays_on_the_version_that_it_started_with() -> None:
    definition = image_processing.DEFINITION
    deletion_alone = replace(definition, version=definition.version + 1, compensations=definition.compensations[1:])
    with registry.also(deletion_alone):
        assert registry.current(definition.name) is deletion_alone
        old, new = (Story(definition=registry.get(definition.name, version)) for version in (1, deletion_alone.version))
    for story in (old, new):
        story.retrieved(A).anonymized(A).failed(A)
    assert set(old.owed(A)) == {ROLLBACK, DELETE}
    assert set(new.owed(A)) == {DELETE}
