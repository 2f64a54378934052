"""The reasons of commands: why an attempt failed, and why none is made any more. See `bridge.reasons`.

The parameter `error` is the text of a service, which is payload; every other text and parameter is this service's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext_lazy

from bridge import reasons

# Every code with its text. A code is stored: it is never renamed, and one that is no longer written stays here.
TEXTS: Mapping[str, Any] = {
    **reasons.TEXTS,
    # how an attempt ended: the values of AttemptOutcome; with a cause, if there is one
    "refused": _("The service refused it."),
    "refused-because": _("The service refused it: %(error)s"),
    "deadline": _("No answer within %(seconds)s seconds."),
    "failed": _("The command could not be sent."),
    "failed-because": _("The command could not be sent: %(cause)s"),
    "unreachable": _("The message broker could not be reached."),
    "unreachable-because": _("The message broker could not be reached: %(cause)s"),
    "blocked": _("The topic accepts no commands."),
    "blocked-because": _("The topic accepts no commands: %(cause)s"),
    "superseded": _("The process that was sending the command stopped."),
    # why no further attempt is made
    "attempts": ngettext_lazy(
        "Failed after %(count)s attempt. %(last)s", "Failed after %(count)s attempts. %(last)s", "count"
    ),
    "permanent": _("Not retried, because the broker will never accept this message. %(last)s"),
    "non-retryable": _('Not retried, because the error is "%(entry)s". %(last)s'),
    "non-retryable-prefix": _('Not retried, because the error begins with "%(entry)s". %(last)s'),
    "no-confirmation": _("This service sends no confirmation. Mark the command as done after checking that it is."),
    "not-a-uuid": _(
        "The service accepts only a UUID in %(argument)s, and this value is not a UUID: undo this step manually."
    ),
}


def text(code: str, data: Mapping[str, Any] | None = None, *, payload: Callable[[str], str] = str) -> str:
    """Write a stored reason out in the current language. payload: how the text of a service in it is shown."""
    return reasons.text(code, data, texts=TEXTS, payload=payload)
