"""Decisions on quarantined messages: requeue, dismiss."""

from __future__ import annotations

from django.utils.translation import gettext as _

from bridge import event_log, quarantine, reasons, routing
from bridge.errors import AlreadyDecided, NotInQuarantine, StillUnreadable
from bridge.models import Event, Pending, Quarantined, QuarantineStatus
from sagas.actions.action import ActionContext, ActionRequest, ActionResult, carry_out, previewed
from sagas.errors import NotFound, Refused
from sagas.models import Action, Parked, SagaEvent, SagaLog


def requeue_message(quarantine_id: int, *, request: ActionRequest) -> ActionResult:
    """Read a quarantined message again, with the current rules, store it as an event and apply it to its saga.

    `effects` has the event and its type, and the result: the saga that it was applied to with its status before and
    after, or why it is parked (`parked`); `already_stored` if the log contained the event before. Opens its own
    transaction. Raises NotFound, Invalid, Refused (it still cannot be read, or cannot be applied), Busy.
    """
    target = f"message {quarantine_id}"
    routed = event_log.routing_of(quarantine_id)

    def work(context: ActionContext) -> None:
        # Events that are waiting already are not an effect of this decision.
        context.apply(*routed)
        with previewed(context, *routed):
            event = _store(context, quarantine_id)
            fresh = Pending.objects.filter(id=event.id).exists()
            context.apply(routing.routing_key(event.stream, event.key, event.entity))
            _note_saga(context, event)
        context.effects |= {"event": event.event_id, "type": event.type}
        context.effects |= {} if fresh else {"already_stored": True}

    locks = [f"decision:{target}", *routed]
    return carry_out(Action.REQUEUE, target, request, work, locks=locks, once=lambda: f"requeue:{quarantine_id}")


def possible_on_message(row: Quarantined) -> frozenset[Action]:
    """Return the decisions on a quarantined message that are possible now: requeue only if it has become readable.

    Reads the message's bytes with the current rules. No queries.
    """
    found = set()
    if row.status != QuarantineStatus.REQUEUED and not event_log.unreadable(row):
        found.add(Action.REQUEUE)
    if row.status == QuarantineStatus.OPEN:
        found.add(Action.DISMISS_MESSAGE)
    return frozenset(found)


def dismiss_message(quarantine_id: int, *, request: ActionRequest) -> ActionResult:
    """Remove a quarantined message from the attention list; its bytes stay. Raises NotFound, Invalid, Refused.

    Opens its own transaction.
    """

    def work(context: ActionContext) -> None:
        try:
            quarantine.dismiss(quarantine_id, actor=request.actor, why=request.reason)
        except NotInQuarantine:
            raise NotFound(_("there is no quarantined message %(id)s") % {"id": quarantine_id}) from None
        except AlreadyDecided:
            raise Refused(_("this message was already requeued or dismissed")) from None

    target = f"message {quarantine_id}"
    return carry_out(Action.DISMISS_MESSAGE, target, request, work, once=lambda: f"dismiss-message:{quarantine_id}")


def _store(context: ActionContext, quarantine_id: int) -> Event:
    try:
        pk = event_log.requeue(quarantine_id, actor=context.request.actor, why=context.request.reason)
    except NotInQuarantine:
        raise NotFound(_("there is no quarantined message %(id)s") % {"id": quarantine_id}) from None
    except AlreadyDecided:
        raise Refused(_("this message was already requeued")) from None
    except StillUnreadable as error:
        raise Refused(_("it still cannot be read: %(why)s") % {"why": reasons.text(*error.reason)}) from None
    return Event.objects.get(id=pk)


def _note_saga(context: ActionContext, event: Event) -> None:
    """Note the saga that the event was applied to, or why it is parked."""
    saga_id = SagaEvent.objects.filter(event=event.id).values_list("saga_id", flat=True).first()
    parked = Parked.objects.filter(event=event.id).values_list("reason", flat=True).first()
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
