"""Why an item is not carried out: stored in each language of the service, shown in the reader's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django.conf import settings
from django.utils import translation
from django.utils.translation import gettext as _

from sagas.actions import ActionSpec

Texts = Mapping[str, str]


def in_each_language(text: Callable[[], str]) -> dict[str, str]:
    """Return what a function returns in each language."""
    found = {}
    for code, _name in settings.LANGUAGES:
        with translation.override(code):
            found[code] = str(text())
    return found


def refusal(spec: ActionSpec, view: Any) -> Texts | None:
    """Return why a decision is not possible on what a view shows, or would change nothing; None if it is possible."""
    if view is None:
        return gone()
    return in_each_language(lambda: spec.refusal(view)) if spec.refusal(view) else None


def gone() -> Texts:
    """Say that the item does not exist any more."""
    return in_each_language(lambda: _("it no longer exists, or was matched or pruned since"))


def shown(texts: Texts | None) -> str:
    """Return the text in the current language."""
    if not texts:
        return ""
    return texts.get(translation.get_language() or "") or texts.get(settings.LANGUAGE_CODE, "")
