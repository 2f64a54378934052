"""What an incident is called, how much it is, and what to do about it: in the reader's language."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from bridge.models import QuarantineCode
from compensation.models import ExhaustedBy
from sagas import nouns
from sagas.incidents.kinds import BY_NAME
from sagas.models import SagaStatusChoice
from sagas.queries.attention_items.item import Item

Facets = Mapping[str, str]

_REFUSES = gettext_lazy("%(service)s refuses %(command)s")
_NOT_SENT = gettext_lazy("%(command)s cannot be sent to %(service)s")
# Why commands are exhausted: first by the column, then by the code of how the last attempt ended.
_FAILURES: Mapping[str, Promise] = {
    ExhaustedBy.MANUAL: gettext_lazy("%(service)s does not confirm %(command)s: a person has to"),
    ExhaustedBy.INVALID: gettext_lazy("%(service)s would refuse the data of %(command)s"),
    ExhaustedBy.PERMANENT: gettext_lazy("The message broker rejects %(command)s for %(service)s"),
    "refused": _REFUSES,
    "refused-because": _REFUSES,
    "deadline": gettext_lazy("%(service)s does not answer %(command)s"),
    **dict.fromkeys(
        ("failed", "failed-because", "unreachable", "unreachable-because", "blocked", "blocked-because", "superseded"),
        _NOT_SENT,
    ),
}
_ANY_FAILURE = gettext_lazy("%(command)s of %(service)s needs a decision")
_TITLES: Mapping[str, Promise] = {
    "held": gettext_lazy("%(command)s of %(service)s is held because another saga uses what it undoes"),
    "overdue": gettext_lazy("%(service)s has not answered %(command)s in time"),
    "confirmed_unsent": gettext_lazy("%(service)s confirmed %(command)s although it was never sent"),
    "overtaken": gettext_lazy("%(service)s carried out %(command)s although the work was started again"),
    "set_aside": gettext_lazy("Events cannot be applied: %(error)s"),
    "stalled": gettext_lazy("%(type)s (%(status)s): no progress"),
    "unclear": gettext_lazy("%(event)s does not say whether the work succeeded"),
    "late_stage": gettext_lazy("%(type)s: nothing follows %(step)s of %(service)s"),
    "quarantined": gettext_lazy("Messages on topic %(topic)s cannot be read: %(why)s"),
    "parked": gettext_lazy("%(event)s does not match any saga"),
}
_ADVICE: Mapping[str, Promise] = {
    "exhausted": gettext_lazy(
        "Check the attempts. Retry if the service is back, mark as done if you have verified it, or skip."
    ),
    "held": gettext_lazy("Check the other saga. Release what may be undone for both, and withdraw the rest."),
    "overdue": gettext_lazy(
        "The deadlines are on hold, or no Celery worker and beat run: the list of commands tells which."
    ),
    "confirmed_unsent": gettext_lazy("Verify in the service that it is undone, and check who sent the events."),
    "overtaken": gettext_lazy("They were sent before the restart was known. What they undid has to be done again."),
    "set_aside": gettext_lazy("This is an error in this service. Have it fixed, then resume the sagas."),
    "stalled": gettext_lazy("The page of each saga shows what it is waiting for. Ask that service."),
    "unclear": gettext_lazy(
        "Check it in the service. Undo it if the work failed; otherwise ask the service to send the event again with "
        "a status that it documents."
    ),
    "late_stage": gettext_lazy("The page of each saga shows what it is waiting for. Ask that service."),
    "quarantined": gettext_lazy("Check the reason. Requeue after a fix, otherwise dismiss."),
    "parked": gettext_lazy("Attach the key to its saga, start a saga from it, or dismiss it with a reason."),
}


def title(kind: str, facets: Facets, item: Item | None = None) -> str:
    """Return what is wrong, as a sentence without its full stop, without numbers and without payload.

    item: the item of the attention list that it is, if it still exists; without it, the label of the kind is used for
    kinds that are not grouped.
    """
    if item is not None:
        return item.sentence.removesuffix(".")
    if kind == "exhausted":
        text = _FAILURES.get(facets["exhausted_by"]) or _FAILURES.get(facets["cause"]) or _ANY_FAILURE
    elif kind in _TITLES:
        text = _TITLES[kind]
    else:
        return f"{BY_NAME[kind].label}: {', '.join(facets.values())}"
    return str(text) % _values(facets)


def _values(facets: Facets) -> dict[str, Any]:
    saga_type = facets.get("saga_type") or facets.get("saga__saga_type") or ""
    status, code = facets.get("status", ""), facets.get("code", "")
    return {
        "service": _service(facets.get("service") or facets.get("step_service") or ""),
        "command": facets.get("name", ""),
        "error": facets.get("set_aside_error", ""),
        "type": nouns.titles().get(saga_type, saga_type),
        "status": SagaStatusChoice(status).label if status in SagaStatusChoice.values else status,
        "event": facets.get("type", ""),
        "step": facets.get("step_type", ""),
        "topic": facets.get("topic", ""),
        "why": QuarantineCode(code).label if code in QuarantineCode.values else code,
    }


def _service(name: str) -> str:
    """Return the name of a service as people write it."""
    return name.replace("_", " ").title()


def advice(kind: str, item: Item | None = None) -> str:
    """Return what to do about an incident; empty where that depends on an item that does not exist any more."""
    return item.advice if item is not None else str(_ADVICE.get(kind, ""))


def _commands(count: int) -> str:
    return ngettext("%(count)d command", "%(count)d commands", count)


def _sagas(count: int) -> str:
    return ngettext("%(count)d saga", "%(count)d sagas", count)


def _events(count: int) -> str:
    return ngettext("%(count)d event", "%(count)d events", count)


def _messages(count: int) -> str:
    return ngettext("%(count)d message", "%(count)d messages", count)


def _stages(count: int) -> str:
    return ngettext("%(count)d stage", "%(count)d stages", count)


_UNITS: Mapping[str, Callable[[int], str]] = {
    **dict.fromkeys(("exhausted", "held", "overdue", "confirmed_unsent", "overtaken"), _commands),
    **dict.fromkeys(("set_aside", "stalled"), _sagas),
    **dict.fromkeys(("unclear", "parked"), _events),
    "late_stage": _stages,
    "quarantined": _messages,
}


def amount(kind: str, count: int, sagas: int | None) -> str:
    """Return how much it is: "725 commands in 527 sagas"; empty for kinds whose title tells it."""
    unit = _UNITS.get(kind)
    if unit is None:
        return ""
    things = unit(count) % {"count": count}
    if sagas is None or unit is _sagas:
        return things
    text = ngettext("%(things)s in %(sagas)d saga", "%(things)s in %(sagas)d sagas", sagas)
    return text % {"things": things, "sagas": sagas}


def direction_text(direction: str) -> str:
    """Return the word for a direction of `sagas.incidents.listing`; empty for none."""
    return {
        "rising": _("rising"),
        "steady": _("steady"),
        "falling": _("falling"),
        "quiet": _("no new ones"),
    }.get(direction, "")


def first(at: str) -> str:
    """Return when its first case was."""
    return _("first %(at)s") % {"at": at}


def last(at: str) -> str:
    """Return when its last case was."""
    return _("last %(at)s") % {"at": at}


def ended(at: str) -> str:
    """Return when it ended."""
    return _("ended %(at)s") % {"at": at}
