"""Jobs: their list, the page of one with its progress and results, and the pages of the decisions on it.

All of it works without a script: a page of a job at work asks the browser to load it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.options import ModelAdmin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from bridge import instants
from compensation.models import CommandStatus
from sagas import actions, jobs, nouns
from sagas.actions import ActionRequest, ActionSpec, JobAction
from sagas.actions.on_jobs import LABELS
from sagas.admin import formatting
from sagas.admin.filters import StatusFilter
from sagas.admin.job_forms import JobForm, StartForm, form_of
from sagas.admin.pagination import from_page, number_of
from sagas.admin.readonly import ReadOnlyAdmin
from sagas.admin.rights import may
from sagas.errors import DecisionError, Invalid, NotFound
from sagas.jobs import kinds, lease, reading, why
from sagas.models import EntryPoint, Job, JobItem, JobItemStatus, JobStatus, PauseCause
from sagas.queries.pages import page_of
from sagas.rights import RUN_JOBS

ITEMS = 50
# Seconds after which the browser loads the page of a job at work again.
REFRESH = 5
TONES = {
    JobStatus.CHECKING: "info",
    JobStatus.PREPARED: "warn",
    JobStatus.APPROVAL: "warn",
    JobStatus.RUNNING: "info",
    JobStatus.PAUSED: "warn",
    JobStatus.STOPPED: "plain",
    JobStatus.DONE: "good",
}
ITEM_TONES = {"done": "good", "already": "plain", "refused": "warn", "failed": "bad", "not_eligible": "plain"}


class JobStatusFilter(StatusFilter):
    def lookups(self, request: HttpRequest, model_admin: ModelAdmin[Any]) -> Iterable[tuple[str, Any]]:
        return JobStatus.choices


@admin.register(Job)
class JobAdmin(ReadOnlyAdmin):
    list_display = ("what", "state", "progress", "starter", "made")
    list_filter = (JobStatusFilter,)
    ordering = ("-created_at", "-id")
    page_template = "sagas/admin/job.html"

    def own_urls(self) -> list[URLPattern]:
        return [
            self.own_path("new/<slug:action>/", self.new_view, "new"),
            self.own_path("<uuid:job_id>/decide/<slug:action>/", self.decide_view, "decide"),
        ]

    # --- the list -----------------------------------------------------------------------------------------------------

    @admin.display(description=_("decision"))
    def what(self, job: Job) -> str:
        return actions.label_of(job.action)

    @admin.display(description=_("status"))
    def state(self, job: Job) -> SafeString:
        return badge(job)

    @admin.display(description=_("progress"))
    def progress(self, job: Job) -> str:
        return progress_text(job)

    @admin.display(description=_("by"))
    def starter(self, job: Job) -> str:
        return job.actor or job.created_by

    @admin.display(description=_("created at"))
    def made(self, job: Job) -> Any:
        return formatting.at(job.created_at)

    # --- the page -----------------------------------------------------------------------------------------------------

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the page; it is loaded again while the job is at work."""
        answer = super().change_view(request, object_id, form_url, extra_context)
        row = getattr(answer, "context_data", {}).get("row")
        if row is not None and row.status in lease.AT_WORK:
            answer.headers["Refresh"] = str(REFRESH)
        return answer

    def page(self, request: HttpRequest, row: Job) -> dict[str, Any]:
        may_decide = may_run(request, row)
        starts = may_decide and row.status == JobStatus.PREPARED
        return {
            "title": title(row),
            "state": badge(row),
            "lines": sentences(row),
            "progress": bar(row),
            "counts": counts(row),
            "reasons": reading.reasons(row),
            "commands": commands(row),
            "items": item_slice(request, row),
            "chosen_status": _chosen_status(request),
            "history": [(LABELS.get(one.action, one.action), one) for one in reading.history(row.id)],
            "selection": selection_text(row),
            "values": sorted((name, value) for name, value in row.values.items() if value is not True),
            "buttons": [one for one in buttons(row) if not (starts and one["action"] == JobAction.START)]
            if may_decide
            else [],
            "form": form_of(actions.get(row.action), JobAction.START)() if starts else None,
            "spec": actions.ACTIONS.get(row.action),
            "consequence": nouns.shared().fill(actions.get(row.action).consequence) if starts else "",
            "refreshes": REFRESH if row.status in lease.AT_WORK else 0,
            "needs_approval": row.action in actions.ACTIONS and jobs.needs_approval(row),
        }

    # --- decisions ----------------------------------------------------------------------------------------------------

    def decide_view(self, request: HttpRequest, job_id: UUID, action: str) -> HttpResponse:
        """Show the form of a decision on a job (GET), or carry it out (POST)."""
        self.need_view(request)
        row = Job.objects.filter(id=job_id).first()
        if row is None or action not in _DECISIONS:
            raise Http404(gettext("There is no such job."))
        need_run(request, row)
        form_class = form_of(actions.get(row.action), _DECISIONS[action])
        if request.method != "POST":
            initial = {"rate": row.rate or None, "canary": row.canary or None} if action == "resume" else {}
            return self._show(request, row, action, form_class(initial={**form_class().initial, **initial}))
        form = form_class(request.POST)
        if not form.is_valid():
            return self._show(request, row, action, form, 400)
        try:
            outcome = _decide(row, action, form, request)
        except DecisionError as error:
            form.add_error(None, str(error))
            return self._show(request, row, action, form, _status_of(error))
        if outcome.repeated:
            messages.warning(request, gettext("Already requested. Nothing was done a second time."))
        else:
            messages.success(request, gettext("Accepted: %(action)s.") % {"action": LABELS[_DECISIONS[action]]})
        return HttpResponseRedirect(url(row))

    def _show(self, request: HttpRequest, row: Job, action: str, form: JobForm, status: int = 200) -> HttpResponse:
        context = {
            "title": LABELS[_DECISIONS[action]],
            "crumbs": [(url(row), title(row))],
            "row": row,
            "form": form,
            "action": action,
            "spec": actions.get(row.action),
            "consequence": _CONSEQUENCES[_DECISIONS[action]],
            "lines": sentences(row),
            "destructive": action == "stop" or (action in ("start", "approve") and actions.get(row.action).destructive),
            "back": url(row),
        }
        return self.draw(request, "sagas/admin/job_decide.html", context, status)

    def new_view(self, request: HttpRequest, action: str) -> HttpResponse:
        """Make a job of all rows that match the filters that are posted, such as all unmatched events."""
        spec = actions.ACTIONS.get(action)
        if spec is None or request.method != "POST":
            raise Http404(gettext("There is no such decision."))
        given = {name: value for name, value in request.POST.dict().items() if name != "csrfmiddlewaretoken"}
        try:
            return make(request, spec, kinds.of(spec).matching(given), {"filter": given})
        except DecisionError as error:
            messages.error(request, str(error))
            return HttpResponseRedirect(formatting.list_url("sagas_job"))


