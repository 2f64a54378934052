"""Parts of a page that are paginated independently: ?lanes=2&timeline=3."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest

from sagas.queries import Page

# Clamp crafted page numbers: no person pages this far.
FURTHEST = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PageSlice:
    """`items` of `total`, with the addresses of the neighbouring slices (empty at the ends)."""

    items: Sequence[Any]
    total: int
    first: int
    last: int
    before: str
    after: str
    end: str


def number_of(request: HttpRequest, name: str) -> int:
    """Return the requested slice, counted from 1."""
    text = request.GET.get(name, "1")
    return min(max(1, int(text)), FURTHEST) if text.isascii() and text.isdigit() and len(text) < 9 else 1


def from_page(request: HttpRequest, name: str, page: Page[Any]) -> PageSlice:
    """Turn a page of a query into a slice of the HTML page."""
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
