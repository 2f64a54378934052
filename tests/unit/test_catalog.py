"""Which types there are, and which topic tells which."""

import pytest

from bridge.catalog import Catalog, EventType, get_catalog


def kind(name: str, *topics: str) -> EventType:
    return EventType(name=name, stream="s", topics=topics, key_field="key")


def test_a_type_is_found_by_name_and_by_topic() -> None:
    placed = kind("Placed", "placed", "orders.{region}.placed")
    catalog = Catalog((placed, kind("Closed", "closed")))
    assert catalog.by_name("Placed") is placed
    assert catalog.by_topic("placed") is placed
    assert catalog.by_topic("orders.usa.placed") is placed
    assert catalog.topics == ("placed", "orders.{region}.placed", "closed")


@pytest.mark.parametrize(
    "topic", ["ordersXusaXplaced", "orders.a.b.placed", "orders..placed", "x.orders.usa.placed", ""]
)
def test_what_is_no_region(topic: str) -> None:
    assert Catalog((kind("Placed", "orders.{region}.placed"),)).by_topic(topic) is None


def test_two_types_share_neither_name_nor_topic() -> None:
    with pytest.raises(ValueError, match="called"):
        Catalog((kind("Placed", "a"), kind("Placed", "b")))
    with pytest.raises(ValueError, match="share"):
        Catalog((kind("Placed", "a"), kind("Closed", "a")))


def test_a_kind_of_field_must_exist() -> None:
    with pytest.raises(ValueError, match="number"):
        EventType("Placed", "s", ("a",), "key", fields={"n": "number"})  # type: ignore[dict-item]


def test_the_projects_own_catalog_is_whole() -> None:
    catalog = get_catalog()
    assert catalog.by_name("RetrievalStarted") is not None
    found = catalog.by_topic("processing.usa.started")
    assert found is not None
    assert found.name == "ProcessingStarted"
