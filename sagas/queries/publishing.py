"""Read the switches that pause commands, with the commands that each holds back or has in progress. Five queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from bridge import clock
from compensation import deadlines, switches
from compensation.models import Breaker
from compensation.queries import load_by_service
from compensation.switches import Switches
from sagas.definitions import registry
from sagas.queries import holding
from sagas.queries.holding import OnHold


@dataclass(frozen=True, slots=True, kw_only=True)
class Publishing:
    """One switch: of all services ("*") or of one. A service is paused by its own switch or by the one of all.

    `since`, `by` and `reason` are of its own switch. `waiting`: commands released and not sent; `sent`: sent and not
    confirmed. `paused_by` is what pauses it: the switch of "all", that of the "service", its circuit "breaker", or
    None. `paused_services`: the services that this row pauses; for the switch of all every service that is paused.
    `deadlines_on_hold`: why its deadlines do not run, if so. `breaker`: its circuit breaker, None if that never opened.
    """

    service: str
    paused: bool
    since: datetime | None
    by: str
    reason: str
    waiting: int
    sent: int
    paused_by: str | None = None
    paused_services: Sequence[str] = ()
    deadlines_on_hold: OnHold | None = None
    breaker: Breaker | None = None


def publishing() -> list[Publishing]:
    """Return the switch of all services, then that of each service, by name."""
    holds = deadlines.deadline_holds()
    current = holds.switches
    rows = current.rows
    loads = {load.service: load for load in load_by_service(clock.now(), current)}
    known = {item.service for definition in registry.all_definitions() for item in definition.compensations}
    services = sorted(known.union(rows, current.breakers, loads) - {switches.EVERYTHING})
    names = [switches.EVERYTHING, *services]
    found = []
    for name in names:
        row = rows.get(name)
        mine = list(loads.values()) if name == switches.EVERYTHING else [loads[name]] if name in loads else []
        found.append(
            Publishing(
                service=name,
                paused=current.is_paused(name),
                since=row.changed_at if row else None,
                by=row.changed_by if row else "",
                reason=row.reason if row else "",
                waiting=sum(load.due + load.later for load in mine),
                sent=sum(load.sent for load in mine),
                paused_by=_paused_by(name, current),
                paused_services=[
                    service
                    for service in (services if name == switches.EVERYTHING else [name])
                    if current.is_paused(service)
                ],
                deadlines_on_hold=holding.of_service(name, holds),
                breaker=current.breakers.get(name),
            )
        )
    return found


def _paused_by(service: str, current: Switches) -> str | None:
    pause = current.pause_of(service)
    return switches.kind_of(pause) if pause is not None else None
