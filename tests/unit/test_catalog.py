"""Which types there are, and which topic tells which."""

from dataclasses import replace
from itertools import product
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.catalog import Catalog, CatalogError, EventType, FieldKind, get_catalog, overlap, region_pattern
from sagas.engine.problems import FIELD_KINDS


def kind(name: str, *topics: str) -> EventType:
    return EventType(name=name, stream="s", topics=topics, key_field="key")


def typed(name: str, *topics: str) -> EventType:
    return replace(kind(name, *topics), always_typed=True)


def test_a_type_is_found_by_name_and_by_topic() -> None:
    placed = kind("Placed", "placed", "orders.{region}.placed")
    catalog = Catalog((placed, kind("Closed", "closed")))
    assert catalog.by_name("Placed") == (placed,)
    assert catalog.on_topic("placed").default == (placed,)
    assert catalog.on_topic("orders.usa.placed").default == (placed,)
    assert catalog.topics == ("placed", "orders.{region}.placed", "closed")


@pytest.mark.parametrize("region", ["usa", "us east", "us.east", "sudamérica", "a%20b", "placed", "北", ""])
def test_a_region_is_any_text_between_the_fixed_parts(region: str) -> None:
    placed = kind("Placed", "orders.{region}.placed")
    assert Catalog((placed,)).on_topic(f"orders.{region}.placed").default == (placed,)


@pytest.mark.parametrize("topic", ["ordersXusaXplaced", "orders.placed", "x.orders.usa.placed", ""])
def test_what_is_no_region(topic: str) -> None:
    assert Catalog((kind("Placed", "orders.{region}.placed"),)).on_topic(topic).default is None


def test_two_types_of_a_saga_type_have_two_names() -> None:
    with pytest.raises(CatalogError, match="s declares 2 event types Placed"):
        Catalog((kind("Placed", "a"), kind("Placed", "b")))


def other(event_type: EventType, **changes: Any) -> EventType:
    """The event type as another saga type declares it."""
    return replace(event_type, stream="other", **changes)


def test_several_saga_types_read_an_event_type_each_on_its_topics() -> None:
    paid = replace(kind("Paid", "a", "b"), aliases=("payed",))
    twin = other(paid, topics=("b", "c"), key_field="customer", aliases=("settled",), always_typed=True)
    catalog = Catalog((paid, twin))
    assert catalog.by_name("Paid") == (paid, twin)
    assert catalog.topics == ("a", "b", "c")
    assert catalog.on_topic("a") == ((paid,), (paid,), {"a": (paid,), "payed": (paid,), "Paid": (paid,)})
    both = (paid, twin)
    assert catalog.on_topic("b") == (both, both, dict.fromkeys(("b", "payed", "settled", "Paid"), both))
    assert catalog.on_topic("c") == ((twin,), None, {"settled": (twin,), "Paid": (twin,)})
    assert catalog.on_topic("b").names == ["Paid"]
    assert catalog.name_on_any_topic("settled") == catalog.name_on_any_topic("Paid") == "Paid"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"fields": {"n": "text"}}, "its field n is 'text', but 'integer' in Paid"),
        ({"key_field": "n"}, "its field n is 'id', but 'integer' in Paid"),
        ({"entity_field": "n"}, "its field n is 'id', but 'integer' in Paid"),
        ({"fields": {"key": "text"}, "key_field": "k"}, "its field key is 'text', but 'id' in Paid"),
    ],
)
def test_saga_types_that_read_one_event_agree_on_its_fields(changes: dict[str, Any], field: str) -> None:
    paid = replace(kind("Paid", "a"), fields={"n": "integer"})
    with pytest.raises(CatalogError, match=f"{field}.*declare the same kind in both"):
        Catalog((paid, other(paid, **({"fields": {}} | changes))))
    assert Catalog((paid, other(paid, key_field="customer", fields={"n": "integer", "m": "text"})))


def test_types_share_a_topic_if_only_one_of_them_may_lack_its_type() -> None:
    placed, closed, moved = kind("Placed", "a"), typed("Closed", "a", "b"), typed("Moved", "b")
    catalog = Catalog((placed, closed, moved))
    assert catalog.topics == ("a", "b")
    assert catalog.on_topic("a") == (
        (placed, closed),
        (placed,),
        {"a": (placed,), "Placed": (placed,), "Closed": (closed,)},
    )
    assert catalog.on_topic("b") == ((closed, moved), None, {"Closed": (closed,), "Moved": (moved,)})
    assert catalog.on_topic("a").default == (placed,)
    assert catalog.on_topic("b").default is None
    assert catalog.on_topic("elsewhere") == ((), None, {})


