"""The page of a decision: its consequence, the preview of what would be sent, the reason, then the result.

All that it shows comes from the decision's spec; nothing here decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, cast

from django.conf import settings
from django.contrib import messages
from django.contrib.admin import site
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import NoReverseMatch, reverse
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from bridge import instants
from compensation.models import Command, CommandStatus
from compensation.queries import planned_before
from sagas import actions, nouns
from sagas.actions import ActionRequest, ActionResult, ActionSpec, Target, four_eyes, sentences
from sagas.admin import form_drafts, formatting, job
from sagas.admin.forms import DecisionForm, form_of, nouns_of_target
from sagas.admin.readonly import ReadOnlyAdmin
from sagas.admin.refusals import RefusalText, explain
from sagas.admin.rights import may, may_view_payload
from sagas.error_text import shown_differences
from sagas.errors import Busy, DecisionError, Invalid, NotFound
from sagas.jobs.values import fields_of
from sagas.models import Decision, EntryPoint, LaneOutcome, ParkedReason, SagaLog, SagaStatusChoice
from sagas.nouns import Nouns
from sagas.queries.ids import saga_id

# More than anybody reads before confirming; the total is shown above the list.
SHOWN = 200
# How many of the sagas that were not changed the message after a decision names.
NAMED = 10
LABELS = {**dict(SagaStatusChoice.choices), **dict(CommandStatus.choices), **dict(LaneOutcome.choices)}


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
    spec = actions.ACTIONS.get(action)
    if spec is None:
        raise Http404(_("There is no such decision."))
    _need_permission(request, spec)
    if request.method != "POST":
        kept = form_drafts.kept_fields(request, action)
        given = {name: value for name, value in request.GET.dict().items() if name != "kept"}
        notice = _("You had to log in again. Nothing was done. What you typed is still here.") if kept else ""
        return _ask(admin, request, spec, {**given, **kept}, notice)
    confirming = "confirm" in request.POST
    form = form_of(spec)(request.POST, confirming=confirming)
    if not form.is_valid():
        return _show_again(admin, request, form, 400)
    rows = _more_than_a_page(form)
    if rows is not None:
        return job.make(request, spec, rows, {"filter": {"planned_before": form.data["planned_before"]}})
    if not confirming:
        return _show(admin, request, form, preview(form, request))
    return _carry_out(admin, request, form)


def draw_again(request: HttpRequest, action: str, notice: str) -> HttpResponse:
    """Show the submitted form again with the reason why it was not accepted: status 403. Nothing is carried out."""
    form = form_of(actions.get(action))(request.POST)
    admin = cast("ReadOnlyAdmin", site.get_model_admin(Decision))
    return _show_again(admin, request, form, 403, notice)


def ask(admin: ReadOnlyAdmin, request: HttpRequest, action: str, target: Mapping[str, Any]) -> HttpResponse:
    """Show the page of a decision on a target that another page chose."""
    spec = actions.get(action)
    _need_permission(request, spec)
    return _ask(admin, request, spec, target)


def _need_permission(request: HttpRequest, spec: ActionSpec) -> None:
    if not may(request, spec.permission):
        text = _('You may view this but not decide. Deciding requires the permission "%(name)s".')
        name = _("May decide on sagas, commands, unmatched events, and sending commands")
        raise PermissionDenied(text % {"name": name})


def _ask(
    admin: ReadOnlyAdmin, request: HttpRequest, spec: ActionSpec, target: Mapping[str, Any], notice: str = ""
) -> HttpResponse:
    initial = {"request_key": DecisionForm.fresh_key(), **target}
    probe = _probe(spec, initial)
    found = preview(probe, request) if probe else None
    return _show(admin, request, form_of(spec)(initial=initial), found, notice=notice)


def _show_again(
    admin: ReadOnlyAdmin, request: HttpRequest, form: DecisionForm, status: int, notice: str = ""
) -> HttpResponse:
    """Show a form that was not accepted, with its errors, and with target and preview if it names one."""
    probe = _probe(form.spec, request.POST.dict())
    found = preview(probe, request) if probe else None
    return _show(admin, request, form, found, status, notice)


def _probe(spec: ActionSpec, fields: Mapping[str, Any]) -> DecisionForm | None:
    """Return the form with the target alone, ignoring the reason; None if it names no valid target."""
    probe = form_of(spec)({**fields, "reason": ""})
    return probe if probe.is_valid() else None


def _more_than_a_page(form: DecisionForm) -> QuerySet[Command] | None:
    """Return the commands that a time of planning selects, if they are so many that they become a job."""
    before = form.values().get("planned_before")
    rows = planned_before(before) if before is not None else None
    is_more = rows is not None and rows.order_by()[: settings.SAGA_JOB_FROM + 1].count() > settings.SAGA_JOB_FROM
    return rows if is_more else None


def _of_two_people(form: DecisionForm) -> list[str]:
    """Return the ids of a decision on sagas or commands that a second person must approve; none if nobody must."""
    values, spec = form.values(), form.spec
    if spec.target is Target.COMMANDS and values.get("command") is None:
        ids = [str(one) for one in actions.ids_of(spec, values)]
    else:
        ids = [str(one) for one in values.get("ids") or ()]
    if four_eyes.is_required(len(ids), second_person=spec.second_person):
        return ids or [str(values["saga"])]
    return []


def _carry_out(admin: ReadOnlyAdmin, request: HttpRequest, form: DecisionForm) -> HttpResponse:
    spec, fields = form.spec, form.cleaned_data
    try:
        of_two = _of_two_people(form)
        if of_two:
            own = {name: form.values().get(name) for name in (one.name for one in fields_of(spec))}
            return job.make_started(request, spec, of_two, own, fields["reason"], fields["request_key"] or None)
        outcome = spec.decide(form.values(), _request(request, fields))
    except DecisionError as error:
        status = 404 if isinstance(error, NotFound) else 400 if isinstance(error, Invalid) else 409
        return _show(admin, request, form, _refused(spec, fields, error), status)
    form_drafts.forget(request, spec.name)
    _report(request, spec, fields, outcome)
    return HttpResponseRedirect(_back(spec, fields))


def _request(request: HttpRequest, fields: Mapping[str, Any], *, dry_run: bool = False) -> ActionRequest:
    return ActionRequest(
        actor=request.user.get_username(),
        door=EntryPoint.ADMIN.value,
        reason=fields.get("reason", ""),
        dry_run=dry_run,
        idempotency_key=None if dry_run else fields.get("request_key") or None,
    )


def _show(
    admin: ReadOnlyAdmin,
    request: HttpRequest,
    form: DecisionForm,
    found: Preview | None,
    status: int = 200,
    notice: str = "",
) -> HttpResponse:
    fields = (form.cleaned_data if form.is_valid() else request.POST.dict()) if form.is_bound else form.initial
    spec, words = form.spec, nouns_of_target(fields)
    context = {
        "title": words.fill(spec.title),
        "consequence": words.fill(spec.consequence),
        "also": [words.fill(line) for line in spec.also],
        "button": words.fill(spec.button),
        "spec": spec,
        "form": form,
        "preview": found,
        "target": [*_target(spec, fields, words), *_of_saga(spec, fields, words)],
        "nouns": words,
        "back": _safe_back(spec, fields),
        "confirmable": _is_confirmable(found),
        "notice": notice,
        "typed_by": form_drafts.note(request, spec.name),
    }
    return admin.draw(request, "sagas/admin/decide.html", context, status)


def _is_confirmable(found: Preview | None) -> bool:
    """Return whether the form may be confirmed.

    Not a replay without differences; after a refusal only if a repeated request may succeed.
    """
    if found is None or found.outcome is None:
        return found is not None and found.may_repeat
    return found.outcome.effects.get("differences") != []


def _target(spec: ActionSpec, fields: Mapping[str, Any], words: Nouns) -> list[tuple[str, str]]:
    """Return the decision's target as pairs of label and value."""
    names = (
        ("saga", _("Saga")),
        ("lane", capfirst(words.entity_noun)),
        ("stream", _("Type")),
        ("key", capfirst(words.key_id)),
        ("event", _("Event")),
        ("message", _("Message")),
        ("service", _("Service")),
        ("incident", _("Incident")),
    )
    lines = [(label, str(fields[name])) for name, label in names if fields.get(name)]
    ids = _ids(fields)
    if ids and spec.target is Target.SAGA:
        lines.append((_("Sagas"), str(len(ids))))
    elif len(ids) == 1:
        lines.append((_("Command"), ids[0]))
    elif ids:
        lines.append((_("Commands"), str(len(ids))))
    return lines


