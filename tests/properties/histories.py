"""Random stories: any facts, of any source, about up to eight images, for the engine's theorem."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import cache
from typing import Any, NamedTuple

from hypothesis import strategies as st

from sagas.definitions import image_processing
from sagas.engine import facts
from sagas.engine.decide import LANE_SCOPE, SAGA_SCOPE, Frame, command_id
from sagas.engine.facts import Fact
from tests.stories import DELETE, ECHO, MIDNIGHT, REVERSED, ROLLBACK, SAGA_ID, TASK, image

FRAMES = [Frame(image_processing.DEFINITION, scope, SAGA_ID, TASK) for scope in (LANE_SCOPE, SAGA_SCOPE)]

OF_AN_IMAGE = [
    "ImageReadyForAnonymization",
    "AnonymizationRequested",
    "AnonymizationCompleted",
    "AnonymizationRolledBack",
    "ImageReadyForProcessing",
    "ImageDeletionCompleted",
    "ImageDeletionFailed",
]
OF_AN_IMAGE_OR_THE_TASK = ["ProcessingStarted", "ProcessingCompleted"]
RESULTS: list[Any] = [
    {},
    None,
    {"successful_images": 0},
    {"successful_images": 1},
    {"total_images": 2, "failed_images": 1},
    {"total_images": 3, "failed_images": 3},
]


class Happening(NamedTuple):
    """A fact without its id and time."""

    type: str
    source: str = facts.WIRE
    entity: str = ""
    lane: str = ""
    correlation: str = ""
    content: dict[str, Any] = {}


@cache
def happenings(images: int) -> list[Happening]:
    """All that can happen to a saga of so many images; what speaks for the whole saga is rarer than what does not."""
    ids = [image(number) for number in range(images)]
    found = [happening for entity in ids for happening in _to_image(entity)]
    found += [
        Happening("RetrievalStarted"),
        Happening("RetrievalStarted", correlation="first"),
        Happening("RetrievalStarted", entity=ids[0], correlation="second"),
        Happening("RetrievalFailed", content={"error_message": "disk"}),
        Happening("RetrievalFailed", content={"error_message": ECHO}),
        Happening("ImageUploadFailed", content={"error_message": "too big"}),
        Happening("ImageUploadFailed", lane=ids[-1], content={"error_message": "too big"}),
        Happening("ImagesRetrieved", content={"image_ids": ids}),
        Happening("ImagesRetrieved", content={"image_ids": [*ids[:2], ids[0], 7]}),
        Happening("ImagesRetrieved", lane=ids[-1], content={"image_ids": ids[:1]}),
        Happening("ImagesRetrieved", content={"image_ids": None}),
        Happening("AnonymizationCompleted"),
        Happening("ProcessingStarted"),
        Happening("ProcessingCompleted"),
        Happening("ProcessingFailed", content={"error_message": "gpu"}),
        Happening("TypeOfTomorrow", entity=ids[0]),
        Happening(facts.SAGA_ADOPTED, facts.OPERATOR, content={"started_at": MIDNIGHT.isoformat()}),
        Happening(facts.SAGA_CANCELLED, facts.OPERATOR, content={"reason": "why"}),
        Happening(facts.COMPENSATION_FORCED, facts.OPERATOR, content={"reason": "why"}),
    ]
    found += [Happening("RetrievalCompleted", content={"result": result}) for result in RESULTS]
    found += [Happening("RetrievalCompleted", content={"result": {"successful_images": images}})]
    found += [
        Happening(facts.SAGA_TERMINATED, facts.OPERATOR, content={"reason": "why", "claimed": claimed})
        for claimed in ([], [command_id(SAGA_ID, ids[0], DELETE), command_id(SAGA_ID, ids[-1], ROLLBACK)])
    ]
    found += [
        _decision(type_, [[e, c, 2] for e in ids for c in (DELETE, ROLLBACK)]) for type_ in facts.COMMAND_DECISIONS
    ]
    return sorted(found, key=repr)


def _to_image(entity: str) -> list[Happening]:
    found = [Happening(type_, entity=entity) for type_ in OF_AN_IMAGE * 2]
    found += [Happening(type_, entity=entity) for type_ in OF_AN_IMAGE_OR_THE_TASK * 2]
    found += [Happening(type_, lane=entity) for type_ in OF_AN_IMAGE_OR_THE_TASK]
    found += [
        Happening("AnonymizationFailed", entity=entity, content={"error_message": "broken"}),
        Happening("AnonymizationFailed", entity=entity, content={"error_message": REVERSED}),
        Happening("ProcessingFailed", entity=entity, content={"error_message": ""}),
        Happening(facts.COMPENSATION_FORCED, facts.OPERATOR, entity, content={"reason": "why"}),
        Happening(facts.SAGA_CANCELLED, facts.OPERATOR, entity, content={"reason": "why"}),
    ]
    for command in (DELETE, ROLLBACK):
        found += [_decision(type_, [[entity, command, 2]]) for type_ in facts.COMMAND_DECISIONS]
        found.append(_decision(facts.COMMANDS_RETRIED, [[entity, command, 3]]))
        found += [
            Happening(type_, facts.COMPENSATION, entity, content={"name": command, "round": number})
            for type_ in facts.COMMAND_NEWS
            for number in (1, 2, 3)
        ]
    return found


def _decision(type_: str, commands: list[list[Any]]) -> Happening:
    return Happening(type_, facts.OPERATOR, content={"reason": "why", "commands": commands})


@st.composite
def stories(draw: st.DrawFn, most: int = 40) -> list[Fact]:
    """Facts of one saga, of few images more often than of many, with times that meet."""
    images = draw(st.sampled_from([1, 1, 2, 2, 3, 4, 6, 8]))
    least = draw(st.sampled_from([1, 5, 15, 30]))
    what = st.tuples(st.sampled_from(happenings(images)), st.integers(0, 5))
    told = draw(st.lists(what, min_size=min(least, most), max_size=most))
    return facts_of(told)


def facts_of(told: Sequence[tuple[Happening, int]]) -> list[Fact]:
    """Happenings at seconds, as facts. Ids do not follow the times."""
    return [
        Fact(
            f"{number * 7 % 41:02}-{number}",
            what.type,
            MIDNIGHT + timedelta(seconds=second),
            what.source,
            what.entity,
            what.lane,
            what.correlation,
            what.content,
        )
        for number, (what, second) in enumerate(told)
    ]
