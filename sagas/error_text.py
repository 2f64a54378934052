"""Show error texts, which are payload: a service may name files and patients in them.

A reader without the right `sagas.rights.VIEW_PAYLOAD` sees only the length of a text. Texts of this service itself,
such as "No answer within 300 seconds.", are shown to everyone who may see the row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.utils import translation
from django.utils.translation import ngettext

from compensation import reasons
from compensation.models import Attempt, AttemptOutcome
from compensation.snapshot import split_error
from sagas import reasons as saga_reasons

# The marks of a folded state that end with an error text, as sagas.engine.state writes them.
_FAILURES = frozenset({"failure", "lane_failure", "upload_failure"})


def shown_text(text: str | None, *, payload: bool, as_data: bool = False) -> str:
    """Return an error text of a service, or its length for a reader who may not see `payload`; "" if there is none.

    A text of the engine is shown to everyone, in the current language. as_data: the form of the API's contract, which
    is the same in every language.
    """
    if as_data:
        with translation.override("en"):
            return shown_text(text, payload=payload)

    def of_service(theirs: str) -> str:
        return theirs if payload or not theirs else _length(theirs)

    own = saga_reasons.engine_text(text or "", of_service)
    return of_service(text or "") if own is None else own


def shown_error(last_error: str, data: Mapping[str, Any] | None, *, payload: bool, as_data: bool = False) -> str:
    """Return a command's last error in the current language; the text of a service in it is shown as by `shown_text`.

    last_error, data: the columns of these names.
    """

    def of_service(text: str) -> str:
        return shown_text(text, payload=payload, as_data=as_data)

    own, theirs = split_error(last_error)
    return reasons.text(own, data, payload=of_service) + of_service(theirs)


def shown_attempt(attempt: Attempt, *, payload: bool, as_data: bool = False) -> str:
    """Return the error of an attempt: the service's text if it refused the command, otherwise our own."""
    if attempt.outcome != AttemptOutcome.REFUSED:
        return reasons.text(attempt.error)
    return shown_text(attempt.error, payload=payload, as_data=as_data)


def shown_effects(effects: Mapping[str, Any], *, payload: bool) -> dict[str, Any]:
    """Return the effects of a decision, with the error texts in the differences of a replay as by `shown_text`."""
    if "differences" not in effects:
        return dict(effects)
    return {**effects, "differences": shown_differences(effects["differences"], payload=payload)}


def shown_differences(differences: Sequence[Mapping[str, Any]], *, payload: bool) -> list[dict[str, Any]]:
    """Return [{what, stored, folded}] of a replay, with each error text in it as by `shown_text`."""
    return [dict(item) if payload else _without_texts(item) for item in differences]


def _without_texts(item: Mapping[str, Any]) -> dict[str, Any]:
    is_text = item["what"] == "saga error_message"
    hide = _hidden if is_text else _hidden_within
    return {**item, "stored": hide(item["stored"]), "folded": hide(item["folded"])}


def _hidden(value: Any) -> Any:
    return shown_text(value, payload=False, as_data=True) if isinstance(value, str) else value


def _hidden_within(value: Any) -> Any:
    """Remove the texts of failures from a folded state. A stored state may have any shape: that is why it differs."""
    if isinstance(value, Mapping):
        return {
            name: _hidden_mark(found) if name in _FAILURES else _hidden_within(found) for name, found in value.items()
        }
    return [_hidden_within(found) for found in value] if isinstance(value, list | tuple) else value


def _hidden_mark(mark: Any) -> Any:
    """Hide the text of a mark [when, event id, text]; hide any other value as a whole."""
    if isinstance(mark, list | tuple) and len(mark) == 3:
        return [*mark[:2], _hidden(mark[2])]
    return None if mark is None else _hidden(str(mark))


def _length(text: str) -> str:
    shown = ngettext("[text, %(count)d character]", "[text, %(count)d characters]", len(text))
    return shown % {"count": len(text)}
