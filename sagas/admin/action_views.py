"""The page of a decision: its consequence, the preview of what would be sent, the reason, then the result."""

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
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from sagas import nouns
from sagas.actions import ActionRequest, ActionResult, sentences
from sagas.admin import form_drafts, formatting, labels
from sagas.admin.action_pages import ACTION_PAGES, ActionPage
from sagas.admin.forms import DecisionForm
from sagas.admin.readonly import ReadOnlyAdmin
from sagas.admin.refusals import RefusalText, explain
from sagas.admin.rights import may_operate, may_view_payload
from sagas.error_text import shown_differences
from sagas.errors import Busy, DecisionError, Invalid, NotFound
from sagas.models import Action, Decision, SagaLog, SagaStatusChoice
from sagas.nouns import Nouns
from sagas.queries.ids import saga_id

# More than anybody reads before confirming; the total is shown above the list.
SHOWN = 200
LABELS = {**dict(SagaStatusChoice.choices), **labels.COMMAND_STATUSES, **labels.LANE_OUTCOMES}


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """The preview on the page. `refused`: why nothing would happen. `may_repeat`: a repeated request may succeed."""

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
    """Show the form (GET), the preview (POST), or carry out the decision (POST with `confirm`).

    GET shows the preview too if the target is known. Raises Http404, PermissionDenied.
    """
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
    """Show the submitted form again with the reason why it was not accepted: status 403. Nothing is carried out."""
    action_page = ACTION_PAGES[action]
    form = action_page.form(request.POST)
    admin = cast("ReadOnlyAdmin", site.get_model_admin(Decision))
    return _show_again(admin, request, action_page, form, 403, notice)


def ask(admin: ReadOnlyAdmin, request: HttpRequest, action: str, target: Mapping[str, Any]) -> HttpResponse:
    """Show the page of a decision on a target that another page chose."""
    _need_operate(request)
    return _ask(admin, request, ACTION_PAGES[action], target)


def _need_operate(request: HttpRequest) -> None:
    if not may_operate(request):
        text = _('You may view this but not decide. Deciding requires the permission "%(name)s".')
        raise PermissionDenied(text % {"name": _("May decide on sagas, commands, parked events and publishing")})


def _ask(
    admin: ReadOnlyAdmin, request: HttpRequest, action_page: ActionPage, target: Mapping[str, Any], notice: str = ""
) -> HttpResponse:
    initial = {"request_key": DecisionForm.fresh_key(), **target}
    fields = _valid(action_page, initial)
    found = preview(action_page, fields, request) if fields else None
    return _show(admin, request, action_page, action_page.form(initial=initial), found, notice=notice)


def _show_again(
    admin: ReadOnlyAdmin,
    request: HttpRequest,
    action_page: ActionPage,
    form: DecisionForm,
    status: int,
    notice: str = "",
) -> HttpResponse:
    """Show a form that was not accepted, with its errors, and with target and preview if it names one."""
    fields = _valid(action_page, request.POST.dict())
    found = preview(action_page, fields, request) if fields else None
    return _show(admin, request, action_page, form, found, status, notice)


