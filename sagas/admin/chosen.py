"""The actions of a list: a decision on the rows that were chosen in it, as a link to its page, or as a job."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _

from sagas import nouns
from sagas.actions import ActionSpec, Target
from sagas.admin import job
from sagas.admin.action_views import ask
from sagas.admin.readonly import ReadOnlyAdmin
from sagas.admin.rights import may_operate
from sagas.errors import DecisionError

Asked = Callable[[ReadOnlyAdmin, HttpRequest, QuerySet[Any]], HttpResponse | None]
# The name of a single target on the page of a decision.
_SINGLE = {Target.SAGA: "saga", Target.COMMANDS: "ids", Target.MESSAGE: "message"}
ALL_MATCHING = "sagas/admin/all_matching.html"


def decisions(request: HttpRequest, specs: Iterable[ActionSpec], possible: Iterable[ActionSpec]) -> dict[str, Any]:
    """Return the actions of a list, as Django takes them: those of the decisions that are possible.

    A decision that no page makes on many is offered to those who may make jobs.
    """
    known = frozenset(possible) if may_operate(request) else frozenset()
    offered = [spec for spec in specs if spec in known and (_has_page(spec) or job.may_make(request, spec))]
    return {
        f"{spec.name}_chosen": (_ask_about(spec), f"{spec.name}_chosen", nouns.shared().fill(spec.title))
        for spec in offered
    }


def _has_page(spec: ActionSpec) -> bool:
    """Return whether the page of a decision takes many ids."""
    return spec.target is Target.COMMANDS or spec.of_many is not None


def _ask_about(spec: ActionSpec) -> Asked:
    """Return the list's action: few rows are decided on at a page, with their ids chosen now; more become a job."""

    def chosen_in_list(admin: ReadOnlyAdmin, request: HttpRequest, chosen: QuerySet[Any]) -> HttpResponse | None:
        return ask_about_rows(admin, request, spec, chosen, _selection(request))

    return chosen_in_list


def ask_about_rows(
    admin: ReadOnlyAdmin, request: HttpRequest, spec: ActionSpec, rows: QuerySet[Any], selection: dict[str, Any]
) -> HttpResponse | None:
    """Return the page of a decision on few rows, or that of a job on more; None if there is a message instead.

    selection: how the rows were chosen, as the job shows it.
    """
    ids = [str(identity) for identity in rows.values_list("pk", flat=True)[: settings.SAGA_JOB_FROM + 1]]
    if len(ids) == 1 and not _has_page(spec):
        return ask(admin, request, spec.name, {_SINGLE[spec.target]: ids[0]})
    if len(ids) <= settings.SAGA_JOB_FROM and _has_page(spec):
        return ask(admin, request, spec.name, {"ids": " ".join(ids)})
    try:
        return job.make(request, spec, rows, selection)
    except PermissionDenied:
        text = _("More than %(most)d at once are a job, for which you lack the permission.")
        messages.error(request, text % {"most": settings.SAGA_JOB_FROM})
    except DecisionError as error:
        messages.error(request, str(error))
    return None


def _selection(request: HttpRequest) -> dict[str, Any]:
    """Return how the rows were chosen: one by one, or all that match the filters of the list."""
    if request.POST.get("select_across") == "1":
        return {"filter": {name: value for name, value in request.GET.dict().items() if name not in ("p", "o")}}
    return {"ids": len(request.POST.getlist("_selected_action"))}
