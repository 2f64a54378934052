"""Definitions as data: each kind of mistake is found, versions are kept apart, and a second type is one file."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sagas.definitions import image_processing, registry
from sagas.engine import facts
from sagas.engine.definition import (
    Compensation,
    Confirmation,
    Definition,
    Entity,
    Event,
    Fails,
    Meaning,
    Retry,
    Step,
    StepStatus,
)
from tests import order_saga
from tests.stories import Story

IMAGES = image_processing.DEFINITION
ORDERS = order_saga.DEFINITION
PAY = order_saga.PAY


def with_event(definition: Definition = ORDERS, **changes: Any) -> Definition:
    """The definition with one more event."""
    plain: dict[str, Any] = {"type": "Extra", "topics": ("extra",), "entity": Entity.TASK, "means": Meaning()}
    return replace(definition, events=(*definition.events, Event(**(plain | changes))))


def with_undo(**changes: Any) -> Definition:
    """The orders with their second undo changed."""
    first, second = ORDERS.compensations
    return replace(ORDERS, compensations=(first, replace(second, **changes)))


def test_the_definitions_in_use_have_no_problems() -> None:
    assert registry.problems() == []
    assert ORDERS.problems() == []


COMPLETED = StepStatus.COMPLETED
MISTAKES = [
    (replace(ORDERS, name="no name"), "the name must be an identifier"),
    (replace(ORDERS, version=0), "the version at least 1"),
    (replace(ORDERS, key_field=""), "names no key field"),
    (replace(ORDERS, events=(*ORDERS.events, ORDERS.events[0])), "an event type is declared twice"),
    (replace(ORDERS, compensations=(*ORDERS.compensations, ORDERS.compensations[0])), "a command is declared twice"),
    (replace(ORDERS, events=ORDERS.events[1:]), "no event starts the saga"),
    (replace(ORDERS, processed_needs="wrapped"), "processed with wrapped, which no event proves"),
    (with_undo(undoes=order_saga.PLACE), "a step is undone by two commands"),
    (with_event(topics=()), "has no topic"),
    (with_event(IMAGES, entity=Entity.EACH), "names no list field"),
    (with_event(entity=Entity.EACH, listed_in="ids"), "lists entities, but the saga has none"),
    (with_event(own_key=True), "the saga has no entities to find it by"),
    (with_event(means=Meaning(becomes=COMPLETED)), "becomes something but moves no step"),
    (with_event(means=Meaning(step=PAY)), "does not say what it becomes"),
    (with_event(means=Meaning(step=PAY, becomes=StepStatus.COMPENSATING)), "a fact cannot make a step COMPENSATING"),
    (with_event(means=Meaning(confirms="Nothing")), "answers Nothing, which is not declared"),
    (with_event(means=Meaning(refuses="Nothing")), "answers Nothing, which is not declared"),
    (
        with_event(means=Meaning(step=Step("A", "B", outcome="C"), becomes=StepStatus.STARTED)),
        "waits for the outcome of C, which no event moves",
    ),
    (with_event(IMAGES, means=Meaning(fails=Fails.LANE)), "is not about one lane"),
    (with_event(IMAGES, means=Meaning(processes=True)), "is not about one lane"),
    (with_event(IMAGES, entity=Entity.EACH, listed_in="x", means=Meaning(proves="y")), "is not about one lane"),
    (with_event(IMAGES, entity=Entity.EVENT, means=Meaning(confirms="DeleteRetrievedImage")), "is not about one lane"),
    (with_event(means=Meaning(fails=Fails.UPLOAD)), "its step belongs to the event's id"),
    (with_undo(owed_when="wrapped"), "is owed when wrapped, which no event proves"),
    (with_undo(after=("Nothing",)), "comes after Nothing, which is not another command"),
    (with_undo(after=("RefundPayment",)), "comes after itself"),
    (with_undo(after=("CancelOrder",)), "comes after itself"),
    (with_undo(command="Refund"), "no event confirms it"),
    (with_undo(data={"order_id": "order"}), "use entity, key, or a fixed text"),
    (with_undo(uuids=("image_id",)), "image_id must be a UUID"),
    (with_undo(uuids=("reason",)), "reason must be a UUID"),
    (with_undo(retry=Retry(maximum_attempts=0)), "maximum_attempts must be at least 1"),
    (with_undo(retry=Retry(backoff_coefficient=0.5)), "backoff_coefficient must be at least 1"),
    (with_undo(retry=Retry(initial_interval=0)), "must be greater than 0 seconds"),
    (with_undo(retry=Retry(maximum_interval=-1)), "must be greater than 0 seconds"),
    (with_undo(retry=Retry(confirmation_timeout=0)), "must be greater than 0 seconds"),
]


@pytest.mark.parametrize(("definition", "words"), MISTAKES, ids=[words for _, words in MISTAKES])
def test_each_kind_of_mistake_is_found(definition: Definition, words: str) -> None:
    assert any(words in problem for problem in definition.problems()), definition.problems()


def test_two_undos_after_each_other_are_named_both() -> None:
    problems = with_undo(after=("CancelOrder",)).problems()
    assert sum("comes after itself" in problem for problem in problems) == 2


def test_the_registry_finds_types_by_name_and_version() -> None:
    newer = replace(ORDERS, version=2)
    with registry.also(newer, ORDERS):
        assert registry.current("order") is newer
        assert registry.get("order", 1) is ORDERS
        assert set(registry.current_definitions()) == {"image_processing", "order"}
        assert registry.problems() == []
        assert len(registry.all_definitions()) == 3
        with pytest.raises(registry.UnknownDefinition, match="version 3"):
            registry.get("order", 3)
    with pytest.raises(registry.UnknownDefinition, match="order"):
        registry.current("order")


def test_the_registry_finds_what_is_wrong_between_definitions() -> None:
    twin = replace(ORDERS, name="twin")
    with registry.also(ORDERS, ORDERS, twin):
        problems = registry.problems()
    assert "order version 1 is listed twice" in problems
    assert any("orders-paid belongs to order and to twin" in problem for problem in problems)


def test_which_events_need_their_body() -> None:
    reading = {event.type for event in IMAGES.events if event.reads_content}
    assert reading == {
        "RetrievalCompleted",
        "RetrievalFailed",
        "ImagesRetrieved",
        "ImageUploadFailed",
        "AnonymizationFailed",
        "ProcessingFailed",
        "ImageDeletionFailed",
    }


def test_the_types_that_may_name_a_task_of_their_own() -> None:
    own = {event.type for event in IMAGES.events if event.own_key}
    assert own == {event.type for event in IMAGES.events if event.type.startswith(("Anonymization", "Processing"))}


# --- a second type of saga, folded ----------------------------------------------------------------------------------


def order() -> Story:
    return Story(definition=ORDERS, key="order-123").happens("OrderPlaced").happens("OrderPaid")


def test_an_order_goes_through() -> None:
    story = order().happens("ShipmentRequested")
    assert story.status == "STARTED"
    assert story.happens("OrderShipped").status == "COMPLETED"
    assert story.steps("order-123")["ASK_TO_SHIP", "SHOP"] == "COMPLETED"


def test_an_order_fails_and_is_undone() -> None:
    story = order().happens("ShipmentFailed", error_message="no truck")
    assert story.owed("order-123") == {"CancelOrder": "on_the_way", "RefundPayment": "on_the_way"}
    assert story.released("order-123") == {"RefundPayment"}
    assert (story.status, story.error) == ("COMPENSATING", "no truck")
    story.happens("RefundRefused").exhausted("order-123", "RefundPayment")
    assert story.status == "COMPENSATION_FAILED"
    story.happens("PaymentRefunded")
    assert story.released("order-123") == {"CancelOrder", "RefundPayment"}
    story.published("order-123", "CancelOrder")
    assert story.owed("order-123") == {"CancelOrder": "confirmed", "RefundPayment": "confirmed"}
    assert story.status == "COMPENSATION_SUCCEEDED"
    assert story.steps("order-123")["PLACE_ORDER", "SHOP"] == "COMPENSATED"


def test_an_order_that_was_never_paid_owes_no_refund() -> None:
    story = Story(definition=ORDERS, key="order-7").happens("OrderPlaced").happens("PaymentFailed")
    assert story.owed("order-7") == {"CancelOrder": "on_the_way"}
    assert story.steps("order-7")["PAYMENT", "BANK"] == "FAILED"
    assert story.decided(facts.SAGA_TERMINATED, claimed=[]).status == "FAILED"


def test_a_failed_lane_that_owes_nothing_is_undone_and_its_saga_failed() -> None:
    only_refunds = replace(ORDERS, compensations=(replace(ORDERS.compensations[1], after=()),))
    assert only_refunds.problems() == []
    story = Story(definition=only_refunds, key="order-7").happens("OrderPlaced").happens("ShipmentFailed")
    assert story.lanes == {"order-7": "undone"}
    assert story.status == "FAILED"


def test_an_order_never_announces_its_lanes() -> None:
    assert Story(definition=ORDERS, key="order-7").status == "STARTED"


def test_a_service_known_not_to_answer_is_marked_done_by_hand() -> None:
    first, second = ORDERS.compensations
    manual: Compensation = replace(second, confirmation=Confirmation.MANUAL)
    story = Story(definition=replace(ORDERS, compensations=(first, manual)), key="order-7")
    story.happens("OrderPaid").happens("ShipmentFailed").published("order-7", "RefundPayment")
    story.exhausted("order-7", "RefundPayment")
    assert story.owed("order-7")["RefundPayment"] == "exhausted"
    story.decided_on(facts.COMMANDS_MARKED_DONE, ("order-7", "RefundPayment"))
    assert story.owed("order-7")["RefundPayment"] == "confirmed"
