"""Whether commands may leave. A row in the database, so that a person's word reaches every worker at its next page."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from compensation.models import Switch

EVERYTHING = "*"


@dataclass(frozen=True, slots=True)
class Switches:
    """All switches as they stood at one moment: for each service (and «*») whether it is paused, and since when."""

    rows: Mapping[str, tuple[bool, datetime]]

    @property
    def everything_paused(self) -> bool:
        return self.rows[EVERYTHING][0]

    @property
    def paused(self) -> list[str]:
        return sorted(service for service, (paused, _) in self.rows.items() if paused)

    def is_paused(self, service: str) -> bool:
        return self.everything_paused or self.rows.get(service, (False,))[0]

    def changed_at(self, service: str) -> datetime:
        """When the service's commands were last let go, or stopped."""
        return max(self.rows[name][1] for name in (EVERYTHING, service) if name in self.rows)


def read() -> Switches:
    """The switches now; the first call ever writes down the first value that the settings give."""
    rows = {switch.service: (switch.paused, switch.changed_at) for switch in Switch.objects.all()}
    if EVERYTHING not in rows:
        first = _first()
        rows[EVERYTHING] = (first.paused, first.changed_at)
    return Switches(rows)


def is_paused(service: str) -> bool:
    """Whether this service's commands stay here, by its own switch or by the one for all («*»)."""
    return read().is_paused(service)


def paused_services() -> list[str]:
    """The services that are paused, in order; «*» stands for all."""
    return read().paused


def set_switch(service: str, paused: bool, actor: str, reason: str) -> bool:
    """Pause or resume one service, or all («*»); returns whether that changed anything.

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
            defaults={"paused": paused, "changed_at": timezone.now(), "changed_by": actor, "reason": reason},
        )
    return True


def _first() -> Switch:
    # Anything but a clear «on» holds the commands back: nobody can recall what has left.
    paused = settings.SAGA_PUBLISHING != "on"
    defaults = {"paused": paused, "changed_at": timezone.now(), "reason": f"SAGA_PUBLISHING={settings.SAGA_PUBLISHING}"}
    return Switch.objects.get_or_create(service=EVERYTHING, defaults=defaults)[0]
