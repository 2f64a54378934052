"""A definition's next version, written as its difference: the whole definition, and a word on each mistake."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sagas.definitions import registry
from sagas.engine.definition import Compensation, Entity, Event, Meaning, StepStatus
from sagas.engine.difference import changed
from sagas.engine.problems import problems_of
from tests import order_saga

ORDERS = order_saga.DEFINITION
PACKED = Event(type="OrderPacked", topics=("orders-packed",), entity=Entity.SAGA, means=Meaning(proves="packed"))
PAID = replace(ORDERS.event_of["OrderPaid"], topics=("orders-paid", "orders-paid-later"))
REFUND = replace(ORDERS.compensation_of["RefundPayment"], topic="bank-refunds")
UNPACK = Compensation(
    command="UnpackOrder",
    undoes=order_saga.SHIP,
    service="CARRIER",
    topic="carrier-commands",
    required_when="packed",
    data={"order_id": "key"},
)


def test_a_version_without_a_difference() -> None:
    assert changed(ORDERS, version=2) == replace(ORDERS, version=2)


def test_what_is_added_replaced_and_removed() -> None:
    second = changed(
        ORDERS,
        version=2,
        add=[PACKED, UNPACK],
        replace=[REFUND, PAID],
        remove=["RefundRefused", "CancelOrder"],
        title="Purchase",
    )
    types = [event.type for event in ORDERS.events if event.type != "RefundRefused"]

    assert [event.type for event in second.events] == [*types, "OrderPacked"], "what is replaced keeps its position"
    assert second.event_of["OrderPaid"] is PAID
    assert second.event_of["ShipmentFailed"] is ORDERS.event_of["ShipmentFailed"]
    assert second.compensations == (REFUND, UNPACK)
    assert (second.version, second.title, second.key_field) == (2, "Purchase", "order_id")
    assert ORDERS == order_saga.DEFINITION, "the first version stays as it is"


def test_the_first_and_the_second_version_are_listed_side_by_side() -> None:
    second = changed(ORDERS, version=2, add=[replace(PACKED, means=Meaning())])
    with registry.also(ORDERS, second):
        assert registry.problems() == []
        assert registry.current(ORDERS.name) is second
        assert registry.get(ORDERS.name, 1) is ORDERS


def test_the_difference_is_checked_like_any_definition() -> None:
    assert any(
        "RefundPayment in `after`" in text for text in problems_of(changed(ORDERS, version=2, remove=["RefundPayment"]))
    )


CLASH = replace(ORDERS, compensations=(*ORDERS.compensations, replace(UNPACK, command="OrderPaid")))
MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"version": 1}, "the version must be higher than 1"),
    ({"add": [PAID]}, "OrderPaid is to be added, but exists: replace it"),
    ({"add": [REFUND]}, "RefundPayment is to be added, but exists: replace it"),
    ({"replace": [PACKED]}, "OrderPacked is to be replaced, but does not exist"),
    ({"replace": [UNPACK]}, "UnpackOrder is to be replaced, but does not exist"),
    ({"remove": ["OrderPayed"]}, "OrderPayed is to be removed, but does not exist"),
    ({"replace": [PAID], "remove": ["OrderPaid"]}, "OrderPaid is to be replaced and removed"),
    ({"replace": [PAID, PAID]}, "OrderPaid is named more than once"),
    ({"add": [PACKED, PACKED]}, "OrderPacked is named more than once"),
    ({"remove": ["OrderPaid", "OrderPaid"]}, "OrderPaid is named more than once"),
]


@pytest.mark.parametrize(("difference", "text"), MISTAKES, ids=[text for _, text in MISTAKES])
def test_a_mistake_in_a_difference_is_reported(difference: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=f"^order_of_the_tests version .: {text}$"):
        changed(ORDERS, **({"version": 2} | difference))


def test_all_mistakes_are_reported_together() -> None:
    with pytest.raises(ValueError, match="does not exist; UnpackOrder is to be replaced, but does not exist; Nothing"):
        changed(ORDERS, version=2, replace=[PACKED, UNPACK], remove=["Nothing"])


def test_a_name_of_an_event_and_a_command_is_not_removed_by_chance() -> None:
    with pytest.raises(ValueError, match="OrderPaid is to be removed, but is an event and a command"):
        changed(CLASH, version=2, remove=["OrderPaid"])
    both = changed(CLASH, version=2, replace=[PAID, replace(UNPACK, command="OrderPaid", topic="other")])
    assert (both.event_of["OrderPaid"], both.compensation_of["OrderPaid"].topic) == (PAID, "other")


def test_steps_follow_from_the_difference() -> None:
    second = changed(
        ORDERS, version=2, add=[replace(PACKED, means=Meaning(step=order_saga.SHIP, becomes=StepStatus.STARTED))]
    )
    assert second.steps == ORDERS.steps
