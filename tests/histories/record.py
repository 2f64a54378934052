"""Records histories: the logs of whole sagas with what they folded to, for each story that has no file yet.

`python -m tests.histories.record` writes what is missing and never touches what is there: a recorded history must fold
to the same for as long as its definition version exists.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from sagas.definitions import registry
from sagas.engine import facts
from sagas.engine.decide import LANE_SCOPE, SAGA_SCOPE, SagaIdentity
from sagas.engine.definition import Definition
from sagas.engine.facts import Fact
from sagas.engine.fold import replay
from sagas.engine.state import lane_data, saga_data
from tests.properties.histories import facts_of, to_images
from tests.stories import DELETE, ECHO, REVERSED, ROLLBACK, A, B, C, Story, all_that_shows, image

FOLDER = Path(__file__).parent
FINGERPRINTS = FOLDER / "fingerprints.json"


# --- the stories ----------------------------------------------------------------------------------------------------


def all_processed() -> Story:
    return Story().retrieved(A, B).processed(A).processed(B).announced(2)


def one_lane_undone() -> Story:
    story = Story().retrieved(A, B, C).processed(A).processed(B).anonymized(C)
    story.happens("ProcessingFailed", C, error_message="GPU out of memory").announced(3)
    story.happens("AnonymizationRolledBack", C).happens("ImageDeletionFailed", C, error_message="bucket locked")
    return story.happens("ImageDeletionCompleted", C)


def all_undone_with_the_echo() -> Story:
    story = Story().retrieved(A, B).anonymized(A).failed(A, "PHI detector crashed").failed(B, "unreadable")
    story.happens("AnonymizationFailed", A, error_message=REVERSED).happens("ImageDeletionCompleted", A)
    return story.happens("RetrievalFailed", error_message=ECHO).happens("ImageDeletionCompleted", B)


def late_failure_after_completion() -> Story:
    story = Story().retrieved(A).processed(A).announced(1)
    return story.happens("ProcessingFailed", A, error_message="quality check")


def exhausted_retried_marked_done() -> Story:
    story = Story().retrieved(A, B).announced(2).anonymized(A).failed(A).failed(B)
    story.exhausted(A, ROLLBACK).decided_on(facts.COMMANDS_RETRIED, (A, ROLLBACK), number=2).exhausted(A, ROLLBACK, 2)
    story.decided_on(facts.COMMANDS_MARKED_DONE, (A, ROLLBACK)).happens("ImageDeletionCompleted", A)
    return story.decided_on(facts.COMMANDS_SKIPPED, (B, DELETE))


def terminated_with_one_claimed() -> Story:
    story = Story().retrieved(A, B).anonymized(A).terminated((A, ROLLBACK))
    return story.happens("AnonymizationRolledBack", A).happens("ImageReadyForAnonymization", C)


def failed_upload_in_the_scope_of_the_saga() -> Story:
    story = Story(SAGA_SCOPE).retrieved(A).processed(A).happens("ImageUploadFailed", error_message="disk full")
    story.happens("RetrievalCompleted", result={"total_images": 2, "failed_images": 1})
    return story.happens("AnonymizationRolledBack", A).happens("ImageDeletionCompleted", A)


def processing_that_names_no_image() -> Story:
    story = Story().retrieved(A, B).anonymized(A).happens("ProcessingStarted").happens("ProcessingCompleted")
    return story.happens("ProcessingCompleted", lane=B).announced(2)


def started_again_after_a_failure() -> Story:
    story = Story().happens("RetrievalStarted", at=0).happens("ImagesRetrieved", at=2, image_ids=[A])
    story.happens("RetrievalFailed", at=5, error_message="no network").happens("RetrievalStarted", at=10)
    story.happens("ImagesRetrieved", at=11, image_ids=[B]).happens("AnonymizationRequested", B, at=9)
    story.happens("ImageDeletionCompleted", A, at=20).happens("ProcessingCompleted", B, at=30)
    return story.happens("RetrievalCompleted", at=31, result={"successful_images": 1})


def ended_by_silence_and_started_again() -> Story:
    story = Story().happens("RetrievalStarted", at=0).happens("ImagesRetrieved", at=1, image_ids=[A])
    story.happens("ProcessingCompleted", A, at=20)
    named = story.facts[-1]
    after = [named.occurred_at.isoformat(), named.id]
    story.ours(facts.INTAKE_SILENT, at=920, after=after, seconds=900).happens("RetrievalStarted", at=1000)
    story.happens("ImagesRetrieved", at=1001, image_ids=[B]).happens("ImagesRetrieved", at=1002, image_ids=[C])
    story.happens("AnonymizationFailed", C, at=1003, error_message="broken").processed(B)
    return story.ours(facts.INTAKE_CLOSED, at=1100, lanes=2)


def _wild(seed: int, images: int, scope: str, count: int) -> Story:
    """Whatever can happen to so many images, by chance: no service and no person behaves like that."""
    chance = random.Random(seed)
    happenings = to_images(tuple(image(number) for number in range(images)))
    story = Story(scope)
    story.facts = facts_of([(chance.choice(happenings), chance.randrange(3600)) for _ in range(count)])
    return story


def wild_on_two_images() -> Story:
    return _wild(2, 2, LANE_SCOPE, 150)


def wild_on_eight_images() -> Story:
    return _wild(8, 8, LANE_SCOPE, 200)


def wild_in_the_scope_of_the_saga() -> Story:
    return _wild(5, 5, SAGA_SCOPE, 60)


def wild_runs_of_three_images() -> Story:
    return _wild(3, 3, LANE_SCOPE, 150)


def wild_runs_in_the_scope_of_the_saga() -> Story:
    return _wild(7, 2, SAGA_SCOPE, 80)


STORIES: tuple[Callable[[], Story], ...] = (
    all_processed,
    one_lane_undone,
    all_undone_with_the_echo,
    late_failure_after_completion,
    exhausted_retried_marked_done,
    terminated_with_one_claimed,
    failed_upload_in_the_scope_of_the_saga,
    processing_that_names_no_image,
    started_again_after_a_failure,
    ended_by_silence_and_started_again,
    wild_on_two_images,
    wild_on_eight_images,
    wild_in_the_scope_of_the_saga,
    wild_runs_of_three_images,
    wild_runs_in_the_scope_of_the_saga,
)


# --- as data --------------------------------------------------------------------------------------------------------


# How a definition is called for people may change at any time.
NOUNS = frozenset({"key_noun", "entity_noun", "intake_noun", "noun"})
# A field that was renamed → the name under which fingerprints were recorded.
RECORDED_AS = {"required_when": "owed_when"}


def fingerprint(definition: Definition) -> str:
    """What the definition says, in one word. A new word of the engine that it does not use changes nothing."""
    said = json.dumps(_said(dataclasses.asdict(definition)), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(said.encode()).hexdigest()


def _said(value: Any) -> Any:
    if isinstance(value, dict):
        return {RECORDED_AS.get(name, name): _said(part) for name, part in value.items() if part and name not in NOUNS}
    if isinstance(value, (list, tuple)):
        return [_said(part) for part in value]
    return value


def frame_of(history: Mapping[str, Any]) -> SagaIdentity:
    definition = registry.get(history["definition"], history["version"])
    return SagaIdentity(definition, history["scope"], history["saga_id"], history["key"])


def fact_from(row: Mapping[str, Any]) -> Fact:
    return Fact(**{**row, "occurred_at": datetime.fromisoformat(row["occurred_at"])})


def folded(identity: SagaIdentity, log: list[Fact]) -> dict[str, Any]:
    """What a log folds to, as JSON data."""
    fold = replay(identity, log)
    shown = all_that_shows(fold)
    lanes = {
        entity: {
            "known": lane.known,
            "outcome": shown["outcomes"].get(entity),
            "state": lane_data(lane),
            "owed": shown["owed"].get(entity, {}),
            "steps": {" by ".join(key): status for key, status in shown["steps"][entity].items()},
            "shown_events": {" by ".join(key): said.event_id for key, said in lane.steps.items()},
        }
        for entity, lane in shown["lanes"].items()
    }
    return {
        "status": shown["status"],
        "error_message": shown["error"],
        "end_time": shown["end"].isoformat() if shown["end"] else None,
        "counts": fold.saga.counts._asdict(),
        "state": saga_data(fold.saga),
        "lanes": lanes,
    }


def recorded(story: Story, title: str) -> dict[str, Any]:
    """A story as it arrived (out of order), and what it folds to."""
    identity, log = story.identity, list(story.facts)
    random.Random(title).shuffle(log)
    return {
        "title": title,
        "definition": identity.definition.name,
        "version": identity.definition.version,
        "scope": identity.scope,
        "saga_id": identity.saga_id,
        "key": identity.key,
        "log": [_row(fact) for fact in log],
        "folded": folded(identity, log),
    }


def _row(fact: Fact) -> dict[str, Any]:
    row = {name: value for name, value in fact._asdict().items() if value}
    return row | {"occurred_at": fact.occurred_at.isoformat()}


def main() -> None:
    """Writes what is missing."""
    for tell in STORIES:
        path = FOLDER / f"{tell.__name__}.json"
        if not path.exists():
            _write(path, recorded(tell(), tell.__name__.replace("_", " ")))
    known: dict[str, str] = json.loads(FINGERPRINTS.read_text()) if FINGERPRINTS.exists() else {}
    now = {f"{item.name} version {item.version}": fingerprint(item) for item in registry.all_definitions()}
    _write(FINGERPRINTS, now | known)


def _write(path: Path, data: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
