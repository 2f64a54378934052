"""Whether commands may leave. A row in the database, so that a person's word reaches every worker at its next page."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import transaction

from bridge import clock
from compensation.models import Switch

EVERYTHING = "*"


@dataclass(frozen=True, slots=True)
class Switches:
    """All switches as they stood at one moment, by service, with "*" for all."""

    rows: Mapping[str, Switch]

    @property
    def everything_paused(self) -> bool:
        return self.rows[EVERYTHING].paused

    @property
    def paused(self) -> list[str]:
        """The services that are paused by their own switch, in order; "*" stands for all."""
        return sorted(service for service, switch in self.rows.items() if switch.paused)

    @property
    def pauses(self) -> list[Switch]:
        """The switches that pause something, that of all services first."""
        return [self.rows[service] for service in self.paused]

    def is_paused(self, service: str) -> bool:
        return self.pause_of(service) is not None

    def pause_of(self, service: str) -> Switch | None:
        """The switch that pauses this service: that of all services, else its own; None if its commands may leave."""
        switches = (self.rows.get(name) for name in (EVERYTHING, service))
        return next((switch for switch in switches if switch is not None and switch.paused), None)

    def changed_at(self, service: str) -> datetime:
        """When the service's commands were last paused or resumed."""
        return max(self.rows[name].changed_at for name in (EVERYTHING, service) if name in self.rows)


def read() -> Switches:
    """Read all switches in one query; the first call ever stores the initial value that the settings give."""
    rows = _rows()
    if EVERYTHING not in rows:
        rows[EVERYTHING] = Switch.objects.get_or_create(service=EVERYTHING, defaults=_initial())[0]
    return Switches(rows)


def peek() -> Switches:
    """The same, and nothing is stored: for whoever only looks, such as GET health on a database without writes."""
    rows = _rows()
    return Switches(rows if EVERYTHING in rows else {**rows, EVERYTHING: Switch(service=EVERYTHING, **_initial())})


def is_paused(service: str) -> bool:
    """Whether this service's commands stay here, by its own switch or by the one for all ("*")."""
    return read().is_paused(service)


def paused_services() -> list[str]:
    """The services that are paused, in order; "*" stands for all."""
    return read().paused


def set_switch(service: str, paused: bool, actor: str, reason: str) -> bool:
    """Pause or resume one service, or all ("*"); returns whether that changed anything.

    Repeating it keeps who did it first, and since when. In the caller's transaction, or its own. What a worker has
    claimed at that moment (a page at most) still leaves.
    """
    with transaction.atomic():
        read()
        switch = Switch.objects.select_for_update().filter(service=service).first()
        if (switch.paused if switch else False) == paused:
            return False
        Switch.objects.update_or_create(
            service=service,
            defaults={"paused": paused, "changed_at": clock.now(), "changed_by": actor, "reason": reason},
        )
    return True


def _rows() -> dict[str, Switch]:
    return {switch.service: switch for switch in Switch.objects.all()}


def _initial() -> dict[str, Any]:
    # Anything but a clear "on" holds the commands back: nobody can recall what has left.
    paused = settings.SAGA_PUBLISHING != "on"
    return {"paused": paused, "changed_at": clock.now(), "reason": f"SAGA_PUBLISHING={settings.SAGA_PUBLISHING}"}
