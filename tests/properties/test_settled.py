"""Every settled combination of no, one and two lanes, against a second reading of the status table.

`expected` is written from the design's sentences alone and asks the engine nothing.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import pytest

from sagas.engine import facts
from sagas.engine.decide import LANE_SCOPE, SAGA_SCOPE
from tests.stories import DELETE, ECHO, ROLLBACK, A, B, Story, all_that_shows


class Image(NamedTuple):
    """How far an image came, whether a fact failed it, and the answers to its two commands."""

    came: str = "open"  # open, anonymized, processed
    broken: bool = False
    delete: str = ""  # "" while nobody answered
    rollback: str = ""


class Situation(NamedTuple):
    """A whole saga. `intake` says how its retrieval ended, `failure` what failed it by itself."""

    images: tuple[Image, ...]
    intake: str
    failure: str
    scope: str


ANSWERS = ["", "confirmed", "by_hand", "skipped", "withdrawn", "exhausted", "retried"]
INTAKES = ["running", "echo", "over", "over, more announced", "over, no number", "over, an upload failed"]
FAILURES = ["", "RetrievalFailed", "ProcessingFailed", "cancelled", "terminated"]
ALONE = [
    Image(*what) for what in itertools.product(["open", "anonymized", "processed"], [False, True], ANSWERS, ANSWERS)
]
TOGETHER = [
    Image(),
    Image("anonymized"),
    Image("processed"),
    Image(broken=True),
    Image("processed", broken=True),
    Image("open", False, "confirmed"),
    Image("open", False, "skipped"),
    Image("open", True, "confirmed"),
    Image("open", True, "withdrawn"),
    Image("open", True, "exhausted"),
    Image("anonymized", True, "confirmed", "confirmed"),
    Image("anonymized", True, "by_hand", "by_hand"),
    Image("anonymized", True, "confirmed", "skipped"),
    Image("anonymized", True, "confirmed", ""),
    Image("anonymized", True, "retried", "confirmed"),
    Image("processed", True, "confirmed", "exhausted"),
]


# --- the table, read a second time ----------------------------------------------------------------------------------


def expected(situation: Situation) -> tuple[str, list[str]]:
    """The saga's status and the outcome of each lane."""
    images, failed = situation.images, saga_failed(situation)
    commands = [command for image in images if failed or lane_failed(image) for command in holding(situation, image)]
    outcomes = [lane_outcome(situation, image, failed) for image in images]
    return saga_status(situation, failed, commands, outcomes), outcomes


def lane_failed(image: Image) -> bool:
    return image.broken or image.delete == "confirmed" or image.rollback == "confirmed"


def saga_failed(situation: Situation) -> bool:
    if situation.failure:
        return True
    upload_failed = situation.intake == "over, an upload failed"
    return situation.scope == SAGA_SCOPE and (upload_failed or any(map(lane_failed, situation.images)))


def holding(situation: Situation, image: Image) -> list[str]:
    """What holds of the commands that a failed lane owes."""
    answers = [image.delete] if image.came == "open" else [image.delete, image.rollback]
    return [holds(situation, answer) for answer in answers]


def holds(situation: Situation, answer: str) -> str:
    if answer in ("confirmed", "by_hand"):
        return "confirmed"
    if answer in ("skipped", "withdrawn") or situation.failure == "terminated":
        return "given up"
    return "exhausted" if answer == "exhausted" else "on its way"


def lane_outcome(situation: Situation, image: Image, failed: bool) -> str:
    if not failed and not lane_failed(image):
        return "processed" if image.came == "processed" else "open"
    held = set(holding(situation, image))
    if held & {"on its way", "exhausted"}:
        return "undoing"
    return "undone" if held == {"confirmed"} else "settled"


