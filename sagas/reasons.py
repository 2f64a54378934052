"""The reasons of decisions that the service makes itself. See `bridge.reasons`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