def _decide(row: Job, action: str, form: JobForm, request: HttpRequest) -> actions.ActionResult:
    fields = form.cleaned_data
    by = ActionRequest(
        actor=request.user.get_username(),
        door=EntryPoint.ADMIN.value,
        reason=fields["reason"],
        idempotency_key=fields["request_key"] or None,
    )
    match _DECISIONS[action]:
        case JobAction.START:
            speed = jobs.Speed(rate=fields["rate"] or 0.0, canary=fields["canary"] or 0)
            return jobs.start(row.id, by, speed, cast("StartForm", form).values())
        case JobAction.APPROVE:
            return jobs.approve(row.id, by)
        case JobAction.PAUSE:
            return jobs.pause(row.id, by)
        case JobAction.RESUME:
            canary = fields["canary"] or 0
            return jobs.resume(row.id, by, rate=fields["rate"] or 0.0, canary=None if canary == row.canary else canary)
    return jobs.stop(row.id, by)


def _status_of(error: DecisionError) -> int:
    return 404 if isinstance(error, NotFound) else 400 if isinstance(error, Invalid) else 409


# By the last part of their addresses.
_DECISIONS = {one.value.removeprefix("job_"): one for one in JobAction}
_CONSEQUENCES = {
    JobAction.START: _("Carries out the decision on all eligible items. You can pause or stop it at any time."),
    JobAction.APPROVE: _("Lets the job run that another person has started. Check its items and its reason first."),
    JobAction.PAUSE: _("Pauses the job after the item that is being carried out now."),
    JobAction.RESUME: _(
        "Continues with the items that are left. After a canary that failed, or with another number, a new one begins."
    ),
    JobAction.STOP: _("Ends the job for good. What was carried out stays; what is left is not carried out."),
}

