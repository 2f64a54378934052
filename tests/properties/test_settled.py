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
from sagas.engine.definition import Definition
from sagas.engine.fold import Fold
from tests.properties import table
from tests.properties.histories import IMAGES, SENDING_IS_ENOUGH
from tests.stories import DELETE, ECHO, ROLLBACK, A, B, Story, outcome_of

# Not how fast this machine is, but whether it ends. Counting lines would take most of its time, and the tests that
# name what they expect go through all of them.
pytestmark = [pytest.mark.timeout(600), pytest.mark.no_cover]


class Image(NamedTuple):
    """How far an image came, what failed it, and the answers to its two commands."""

    came: str = "open"  # open, anonymized, processed
    broken: str = ""  # by a service, by a person
    delete: str = ""  # "" while nobody answered
    rollback: str = ""


class Situation(NamedTuple):
    """A whole saga. `intake` says how its retrieval ended, `failure` what failed it by itself."""

    images: tuple[Image, ...]
    intake: str
    failure: str
    scope: str
    definition: Definition


ANSWERS = ["", "confirmed", "by_hand", "skipped", "withdrawn", "exhausted", "retried", "published"]
INTAKES = [
    "running",
    "echo",
    "over",
    "over, more announced",
    "over, fewer announced",
    "over, no number",
    "over, an upload failed",
]
FAILURES = ["", "RetrievalFailed", "ProcessingFailed", "cancelled", "forced", "terminated"]

# An image alone: each way to fail, each answer to each command, also those that came before anything failed.
ALONE = [
    Image(*what)
    for what in itertools.product(
        ["open", "anonymized", "processed"], ["", "by a service", "by a person"], ANSWERS, ANSWERS
    )
]
# Beside another, images that the table cannot tell apart stand for each other: the answers are confirmed, given up,
# exhausted and none, and what else they say was seen alone.
_SETTLED = ["confirmed", "skipped", "exhausted"]
TOGETHER = [
    *[Image(came) for came in ("open", "anonymized", "processed")],
    *[Image(came, "by a service") for came in ("open", "anonymized", "processed")],
    *[Image("open", "by a service", delete) for delete in _SETTLED],
    *[
        Image(came, "by a service", *answers)
        for came in ("anonymized", "processed")
        for answers in itertools.product(_SETTLED, _SETTLED)
    ],
]


# --- the design's sentences -----------------------------------------------------------------------------------------


def expected(situation: Situation) -> tuple[str, list[str]]:
    """The saga's status and the outcome of each lane."""
    failed = saga_failed(situation)
    lanes = [(failed or lane_failed(image) or undone_by_us(situation, image), image) for image in situation.images]
    held = [holding(situation, image) if lost else [] for lost, image in lanes]
    outcomes = [
        table.outcome_of(lost, image.came == "processed", words)
        for (lost, image), words in zip(lanes, held, strict=True)
    ]
    whole = table.Whole(
        failed=failed,
        over=situation.intake.startswith("over"),
        echoed=situation.intake == "echo",
        announced=announces(situation.intake, len(lanes)),
        upload_failed=situation.intake == "over, an upload failed",
        outcomes=outcomes,
        commands=[word for words in held for word in words],
    )
    return table.status_of(whole), outcomes


def lane_failed(image: Image) -> bool:
    """By itself, or because somebody else undid it."""
    return bool(image.broken) or "confirmed" in (image.delete, image.rollback)


def undone_by_us(situation: Situation, image: Image) -> bool:
    """A person marked one of its commands as done, or one was sent to a service that is mute."""
    sent = situation.definition is SENDING_IS_ENOUGH and image.delete == "published"
    return sent or "by_hand" in (image.delete, image.rollback)


def saga_failed(situation: Situation) -> bool:
    if situation.failure:
        return True
    upload_failed = situation.intake == "over, an upload failed"
    return situation.scope == SAGA_SCOPE and (upload_failed or any(map(lane_failed, situation.images)))


def holding(situation: Situation, image: Image) -> list[str]:
    """What holds of the commands that a failed lane owes. Of these services Data Retrieval may be one that is mute."""
    mute = situation.definition is SENDING_IS_ENOUGH
    deletion = holds(situation, image.delete, sending_is_enough=mute)
    return [deletion] if image.came == "open" else [deletion, holds(situation, image.rollback)]


