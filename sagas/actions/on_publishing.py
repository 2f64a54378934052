"""The emergency stop and the circuit breaker: pause and resume sending commands, to all services or to one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, QuerySet
from django.utils.translation import gettext as _

from bridge.wakeup import nudge_on_commit
from compensation import breaker, queries, switches
from compensation.models import UNSENT, Breaker, BreakerState, Command
from compensation.switches import EVERYTHING, Switches
from sagas import targets
from sagas.actions.action import KEPT_COMMANDS, ActionContext, ActionRequest, ActionResult, CommandPreview, carry_out
from sagas.actions.spec import ActionSpec, NothingToDo, Refusal, Values
from sagas.definitions import registry
from sagas.errors import Invalid, NotFound

# Counting stops here: after a long pause there may be millions.
COUNTED = 10_000


def services() -> list[str]:
    """Return the services that some definition sends commands to, sorted."""
    return sorted({item.service for known in registry.all_definitions() for item in known.compensations})


@dataclass(frozen=True, slots=True)
class SwitchView:
    """The switch of a service, or of all services (None), with all that hold commands back."""

    service: str | None
    current: Switches


@dataclass(frozen=True, slots=True)
class BreakerView:
    """The circuit breaker of a service, with all that hold commands back."""

    service: str
    current: Switches


def may_pause(view: SwitchView) -> Refusal:
    """Refuse for an unknown service. To pause what is paused changes nothing."""
    return _unknown(view.service) or (_no_change() if _is_paused(view) else None)


def may_resume(view: SwitchView | BreakerView) -> Refusal:
    """Refuse for an unknown service. To resume what is not paused changes nothing."""
    if isinstance(view, SwitchView):
        return _unknown(view.service) or (None if _is_paused(view) else _no_change())
    return _unknown(view.service) or (None if view.current.open_breaker(view.service) is not None else _no_change())


def _is_paused(view: SwitchView) -> bool:
    switch = view.current.rows.get(EVERYTHING if view.service is None else view.service)
    return switch is not None and switch.paused


def _unknown(service: str | None) -> Refusal:
    if service is None or service == EVERYTHING or service in services():
        return None
    return _("unknown service %(name)s; known services: %(known)s") % {"name": service, "known": ", ".join(services())}


def _no_change() -> NothingToDo:
    return NothingToDo(_("No change: this is already the case."))


def set_publishing(spec: ActionSpec, values: Values, request: ActionRequest) -> ActionResult:
    """Pause or resume sending commands. While paused, commands are planned and visible but not sent; deadlines wait.

    Repeating it changes nothing (`effects.changed` is false). Resuming lists the first KEPT_COMMANDS of the commands
    that may be sent at once; `effects.released` counts them by name, up to COUNTED in all
    (`effects.released_at_least`: there are more).

    A service may be paused by its switch and by its circuit breaker. Pausing sets the switch only; resuming one service
    resumes both, or the one given by `only`, and `effects.resumed` lists which. Resuming all services sets the switch
    of all only. A resumed breaker sends a canary first: `effects.breaker` says how many commands wait and how many of
    them are sent first. values: `service` (None: all), `paused`, `only` ("switch" or "breaker"). Opens its own
    transaction. Raises NotFound (no such service), Invalid.
    """
    paused, service, only = values["paused"], values.get("service"), values.get("only")
    if only == "breaker" and (paused or service is None):
        raise Invalid(_("A circuit breaker can only be resumed, and only that of one service."))
    unknown = _unknown(service)
    if unknown:
        raise NotFound(unknown)
    # An empty name is not a service, and must not pause or resume all of them.
    name = EVERYTHING if service is None else service

    def work(context: ActionContext) -> None:
        before = switches.read()
        spec.check(BreakerView(name, before) if only == "breaker" else SwitchView(service, before))
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

    return carry_out(spec.name, targets.sending(None if name == EVERYTHING else name), request, work)


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
