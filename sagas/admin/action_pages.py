"""The decisions as the pages offer them: what each is called, what comes of it in plain words, what the form asks.

Each is one call of `sagas.decisions`; nothing here decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from sagas import decisions
from sagas.admin import formatting, forms
from sagas.decisions import ActionRequest, ActionResult, CommandSelection
from sagas.models import Action, SagaLog

FormData = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionPage:
    """One decision: `carry_out` takes what the form said; `back` is where the person goes after it.

    `button` is what confirms it, `consequence` says what happens, `also` the things one should know before. `look` is
    what the preview runs, where that is not a dry run of `carry_out`.
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
    """The commands that the form names: by id, of a saga, or planned before a time."""
    if form.get("ids"):
        return CommandSelection(ids=form["ids"])
    if form.get("planned_before"):
        return CommandSelection(planned_before=form["planned_before"])
    return CommandSelection(saga=form["saga"])


def _on_commands(action: Action) -> Callable[[FormData, ActionRequest], ActionResult]:
    def carry_out(form: FormData, request: ActionRequest) -> ActionResult:
        ids = form.get("ids") or []
        if len(ids) == 1:
            return decisions.decide_command(action, ids[0], request=request)
        return decisions.decide_commands(action, selection(form), request=request)

    return carry_out


def _lane(form: FormData) -> str | None:
    return form.get("lane") or None


def _attach(form: FormData, request: ActionRequest) -> ActionResult:
    saga: UUID = form["saga"]
    if form.get("event"):
        return decisions.attach(event=form["event"], saga_id=saga, lane=_lane(form), request=request)
    return decisions.attach(key=form.get("key") or "", saga_id=saga, lane=_lane(form), request=request)


def _dismiss(form: FormData, request: ActionRequest) -> ActionResult:
    if form.get("event"):
        return decisions.dismiss(event=form["event"], request=request)
    return decisions.dismiss(key=form.get("key") or "", request=request)


def _publishing(paused: bool) -> Callable[[FormData, ActionRequest], ActionResult]:
    def carry_out(form: FormData, request: ActionRequest) -> ActionResult:
        only = form.get("only") or None
        return decisions.set_publishing(paused, form.get("service") or None, request=request, only=only)

    return carry_out


def _compare(form: FormData, request: ActionRequest) -> ActionResult:
    """What a replay would write; where the stored state is what the log says, only that."""
    found = decisions.replay(form["saga"], request=request)
    return decisions.replay(form["saga"], True, request=request) if found.effects["differences"] else found


_CONFIRMED_BY_HAND = _(
    "The commands count as confirmed, with the badge «by hand» permanently. They are not sent again. Commands that "
    "were waiting for them are sent: the preview names them. Do this only when you have made sure that the service "
    "has undone it, and write down as the reason how you know: who looked, where, when."
)

