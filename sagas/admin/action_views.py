"""The page of a decision: what comes of it, exactly what would be sent, the reason, and then the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, cast

from django.contrib import messages
from django.contrib.admin import site
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import NoReverseMatch
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from sagas.admin import form_drafts, formatting, labels
from sagas.admin.action_pages import ACTION_PAGES, ActionPage
from sagas.admin.forms import DecisionForm
from sagas.admin.readonly import ReadOnlyAdmin
from sagas.admin.refusals import RefusalText, explain
from sagas.admin.rights import may_operate, may_view_payload
from sagas.decisions import ActionRequest, ActionResult, sentences
from sagas.error_text import shown_differences
from sagas.errors import Busy, DecisionError, Invalid, NotFound
from sagas.models import Action, Decision, SagaStatusChoice

# More than anybody reads before pressing a button; the number of all is above the list.
SHOWN = 200
LABELS = {**dict(SagaStatusChoice.choices), **labels.COMMAND_STATUSES, **labels.LANE_OUTCOMES}


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What the page shows of a dry run. `refused` is why nothing would happen, `may_repeat` that it may pass."""

    outcome: ActionResult | None = None
    refused: RefusalText | None = None
    may_repeat: bool = False
    lines: Sequence[str] = ()
    commands: Sequence[Mapping[str, Any]] = ()
    more: int = 0
    sent: int = 0
    not_eligible: Sequence[Mapping[str, Any]] = ()
    differences: Sequence[Mapping[str, Any]] = ()


def decide_view(admin: ReadOnlyAdmin, request: HttpRequest, action: str) -> HttpResponse:
    """GET shows the form, with the preview where the target is known. POST previews; POST with `confirm` decides."""
    action_page = ACTION_PAGES.get(action)
    if action_page is None:
        raise Http404(_("There is no such decision."))
    _need_operate(request)
    if request.method != "POST":
        kept = form_drafts.kept_fields(request, action)
        given = {name: value for name, value in request.GET.dict().items() if name != "kept"}
        notice = _("You had to log in again. Nothing was done. What you typed is still here.") if kept else ""
        return _ask(admin, request, action_page, {**given, **kept}, notice)
    confirming = "confirm" in request.POST
    form = action_page.form(request.POST, confirming=confirming)
    if not form.is_valid():
        return _show_again(admin, request, action_page, form, 400)
    if not confirming:
        return _show(admin, request, action_page, form, preview(action_page, form.cleaned_data, request))
    return _carry_out(admin, request, action_page, form)


def draw_again(request: HttpRequest, action: str, notice: str) -> HttpResponse:
    """The form as it came, with the reason why it was not taken: status 403. Nothing is carried out."""
    action_page = ACTION_PAGES[action]
    form = action_page.form(request.POST)
    admin = cast("ReadOnlyAdmin", site.get_model_admin(Decision))
    return _show_again(admin, request, action_page, form, 403, notice)


def ask(admin: ReadOnlyAdmin, request: HttpRequest, action: str, target: Mapping[str, Any]) -> HttpResponse:
    """The page of a decision on a target that another page chose."""
    _need_operate(request)
    return _ask(admin, request, ACTION_PAGES[action], target)


def _need_operate(request: HttpRequest) -> None:
    if not may_operate(request):
        words_ = _('You may view this but not decide. Deciding requires the permission "%(name)s".')
        raise PermissionDenied(words_ % {"name": _("May decide on sagas, commands, parked events and publishing")})


def _ask(
    admin: ReadOnlyAdmin, request: HttpRequest, action_page: ActionPage, target: Mapping[str, Any], notice: str = ""
) -> HttpResponse:
    initial = {"request_key": DecisionForm.fresh_key(), **target}
    said = _valid(action_page, initial)
    found = preview(action_page, said, request) if said else None
    return _show(admin, request, action_page, action_page.form(initial=initial), found, notice=notice)


def _show_again(
    admin: ReadOnlyAdmin,
    request: HttpRequest,
    action_page: ActionPage,
    form: DecisionForm,
    status: int,
    notice: str = "",
) -> HttpResponse:
    """A form that was not taken: with its errors, and with its target and preview where it names one."""
    said = _valid(action_page, request.POST.dict())
    found = preview(action_page, said, request) if said else None
    return _show(admin, request, action_page, form, found, status, notice)