# --- making one from a list -------------------------------------------------------------------------------------------


def make(
    request: HttpRequest, spec: ActionSpec, rows: QuerySet[Any], selection: Mapping[str, Any]
) -> HttpResponseRedirect:
    """Make a job of rows and show its page, where it is started. Raises PermissionDenied, Invalid."""
    need_rights(request, spec)
    by = ActionRequest(actor=request.user.get_username(), door=EntryPoint.ADMIN.value)
    job = jobs.of_rows(spec, rows, by, selection=selection)
    text = gettext("The list of items is fixed. They are being checked; nothing has been changed yet.")
    messages.info(request, text)
    return HttpResponseRedirect(url(job))


def make_started(
    request: HttpRequest, spec: ActionSpec, ids: Sequence[str], values: Mapping[str, Any], reason: str, key: str | None
) -> HttpResponseRedirect:
    """Make a job of ids, start it, and show its page. Raises PermissionDenied, DecisionError."""
    need_rights(request, spec)
    actor = request.user.get_username()
    by = ActionRequest(actor=actor, door=EntryPoint.ADMIN.value, reason=reason, idempotency_key=key)
    job = jobs.of_ids(spec, ids, by)
    jobs.start(job.id, by, jobs.Speed(), values)
    messages.info(request, gettext("This became a job, because another person must approve it."))
    return HttpResponseRedirect(url(job))


def may_make(request: HttpRequest, spec: ActionSpec) -> bool:
    """Return whether the current user may make and start jobs with this decision."""
    return may(request, RUN_JOBS) and may(request, spec.permission) and may(request, kinds.of(spec).right)


def need_rights(request: HttpRequest, spec: ActionSpec) -> None:
    """Raise PermissionDenied unless the current user may make and start jobs with this decision."""
    if not may_make(request, spec):
        raise PermissionDenied(_denied())


def may_run(request: HttpRequest, job: Job) -> bool:
    """Return whether the current user may decide on a job."""
    spec = actions.ACTIONS.get(job.action)
    return spec is not None and may(request, RUN_JOBS) and may(request, spec.permission)


def need_run(request: HttpRequest, job: Job) -> None:
    """Raise PermissionDenied unless the current user may decide on a job."""
    if not may_run(request, job):
        raise PermissionDenied(_denied())


def _denied() -> str:
    text = gettext('You may view this but not decide. Deciding requires the permission "%(name)s".')
    return text % {"name": gettext("May start, pause, resume, stop and approve jobs on many items")}


# --- what is shown ----------------------------------------------------------------------------------------------------


def url(job: Job) -> str:
    """Return the address of a job's page."""
    return reverse("admin:sagas_job_change", args=[job.id])


def title(job: Job) -> str:
    """Return the title of a job's page."""
    text = ngettext("%(action)s: %(n)d item", "%(action)s: %(n)d items", job.total)
    return text % {"action": actions.label_of(job.action), "n": job.total}


def badge(job: Job) -> SafeString:
    """Return the badge of a job's status."""
    return formatting.badge(job.status, job.get_status_display(), TONES[JobStatus(job.status)])


def progress_text(job: Job) -> str:
    """Return how far a job is, in a few words."""
    if job.status == JobStatus.CHECKING:
        return gettext("%(n)d of %(of)d checked") % {"n": reading.checked(job), "of": job.total}
    return gettext("%(n)d of %(of)d eligible items") % {"n": reading.handled(job), "of": job.eligible}


def bar(job: Job) -> dict[str, int]:
    """Return the numbers of the progress bar."""
    if job.status == JobStatus.CHECKING:
        return {"value": reading.checked(job), "most": job.total}
    return {"value": reading.handled(job), "most": max(job.eligible, 1)}


