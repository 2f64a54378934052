"""Parts of a page that are turned by themselves: ?lanes=2&timeline=3."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest

from sagas.queries import Page

# Nobody turns further by hand; a number beyond it is somebody else's game.
FURTHEST = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PageSlice:
    """`items` of `total`, with the addresses of the slices beside it (empty at the ends)."""

    items: Sequence[Any]
    total: int
    first: int
    last: int
    before: str
    after: str
    end: str


def number_of(request: HttpRequest, name: str) -> int:
    """Which slice is asked for, from 1."""
    said = request.GET.get(name, "1")
    return min(max(1, int(said)), FURTHEST) if said.isascii() and said.isdigit() and len(said) < 9 else 1


def from_page(request: HttpRequest, name: str, page: Page[Any]) -> PageSlice:
    """A page of a read as a slice of the page that shows it."""
    number = page.offset // page.limit + 1
    pages = max(1, -(-page.total // page.limit))
    return PageSlice(
        items=page.items,
        total=page.total,
        first=page.offset + 1 if page.items else 0,
        last=page.offset + len(page.items),
        before=_address(request, name, number - 1) if number > 1 else "",
        after=_address(request, name, number + 1) if number < pages else "",
        end=_address(request, name, pages) if number + 1 < pages else "",
    )


def _address(request: HttpRequest, name: str, number: int) -> str:
    wanted = request.GET.copy()
    wanted[name] = str(number)
    return f"?{wanted.urlencode()}#{name}"