def _valid(action_page: ActionPage, said: Mapping[str, Any]) -> Mapping[str, Any]:
    """The checked target of a form, whatever its reason; empty where it names none that can be looked at."""
    probe = action_page.form({**said, "reason": ""})
    return probe.cleaned_data if probe.is_valid() else {}


def _carry_out(admin: ReadOnlyAdmin, request: HttpRequest, action_page: ActionPage, form: DecisionForm) -> HttpResponse:
    said = form.cleaned_data
    try:
        outcome = action_page.carry_out(said, _request(request, said))
    except DecisionError as error:
        status = 404 if isinstance(error, NotFound) else 400 if isinstance(error, Invalid) else 409
        return _show(admin, request, action_page, form, _refused(action_page, said, error), status)
    form_drafts.forget(request, action_page.action.value)
    _tell(request, action_page, outcome)
    return HttpResponseRedirect(action_page.back(said))


def _request(request: HttpRequest, said: Mapping[str, Any], *, dry_run: bool = False) -> ActionRequest:
    return ActionRequest(
        actor=request.user.get_username(),
        door="admin",
        reason=said.get("reason", ""),
        dry_run=dry_run,
        idempotency_key=None if dry_run else said.get("request_key") or None,
    )


def _show(
    admin: ReadOnlyAdmin,
    request: HttpRequest,
    action_page: ActionPage,
    form: DecisionForm,
    found: Preview | None,
    status: int = 200,
    notice: str = "",
) -> HttpResponse:
    said = (form.cleaned_data if form.is_valid() else request.POST.dict()) if form.is_bound else form.initial
    context = {
        "title": action_page.title,
        "action_page": action_page,
        "form": form,
        "preview": found,
        "target": _target(said),
        "back": _safe_back(action_page, said),
        "confirmable": _is_confirmable(action_page, found),
        "notice": notice,
        "typed_by": form_drafts.note(request, action_page.action.value),
    }
    return admin.draw(request, "sagas/admin/decide.html", context, status)


def _is_confirmable(action_page: ActionPage, found: Preview | None) -> bool:
    """A replay that would write nothing is none; what was refused may be repeated only where that may pass."""
    if found is None or found.outcome is None:
        return found is not None and found.may_repeat
    return action_page.action is not Action.REPLAY or bool(found.differences)