def _of_saga(spec: ActionSpec, fields: Mapping[str, Any], words: Nouns) -> list[tuple[str, str]]:
    """Return what identifies the saga for people, and how many of its lanes are known, as pairs of label and value."""
    identity = saga_id(str(fields.get("saga") or "")) if spec.target is Target.SAGA else None
    saga = SagaLog.objects.filter(id=identity).first() if identity else None
    if saga is None:
        return []
    lines = [(capfirst(words.key_id), saga.key)]
    if not fields.get("lane"):
        label = words.fill(_("Known %(entity_nouns)s"))
        lines.append((label, str(actions.known_lanes(saga))))
    return lines


def _ids(fields: Mapping[str, Any]) -> list[str]:
    ids = fields.get("ids") or []
    return ids.replace(",", " ").split() if isinstance(ids, str) else [str(one) for one in ids]


def _safe_back(spec: ActionSpec, fields: Mapping[str, Any]) -> str:
    try:
        return _back(spec, {**fields, "ids": _ids(fields)})
    except (KeyError, IndexError, NoReverseMatch):  # a target without a page
        return formatting.list_url("sagas_sagalog")


def _back(spec: ActionSpec, fields: Mapping[str, Any]) -> str:
    """Return the page to show afterwards: the target's own, if it has one."""
    match spec.target:
        case Target.SAGA if fields.get("ids"):
            return formatting.list_url("sagas_sagalog")
        case Target.SAGA if fields.get("lane"):
            return formatting.lane_url(fields["saga"], fields["lane"])
        case Target.COMMANDS if len(fields.get("ids") or []) == 1:
            return formatting.command_url(fields["ids"][0])
        case Target.KEY:
            saga = SagaLog.objects.filter(key=fields["key"]).values_list("id", flat=True).first()
            return formatting.saga_url(saga) if saga else formatting.list_url("sagas_parked")
        case Target.MESSAGE:
            return reverse("admin:bridge_quarantined_change", args=[fields["message"]])
        case Target.PUBLISHING:
            return formatting.list_url("compensation_switch")
        case Target.INCIDENT:
            return reverse("admin:sagas_incident_change", args=[fields["incident"]])
    if spec.target is Target.SAGA or fields.get("saga"):
        return formatting.saga_url(fields["saga"])
    return formatting.list_url("compensation_command" if spec.target is Target.COMMANDS else "sagas_parked")


