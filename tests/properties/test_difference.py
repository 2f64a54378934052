"""Any difference gives the definition that the same changes, made by hand to the lists, give."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from sagas.definitions import image_processing
from sagas.engine.definition import Compensation, Event
from sagas.engine.difference import changed
from tests import order_saga

DEFINITIONS = st.sampled_from([image_processing.DEFINITION, order_saga.DEFINITION])
FATES = st.sampled_from(["kept", "replaced", "removed"])


def other(item: Event | Compensation) -> Event | Compensation:
    return replace(item, topics=("other",)) if isinstance(item, Event) else replace(item, topic="other")


def renamed(item: Event | Compensation) -> Event | Compensation:
    return (
        replace(item, type=f"New{item.type}")
        if isinstance(item, Event)
        else replace(item, command=f"New{item.command}")
    )


@given(DEFINITIONS, st.data(), st.integers(3, 9))
def test_the_difference_is_the_change(definition: object, data: st.DataObject, version: int) -> None:
    assert isinstance(definition, type(order_saga.DEFINITION))
    before: list[Event | Compensation] = [*definition.events, *definition.compensations]
    fates = data.draw(st.lists(FATES, min_size=len(before), max_size=len(before)))
    model = data.draw(st.lists(st.sampled_from(before), unique_by=id, max_size=4))
    added = [renamed(item) for item in model]
    expected = [
        other(item) if fate == "replaced" else item
        for item, fate in zip(before, fates, strict=True)
        if fate != "removed"
    ] + added
    by_fate = {
        fate: [item for item, own in zip(before, fates, strict=True) if own == fate] for fate in ("replaced", "removed")
    }

    found = changed(
        definition,
        version=version,
        add=added,
        replace=data.draw(st.permutations([other(item) for item in by_fate["replaced"]])),
        remove=data.draw(
            st.permutations([item.type if isinstance(item, Event) else item.command for item in by_fate["removed"]])
        ),
    )

    assert found == replace(
        definition,
        version=version,
        events=tuple(item for item in expected if isinstance(item, Event)),
        compensations=tuple(item for item in expected if isinstance(item, Compensation)),
    )
    # The way back gives the first definition again, but for the order of what returns.
    back = changed(
        found,
        version=version + 1,
        replace=by_fate["replaced"],
        add=by_fate["removed"],
        remove=[item.type if isinstance(item, Event) else item.command for item in added],
    )
    assert {item.type: item for item in back.events} == definition.event_of
    assert {item.command: item for item in back.compensations} == definition.compensation_of