def _valid(action_page: ActionPage, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the checked target of a form, ignoring its reason; empty if it names no valid target."""
    probe = action_page.form({**fields, "reason": ""})
    return probe.cleaned_data if probe.is_valid() else {}


def _carry_out(admin: ReadOnlyAdmin, request: HttpRequest, action_page: ActionPage, form: DecisionForm) -> HttpResponse:
    fields = form.cleaned_data
    try:
        outcome = action_page.carry_out(fields, _request(request, fields))
    except DecisionError as error:
        status = 404 if isinstance(error, NotFound) else 400 if isinstance(error, Invalid) else 409
        return _show(admin, request, action_page, form, _refused(action_page, fields, error), status)
    form_drafts.forget(request, action_page.action.value)
    _report(request, action_page, outcome)
    return HttpResponseRedirect(action_page.back(fields))


def _request(request: HttpRequest, fields: Mapping[str, Any], *, dry_run: bool = False) -> ActionRequest:
    return ActionRequest(
        actor=request.user.get_username(),
        door="admin",
        reason=fields.get("reason", ""),
        dry_run=dry_run,
        idempotency_key=None if dry_run else fields.get("request_key") or None,
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
    fields = (form.cleaned_data if form.is_valid() else request.POST.dict()) if form.is_bound else form.initial
    context = {
        "title": action_page.title,
        "action_page": action_page,
        "form": form,
        "preview": found,
        "target": _target(fields),
        "nouns": nouns_of_target(fields),
        "back": _safe_back(action_page, fields),
        "confirmable": _is_confirmable(action_page, found),
        "notice": notice,
        "typed_by": form_drafts.note(request, action_page.action.value),
    }
    return admin.draw(request, "sagas/admin/decide.html", context, status)


def _is_confirmable(action_page: ActionPage, found: Preview | None) -> bool:
    """Return whether the form may be confirmed.

    Not a replay without differences; after a refusal only if a repeated request may succeed.
    """
    if found is None or found.outcome is None:
        return found is not None and found.may_repeat
    return action_page.action is not Action.REPLAY or bool(found.differences)


def _target(fields: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the decision's target as pairs of label and value."""
    words = nouns_of_target(fields)
    names = (
        ("saga", _("Saga")),
        ("lane", capfirst(words.entity_noun)),
        ("stream", _("Type")),
        ("key", capfirst(words.key_id)),
        ("event", _("Event")),
        ("message", _("Message")),
        ("service", _("Service")),
    )
    lines = [(label, str(fields[name])) for name, label in names if fields.get(name)]
    ids = _ids(fields)
    if len(ids) == 1:
        lines.append((_("Command"), ids[0]))
    elif ids:
        lines.append((_("Commands"), str(len(ids))))
    return lines


def nouns_of_target(fields: Mapping[str, Any]) -> Nouns:
    """Return the nouns of the saga type that the target belongs to."""
    stream = fields.get("stream")
    saga = saga_id(str(fields.get("saga") or ""))
    if not stream and saga:
        stream = SagaLog.objects.filter(id=saga).values_list("saga_type", flat=True).first()
    return nouns.of(stream) if stream else nouns.shared()


def _ids(fields: Mapping[str, Any]) -> list[str]:
    ids = fields.get("ids") or []
    return ids.replace(",", " ").split() if isinstance(ids, str) else [str(one) for one in ids]


def _safe_back(action_page: ActionPage, fields: Mapping[str, Any]) -> str:
    try:
        return action_page.back({**fields, "ids": _ids(fields)})
    except (KeyError, IndexError, NoReverseMatch):  # a target without a page
        return formatting.list_url("sagas_sagalog")


# --- the preview ------------------------------------------------------------------------------------------------------


def preview(action_page: ActionPage, fields: Mapping[str, Any], request: HttpRequest) -> Preview:
    """Return the preview: the decision itself, carried out and rolled back."""
    try:
        outcome = (action_page.look or action_page.carry_out)(
            fields, _request(request, {**fields, "reason": ""}, dry_run=True)
        )
    except DecisionError as error:
        return _refused(action_page, fields, error)
    commands = [_line(command.as_json()) for command in islice(outcome.commands, SHOWN)]
    sent = sum(command.status_after in ("planned", "waiting") and not command.held_by for command in outcome.commands)
    # Released commands are counted in full even if their list is shortened.
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
    """Return the differences that a replay found; error texts only with the permission."""
    return shown_differences(outcome.effects.get("differences") or [], payload=may_view_payload(request))


def _refused(action_page: ActionPage, fields: Mapping[str, Any], error: DecisionError) -> Preview:
    return Preview(refused=explain(action_page, fields, error), may_repeat=isinstance(error, Busy | Invalid))


def _line(command: Mapping[str, Any]) -> Mapping[str, Any]:
    before, after = command["status_before"], command["status_after"]
    then = _("sent immediately") if command["released"] else LABELS.get(after, after)
    return {
        **command,
        "before": LABELS.get(before, before) if before else "",
        "after": _("held") if command["held_by"] else then,
    }


def effects(outcome: ActionResult) -> list[str]:
    """Return the effects of a decision besides its commands, as sentences."""
    result = outcome.effects
    lines = []
    before, after = result.get("status_before"), result.get("status_after")
    if after and before and before != after:
        values = {"before": LABELS.get(before, before), "after": LABELS.get(after, after)}
        lines.append(_('The saga changes from "%(before)s" to "%(after)s".') % values)
    elif after:
        lines.append(_('Saga status: "%(after)s".') % {"after": LABELS.get(after, after)})
    if result.get("events") is not None:
        lines.append(
            ngettext("%(n)d event is moved.", "%(n)d events are moved.", result["events"]) % {"n": result["events"]}
        )
    if result.get("still_parked"):
        text = ngettext(
            "%(n)d event stays unmatched because it does not name %(the_entity)s. Enter its id.",
            "%(n)d events stay unmatched because they do not name %(the_entity)s. Enter its id.",
            result["still_parked"],
        )
        lines.append(nouns.shared().fill(text, n=result["still_parked"]))
    lines += _of_event(result)
    if result.get("eligible") is not None:
        text = ngettext(
            "%(n)d command is eligible, in %(sagas)d saga(s).",
            "%(n)d commands are eligible, in %(sagas)d saga(s).",
            result["eligible"],
        )
        lines.append(text % {"n": result["eligible"], "sagas": result.get("sagas", 0)})
    if result.get("differences") == []:
        lines.append(_("The stored state matches the log: there is nothing to rebuild."))
    if "changed" in result and not result["changed"]:
        lines.append(_("No change: this is already the case."))
    return lines


def _of_event(result: Mapping[str, Any]) -> list[str]:
    """Return the effects of a requeued message: its event, and where that is now."""
    lines = []
    if result.get("type"):
        lines.append(
            _("The message is event %(event)s of type %(type)s.") % {"event": result["event"], "type": result["type"]}
        )
    if result.get("already_stored"):
        lines.append(_("The event is already stored and is not applied again."))
    if result.get("parked"):
        reason = labels.PARKED_REASONS[result["parked"]]
        lines.append(
            _("No saga matches yet (%(reason)s): the event is kept with the unmatched events.") % {"reason": reason}
        )
    for saga, moved in (result.get("other_sagas") or {}).items():
        after = moved["status_after"]
        lines.append(_('Status of saga %(saga)s: "%(after)s".') % {"saga": saga, "after": LABELS.get(after, after)})
    return lines


# --- the result -------------------------------------------------------------------------------------------------------


def _report(request: HttpRequest, action_page: ActionPage, outcome: ActionResult) -> None:
    if outcome.repeated:
        values = {"actor": outcome.actor, "time": outcome.accepted_at.strftime("%Y-%m-%d %H:%M:%S UTC")}
        messages.warning(
            request, _("Already requested by %(actor)s at %(time)s. Nothing was done a second time.") % values
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
        text = ngettext(
            "%(n)d command was not changed: %(why)s",
            "%(n)d commands were not changed, the first because: %(why)s",
            len(refused),
        )
        messages.warning(request, text % {"n": len(refused), "why": refused[0]["reason"]})