def holds(situation: Situation, answer: str, *, sending_is_enough: bool = False) -> str:
    if answer in ("confirmed", "by_hand") or (answer == "published" and sending_is_enough):
        return table.CONFIRMED
    if answer in ("skipped", "withdrawn") or situation.failure == "terminated":
        return table.GIVEN_UP
    return table.EXHAUSTED if answer == "exhausted" else table.ON_ITS_WAY


def announces(intake: str, known: int) -> int:
    if intake in ("over", "over, an upload failed"):
        return known
    if intake == "over, fewer announced":
        return max(known - 1, 0)
    return known + 1 if intake == "over, more announced" else 0


# --- the same as facts ----------------------------------------------------------------------------------------------


def tell_image(story: Story, entity: str, image: Image) -> None:
    story.happens("ImagesRetrieved", image_ids=[entity])
    if image.came == "anonymized":
        story.anonymized(entity)
    if image.came == "processed":
        story.processed(entity)
    if image.broken == "by a service":
        story.failed(entity)
    if image.broken == "by a person":
        story.decided(facts.COMPENSATION_FORCED, entity)
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
    if answer == "published":
        story.published(entity, command)


def tell_intake(story: Story, intake: str, known: int) -> None:
    if intake == "echo":
        story.happens("RetrievalFailed", error_message=ECHO)
    if intake == "over, an upload failed":
        story.happens("ImageUploadFailed", error_message="too big")
    if intake == "over, no number":
        story.happens("RetrievalCompleted")
    elif intake.startswith("over"):
        story.announced(announces(intake, known))


def tell_failure(story: Story, failure: str) -> None:
    match failure:
        case "cancelled":
            story.decided(facts.SAGA_CANCELLED)
        case "forced":
            story.decided(facts.COMPENSATION_FORCED)
        case "terminated":
            story.terminated()
        case "":
            pass
        case failure:
            story.happens(failure, error_message="all of it")


# --- side by side ---------------------------------------------------------------------------------------------------


def situations(
    images: tuple[Image, ...], scope: str, definition: Definition, chance: random.Random
) -> Iterator[tuple[Situation, Fold]]:
    """Every end of these images' saga, and what it folds to.

    What the images did is folded once for all of them; now and then the whole is folded in an order of its own.
    """
    story = Story(scope, definition).happens("RetrievalStarted")
    for entity, image in zip((A, B), images, strict=False):
        tell_image(story, entity, image)
    said = list(story.facts)
    base = story.folded()
    for intake, failure in itertools.product(INTAKES, FAILURES):
        story.facts = list(said)
        tell_intake(story, intake, len(images))
        tell_failure(story, failure)
        if chance.random() < 0.1:
            chance.shuffle(story.facts)
            fold = story.folded()
        else:
            fold = Fold(base.identity, base.saga, base.lanes)
            for fact in story.facts[len(said) :]:
                fold.apply(fact)
        yield Situation(images, intake, failure, scope, definition), fold


@pytest.mark.parametrize("scope", [LANE_SCOPE, SAGA_SCOPE])
@pytest.mark.parametrize(
    ("images", "definition"),
    [
        pytest.param([()], IMAGES, id="no lanes"),
        pytest.param([(image,) for image in ALONE], IMAGES, id="one lane"),
        pytest.param([(image,) for image in ALONE], SENDING_IS_ENOUGH, id="one lane, sending is enough"),
        pytest.param(list(itertools.combinations_with_replacement(TOGETHER, 2)), IMAGES, id="two lanes"),
    ],
)
def test_every_settled_combination_has_the_status_of_the_table(
    images: Iterable[tuple[Image, ...]], definition: Definition, scope: str
) -> None:
    chance = random.Random(len(scope))
    for some in images:
        for situation, fold in situations(some, scope, definition, chance):
            outcomes = [outcome_of(fold, entity) for entity in (A, B)[: len(some)]]
            assert (fold.status.value, outcomes) == expected(situation), situation
