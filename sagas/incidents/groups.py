"""The incidents of a kind as they are now: counted exactly, each kind in one or a few statements.

Failed commands are counted fingerprint by fingerprint, from an index. All other kinds are grouped by columns.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from itertools import pairwise
from typing import Any

from django.db.models import Count, Max, Min, Q

from sagas.incidents.cases import CASES, Cases, stage_limit
from sagas.queries.attention import FINDERS
from sagas.queries.attention_items.item import Item
from sagas.statements import FAILURES, TREND_MINUTES, TREND_PARTS

# How many different fingerprints are read: texts that differ in every case must not make the page slow.
MOST_FAILURES = 500
TREND_PART = timedelta(minutes=TREND_MINUTES)

_NAMESPACE = uuid.UUID("0f5b7a3e-6f43-4a8e-9c55-3d2b1f0e7a64")


@dataclass(frozen=True, kw_only=True)
class IncidentGroup:
    """The cases of one incident now.

    facets: what they have in common, by column, as text. first_at, last_at: of the first and of the last case. trend:
    how many cases each part of the last hour brought, the oldest part first; empty where that is not known. sagas: in
    how many sagas they are; None where they are in none. example: the id of the newest case, of failed commands. item:
    the item of the attention list that it is, of kinds whose items are not grouped.
    """

    kind: str
    facets: Mapping[str, str]
    count: int
    first_at: datetime
    last_at: datetime
    trend: tuple[int, ...] = ()
    sagas: int | None = None
    example: uuid.UUID | None = None
    item: Item | None = None

    @cached_property
    def id(self) -> uuid.UUID:
        """The id of the incident: the same whenever it comes again."""
        by = CASES[self.kind].by if self.kind in CASES else sorted(self.facets)
        return uuid.uuid5(_NAMESPACE, json.dumps([self.kind, [self.facets[name] for name in by]]))


def groups_of(kind: str, now: datetime) -> list[IncidentGroup]:
    """Return the incidents of a kind, unordered. now: the database's time."""
    if kind == "exhausted":
        return _failures(now)
    return _counted(kind, CASES[kind], now) if kind in CASES else _items(kind, now)


def _failures(now: datetime) -> list[IncidentGroup]:
    return [
        IncidentGroup(
            kind="exhausted",
            facets={
                "fingerprint": str(row[0]),
                "service": row[1],
                "name": row[2],
                "exhausted_by": row[3],
                "cause": row[4],
            },
            example=row[5],
            count=row[6],
            sagas=row[7],
            first_at=row[8],
            last_at=row[9],
            trend=tuple(row[10:]),
        )
        for row in FAILURES.rows({"now": now, "most": MOST_FAILURES})
    ]


def _counted(kind: str, cases: Cases, now: datetime) -> list[IncidentGroup]:
    if kind == "late_stage" and not stage_limit():
        return []
    sagas = {"sagas": Count(cases.saga, distinct=True)} if cases.saga else {}
    counted = (
        cases.rows(now)
        .order_by()
        .values(*cases.by)
        .annotate(count=Count("pk"), first=Min(cases.at), last=Max(cases.at), **sagas, **_trend(cases, now))
    )
    return [
        IncidentGroup(
            kind=kind,
            facets={name: str(row[name]) for name in cases.by},
            count=row["count"],
            sagas=row.get("sagas"),
            first_at=row["first"],
            last_at=row["last"],
            trend=tuple(row[f"part_{part}"] for part in range(TREND_PARTS)),
        )
        for row in counted
    ]


def _trend(cases: Cases, now: datetime) -> dict[str, Any]:
    """Return a count for each part of the last hour, by when a row became a case; the last part ends now."""
    start = now - cases.after - TREND_PARTS * TREND_PART
    bounds = [start + part * TREND_PART for part in range(TREND_PARTS + 1)]
    return {
        f"part_{part}": Count("pk", filter=Q(**{f"{cases.at}__gte": begins, f"{cases.at}__lt": ends}))
        for part, (begins, ends) in enumerate(pairwise(bounds))
    }


def _items(kind: str, now: datetime) -> list[IncidentGroup]:
    finder = FINDERS[kind]
    return [
        IncidentGroup(
            kind=kind,
            facets={name: str(value) for name, value in item.link.items()},
            count=item.count,
            first_at=item.since,
            last_at=item.latest,
            item=item,
        )
        for item in finder.describe(finder.find(now, slice(None)))
    ]
