"""The list of what needs attention: the most severe kind first, within a kind the newest, each with advice.

Every item can be reached by paging, and totals are exact: each kind is counted over the rows of a partial index, or of
an index on a status, and a page reads no more rows of a kind than it shows.
"""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from dataclasses import dataclass

from bridge import clock
from sagas.attention_kinds import KINDS
from sagas.error_text import shown_error
from sagas.queries.attention_items import of_commands, of_messages, of_sagas, of_sending
from sagas.queries.attention_items.item import Item, Row
from sagas.queries.pages import Page

# How each kind is found and described, by its name in `sagas.attention_kinds`.
FINDERS = {**of_sagas.FINDERS, **of_commands.FINDERS, **of_messages.FINDERS, **of_sending.FINDERS}


@dataclass(frozen=True, slots=True)
class Attention(Page[Item]):
    """A page of what needs attention. `by_kind` is the exact number of items of each kind."""

    by_kind: Mapping[str, int]


def attention(
    offset: int = 0,
    limit: int = 100,
    *,
    kind: str = "",
    kinds: Container[str] | None = None,
    payload: bool = False,
) -> Attention:
    """Return a page of what needs attention, the most severe kind first, the newest first within it.

    kind: return items of this kind only. kinds: the kinds that the reader may see (None: all); others are not counted
    either. payload: whether the reader may see the error texts of services. At most some thirty queries, however many
    items there are.
    """
    now = clock.now()
    seen = {each.name: FINDERS[each.name] for each in KINDS if kinds is None or each.name in kinds}
    few = {name: finder.find(now, slice(None)) for name, finder in seen.items() if finder.rows is None}
    counts = {name: finder.rows(now).count() if finder.rows else len(few[name]) for name, finder in seen.items()}
    items: list[Item] = []
    total, first, last = 0, offset, offset + limit
    for name, finder in seen.items():
        if kind and name != kind:
            continue
        count = counts[name]
        part = slice(min(max(first - total, 0), count), min(max(last - total, 0), count))
        total += count
        if part.start < part.stop:
            found = few[name][part] if name in few else finder.find(now, part)
            items += finder.describe([_shown(row, payload=payload) for row in found])
    return Attention(total, offset, limit, items, counts)


def _shown(row: Row, *, payload: bool) -> Row:
    """Return the row with the last error of one of its commands as the reader may see it."""
    if "last_error" not in row:
        return row
    found = json.loads(row["last_error"])
    return {**row, "error": shown_error(found["code"], found["data"], payload=payload)}
