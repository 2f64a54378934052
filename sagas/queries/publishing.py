"""The switches that pause commands, with what each holds back or has under way. Three queries."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.utils import timezone

from compensation import switches
from compensation.models import Switch
from compensation.queries import load_by_service
from sagas.definitions import registry


@dataclass(frozen=True, slots=True, kw_only=True)
class Publishing:
    """One switch: of all («*»), or of one service. A service is paused by its own switch or by the one of all.

    `since`, `by` and `reason` are of its own switch. `waiting`: commands released and not sent; `sent`: under way.
    """

    service: str
    paused: bool
    since: datetime | None
    by: str
    reason: str
    waiting: int
    sent: int


def publishing() -> list[Publishing]:
    """The switch of all, then each service's."""
    standing = switches.read()
    rows = {switch.service: switch for switch in Switch.objects.all()}
    loads = {load.service: load for load in load_by_service(timezone.now(), standing)}
    known = {item.service for definition in registry.all_definitions() for item in definition.compensations}
    names = [switches.EVERYTHING, *sorted((known | set(rows) | set(loads)) - {switches.EVERYTHING})]
    found = []
    for name in names:
        row = rows.get(name)
        mine = list(loads.values()) if name == switches.EVERYTHING else [loads[name]] if name in loads else []
        found.append(
            Publishing(
                service=name,
                paused=standing.is_paused(name),
                since=row.changed_at if row else None,
                by=row.changed_by if row else "",
                reason=row.reason if row else "",
                waiting=sum(load.due + load.later for load in mine),
                sent=sum(load.sent for load in mine),
            )
        )
    return found
