"""The decisions as the pages offer them: title, consequence, button and form of each.

Each is one call of `sagas.actions`; nothing here decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from sagas import actions
from sagas.actions import ActionRequest, ActionResult, CommandSelection
from sagas.admin import formatting, forms
from sagas.models import Action, SagaLog

FormData = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionPage:
    """One decision. `carry_out` takes the form's data; `back` returns the page to show afterwards.

    `button` is the label of the confirming button, `consequence` says what happens, `also` lists further notes. `look`
    is what the preview runs if it is not a dry run of `carry_out`. `destructive` marks what cannot be reversed.
    """

    action: Action
    title: Any
    button: Any
    consequence: Any
    carry_out: Callable[[FormData, ActionRequest], ActionResult]
    back: Callable[[FormData], str]
    form: type[forms.DecisionForm] = forms.SagaForm
    also: tuple[Any, ...] = ()
    destructive: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    look: Callable[[FormData, ActionRequest], ActionResult] | None = None


def _back_to_saga(form: FormData) -> str:
    if form.get("lane"):
        return formatting.lane_url(form["saga"], form["lane"])
    return formatting.saga_url(form["saga"])


def _back_to_commands(form: FormData) -> str:
    ids = form.get("ids") or []
    if len(ids) == 1:
        return formatting.command_url(ids[0])
    if form.get("saga"):
        return formatting.saga_url(form["saga"])
    return formatting.list_url("compensation_command")


def _back_to_parked(form: FormData) -> str:
    if form.get("saga"):
        return formatting.saga_url(form["saga"])
    return formatting.list_url("sagas_parked")


def _back_to_adopted(form: FormData) -> str:
    saga = SagaLog.objects.filter(key=form["key"]).values_list("id", flat=True).first()
    return formatting.saga_url(saga) if saga else formatting.list_url("sagas_parked")


def _back_to_message(form: FormData) -> str:
    return reverse("admin:bridge_quarantined_change", args=[form["message"]])


def _back_to_publishing(_form: FormData) -> str:
    return formatting.list_url("compensation_switch")


def selection(form: FormData) -> CommandSelection:
    """Return the commands that the form names: by id, of a saga, or planned before a time."""
    if form.get("ids"):
        return CommandSelection(ids=form["ids"])
    if form.get("planned_before"):
        return CommandSelection(planned_before=form["planned_before"])
    return CommandSelection(saga=form["saga"])


def _on_commands(action: Action) -> Callable[[FormData, ActionRequest], ActionResult]:
    def carry_out(form: FormData, request: ActionRequest) -> ActionResult:
        ids = form.get("ids") or []
        if len(ids) == 1:
            return actions.decide_command(action, ids[0], request=request)
        return actions.decide_commands(action, selection(form), request=request)

    return carry_out


def _lane(form: FormData) -> str | None:
    return form.get("lane") or None


def _attach(form: FormData, request: ActionRequest) -> ActionResult:
    saga: UUID = form["saga"]
    if form.get("event"):
        return actions.attach(event=form["event"], saga_id=saga, lane=_lane(form), request=request)
    return actions.attach(key=form.get("key") or "", saga_id=saga, lane=_lane(form), request=request)


def _dismiss(form: FormData, request: ActionRequest) -> ActionResult:
    if form.get("event"):
        return actions.dismiss(event=form["event"], request=request)
    return actions.dismiss(key=form.get("key") or "", request=request)


def _publishing(paused: bool) -> Callable[[FormData, ActionRequest], ActionResult]:
    def carry_out(form: FormData, request: ActionRequest) -> ActionResult:
        only = form.get("only") or None
        return actions.set_publishing(paused, form.get("service") or None, request=request, only=only)

    return carry_out


def _compare(form: FormData, request: ActionRequest) -> ActionResult:
    """Preview a replay: what it would store, or only the comparison if there are no differences."""
    found = actions.replay(form["saga"], request=request)
    return actions.replay(form["saga"], True, request=request) if found.effects["differences"] else found


_MARK_DONE_CONSEQUENCE = _(
    "Marks the commands as confirmed and, permanently, as manual. They are not sent again. Commands "
    "that were waiting for them are sent; the preview lists them. Do this only after you have "
    "verified that the service has undone the work, and enter as the reason how you know: who "
    "checked, where and when."
)

ACTION_PAGES: dict[str, ActionPage] = {
    action_page.action.value: action_page
    for action_page in (
        ActionPage(
            action=Action.FORCE_COMPENSATION,
            title=_("Force compensation"),
            button=_("Force compensation"),
            consequence=_(
                "Marks it as failed, even if completed, and undoes everything done so far: the commands "
                "below are sent to the services and repeated until they confirm. Cannot be reversed."
            ),
            carry_out=lambda form, request: actions.force_compensation(form["saga"], _lane(form), request=request),
            back=_back_to_saga,
            destructive=True,
        ),
        ActionPage(
            action=Action.CANCEL,
            title=_("Cancel"),
            button=_("Cancel and undo"),
            consequence=_(
                "For a running saga: marks it as failed and undoes what was done so far with the commands below. "
                "Cannot be reversed."
            ),
            also=(_("Events that arrive later are still applied, and the work that they report is undone as well."),),
            carry_out=lambda form, request: actions.cancel(form["saga"], _lane(form), request=request),
            back=_back_to_saga,
            destructive=True,
        ),
        ActionPage(
            action=Action.TERMINATE,
            title=_("Terminate"),
            button=_("Close without undoing"),
            consequence=_(
                "Closes the saga without undoing anything. Commands that were already sent continue with their "
                "retries; all others, including any required later, are withdrawn permanently. What was not "
                "undone stays in the services. Cannot be reversed."
            ),
            also=(_("To undo the work, cancel the saga or force its compensation instead."),),
            carry_out=lambda form, request: actions.terminate(form["saga"], request=request),
            back=_back_to_saga,
            destructive=True,
        ),
        ActionPage(
            action=Action.RESUME,
            title=_("Resume"),
            button=_("Apply the events again"),
            consequence=_(
                "The saga is blocked because applying its events failed. All waiting events are applied again. If"
                " they fail again, nothing changes and the reason is shown."
            ),
            carry_out=lambda form, request: actions.resume(form["saga"], request=request),
            back=_back_to_saga,
        ),
        ActionPage(
            action=Action.REPLAY,
            title=_("Replay"),
            button=_("Rebuild from log"),
            consequence=_(
                "Replays the saga's log from the first event to the last and compares the result with the stored "
                "state. Only after you confirm is the stored state replaced by the result; required commands that"
                " were not planned are then planned."
            ),
            carry_out=lambda form, request: actions.replay(form["saga"], True, request=request),
            look=_compare,
            back=_back_to_saga,
        ),
        ActionPage(
            action=Action.RETRY,
            title=_("Retry"),
            button=_("Retry"),
            consequence=_(
                "Sends the commands again with the same ids, so that the service can recognize repeats, and with "
                "a fresh set of attempts. They count as undone only once the service confirms."
            ),
            form=forms.CommandsForm,
            carry_out=_on_commands(Action.RETRY),
            back=_back_to_commands,
        ),
        ActionPage(
            action=Action.RELEASE,
            title=_("Release"),
            button=_("Send anyway"),
            consequence=_(
                "The commands are held because another saga uses what they undo. They are sent anyway and not held "
                "again: it will then be missing in the other saga too. Cannot be reversed."
            ),
            also=(_("If the other saga still needs it, withdraw the commands instead."),),
            form=forms.CommandsForm,
            carry_out=_on_commands(Action.RELEASE),
            back=_back_to_commands,
            destructive=True,
        ),
        ActionPage(
            action=Action.SKIP,
            title=_("Skip"),
            button=_("Skip"),
            consequence=_(
                "Skips the commands: they are not sent again, in any round. What they should have undone stays in"
                " the service. Commands that were waiting for them are sent; the preview lists them. The saga "
                "will count as failed, not as compensated."
            ),
            also=(_('If it was undone in another way, use "Mark as done" instead.'),),
            form=forms.CommandsForm,
            carry_out=_on_commands(Action.SKIP),
            back=_back_to_commands,
            destructive=True,
        ),
        ActionPage(
            action=Action.MARK_DONE,
            title=_("Mark as done"),
            button=_("Confirm: verified as done"),
            consequence=_MARK_DONE_CONSEQUENCE,
            form=forms.EvidenceForm,
            carry_out=_on_commands(Action.MARK_DONE),
            back=_back_to_commands,
        ),
        ActionPage(
            action=Action.WITHDRAW,
            title=_("Withdraw"),
            button=_("Withdraw"),
            consequence=_(
                "Withdraws the commands: they are not sent, or not sent again. What they should have undone stays"
                " in the service and counts as not undone. Commands that were waiting for them are sent; the "
                "preview lists them. If a command was already sent and the service still confirms it, the "
                "confirmation counts."
            ),
            form=forms.WithdrawForm,
            carry_out=_on_commands(Action.WITHDRAW),
            back=_back_to_commands,
            destructive=True,
        ),
        ActionPage(
            action=Action.ATTACH,
            title=_("Attach to a saga"),
            button=_("Attach"),
            consequence=_(
                "Assigns these events to a saga; if they are all of one id, also those that arrive later. They are "
                "applied to the saga at once and may complete it, fail it, or require"
                " compensation: see the preview. The events themselves do not change."
            ),
            also=(_("Cannot be reversed: the effects of applied events are permanent."),),
            form=forms.AttachForm,
            carry_out=_attach,
            back=_back_to_parked,
        ),
        ActionPage(
            action=Action.ADOPT,
            title=_("Start a saga from these events"),
            button=_("Start saga"),
            consequence=_(
                "Starts a saga although its starting event never arrived. All unmatched events with the same id are "
                "applied to it."
            ),
            also=(_("Do this only if you are sure that the starting event will not arrive."),),
            form=forms.ParkedForm,
            carry_out=lambda form, request: actions.adopt(
                form.get("key") or "", form.get("stream") or None, request=request
            ),
            back=_back_to_adopted,
        ),
        ActionPage(
            action=Action.DISMISS,
            title=_("Dismiss"),
            button=_("Dismiss"),
            consequence=_(
                'Hides the unmatched events from "Needs attention". They stay in the log and are still applied if'
                " their saga appears."
            ),
            form=forms.ParkedForm,
            carry_out=_dismiss,
            back=lambda _form: formatting.list_url("sagas_parked"),
        ),
        ActionPage(
            action=Action.REQUEUE,
            title=_("Requeue message"),
            button=_("Requeue"),
            consequence=_(
                "Reads the message again from its stored bytes with the current rules. If it can be read, it "
                "becomes an event and is applied to its saga at once: it may complete the saga, fail it, or "
                "require compensation. The preview lists the commands. If it cannot be read, nothing changes and "
                "the reason is shown."
            ),
            form=forms.MessageForm,
            carry_out=lambda form, request: actions.requeue_message(form["message"], request=request),
            back=_back_to_message,
        ),
        ActionPage(
            action=Action.DISMISS_MESSAGE,
            title=_("Dismiss message"),
            button=_("Dismiss"),
            consequence=_(
                'Hides the message from "Needs attention". Its bytes stay stored, and it can still be requeued later.'
            ),
            form=forms.MessageForm,
            carry_out=lambda form, request: actions.dismiss_message(form["message"], request=request),
            back=_back_to_message,
        ),
        ActionPage(
            action=Action.PAUSE_PUBLISHING,
            title=_("Pause sending"),
            button=_("Pause"),
            consequence=_(
                "No commands are sent, to this service or to all. Commands are still planned and visible; "
                "deadlines are on hold. Commands that a worker has already claimed, one page at most, are still "
                "sent."
            ),
            form=forms.PublishingForm,
            carry_out=_publishing(True),
            back=_back_to_publishing,
        ),
        ActionPage(
            action=Action.RESUME_PUBLISHING,
            title=_("Resume sending"),
            button=_("Resume sending"),
            consequence=_(
                "Sends commands again, those that are due immediately; the preview lists them. Withdraw anything "
                "that must not be sent before resuming. A service paused by its circuit breaker gets ten commands"
                " first, and the others once it has confirmed these."
            ),
            form=forms.PublishingForm,
            carry_out=_publishing(False),
            back=_back_to_publishing,
            destructive=True,
        ),
    )
}
