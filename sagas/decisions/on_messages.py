"""Decisions on quarantined messages: requeue, dismiss."""

from __future__ import annotations

from django.utils.translation import gettext as _

from bridge import event_log, quarantine
from bridge.errors import AlreadyDecided, NotInQuarantine, StillUnreadable
from bridge.models import Event, Quarantined, QuarantineStatus
from sagas.decisions.press import Outcome, Press, Request, carry_out
from sagas.errors import NotFound, Refused
from sagas.models import Action


def requeue_message(quarantine_id: int, *, request: Request) -> Outcome:
    """Reads a quarantined message again, with today's rules, and stores it as an event.

    Raises NotFound, Invalid, Refused (it still cannot be read).
    """

    def work(press: Press) -> None:
        try:
            pk = event_log.requeue(quarantine_id, actor=request.actor, why=request.reason)
        except NotInQuarantine:
            raise NotFound(_("there is no quarantined message %(id)s") % {"id": quarantine_id}) from None
        except AlreadyDecided:
            raise Refused(_("this message was requeued before")) from None
        except StillUnreadable as error:
            raise Refused(_("it still cannot be read: %(why)s") % {"why": error.reason}) from None
        event = Event.objects.get(id=pk)
        press.effects |= {"event": event.event_id, "type": event.type}

    target = f"message {quarantine_id}"
    return carry_out(Action.REQUEUE, target, request, work, once=lambda: f"requeue:{quarantine_id}")


def possible_on_message(row: Quarantined) -> frozenset[Action]:
    """Return the decisions on a quarantined message that are possible now: requeue, if it can be read by now.

    Reads the message's bytes by today's rules. No queries.
    """
    found = set()
    if row.status != QuarantineStatus.REQUEUED and not event_log.unreadable(row):
        found.add(Action.REQUEUE)
    if row.status == QuarantineStatus.OPEN:
        found.add(Action.DISMISS_MESSAGE)
    return frozenset(found)


def dismiss_message(quarantine_id: int, *, request: Request) -> Outcome:
    """Hides a quarantined message from the attention queue; its bytes stay. Raises NotFound, Invalid, Refused."""

    def work(press: Press) -> None:
        try:
            quarantine.dismiss(quarantine_id, actor=request.actor, why=request.reason)
        except NotInQuarantine:
            raise NotFound(_("there is no quarantined message %(id)s") % {"id": quarantine_id}) from None
        except AlreadyDecided:
            raise Refused(_("this message was decided on before")) from None

    target = f"message {quarantine_id}"
    return carry_out(Action.DISMISS_MESSAGE, target, request, work, once=lambda: f"dismiss-message:{quarantine_id}")