def test_an_alias_holds_on_the_topics_of_its_type() -> None:
    placed = replace(kind("Placed", "a", "orders.{region}.placed"), aliases=("done", "b"))
    closed = replace(typed("Closed", "b"), aliases=("done",))
    catalog = Catalog((placed, closed))
    assert catalog.on_topic("a").by_name["done"] == catalog.on_topic("orders.usa.placed").by_name["done"] == (placed,)
    assert catalog.on_topic("b").by_name == {"done": (closed,), "Closed": (closed,)}
    assert catalog.name_on_any_topic("b") == "Placed"
    assert catalog.name_on_any_topic("Closed") == "Closed"
    assert catalog.name_on_any_topic("a") is None


def test_an_alias_is_not_the_name_of_a_type() -> None:
    with pytest.raises(CatalogError, match="Placed: its alias Closed is the name of an event type"):
        Catalog((replace(kind("Placed", "a"), aliases=("Closed",)), kind("Closed", "b")))
    with pytest.raises(CatalogError, match="Placed: its alias Placed is the name of an event type"):
        Catalog((replace(kind("Placed", "a"), aliases=("Placed",)),))


@pytest.mark.parametrize("topic", ["b", "orders.usa.placed", "orders.{region}.placed"])
def test_an_alias_means_one_type_on_each_topic(topic: str) -> None:
    placed = replace(kind("Placed", "b", "orders.{region}.placed"), aliases=("done", "over"))
    closed = replace(typed("Closed", "c", topic), aliases=("over", "past"))
    with pytest.raises(CatalogError, match="the alias over means both Placed and Closed, which share a topic"):
        Catalog((placed, closed))


@pytest.mark.parametrize(
    ("one", "other", "share"),
    [
        ("a", "a", True),
        ("a", "b", False),
        ("orders.{region}.placed", "orders.{region}.placed", True),
        ("orders.{region}.placed", "orders.usa.placed", True),
        ("orders.{region}.placed", "orders.usa.east.placed", True),
        ("orders.{region}.placed", "orders..placed", True),
        ("orders.{region}.placed", "orders.placed", False),
        ("orders.{region}.placed", "orders.{region}.closed", False),
        ("{region}", "orders", True),
        ("{region}", "orders.placed", True),
        ("a-{region}", "{region}-b", True),
        ("a.{region}.b.c", "a.q.{region}.c", True),
        ("a.{region}.b.c", "a.q.{region}.d", False),
        ("{region}x", "x", True),
        ("{region}x", "y", False),
        ("{region}.a", "b.{region}", True),
        ("{region}", "{region}{region}", True),
    ],
)
def test_which_short_names_can_be_the_same_topic(one: str, other: str, share: bool) -> None:
    assert overlap(one, other) is overlap(other, one) is share
    if not share:
        assert Catalog((kind("Placed", one), kind("Closed", other)))
        return
    with pytest.raises(CatalogError, match=r"Placed .* Closed.* may lack its type"):
        Catalog((kind("Placed", one), kind("Closed", other)))
    assert Catalog((kind("Placed", one), typed("Closed", other)))


@given(*[st.lists(st.sampled_from(["a", "-", ".", "{region}"]), max_size=5).map("".join)] * 2)
def test_names_overlap_exactly_where_one_topic_matches_both(one: str, other: str) -> None:
    # A region of up to three letters is enough to meet five letters of another name, or to miss them.
    names = {"".join(letters) for size in range(8) for letters in product("a-.", repeat=size)}
    both = [name for name in names if region_pattern(one).fullmatch(name) and region_pattern(other).fullmatch(name)]
    assert overlap(one, other) is bool(both)


def test_a_kind_of_field_must_exist() -> None:
    with pytest.raises(CatalogError, match="the field n has the unknown kind 'number'"):
        Catalog((EventType("Placed", "s", ("a",), "key", fields={"n": "number"}),))  # type: ignore[dict-item]


def test_the_broker_is_looked_for_by_a_topic_that_is_there() -> None:
    assert Catalog((kind("Placed", "orders.{region}.placed", "orders"),)).probe_topic == "orders"
    with pytest.raises(CatalogError, match=r"without \{region\}"):
        _ = Catalog((kind("Placed", "orders.{region}.placed"),)).probe_topic


def test_the_kinds_of_field_are_those_that_definitions_may_use() -> None:
    assert set(get_args(FieldKind)) == FIELD_KINDS


def test_the_projects_own_catalog_is_whole() -> None:
    catalog = get_catalog()
    assert catalog.by_name("RetrievalStarted")
    found = catalog.on_topic("processing.usa.started").default
    assert found is not None
    assert [event_type.name for event_type in found] == ["ProcessingStarted"]
