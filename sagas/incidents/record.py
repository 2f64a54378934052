"""Keep the stored rows of incidents up to date: what came, what ended, what came again.

A periodic task does this, because the counts are read from the rows of the cases anyway: a page of events that fails
a thousand commands takes not one statement more, and no writer waits for the row of an incident that all of them share.
A pass takes about 25 reads, and a write only if something changed.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import F, Q
from django.utils.translation import gettext as _

from bridge import clock
from sagas.applying import statements
from sagas.errors import NotFound
from sagas.incidents.groups import IncidentGroup, groups_of
from sagas.incidents.kinds import KINDS
from sagas.models import Incident

# How long an incident that has ended is kept, unless somebody wrote about it or owns it.
KEPT = timedelta(days=90)
_LOCK = "record of incidents"


def record() -> bool:
    """Insert, update and end the rows of incidents; return whether this process did it.

    Opens its own transaction. May run twice, and concurrently: one process does it, the others return at once.
    """
    with transaction.atomic():
        if not statements.try_lock([_LOCK]):
            return False
        _record(clock.now())
    return True


def recorded(incident: UUID) -> UUID:
    """Return the id of an incident that has a row, recording it first if it has just begun. Raises NotFound."""
    if not Incident.objects.filter(id=incident).exists():
        record()
        if not Incident.objects.filter(id=incident).exists():
            raise NotFound(_("Incident with ID %(id)s not found") % {"id": incident})
    return incident


def _record(now: datetime) -> None:
    current = {group.id: group for kind in KINDS for group in groups_of(kind.name, now)}
    stored = Incident.objects.filter(Q(ended_at__isnull=True) | Q(id__in=list(current))).in_bulk()
    Incident.objects.bulk_create(
        [_row(group) for identity, group in current.items() if identity not in stored], ignore_conflicts=True
    )
    again = [identity for identity in current if identity in stored and stored[identity].ended_at is not None]
    if again:
        # Acknowledged was what had ended.
        Incident.objects.filter(id__in=again, ended_at__isnull=False).update(
            ended_at=None, times=F("times") + 1, acknowledged_until=None, acknowledged_by=""
        )
    changed = [
        row
        for identity, row in stored.items()
        if identity in current and _update(row, current[identity], begins=row.ended_at is not None)
    ]
    if changed:
        Incident.objects.bulk_update(changed, ["facets", "first_at", "last_at", "cases", "most_cases"])
    over = [identity for identity, row in stored.items() if row.ended_at is None and identity not in current]
    if over:
        Incident.objects.filter(id__in=over).update(ended_at=now, cases=0)
    Incident.objects.filter(ended_at__lt=now - KEPT, owner="", notes__isnull=True).delete()


def _row(group: IncidentGroup) -> Incident:
    return Incident(
        id=group.id,
        kind=group.kind,
        facets=dict(group.facets),
        first_at=group.first_at,
        last_at=group.last_at,
        cases=group.count,
        most_cases=group.count,
    )


def _update(row: Incident, group: IncidentGroup, *, begins: bool) -> bool:
    """Set the row's columns to those of the group; return whether one changed. begins: it has come again."""
    before = (row.facets, row.first_at, row.last_at, row.cases, row.most_cases)
    row.facets = dict(group.facets)
    row.first_at = group.first_at if begins else min(row.first_at, group.first_at)
    row.last_at = group.last_at
    row.cases = group.count
    row.most_cases = group.count if begins else max(row.most_cases, group.count)
    return before != (row.facets, row.first_at, row.last_at, row.cases, row.most_cases)
