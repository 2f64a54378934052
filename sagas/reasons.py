"""The reasons of decisions that the service makes itself (see `bridge.reasons`), and the sentences of the engine."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from bridge import reasons

# Every code with its text. A code is stored: it is never renamed, and one that is no longer written stays here.
TEXTS: Mapping[str, Any] = {
    "breaker-planned": _("%(planned)s commands planned in ten minutes, the limit is %(allowed)s"),
    "breaker-refused": _("the service refused one of the first commands after sending was resumed"),
    "breaker-deadline": _("one of the first commands after sending was resumed was not answered in time"),
    "breaker-exhausted": _("one of the first commands after sending was resumed ran out of attempts"),
}


def text(code: str, data: Mapping[str, Any] | None = None) -> str:
    """Write a stored reason out in the current language."""
    return reasons.text(code, data, texts=TEXTS)


# The engine's own texts in the marks of a saga, which are stored in English: they are part of the state, which a replay
# compares. See `sagas.engine.evolve`.
_UNDONE = re.compile(
    r"(?P<event>\w+) arrived without an earlier failure: it was undone by somebody else"
    r"(?P<again>, or by a command that was sent before the restart)?",
    re.ASCII,
).fullmatch
_DECIDED = re.compile(r"(?P<verb>Cancelled|Compensation forced|Terminated): (?P<reason>.*)", re.DOTALL).fullmatch
_VERBS = {
    "Cancelled": _("Cancelled: %(reason)s"),
    "Compensation forced": _("Compensation forced: %(reason)s"),
    "Terminated": _("Terminated: %(reason)s"),
}


def engine_text(text: str, others: Callable[[str], str]) -> str | None:
    """Write an error text of the engine out in the current language; None for any other text.

    others: how the reason within it is shown. It cannot be told from a service's text with the same first words.
    """
    if found := _UNDONE(text):
        sentence = (
            gettext(
                "%(event)s arrived without an earlier failure: it was undone by somebody else, or by a command that "
                "was sent before the restart"
            )
            if found["again"]
            else gettext("%(event)s arrived without an earlier failure: it was undone by somebody else")
        )
        return sentence % {"event": found["event"]}
    if found := _DECIDED(text):
        return str(_VERBS[found["verb"]] % {"reason": others(found["reason"])})
    return None
