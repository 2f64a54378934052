"""Read incidents: the current ones with exact numbers, one of them, and those that have ended. About 35 queries a page.

The number of queries does not depend on how many incidents there are, or how many cases they have.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from bridge import clock
from compensation.models import Command
from sagas.attention_kinds import AttentionKind
from sagas.error_text import shown_error
from sagas.incidents import wording
from sagas.incidents.groups import IncidentGroup, groups_of
from sagas.incidents.kinds import BY_NAME, KINDS
from sagas.models import Incident, IncidentNote
from sagas.queries.holding import when
from sagas.queries.pages import Page, page_of

# The parts of the trend that are compared: the last ten minutes with the ten before.
COMPARED = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownIncident:
    """One incident as people see it.

    title: what is wrong. amount: how much it is, empty where the title tells it. error: the error text of the newest
    case as the reader may see it; empty if there is none. direction: rising, steady, falling, quiet, or empty where
    that is not known. count is 0 and `ended_at` set once it has ended; `most` is the most cases at once. times: how
    often it came. note: the newest thing that somebody wrote. link: the parameters of the item that it is, of kinds
    that are not grouped.
    """

    id: UUID
    kind: AttentionKind
    facets: Mapping[str, str]
    title: str
    amount: str
    advice: str
    count: int
    sagas: int | None
    first_at: datetime
    last_at: datetime
    trend: Sequence[int]
    direction: str
    error: str
    link: Mapping[str, Any]
    most: int
    times: int
    ended_at: datetime | None
    owner: str
    acknowledged_until: datetime | None
    acknowledged_by: str
    note: IncidentNote | None

    @property
    def sentence(self) -> str:
        """All of it in one line: what, how much, first, last, direction."""
        shown = [self.title, self.amount]
        shown += [wording.first(when(self.first_at)), wording.last(when(self.last_at))]
        shown += [wording.ended(when(self.ended_at))] if self.ended_at else [wording.direction_text(self.direction)]
        return " · ".join(part for part in shown if part)

    def as_data(self) -> dict[str, Any]:
        """Return all fields by name, and the sentence."""
        return {**{own.name: getattr(self, own.name) for own in fields(self)}, "sentence": self.sentence}


@dataclass(frozen=True, slots=True)
class Incidents(Page[ShownIncident]):
    """A page of the current incidents. by_kind: how many of each kind. open: how many nobody has acknowledged.

    now: the database's time at which they were read.
    """

    by_kind: Mapping[str, int]
    open: int
    now: datetime


def listed(
    offset: int = 0, limit: int = 100, *, kind: str = "", kinds: Container[str] | None = None, payload: bool = False
) -> Incidents:
    """Return a page of the current incidents: those not acknowledged first, red before yellow, the newest case on top.

    kind: only incidents of this kind. kinds: the kinds that the reader may see (None: all). payload: whether the reader
    may see the error texts of services.
    """
    now = clock.now()
    seen = [each.name for each in KINDS if kinds is None or each.name in kinds]
    groups = [group for name in seen for group in groups_of(name, now)]
    by_kind = {name: sum(group.kind == name for group in groups) for name in seen}
    stored = Incident.objects.in_bulk([group.id for group in groups])
    acknowledged = {group.id: _is_acknowledged(stored.get(group.id), now) for group in groups}
    chosen = [group for group in groups if kind in ("", group.kind)]
    chosen.sort(key=lambda group: group.last_at, reverse=True)
    chosen.sort(key=lambda group: (acknowledged[group.id], not BY_NAME[group.kind].red))
    part = chosen[offset : offset + limit]
    items = _described(part, stored, now, payload=payload)
    waiting = sum(not known for known in acknowledged.values())
    return Incidents(len(chosen), offset, limit, items, by_kind, waiting, now)


def find(incident: UUID, *, kinds: Container[str] | None = None, payload: bool = False) -> ShownIncident | None:
    """Return an incident, current or ended; None if there is none that the reader may see."""
    now = clock.now()
    row = Incident.objects.filter(id=incident).first()
    names = [row.kind] if row is not None else [kind.name for kind in KINDS]
    names = [name for name in names if name in BY_NAME and (kinds is None or name in kinds)]
    for name in names:
        for group in groups_of(name, now):
            if group.id == incident:
                return _described([group], {row.id: row} if row else {}, now, payload=payload)[0]
    return _ended([row], now)[0] if row is not None and names else None


def cause_of(incident: UUID) -> tuple[str, Mapping[str, Any]] | None:
    """Return kind and facets of an incident, current or ended; None if there is none."""
    row = Incident.objects.filter(id=incident).only("kind", "facets").first()
    if row is not None:
        return row.kind, row.facets
    found = find(incident)
    return (found.kind.name, found.facets) if found is not None else None


def history(incident: UUID, limit: int = 200) -> list[IncidentNote]:
    """Return what people wrote about an incident, the newest first."""
    return list(IncidentNote.objects.filter(incident=incident).order_by("-id")[:limit])


def ended(offset: int = 0, limit: int = 100, *, kinds: Container[str] | None = None) -> Page[ShownIncident]:
    """Return a page of the incidents that have ended, the last one first."""
    seen = [each.name for each in KINDS if kinds is None or each.name in kinds]
    rows = Incident.objects.filter(ended_at__isnull=False, kind__in=seen).order_by("-ended_at", "id")
    page = page_of(rows, offset, limit)
    return Page(page.total, offset, limit, _ended(page.items, clock.now()))


def direction(trend: Sequence[int]) -> str:
    """Return rising, steady, falling or quiet, by the last ten minutes and the ten before; empty without a trend."""
    if not trend:
        return ""
    recent, before = sum(trend[-COMPARED:]), sum(trend[-2 * COMPARED : -COMPARED])
    if recent == before:
        return "steady" if recent else "quiet"
    return "rising" if recent > before else "falling"


def _is_acknowledged(row: Incident | None, now: datetime) -> bool:
    """Return whether somebody has acknowledged it; an acknowledgement ends with the incident."""
    return (
        row is not None and row.ended_at is None and row.acknowledged_until is not None and row.acknowledged_until > now
    )


def _described(
    groups: Sequence[IncidentGroup], stored: Mapping[UUID, Incident], now: datetime, *, payload: bool
) -> list[ShownIncident]:
    errors = _errors(groups, payload=payload)
    notes = _notes(group.id for group in groups)
    return [
        _shown(group, stored.get(group.id), errors.get(group.example, ""), notes.get(group.id), now) for group in groups
    ]


def _shown(
    group: IncidentGroup, row: Incident | None, error: str, note: IncidentNote | None, now: datetime
) -> ShownIncident:
    # A row that has ended is of an earlier time: it has come again, and that is not recorded yet.
    lasts = row if row is not None and row.ended_at is None else None
    acknowledged = lasts if _is_acknowledged(lasts, now) else None
    return ShownIncident(
        id=group.id,
        kind=BY_NAME[group.kind],
        facets=group.facets,
        title=wording.title(group.kind, group.facets, group.item),
        amount=wording.amount(group.kind, group.count, group.sagas),
        advice=wording.advice(group.kind, group.item),
        count=group.count,
        sagas=group.sagas,
        first_at=min(group.first_at, lasts.first_at) if lasts else group.first_at,
        last_at=group.last_at,
        trend=group.trend,
        direction=direction(group.trend),
        error=error,
        link=group.item.link if group.item else {},
        most=max(group.count, lasts.most_cases if lasts else 0),
        times=row.times + (lasts is None) if row else 1,
        ended_at=None,
        owner=row.owner if row else "",
        acknowledged_until=acknowledged.acknowledged_until if acknowledged else None,
        acknowledged_by=acknowledged.acknowledged_by if acknowledged else "",
        note=note,
    )


def _ended(rows: Sequence[Incident], now: datetime) -> list[ShownIncident]:
    """Describe incidents without cases. One whose end is not recorded yet has ended now."""
    notes = _notes(row.id for row in rows)
    return [
        ShownIncident(
            id=row.id,
            kind=BY_NAME[row.kind],
            facets=row.facets,
            title=wording.title(row.kind, row.facets),
            amount="",
            advice="",
            count=0,
            sagas=None,
            first_at=row.first_at,
            last_at=row.last_at,
            trend=(),
            direction="",
            error="",
            link={},
            most=row.most_cases,
            times=row.times,
            ended_at=row.ended_at or now,
            owner=row.owner,
            acknowledged_until=None,
            acknowledged_by="",
            note=notes.get(row.id),
        )
        for row in rows
    ]


def _errors(groups: Sequence[IncidentGroup], *, payload: bool) -> dict[UUID | None, str]:
    """Return the last error of the newest command of each incident, as the reader may see it. One query."""
    examples = [group.example for group in groups if group.example is not None]
    rows = Command.objects.filter(id__in=examples).values_list("id", "last_error", "last_error_data")
    return {identity: shown_error(error, data, payload=payload) for identity, error, data in rows}


def _notes(ids: Iterable[UUID]) -> dict[UUID, IncidentNote]:
    """Return the newest note of each incident. One query."""
    rows = IncidentNote.objects.filter(incident__in=list(ids)).order_by("incident", "-id").distinct("incident")
    return {row.incident_id: row for row in rows}
