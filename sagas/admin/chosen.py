"""The actions of a list: a decision on the rows that were chosen in it, as a link to its page."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from sagas import actions, nouns
from sagas.actions import ActionSpec
from sagas.admin.action_views import ask
from sagas.admin.readonly import ReadOnlyAdmin
from sagas.admin.rights import may_operate

Asked = Callable[[ReadOnlyAdmin, HttpRequest, QuerySet[Any]], HttpResponse | None]


def decisions(
    request: HttpRequest, specs: Iterable[ActionSpec], views: Iterable[Any], most: int, too_many: Any
) -> dict[str, Any]:
    """Return the actions of a list, as Django takes them: the decisions that are possible on at least one of the views.

    most: how many rows at once; too_many: what is said of more.
    """
    possible = actions.possible(*views) if may_operate(request) else ()
    found = [(f"{spec.name}_chosen", spec) for spec in specs if spec in possible]
    return {name: (_ask_about(spec, most, too_many), name, nouns.shared().fill(spec.title)) for name, spec in found}


def _ask_about(spec: ActionSpec, most: int, too_many: Any) -> Asked:
    """Return the list's action that shows a decision's page with the ids chosen now; it applies to exactly these."""

    def chosen_in_list(admin: ReadOnlyAdmin, request: HttpRequest, chosen: QuerySet[Any]) -> HttpResponse | None:
        ids = [str(identity) for identity in chosen.values_list("id", flat=True)[: most + 1]]
        if len(ids) > most:
            messages.error(request, too_many % {"most": most})
            return None
        return ask(admin, request, spec.name, {"ids": " ".join(ids)})

    return chosen_in_list
