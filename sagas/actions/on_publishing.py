"""The emergency stop and the circuit breaker: pause and resume sending commands, to all services or to one."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from django.db.models import Count, QuerySet
from django.utils.translation import gettext as _

from bridge.wakeup import nudge_on_commit
from compensation import breaker, queries, switches
from compensation.models import UNSENT, Breaker, BreakerState, Command
from compensation.switches import EVERYTHING, Switches
from sagas.actions.action import KEPT_COMMANDS, ActionContext, ActionRequest, ActionResult, CommandPreview, carry_out
from sagas.definitions import registry
from sagas.errors import Invalid, NotFound
from sagas.models import Action

# Counting stops here: after a long pause there may be millions.
COUNTED = 10_000

# What holds back a service's commands: the switch that people set, or its circuit breaker.
Holder = Literal["switch", "breaker"]


def services() -> list[str]:
    """Return the services that some definition sends commands to, sorted."""
    return sorted({item.service for known in registry.all_definitions() for item in known.compensations})


def possible_on_publishing(service: str | None, current: switches.Switches) -> frozenset[Action]:
    """Return the decision that would change a switch, given all switches; none for an unknown service."""
    name = EVERYTHING if service is None else service
    if name != EVERYTHING and name not in services():
        return frozenset()
    switch = current.rows.get(name)
    paused = switch is not None and switch.paused
    return frozenset({Action.RESUME_PUBLISHING if paused else Action.PAUSE_PUBLISHING})


def possible_on_breaker(service: str, current: switches.Switches) -> frozenset[Action]:
    """Return the decision on the circuit breaker of a service: resume, while it is open."""
    is_open = service in services() and current.open_breaker(service) is not None
    return frozenset({Action.RESUME_PUBLISHING} if is_open else ())


def set_publishing(
    paused: bool, service: str | None = None, *, request: ActionRequest, only: Holder | None = None
) -> ActionResult:
    """Pause or resume sending commands. While paused, commands are planned and visible but not sent; deadlines wait.

    Repeating it changes nothing (`effects.changed` is false). Resuming lists the first KEPT_COMMANDS of the commands
    that may be sent at once; `effects.released` counts them by name, up to COUNTED in all
    (`effects.released_at_least`: there are more).

    A service may be paused by its switch and by its circuit breaker. Pausing sets the switch only; resuming one service
    resumes both, or the one given by `only`, and `effects.resumed` lists which. Resuming all services sets the switch
    of all only. A resumed breaker sends a canary first: `effects.breaker` says how many commands wait and how many of
    them are sent first. Opens its own transaction. Raises NotFound (no such service), Invalid.
    """
    if only == "breaker" and (paused or service is None):
        raise Invalid(_("A circuit breaker can only be resumed, and only that of one service."))
    # An empty name is not a service, and must not pause or resume all of them.
    name = EVERYTHING if service is None else service
    if name != EVERYTHING and name not in services():
        raise NotFound(
            _("unknown service %(name)s; known services: %(known)s") % {"name": name, "known": ", ".join(services())}
        )

    def work(context: ActionContext) -> None:
        before = switches.read()
        switched = only != "breaker" and switches.set_switch(name, paused, request.actor, request.reason)
        resumed = None
        if not paused and only != "switch":
            resumed = breaker.resume(name, request.actor, request.reason)
        context.effects["changed"] = switched or resumed is not None
        context.effects["paused"] = switches.paused_services()
        if not paused:
            _note_resumed(context, name, switched, resumed)
            _note_released(context, _released(before, switches.read(), context.now))
            nudge_on_commit("publish")

    action = Action.PAUSE_PUBLISHING if paused else Action.RESUME_PUBLISHING
    return carry_out(action, "publishing" if name == EVERYTHING else f"publishing to {name}", request, work)


def _released(before: Switches, after: Switches, now: datetime) -> QuerySet[Command]:
    """Return the commands that are due and were held back by a pause that is over."""
    leaving = queries.sendable(now, after)
    if before.everything_paused:
        return leaving
    return leaving.filter(service__in=set(before.paused) - set(after.paused))


def _note_resumed(context: ActionContext, service: str, switched: bool, resumed: Breaker | None) -> None:
    """Note which of the two was resumed, what the breaker sends first, and what still pauses the service."""
    context.effects["resumed"] = [name for name, changed in (("switch", switched), ("breaker", resumed)) if changed]
    if resumed is not None:
        waiting = Command.objects.filter(service=service, status__in=UNSENT).count()
        first = len(resumed.canary)
        state = "chosen_later" if resumed.state == BreakerState.CANARY and not first else resumed.state
        context.effects["breaker"] = {"service": service, "state": state, "waiting": waiting, "first": first}
    pause = switches.read().pause_of(service)
    if pause is not None:
        context.effects["stays_paused_by"] = switches.kind_of(pause)


def _note_released(context: ActionContext, found: QuerySet[Command]) -> None:
    names = ("id", "name", "entity", "service", "topic", "status", "body")
    for row in found.order_by("next_at", "id").values_list(*names)[:KEPT_COMMANDS]:
        identity, name, entity, service, topic, status, body = row
        context.commands.append(
            CommandPreview(
                id=identity,
                name=name,
                entity=entity,
                service=service,
                topic=topic,
                status_before=status,
                status_after=status,
                body=body,
                leaves=True,
                released=True,
            )
        )
    if len(context.commands) < KEPT_COMMANDS:
        return
    counted = Command.objects.filter(id__in=found.order_by().values("id")[:COUNTED])
    counts = dict(counted.order_by("name").values_list("name").annotate(Count("id")))
    context.effects["released"] = counts
    context.effects |= {"released_at_least": True} if sum(counts.values()) == COUNTED else {}
