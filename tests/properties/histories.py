"""Random stories: any facts, of any source, about up to eight images or one order, for the engine's theorem."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import cache
from typing import Any, NamedTuple

from hypothesis import strategies as st

from sagas.definitions import image_processing, image_processing_v1, image_processing_v1_restarted
from sagas.engine import facts
from sagas.engine.decide import LANE_SCOPE, SAGA_SCOPE, SagaIdentity, command_id
from sagas.engine.definition import Confirmation, Definition
from sagas.engine.facts import Fact
from tests import order_saga
from tests.stories import DELETE, ECHO, MIDNIGHT, REVERSED, ROLLBACK, SAGA_ID, TASK, image

IMAGES = image_processing.DEFINITION
BEFORE_RUNS = image_processing_v1.DEFINITION
CONTINUED = image_processing_v1_restarted.DEFINITION
_rollback, _delete = IMAGES.compensations
# The same, but for a Data Retrieval that never answers: that the deletion was sent is enough.
SENDING_IS_ENOUGH = replace(
    IMAGES, version=1001, compensations=(_rollback, replace(_delete, confirmation=Confirmation.PUBLISHED))
)
ORDERS = order_saga.DEFINITION
SCOPES = (LANE_SCOPE, SAGA_SCOPE)

IMAGE_FRAMES = [
    SagaIdentity(item, scope, SAGA_ID, TASK)
    for item in (IMAGES, SENDING_IS_ENOUGH, BEFORE_RUNS, CONTINUED)
    for scope in SCOPES
]
ORDER_FRAMES = [SagaIdentity(ORDERS, scope, SAGA_ID, "order 1") for scope in SCOPES]

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
STATUSES: list[Any] = ["COMPLETED", "completed ", "FAILED", "?"]
RESULTS: list[Any] = [
    {},
    None,
    {"successful_images": 0},
    {"successful_images": 1},
    {"total_images": 2, "failed_images": 1},
    {"total_images": 3, "failed_images": 3},
]
DECISIONS = sorted(facts.COMMAND_DECISIONS)
NEWS = sorted(facts.COMMAND_EVENTS)
SILENCE = facts.INTAKE_SILENT


class Happening(NamedTuple):
    """A fact without its id and time."""

    type: str
    source: str = facts.WIRE
    entity: str = ""
    lane: str = ""
    correlation: str = ""
    content: dict[str, Any] = {}


class Tale(NamedTuple):
    """Facts, and the saga that they are told to."""

    identity: SagaIdentity
    facts: list[Fact]


# --- what can happen ------------------------------------------------------------------------------------------------


@cache
def to_images(ids: tuple[str, ...], saga_id: str = SAGA_ID) -> list[Happening]:
    """All that can happen to a saga of these images; what speaks for all of it is rarer than what does not."""
    found = [happening for entity in ids for happening in _to_image(entity)]
    found += [
        Happening("RetrievalStarted"),
        Happening("RetrievalStarted", correlation="first"),
        Happening("RetrievalStarted", entity=ids[0], correlation="second"),
        Happening("RetrievalFailed", content={"error_message": "disk"}),
        Happening("RetrievalFailed", content={"error_message": ECHO}),
        Happening("ImageUploadFailed", content={"error_message": "too big"}),
        Happening("ImageUploadFailed", lane=ids[-1], content={"error_message": "too big"}),
        Happening("ImagesRetrieved", content={"image_ids": list(ids)}),
        Happening("ImagesRetrieved", content={"image_ids": [*ids[:2], ids[0], 7]}),
        Happening("ImagesRetrieved", lane=ids[-1], content={"image_ids": list(ids[:1])}),
        Happening("ImagesRetrieved", content={"image_ids": None}),
        Happening("AnonymizationCompleted"),
        Happening("ProcessingStarted"),
        Happening("ProcessingCompleted"),
        *(Happening("ProcessingCompleted", content={"status": status}) for status in STATUSES),
        Happening("ProcessingFailed", content={"error_message": "gpu"}),
        Happening("TypeOfTomorrow", entity=ids[0]),
        *_of_people(),
        *_to_runs(ids),
    ]
    found += [Happening("RetrievalCompleted", content={"result": result}) for result in RESULTS]
    found += [Happening("RetrievalCompleted", content={"result": {"successful_images": len(ids)}})]
    found += [
        Happening(facts.SAGA_TERMINATED, facts.OPERATOR, content={"reason": "why", "claimed": claimed})
        for claimed in ([], [command_id(saga_id, ids[0], DELETE), command_id(saga_id, ids[-1], ROLLBACK)])
    ]
    return found + [_decision(type_, [[e, c, 2] for e in ids for c in (DELETE, ROLLBACK)]) for type_ in DECISIONS]


def _to_runs(ids: tuple[str, ...]) -> list[Happening]:
    """A task that is started again and again, and ends of its intake without an event."""
    found = [Happening("RetrievalStarted")] * 4
    found += [Happening("ImagesRetrieved", content={"image_ids": [entity]}) for entity in ids]
    found += [
        Happening(SILENCE, facts.OPERATOR, content={"seconds": n, "back": back}) for n in (1, 2) for back in (1, 2)
    ]
    found += [Happening(facts.INTAKE_CLOSED, facts.OPERATOR, content={"lanes": lanes}) for lanes in (0, len(ids))]
    for second in (0, 2, 4):
        run = {facts.RUN: (MIDNIGHT + timedelta(seconds=second)).isoformat()}
        found.append(Happening(facts.SAGA_CANCELLED, facts.OPERATOR, content={"reason": "why", **run}))
        found.append(Happening(facts.INTAKE_CLOSED, facts.OPERATOR, content={"lanes": 1, **run}))
    return found


def _to_image(entity: str) -> list[Happening]:
    found = [Happening(type_, entity=entity) for type_ in OF_AN_IMAGE * 2]
    found += [Happening(type_, entity=entity) for type_ in OF_AN_IMAGE_OR_THE_TASK * 2]
    found += [Happening("ProcessingCompleted", entity=entity, content={"status": status}) for status in STATUSES]
    found += [Happening(type_, lane=entity) for type_ in OF_AN_IMAGE_OR_THE_TASK]
    found += [
        Happening("AnonymizationFailed", entity=entity, content={"error_message": "broken"}),
        Happening("AnonymizationFailed", entity=entity, content={"error_message": REVERSED}),
        Happening("ProcessingFailed", entity=entity, content={"error_message": ""}),
        Happening(facts.COMPENSATION_FORCED, facts.OPERATOR, entity, content={"reason": "why"}),
        Happening(facts.SAGA_CANCELLED, facts.OPERATOR, entity, content={"reason": "why"}),
    ]
    return found + [word for command in (DELETE, ROLLBACK) for word in _to_command(entity, command)]


@cache
def to_an_order(key: str, saga_id: str = SAGA_ID) -> list[Happening]:
    """All that can happen to a saga without entities, which is its own single lane."""
    found = [Happening(event.type) for event in ORDERS.events * 2]
    found += [Happening("PaymentFailed", content={"error_message": "no funds"}), *_of_people()]
    found += [
        Happening(facts.SAGA_TERMINATED, facts.OPERATOR, content={"reason": "why", "claimed": claimed})
        for claimed in ([], [command_id(saga_id, key, "CancelOrder")])
    ]
    return found + [word for item in ORDERS.compensations for word in _to_command(key, item.command)]


def _to_command(entity: str, command: str) -> list[Happening]:
    found = [_decision(type_, [[entity, command, 2]]) for type_ in DECISIONS]
    found.append(_decision(facts.COMMANDS_RETRIED, [[entity, command, 3]]))
    found += [
        Happening(type_, facts.COMPENSATION, entity, content={"name": command, "round": number})
        for type_ in NEWS
        for number in (1, 2, 3)
    ]
    return found


def _of_people() -> list[Happening]:
    return [
        Happening(facts.SAGA_ADOPTED, facts.OPERATOR, content={"started_at": MIDNIGHT.isoformat()}),
        Happening(facts.SAGA_CANCELLED, facts.OPERATOR, content={"reason": "why"}),
        Happening(facts.COMPENSATION_FORCED, facts.OPERATOR, content={"reason": "why"}),
    ]


def _decision(type_: str, commands: list[list[Any]]) -> Happening:
    return Happening(type_, facts.OPERATOR, content={"reason": "why", "commands": commands})


# --- as strategies --------------------------------------------------------------------------------------------------


@st.composite
def tales(draw: st.DrawFn, most: int = 40) -> Tale:
    """A saga of images (of few more often than of many), now and then an order, in both scopes."""
    identity = draw(st.sampled_from([*IMAGE_FRAMES * 2, *ORDER_FRAMES]))
    return Tale(identity, draw(stories(happenings_of(draw, identity.definition, identity.key), most)))


@st.composite
def image_tales(draw: st.DrawFn, most: int = 40) -> Tale:
    """A saga of images alone."""
    identity = draw(st.sampled_from(IMAGE_FRAMES))
    return Tale(identity, draw(stories(happenings_of(draw, identity.definition, identity.key), most)))


def happenings_of(draw: st.DrawFn, definition: Definition, key: str) -> list[Happening]:
    """What can happen to a saga of this type."""
    if definition is ORDERS:
        return to_an_order(key)
    images = draw(st.sampled_from([1, 1, 2, 2, 3, 4, 5, 6, 7, 8]))
    return to_images(tuple(image(number) for number in range(images)))


@st.composite
def stories(draw: st.DrawFn, happenings: list[Happening], most: int = 40) -> list[Fact]:
    """Facts of one saga, with times that meet."""
    least = draw(st.sampled_from([1, 5, 15, 30]))
    what = st.tuples(st.sampled_from(happenings), st.integers(0, 5))
    return facts_of(draw(st.lists(what, min_size=min(least, most), max_size=most)))


def facts_of(told: Sequence[tuple[Happening, int]], prefix: str = "") -> list[Fact]:
    """Happenings at seconds, as facts. Ids do not follow the times. A silence names one of the events."""
    events: list[Fact] = []
    made = []
    for number, (what, second) in enumerate(told):
        at, content = MIDNIGHT + timedelta(seconds=second), what.content
        if what.type == SILENCE:
            latest = sorted(events, key=lambda fact: (fact.occurred_at, fact.id))[-what.content["back"] :]
            named = latest[0] if latest else None
            since, event_id = (named.occurred_at, named.id) if named else (at, "none")
            at = since + timedelta(seconds=content["seconds"])
            content = {"after": [since.isoformat(), event_id], "seconds": content["seconds"]}
        made.append(
            Fact(
                f"{prefix}{number * 7 % 41:02}-{number}",
                what.type,
                at,
                what.source,
                what.entity,
                what.lane,
                what.correlation,
                content,
            )
        )
        if what.source == facts.WIRE:
            events.append(made[-1])
    return made