def sentences(job: Job) -> list[str]:
    """Return what a job does now, and what it waits for, in sentences."""
    values = {"eligible": job.eligible, "of": job.total, "n": reading.handled(job)}
    match JobStatus(job.status):
        case JobStatus.CHECKING:
            return [gettext("The items are being checked. Nothing is changed by it."), progress_text(job)]
        case JobStatus.PREPARED:
            return [gettext("%(eligible)d of %(of)d items are eligible. Nothing has been changed yet.") % values]
        case JobStatus.APPROVAL:
            text = gettext("%(actor)s has started it. Another person with the right to it must approve it first.")
            return [text % {"actor": job.actor}]
        case JobStatus.PAUSED if job.pause_cause == PauseCause.PERSON:
            who = {"actor": job.changed_by, "time": instants.for_people(job.changed_at) if job.changed_at else ""}
            return [gettext("Paused by %(actor)s at %(time)s.") % who, progress_text(job)]
        case JobStatus.PAUSED:
            why_ = str(PauseCause(job.pause_cause).label)
            return [gettext("Paused by itself: %(why)s.") % {"why": why_}, progress_text(job)]
        case JobStatus.STOPPED:
            return [gettext("Stopped by %(actor)s. What was carried out stays.") % {"actor": job.changed_by}]
        case JobStatus.DONE:
            return [gettext("Done: %(n)d of %(eligible)d eligible items were handled.") % values]
    return [progress_text(job), *_of_canary(job)]


def _of_canary(job: Job) -> list[str]:
    state = reading.canary_of(job)
    if state is None:
        return []
    text = gettext("Canary: %(done)d of %(size)d items carried out; %(waiting)d of their commands wait for an answer.")
    return [text % {"done": state.carried_out, "size": state.size, "waiting": state.waiting}]


def counts(job: Job) -> list[dict[str, Any]]:
    """Return the number of items by status, those with none left out."""
    left = job.eligible - reading.handled(job)
    found = {
        JobItemStatus.UNCHECKED: job.total - reading.checked(job),
        JobItemStatus.ELIGIBLE: left,
        JobItemStatus.DONE: job.done,
        JobItemStatus.ALREADY: job.already,
        JobItemStatus.REFUSED: job.refused,
        JobItemStatus.FAILED: job.failed,
        JobItemStatus.NOT_ELIGIBLE: job.not_eligible,
    }
    return [{"status": status.value, "label": status.label, "count": n} for status, n in found.items() if n]


def commands(job: Job) -> list[tuple[str, int]]:
    """Return the commands that are sent because of a job, counted by the label of their status now."""
    labels = dict(CommandStatus.choices)
    return [(str(labels.get(status, status)), count) for status, count in reading.commands(job).items()]


def selection_text(job: Job) -> str:
    """Return how the items were chosen."""
    filters = job.selection.get("filter")
    if filters is None:
        return gettext("chosen one by one")
    return ", ".join(f"{name} = {value}" for name, value in sorted(filters.items())) or gettext("all")


def buttons(job: Job) -> list[dict[str, str]]:
    """Return the decisions that are possible on a job, as links to their pages."""
    return [
        {
            "action": one.value,
            "label": str(LABELS[one]),
            "url": reverse("admin:sagas_job_decide", args=[job.id, one.value.removeprefix("job_")]),
            "kind": "danger" if one is JobAction.STOP else "" if one is JobAction.PAUSE else "main",
        }
        for one in jobs.possible(job)
    ]


def _chosen_status(request: HttpRequest) -> str:
    status = request.GET.get("status", "")
    return status if status in JobItemStatus.values else ""


def item_slice(request: HttpRequest, job: Job) -> Any:
    """Return a page of a job's items, perhaps of one status."""
    rows, status = reading.items(job.id), _chosen_status(request)
    rows = rows.filter(status=status) if status else rows
    number = number_of(request, "items")
    page = page_of(rows, (number - 1) * ITEMS, ITEMS)
    found = from_page(request, "items", page)
    return {"part": found, "lines": [_item(job, item) for item in found.items]}


def _item(job: Job, item: JobItem) -> dict[str, Any]:
    return {
        "row": item,
        "url": _target_url(job, item),
        "badge": formatting.badge(item.status, item.get_status_display(), ITEM_TONES.get(item.status)),
        "why": why.shown(item.why),
    }


def _target_url(job: Job, item: JobItem) -> str:
    spec = actions.ACTIONS.get(job.action)
    match spec.target if spec else None:
        case actions.Target.SAGA:
            return formatting.saga_url(item.target)
        case actions.Target.COMMANDS:
            return formatting.command_url(item.target)
        case actions.Target.MESSAGE:
            return reverse("admin:bridge_quarantined_change", args=[item.target])
    return ""