def saga_status(situation: Situation, failed: bool, commands: list[str], outcomes: list[str]) -> str:
    known = len(outcomes)
    announced = announces(situation.intake, known)
    over = situation.intake.startswith("over")
    enough = known >= announced
    all_failed = known > 0 and not {"open", "processed"} & set(outcomes)
    if "exhausted" in commands:
        return "COMPENSATION_FAILED"
    if "on its way" in commands:
        return "COMPENSATING"
    if failed or ((over or situation.intake == "echo") and enough and all_failed):
        return "COMPENSATION_SUCCEEDED" if commands and set(commands) == {"confirmed"} else "FAILED"
    if over and announced == known == 0:
        return "FAILED" if situation.intake == "over, an upload failed" else "COMPLETED"
    if over and enough and "open" not in outcomes and "processed" in outcomes:
        return "COMPLETED"
    return "STARTED"


def announces(intake: str, known: int) -> int:
    if intake in ("over", "over, an upload failed"):
        return known
    return known + 1 if intake == "over, more announced" else 0


# --- the same as facts ----------------------------------------------------------------------------------------------


def told(situation: Situation) -> Story:
    story = Story(situation.scope).happens("RetrievalStarted")
    for entity, image in zip((A, B), situation.images, strict=False):
        tell_image(story, entity, image)
    tell_intake(story, situation.intake, len(situation.images))
    match situation.failure:
        case "cancelled":
            story.decided(facts.SAGA_CANCELLED)
        case "terminated":
            story.terminated()
        case "":
            pass
        case failure:
            story.happens(failure, error_message="all of it")
    return story


def tell_image(story: Story, entity: str, image: Image) -> None:
    story.happens("ImagesRetrieved", image_ids=[entity])
    if image.came == "anonymized":
        story.anonymized(entity)
    if image.came == "processed":
        story.processed(entity)
    if image.broken:
        story.failed(entity)
    tell_answer(story, entity, DELETE, image.delete, "ImageDeletionCompleted")
    tell_answer(story, entity, ROLLBACK, image.rollback, "AnonymizationRolledBack")


def tell_answer(story: Story, entity: str, command: str, answer: str, confirms: str) -> None:
    decisions = {
        "by_hand": facts.COMMANDS_MARKED_DONE,
        "skipped": facts.COMMANDS_SKIPPED,
        "withdrawn": facts.COMMANDS_WITHDRAWN,
    }
    if answer == "confirmed":
        story.happens(confirms, entity)
    if answer in decisions:
        story.decided_on(decisions[answer], (entity, command))
    if answer in ("exhausted", "retried"):
        story.exhausted(entity, command)
    if answer == "retried":
        story.decided_on(facts.COMMANDS_RETRIED, (entity, command), number=2)


def tell_intake(story: Story, intake: str, known: int) -> None:
    if intake == "echo":
        story.happens("RetrievalFailed", error_message=ECHO)
    if intake == "over, an upload failed":
        story.happens("ImageUploadFailed", error_message="too big")
    if intake == "over, no number":
        story.happens("RetrievalCompleted")
    elif intake.startswith("over"):
        story.announced(announces(intake, known))


# --- side by side ---------------------------------------------------------------------------------------------------


def situations(images: Iterable[tuple[Image, ...]], scope: str) -> Iterator[Situation]:
    for some in images:
        for intake, failure in itertools.product(INTAKES, FAILURES):
            yield Situation(some, intake, failure, scope)


@pytest.mark.parametrize("scope", [LANE_SCOPE, SAGA_SCOPE])
@pytest.mark.parametrize(
    "images",
    [
        pytest.param([()], id="no lanes"),
        pytest.param([(image,) for image in ALONE], id="one lane"),
        pytest.param(list(itertools.combinations_with_replacement(TOGETHER, 2)), id="two lanes"),
    ],
)
def test_every_settled_combination_has_the_status_of_the_table(images: list[tuple[Image, ...]], scope: str) -> None:
    chance = random.Random(len(images))
    for situation in situations(images, scope):
        story = told(situation)
        chance.shuffle(story.facts)
        shown = all_that_shows(story.folded())
        outcomes = [shown["outcomes"][entity] for entity in (A, B)[: len(situation.images)]]
        assert (shown["status"], outcomes) == expected(situation), situation
