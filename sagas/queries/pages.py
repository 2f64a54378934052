"""A page of a list, and the exact number of rows behind it."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from django.db.models import QuerySet

T = TypeVar("T")

# Counting a million rows costs 40 ms: too much for every page. A large total may be some seconds old instead.
REMEMBER_FROM = 10_000
REMEMBER_SECONDS = 5.0
REMEMBER_MOST = 1000
# The largest offset that PostgreSQL accepts is below this.
OFFSET_LIMIT = 2**63


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """`items` of a list from `offset`, at most `limit` of them; `total` is how many there are in all."""

    total: int
    offset: int
    limit: int
    items: Sequence[T]


def page_of(rows: QuerySet[Any, T], offset: int, limit: int, *, total: int | None = None) -> Page[T]:
    """Return one page, in two queries (one if the caller knows the total, one if the page is beyond the end)."""
    known = rows.count() if total is None else total
    # An offset may be greater than PostgreSQL's bigint.
    return Page(known, offset, limit, list(rows[offset : offset + limit]) if offset < known else [])


def remembered(asked: Hashable, count: Callable[[], int]) -> int:
    """Return the result of `count`; a large one is cached in this process for REMEMBER_SECONDS."""
    known = _known.get(asked)
    if known is not None and known[0] > time.monotonic():
        return known[1]
    total = count()
    if total >= REMEMBER_FROM:
        if len(_known) >= REMEMBER_MOST:  # each requested time span is a key of its own
            _known.clear()
        _known[asked] = (time.monotonic() + REMEMBER_SECONDS, total)
    return total


_known: dict[Hashable, tuple[float, int]] = {}
