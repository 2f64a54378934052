"""Choose what to apply next: pages of the queue. Takes no lock: a page is claimed by locking its keys (`lock`)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from django.conf import settings

from sagas.applying import statements
from sagas.applying.statements import PendingRow

# A transaction with up to this many events ends within milliseconds.
FEW_EVENTS = 100
# How many pages of the queue are claimed together.
WINDOW = 20


class ClaimedPage(NamedTuple):
    """What is applied in one transaction. `waiting`: how many events its window of the queue has."""

    rows: list[PendingRow]
    waiting: int


def pages() -> Iterator[ClaimedPage]:
    """Yield the pages of one pass over the queue, window by window."""
    after = 0
    while window := statements.claim(after, WINDOW * settings.APPLY_PAGE):
        after = window[-1].id
        for rows in split(window, statements.most_keys(settings.APPLY_TURNS)):
            yield ClaimedPage(rows, len(window))


def slots_for(waiting: int, slots: int) -> int:
    """Return how many workers may apply at once: all of them for few events (no delay), or for more than one page.

    In between, a second worker would only halve the pages of the first, and events that share a transaction are
    cheaper.
    """
    return 1 if FEW_EVENTS < waiting < settings.APPLY_PAGE else slots


def split(window: list[PendingRow], most_keys: int) -> Iterator[list[PendingRow]]:
    """Split a window of the queue into pages, rows of the same key together, the longest-waiting key first.

    A saga is loaded and written once per page, however many of its events are in it. If thousands of sagas run at once,
    their events are thousands of rows apart: the further a worker is behind, the less each event costs this way.
    most_keys: the maximum of keys in one page, as each is a lock.
    """
    first: dict[str, int] = {}
    window.sort(key=lambda row: first.setdefault(row.key, row.id))
    for start in range(0, len(window), settings.APPLY_PAGE):
        page = window[start : start + settings.APPLY_PAGE]
        # A page has at most as many keys as rows, and most servers' lock tables have room for that many.
        yield from [page] if len(page) <= most_keys else _parts(page, most_keys)


def _parts(page: list[PendingRow], most_keys: int) -> Iterator[list[PendingRow]]:
    """Split a page, whose rows are grouped by key, into parts of at most `most_keys` keys."""
    part: list[PendingRow] = []
    keys = 0
    for _key, group in groupby(page, key=attrgetter("key")):
        if keys == most_keys:
            yield part
            part, keys = [], 0
        part.extend(group)
        keys += 1
    yield part