# --- the preview ------------------------------------------------------------------------------------------------------


def preview(form: DecisionForm, request: HttpRequest) -> Preview:
    """Return the preview of a valid form: the decision itself, carried out and rolled back."""
    spec, fields = form.spec, form.cleaned_data
    try:
        outcome = spec.look(form.values(), _request(request, {**fields, "reason": ""}, dry_run=True))
    except DecisionError as error:
        return _refused(spec, fields, error)
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


def _refused(spec: ActionSpec, fields: Mapping[str, Any], error: DecisionError) -> Preview:
    return Preview(refused=explain(spec, fields, error), may_repeat=isinstance(error, Busy | Invalid))


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
    if result.get("eligible") is not None and actions.get(outcome.action).target is Target.SAGA:
        text = ngettext(
            "%(n)d of %(sagas)d saga is eligible.", "%(n)d of %(sagas)d sagas are eligible.", result["sagas"]
        )
        lines.append(text % {"n": result["eligible"], "sagas": result["sagas"]})
        lines += [
            _('Sagas with the status "%(after)s" afterwards: %(n)d.')
            % {"after": LABELS.get(status, status), "n": count}
            for status, count in result["status_counts"].items()
        ]
    elif result.get("eligible") is not None:
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
        reason = ParkedReason(result["parked"]).label
        lines.append(
            _("No saga matches yet (%(reason)s): the event is kept with the unmatched events.") % {"reason": reason}
        )
    for saga, moved in (result.get("other_sagas") or {}).items():
        after = moved["status_after"]
        lines.append(_('Status of saga %(saga)s: "%(after)s".') % {"saga": saga, "after": LABELS.get(after, after)})
    return lines


# --- the result -------------------------------------------------------------------------------------------------------


def _report(request: HttpRequest, spec: ActionSpec, fields: Mapping[str, Any], outcome: ActionResult) -> None:
    if outcome.repeated:
        values = {"actor": outcome.actor, "time": instants.for_people(outcome.accepted_at)}
        messages.warning(
            request, _("Already requested by %(actor)s at %(time)s. Nothing was done a second time.") % values
        )
        return
    count = len(outcome.commands)
    parts = [_("Accepted: %(action)s.") % {"action": nouns_of_target(fields).fill(spec.title)}]
    if count:
        parts.append(ngettext("%(n)d command was changed.", "%(n)d commands were changed.", count) % {"n": count})
    if any(command.status_after in ("planned", "waiting") and not command.held_by for command in outcome.commands):
        parts.append(_("It counts as undone only once the service confirms."))
    messages.success(request, " ".join([*parts, *effects(outcome), *sentences(outcome)]))
    refused = outcome.effects.get("not_eligible") or []
    if refused and spec.target is Target.SAGA:
        text = ngettext(
            "%(n)d saga was not changed: %(which)s", "%(n)d sagas were not changed: %(which)s", len(refused)
        )
        messages.warning(request, text % {"n": len(refused), "which": _named(refused)})
    elif refused:
        text = ngettext(
            "%(n)d command was not changed: %(why)s",
            "%(n)d commands were not changed, the first because: %(why)s",
            len(refused),
        )
        messages.warning(request, text % {"n": len(refused), "why": refused[0]["reason"]})


def _named(refused: Sequence[Mapping[str, Any]]) -> str:
    """Return the first sagas that were not changed, each with the reason."""
    named = [f"{line['task_id'] or line['id']} ({line['reason']})" for line in refused[:NAMED]]
    return "; ".join([*named, *(["…"] if len(refused) > NAMED else [])])
