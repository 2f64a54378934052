"""Decisions on quarantined messages: requeue, dismiss."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils.translation import gettext as _

from bridge import event_log, quarantine, readings, reasons, routing
from bridge.errors import NotInQuarantine, StillUnreadable
from bridge.models import Event, Pending, Quarantined, QuarantineStatus
from bridge.reasons import Reason
from sagas import targets
from sagas.actions.action import ActionContext, ActionRequest, ActionResult, carry_out, previewed
from sagas.actions.spec import ActionSpec, Refusal, Values
from sagas.errors import NotFound, Refused
from sagas.models import Parked, SagaEvent, SagaLog


@dataclass(frozen=True, slots=True)
class MessageView:
    """A quarantined message as it is stored, with its bytes."""

    row: Quarantined


def may_requeue(view: MessageView) -> Refusal:
    """Refuse for a message that was requeued, or cannot become an event with the current rules either."""
    if view.row.status == QuarantineStatus.REQUEUED:
        return _("this message was already requeued")
    why = event_log.unreadable(view.row)
    return _still_unreadable(why) if why else None


def may_dismiss_message(view: MessageView) -> Refusal:
    """Refuse for a message that was decided on."""
    return _("this message was already requeued or dismissed") if view.row.status != QuarantineStatus.OPEN else None


def requeue(spec: ActionSpec, values: Values, request: ActionRequest) -> ActionResult:
    """Read a quarantined message again, with the current rules, store it as an event and apply it to its saga.

    `effects` has the event and its type, and the result: the saga that it was applied to with its status before and
    after, or why it is parked (`parked`); `already_stored` if the log contained the event before. Opens its own
    transaction. Raises NotFound, Invalid, Refused (it still cannot be read, or cannot be applied), Busy.
    """
    message: int = values["message"]
    target = targets.of_message(message)
    routed = event_log.routing_of(message)

    def work(context: ActionContext) -> None:
        # Events that are waiting already are not an effect of this decision.
        context.apply(*routed)
        with previewed(context, *routed):
            spec.check(_locked(message))
            event = _read(message, request)
            fresh = Pending.objects.filter(id=event.id).exists()
            context.apply(*routed)
            _note_saga(context, event)
        context.effects |= {"event": event.event_id, "type": event.type}
        context.effects |= {} if fresh else {"already_stored": True}

    locks, once = [f"decision:{target.name}", *routed], spec.once.format(message=message)
    return carry_out(spec.name, target, request, work, locks=locks, once=lambda _context: once)


def dismiss_message(spec: ActionSpec, values: Values, request: ActionRequest) -> ActionResult:
    """Remove a quarantined message from the attention list; its bytes stay. Raises NotFound, Invalid, Refused.

    Opens its own transaction.
    """
    message: int = values["message"]

    def work(context: ActionContext) -> None:
        spec.check(_locked(message))
        quarantine.dismiss(message, actor=request.actor, why=request.reason)

    once = spec.once.format(message=message)
    return carry_out(spec.name, targets.of_message(message), request, work, once=lambda _context: once)


def _read(message: int, request: ActionRequest) -> Event:
    """Store the message as an event and return that. Raises Refused: another event with its id may have come since."""
    try:
        return Event.objects.get(id=event_log.requeue(message, actor=request.actor, why=request.reason))
    except StillUnreadable as error:
        raise Refused(_still_unreadable(error.reason)) from error


def _still_unreadable(why: Reason) -> str:
    return _("it still cannot be read: %(why)s") % {"why": reasons.text(*why)}


def _locked(message: int) -> MessageView:
    """Return the message, locked for the rest of the caller's transaction. Raises NotFound."""
    try:
        return MessageView(quarantine.lock(message))
    except NotInQuarantine:
        raise NotFound(_("there is no quarantined message %(id)s") % {"id": message}) from None


def _note_saga(context: ActionContext, event: Event) -> None:
    """Note the saga that the event was applied to, or why it is parked: for the first saga type that reads it.

    If that type has no saga for it, but another one has, the saga of the other.
    """
    ids = readings.ids_of(Event.objects.filter(id=event.id))
    saga_id = SagaEvent.objects.filter(event__in=ids).order_by("event").values_list("saga_id", flat=True).first()
    parked = Parked.objects.filter(event__in=ids).order_by("event").values_list("reason", flat=True).first()
    if saga_id is not None:
        saga = SagaLog.objects.get(id=saga_id)
        context.saga_id = saga.id
        context.effects |= {
            "saga": str(saga.id),
            "status_before": context.status_before(routing.routing_key(saga.saga_type, saga.key)),
            "status_after": saga.status,
        }
    elif parked is not None:
        context.effects["parked"] = parked
