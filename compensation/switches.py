"""Whether commands may be sent. Stored in the database, so that a change reaches every worker at its next page."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from django.conf import settings
from django.db import transaction

from bridge import clock
from compensation import statements
from compensation.models import Breaker, BreakerState, Switch

EVERYTHING = "*"

Pause = Switch | Breaker


@dataclass(frozen=True, slots=True)
class Switches:
    """All switches and circuit breakers at one moment, by service; the switch "*" applies to all services.

    People set switches, `compensation.breaker` sets breakers. They are independent: commands are sent if neither pauses
    them. A breaker in the state CANARY pauses nothing; it only limits which commands of its service are sent.
    """

    rows: Mapping[str, Switch]
    breakers: Mapping[str, Breaker] = field(default_factory=dict)

    @property
    def everything_paused(self) -> bool:
        return self.rows[EVERYTHING].paused

    @property
    def paused(self) -> list[str]:
        """The services that are paused by their own switch or breaker, sorted; "*" means all."""
        return sorted({pause.service for pause in self._all_pauses()})

    @property
    def pauses(self) -> list[Pause]:
        """The switches and breakers that pause something, the one for all services first."""
        return sorted(self._all_pauses(), key=lambda pause: pause.service)

    @property
    def canaries(self) -> list[Breaker]:
        """The breakers that let only a canary be sent, by service."""
        return [row for _, row in sorted(self.breakers.items()) if row.state == BreakerState.CANARY]

    def is_paused(self, service: str) -> bool:
        return self.pause_of(service) is not None

    def is_switched_off(self, service: str) -> bool:
        """Return whether a switch pauses this service, its own or the one for all."""
        return self._switch_that_pauses(service) is not None

    def pause_of(self, service: str) -> Pause | None:
        """Return what pauses this service: the switch for all, else its own, else its breaker; None if nothing does."""
        return self._switch_that_pauses(service) or self.open_breaker(service)

    def open_breaker(self, service: str) -> Breaker | None:
        """Return the breaker of this service if it is open, else None."""
        breaker = self.breakers.get(service)
        return breaker if breaker is not None and breaker.state == BreakerState.OPEN else None

    def canary_before(self, service: str, command_id: UUID) -> Breaker | None:
        """Return the breaker that stops this command until the canary of its service is confirmed, or None."""
        breaker = self.breakers.get(service)
        if breaker is None or breaker.state != BreakerState.CANARY or command_id in breaker.canary:
            return None
        return breaker

    def changed_at(self, service: str) -> datetime:
        """Return when the commands of this service were last paused or resumed."""
        changed = [self.rows[name].changed_at for name in (EVERYTHING, service) if name in self.rows]
        breaker = self.breakers.get(service)
        return max([*changed, breaker.changed_at] if breaker else changed)

    def _switch_that_pauses(self, service: str) -> Switch | None:
        switches = (self.rows.get(name) for name in (EVERYTHING, service))
        return next((switch for switch in switches if switch is not None and switch.paused), None)

    def _all_pauses(self) -> list[Pause]:
        opened = [breaker for breaker in self.breakers.values() if breaker.state == BreakerState.OPEN]
        return [*(switch for switch in self.rows.values() if switch.paused), *opened]


def read() -> Switches:
    """Return all switches. One query; the very first call stores the initial value from the settings."""
    found = _read()
    if EVERYTHING in found.rows:
        return found
    first = Switch.objects.get_or_create(service=EVERYTHING, defaults=_initial())[0]
    return Switches({**found.rows, EVERYTHING: first}, found.breakers)


def peek() -> Switches:
    """Return the same without storing anything, for readers such as GET health on a read-only database."""
    found = _read()
    if EVERYTHING in found.rows:
        return found
    return Switches({**found.rows, EVERYTHING: Switch(service=EVERYTHING, **_initial())}, found.breakers)


def is_paused(service: str) -> bool:
    """Return whether the commands of this service are paused: by its switch, the one for all, or its breaker."""
    return read().is_paused(service)


def paused_services() -> list[str]:
    """Return the services that are paused, sorted; "*" means all."""
    return read().paused


def kind_of(pause: Pause) -> Literal["all", "service", "breaker"]:
    """Return the kind of a pause: the switch for all services, that of one service, or a circuit breaker."""
    if isinstance(pause, Breaker):
        return "breaker"
    return "all" if pause.service == EVERYTHING else "service"


def set_switch(service: str, paused: bool, actor: str, reason: str) -> bool:
    """Pause or resume one service, or all ("*"); return whether that changed anything.

    May run twice: a repetition keeps the first actor and time. Runs in the caller's transaction, or in its own.
    Commands that workers have claimed at that moment (at most a page each) are still sent.
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


def _read() -> Switches:
    rows: dict[str, Switch] = {}
    breakers: dict[str, Breaker] = {}
    for row in statements.SWITCHES_AND_BREAKERS.rows():
        service, changed_at, changed_by, reason, paused, state, cause, planned, allowed, canary = row
        common = {"service": service, "changed_at": changed_at, "changed_by": changed_by, "reason": reason}
        if state is None:
            rows[service] = Switch(**common, paused=paused)
        else:
            members = [UUID(member) for member in canary]
            numbers = {"cause": cause, "planned": planned, "allowed": allowed, "canary": members}
            breakers[service] = Breaker(**common, state=state, **numbers)
    return Switches(rows, breakers)


def _initial() -> dict[str, Any]:
    # Any value but "on" pauses the commands: a command that was sent cannot be recalled.
    paused = settings.SAGA_PUBLISHING != "on"
    return {"paused": paused, "changed_at": clock.now(), "reason": f"SAGA_PUBLISHING={settings.SAGA_PUBLISHING}"}
