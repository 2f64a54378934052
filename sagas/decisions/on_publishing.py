"""The emergency stop: pause and resume publishing, all of it or one service's commands."""

from __future__ import annotations

from django.utils.translation import gettext as _

from bridge.wakeup import nudge_on_commit
from compensation import switches
from sagas.decisions.press import Outcome, Press, Request, carry_out
from sagas.definitions import registry
from sagas.errors import NotFound
from sagas.models import Action

EVERYTHING = "*"


def services() -> list[str]:
    """The services that some definition sends commands to."""
    return sorted({item.service for known in registry.all_definitions() for item in known.compensations})


def possible_on_publishing(service: str | None, standing: switches.Switches) -> frozenset[Action]:
    """Return the one decision on a switch that would change it, given all switches; none for an unknown service."""
    name = EVERYTHING if service is None else service
    if name != EVERYTHING and name not in services():
        return frozenset()
    paused = standing.rows.get(name, (False,))[0]
    return frozenset({Action.RESUME_PUBLISHING if paused else Action.PAUSE_PUBLISHING})


def set_publishing(paused: bool, service: str | None = None, *, request: Request) -> Outcome:
    """Pauses or resumes publishing. While paused commands are planned and visible, none leaves, deadlines rest.

    Pressing it again changes nothing and says so (`effects.changed`). Raises NotFound (no such service), Invalid.
    """
    # An empty name is nobody's service, and must not stop or start all of them.
    name = EVERYTHING if service is None else service
    if name != EVERYTHING and name not in services():
        raise NotFound(
            _("no service is called %(name)s: there are %(known)s") % {"name": name, "known": ", ".join(services())}
        )

    def work(press: Press) -> None:
        press.effects["changed"] = switches.set_switch(name, paused, request.actor, request.reason)
        press.effects["paused"] = switches.paused_services()
        if not paused:
            nudge_on_commit("publish")

    action = Action.PAUSE_PUBLISHING if paused else Action.RESUME_PUBLISHING
    return carry_out(action, "publishing" if name == EVERYTHING else f"publishing to {name}", request, work)