ACTION_PAGES: dict[str, ActionPage] = {
    action_page.action.value: action_page
    for action_page in (
        ActionPage(
            action=Action.FORCE_COMPENSATION,
            title=_("Force compensation"),
            button=_("Fail it and undo it"),
            consequence=_(
                "The saga (or the one lane) counts as failed from now on, whatever it has come to, also if it was "
                "completed. All that is owed then is undone: the commands below are sent to the services and repeated "
                "until they confirm. This cannot be taken back."
            ),
            also=(_("Images that were retrieved are deleted by Data Retrieval."),),
            carry_out=lambda form, request: decisions.force_compensation(form["saga"], _lane(form), request=request),
            back=_back_to_saga,
            destructive=True,
        ),
        ActionPage(
            action=Action.CANCEL,
            title=_("Cancel"),
            button=_("Cancel it and undo it"),
            consequence=_(
                "For a saga that still runs: it (or the one lane) counts as failed from now on, and what was done so "
                "far "
                "is undone by the commands below. This cannot be taken back."
            ),
            also=(_("Events that still come in are taken, and what they prove is undone as well."),),
            carry_out=lambda form, request: decisions.cancel(form["saga"], _lane(form), request=request),
            back=_back_to_saga,
            destructive=True,
        ),
        ActionPage(
            action=Action.TERMINATE,
            title=_("Terminate"),
            button=_("Close it without undoing"),
            consequence=_(
                "The saga is closed without undoing. Commands that were already sent go on by their policy; every "
                "other "
                "one, also such as would be owed later, is withdrawn for ever. What was not undone stays as it is in "
                "the "
                "services: images and their copies remain. This cannot be taken back."
            ),
            also=(_("To have things undone, cancel it or force its compensation instead."),),
            carry_out=lambda form, request: decisions.terminate(form["saga"], request=request),
            back=_back_to_saga,
            destructive=True,
        ),
        ActionPage(
            action=Action.RESUME,
            title=_("Resume"),
            button=_("Apply its events again"),
            consequence=_(
                "The saga was set aside because applying its events failed. They are applied again, all that wait. If "
                "they still fail, nothing changes and you are told so."
            ),
            carry_out=lambda form, request: decisions.resume(form["saga"], request=request),
            back=_back_to_saga,
        ),
        ActionPage(
            action=Action.REPLAY,
            title=_("Replay"),
            button=_("Write what the log says"),
            consequence=_(
                "The saga's log is folded again, from its first event to its last, and compared with what is stored. "
                "Only if you confirm is the stored state replaced by what the log says, and what is owed and was not "
                "planned is planned."
            ),
            carry_out=lambda form, request: decisions.replay(form["saga"], True, request=request),
            look=_compare,
            back=_back_to_saga,
        ),
        ActionPage(
            action=Action.RETRY,
            title=_("Retry"),
            button=_("Try again"),
            consequence=_(
                "The commands begin a new round with all their attempts, and are sent again under the same id, so that "
                "the service can tell a repetition from a second wish. They count as undone only when the service "
                "confirms; until then their state is «sent, waiting»."
            ),
            form=forms.CommandsForm,
            carry_out=_on_commands(Action.RETRY),
            back=_back_to_commands,
        ),
        ActionPage(
            action=Action.RELEASE,
            title=_("Release"),
            button=_("Send it all the same"),
            consequence=_(
                "The commands are held because another task has the same images. They are sent all the same, and not "
                "held again: what they undo is then missing in the other task too. This cannot be taken back."
            ),
            also=(_("If the other task still needs the images, withdraw the commands instead."),),
            form=forms.CommandsForm,
            carry_out=_on_commands(Action.RELEASE),
            back=_back_to_commands,
            destructive=True,
        ),
        ActionPage(
            action=Action.SKIP,
            title=_("Skip"),
            button=_("Give it up"),
            consequence=_(
                "The commands are given up: they are not sent again, in no later round. What they should have undone "
                "stays in the service. Commands that were waiting for them are sent: the preview names them. The saga "
                "will not count as compensated, but as failed."
            ),
            also=(_("If it was undone in another way, use «mark done by hand» instead."),),
            form=forms.CommandsForm,
            carry_out=_on_commands(Action.SKIP),
            back=_back_to_commands,
            destructive=True,
        ),
        ActionPage(
            action=Action.MARK_DONE,
            title=_("Mark done by hand"),
            button=_("I made sure: it is undone"),
            consequence=_CONFIRMED_BY_HAND,
            form=forms.EvidenceForm,
            carry_out=_on_commands(Action.MARK_DONE),
            back=_back_to_commands,
        ),
        ActionPage(
            action=Action.WITHDRAW,
            title=_("Withdraw"),
            button=_("Never send it"),
            consequence=_(
                "The commands are withdrawn: they are not sent, or not again. What they should have undone stays in "
                "the service and counts as not undone. Commands that were waiting for them are sent: the preview names "
                "them. If one was on its way and the service confirms it all the same, the confirmation counts."
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
                "You say to which saga these events belong. With a key: all its events, those parked now and those "
                "that "
                "come later. They are applied to the saga at once, and may complete it, fail it, or make undoing owed: "
                "see below. The events themselves never change."
            ),
            also=(
                _("With a lane, events that name no image of their own are taken as that image's."),
                _("It cannot be taken back: what an event proved stays proved."),
            ),
            form=forms.AttachForm,
            carry_out=_attach,
            back=_back_to_parked,
        ),
        ActionPage(
            action=Action.ADOPT,
            title=_("Start a saga from this key"),
            button=_("Start the saga"),
            consequence=_(
                "A saga begins that no starting event ever came for. All parked events of the key are applied to it."
            ),
            also=(_("Only do this if you are sure that the starting event will not come any more."),),
            form=forms.ParkedForm,
            carry_out=lambda form, request: decisions.adopt(
                form.get("key") or "", form.get("stream") or None, request=request
            ),
            back=_back_to_adopted,
        ),
        ActionPage(
            action=Action.DISMISS,
            title=_("Dismiss"),
            button=_("Hide it"),
            consequence=_(
                "The parked events are hidden from the attention queue. They stay in the log, and are applied all the "
                "same should their saga appear."
            ),
            form=forms.ParkedForm,
            carry_out=_dismiss,
            back=lambda _form: formatting.list_url("sagas_parked"),
        ),
        ActionPage(
            action=Action.REQUEUE,
            title=_("Requeue the message"),
            button=_("Read it again"),
            consequence=_(
                "The message is read again, from the bytes that were kept, by today's rules. If it can be read now it "
                "becomes an event and is applied to its saga at once: it may complete the saga, fail it, or have "
                "things undone. The preview names the commands. If it cannot be read, nothing changes and you are told "
                "why."
            ),
            form=forms.MessageForm,
            carry_out=lambda form, request: decisions.requeue_message(form["message"], request=request),
            back=_back_to_message,
        ),
        ActionPage(
            action=Action.DISMISS_MESSAGE,
            title=_("Dismiss the message"),
            button=_("Hide it"),
            consequence=_(
                "The message is hidden from the attention queue. Its bytes stay, and it can still be requeued later."
            ),
            form=forms.MessageForm,
            carry_out=lambda form, request: decisions.dismiss_message(form["message"], request=request),
            back=_back_to_message,
        ),
        ActionPage(
            action=Action.PAUSE_PUBLISHING,
            title=_("Pause publishing"),
            button=_("Pause"),
            consequence=_(
                "No further command leaves, to this service or to all. Commands are still planned and can be seen; "
                "deadlines rest. What a worker holds at this moment, a page at most, still leaves."
            ),
            form=forms.PublishingForm,
            carry_out=_publishing(True),
            back=_back_to_publishing,
        ),
        ActionPage(
            action=Action.RESUME_PUBLISHING,
            title=_("Resume publishing"),
            button=_("Let the commands go"),
            consequence=_(
                "Commands are sent again, those that are due at once: the preview names them. Withdraw what must not "
                "be sent before you resume. A service that its circuit breaker paused gets ten commands first, and the "
                "others when it has confirmed these."
            ),
            form=forms.PublishingForm,
            carry_out=_publishing(False),
            back=_back_to_publishing,
            destructive=True,
        ),
    )
}