def _target(said: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the decision is about, in words."""
    names = (
        ("saga", _("Saga")),
        ("lane", _("Image")),
        ("stream", _("Type")),
        ("key", _("Task id")),
        ("event", _("Event")),
        ("message", _("Message")),
        ("service", _("Service")),
    )
    lines = [(label, str(said[name])) for name, label in names if said.get(name)]
    ids = _ids(said)
    if len(ids) == 1:
        lines.append((_("Command"), ids[0]))
    elif ids:
        lines.append((_("Commands"), str(len(ids))))
    return lines


def _ids(said: Mapping[str, Any]) -> list[str]:
    ids = said.get("ids") or []
    return ids.replace(",", " ").split() if isinstance(ids, str) else [str(one) for one in ids]


def _safe_back(action_page: ActionPage, said: Mapping[str, Any]) -> str:
    try:
        return action_page.back({**said, "ids": _ids(said)})
    except (KeyError, IndexError, NoReverseMatch):  # a target that no page is about
        return formatting.list_url("sagas_sagalog")


# --- the preview ------------------------------------------------------------------------------------------------------


def preview(action_page: ActionPage, said: Mapping[str, Any], request: HttpRequest) -> Preview:
    """What would happen: the decision itself, rolled back."""
    try:
        outcome = (action_page.look or action_page.carry_out)(
            said, _request(request, {**said, "reason": ""}, dry_run=True)
        )
    except DecisionError as error:
        return _refused(action_page, said, error)
    commands = [_line(command.as_json()) for command in islice(outcome.commands, SHOWN)]
    sent = sum(command.status_after in ("planned", "waiting") and not command.held_by for command in outcome.commands)
    # What is released is counted in full, also where the list of it is shortened.
    sent = max(sent, sum((outcome.effects.get("released") or {}).values()))
    refused = outcome.effects.get("not_eligible") or []
    return Preview(
        outcome=outcome,
        lines=[*effects(outcome), *sentences(outcome)],
        commands=commands,
        more=max(len(outcome.commands), sent) - len(commands),
        sent=sent,
        not_eligible=refused[:SHOWN],
        differences=_differences(outcome, request)[:SHOWN],
    )


def _differences(outcome: ActionResult, request: HttpRequest) -> list[dict[str, Any]]:
    """What a replay found, error texts only for who may see them."""
    return shown_differences(outcome.effects.get("differences") or [], payload=may_view_payload(request))


def _refused(action_page: ActionPage, said: Mapping[str, Any], error: DecisionError) -> Preview:
    return Preview(refused=explain(action_page, said, error), may_repeat=isinstance(error, Busy | Invalid))


def _line(command: Mapping[str, Any]) -> Mapping[str, Any]:
    before, after = command["status_before"], command["status_after"]
    then = _("sent immediately") if command["released"] else LABELS.get(after, after)
    return {
        **command,
        "before": LABELS.get(before, before) if before else "",
        "after": _("held") if command["held_by"] else then,
    }


def effects(outcome: ActionResult) -> list[str]:
    """What a decision comes to besides its commands, in sentences."""
    told = outcome.effects
    lines = []
    before, after = told.get("status_before"), told.get("status_after")
    if after and before and before != after:
        said = {"before": LABELS.get(before, before), "after": LABELS.get(after, after)}
        lines.append(_('The saga changes from "%(before)s" to "%(after)s".') % said)
    elif after:
        lines.append(_('Saga status: "%(after)s".') % {"after": LABELS.get(after, after)})
    if told.get("events") is not None:
        lines.append(
            ngettext("%(n)d event is moved.", "%(n)d events are moved.", told["events"]) % {"n": told["events"]}
        )
    if told.get("still_parked"):
        words_ = ngettext(
            "%(n)d event stays unmatched because it names no image. Enter the image.",
            "%(n)d events stay unmatched because they name no image. Enter the image.",
            told["still_parked"],
        )
        lines.append(words_ % {"n": told["still_parked"]})
    lines += _of_event(told)
    if told.get("eligible") is not None:
        words_ = ngettext(
            "%(n)d command is eligible, in %(sagas)d saga(s).",
            "%(n)d commands are eligible, in %(sagas)d saga(s).",
            told["eligible"],
        )
        lines.append(words_ % {"n": told["eligible"], "sagas": told.get("sagas", 0)})
    if told.get("differences") == []:
        lines.append(_("The stored state matches the log: there is nothing to rebuild."))
    if "changed" in told and not told["changed"]:
        lines.append(_("No change: this is already the case."))
    return lines


def _of_event(told: Mapping[str, Any]) -> list[str]:
    """What a requeued message came to: its event, and where that is now."""
    lines = []
    if told.get("type"):
        lines.append(
            _("The message is event %(event)s of type %(type)s.") % {"event": told["event"], "type": told["type"]}
        )
    if told.get("already_stored"):
        lines.append(_("The event is already stored and is not applied again."))
    if told.get("parked"):
        reason = labels.PARKED_REASONS[told["parked"]]
        lines.append(
            _("No saga matches yet (%(reason)s): the event is kept with the unmatched events.") % {"reason": reason}
        )
    for saga, moved in (told.get("other_sagas") or {}).items():
        after = moved["status_after"]
        lines.append(_('Status of saga %(saga)s: "%(after)s".') % {"saga": saga, "after": LABELS.get(after, after)})
    return lines


# --- the result -------------------------------------------------------------------------------------------------------


def _tell(request: HttpRequest, action_page: ActionPage, outcome: ActionResult) -> None:
    if outcome.repeated:
        said = {"actor": outcome.actor, "time": outcome.accepted_at.strftime("%Y-%m-%d %H:%M:%S UTC")}
        messages.warning(
            request, _("Already requested by %(actor)s at %(time)s. Nothing was done a second time.") % said
        )
        return
    count = len(outcome.commands)
    parts = [_("Accepted: %(action)s.") % {"action": action_page.title}]
    if count:
        parts.append(ngettext("%(n)d command was changed.", "%(n)d commands were changed.", count) % {"n": count})
    if any(command.status_after in ("planned", "waiting") and not command.held_by for command in outcome.commands):
        parts.append(_("It counts as undone only once the service confirms."))
    messages.success(request, " ".join([*parts, *effects(outcome), *sentences(outcome)]))
    refused = outcome.effects.get("not_eligible") or []
    if refused:
        words_ = ngettext(
            "%(n)d command was not changed: %(why)s",
            "%(n)d commands were not changed, the first because: %(why)s",
            len(refused),
        )
        messages.warning(request, words_ % {"n": len(refused), "why": refused[0]["reason"]})
