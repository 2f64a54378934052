"""One item that needs attention, and what a kind of item has to provide."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import QuerySet

from sagas import nouns
from sagas.models import SagaLog
from sagas.nouns import Nouns

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One item that needs attention: `sentence` is the problem, `advice` what to do, `count` how many cases it covers.

    kind: the name of one of `sagas.attention_kinds.KINDS`. `since` is when the first case began, `latest` when the
    last one did. `link` contains the parameters from which a page makes its link.
    """

    kind: str
    since: datetime
    latest: datetime
    count: int
    sentence: str
    advice: str
    saga_id: UUID | None = None
    link: Mapping[str, Any] = field(default_factory=dict)

    def age(self, now: datetime) -> timedelta:
        """Return how long it has waited."""
        return now - self.since


class Finder(NamedTuple):
    """How to count the rows of a kind of item, find a part of them (the newest first), and describe them.

    `rows` is what is counted; None if the rows are few and all found at once.
    Only the rows of the page are described: that costs more than finding them.
    """

    rows: Callable[[datetime], QuerySet[Any, Any]] | None
    find: Callable[[datetime, slice], Sequence[Row]]
    describe: Callable[[Sequence[Row]], list[Item]]


class SagaName(NamedTuple):
    """What the sentences about a saga call it; both empty for a saga that was pruned meanwhile."""

    key: str = ""
    saga_type: str = ""

    @property
    def words(self) -> Nouns:
        """The nouns of its type."""
        return nouns.of(self.saga_type)


def names_of(rows: Sequence[Row]) -> dict[UUID, SagaName]:
    """Return the names of the sagas of rows, by saga id. One query."""
    found = SagaLog.objects.filter(id__in=[row["saga_id"] for row in rows])
    return {
        identity: SagaName(key, saga_type) for identity, key, saga_type in found.values_list("id", "key", "saga_type")
    }
