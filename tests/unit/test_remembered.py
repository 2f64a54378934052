"""Large totals are counted once in some seconds, small ones each time."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from sagas.queries import SagaFilters, pages
from sagas.queries.pages import REMEMBER_FROM, REMEMBER_MOST, REMEMBER_SECONDS, remembered


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    pages._known.clear()
    yield clock
    pages._known.clear()


def test_a_small_total_is_counted_each_time() -> None:
    counts = iter([REMEMBER_FROM - 1, 3])
    assert [remembered("few", lambda: next(counts)) for _ in range(2)] == [REMEMBER_FROM - 1, 3]


def test_a_large_total_is_some_seconds_old_at_most(clock: Clock) -> None:
    counts = iter([REMEMBER_FROM, REMEMBER_FROM + 7])
    assert remembered("many", lambda: next(counts)) == REMEMBER_FROM
    clock.now += REMEMBER_SECONDS - 0.1
    assert remembered("many", lambda: next(counts)) == REMEMBER_FROM
    clock.now += 0.2
    assert remembered("many", lambda: next(counts)) == REMEMBER_FROM + 7


def test_each_filter_has_its_own() -> None:
    assert remembered(SagaFilters(status="COMPLETED"), lambda: 20_000) == 20_000
    assert remembered(SagaFilters(status="FAILED"), lambda: 30_000) == 30_000
    assert remembered(SagaFilters(status="COMPLETED"), lambda: 1) == 20_000


def test_it_does_not_grow_with_what_was_ever_asked() -> None:
    for number in range(3 * REMEMBER_MOST):
        remembered(number, lambda: REMEMBER_FROM)
        assert len(pages._known) <= REMEMBER_MOST
