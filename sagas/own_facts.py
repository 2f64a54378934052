"""What our own facts are called for people: the one place that gives each a title."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _

from bridge.models import Event, Source
from sagas import nouns
from sagas.engine import facts as kinds

# By type; the placeholders are those of `nouns.Nouns`.
TITLES: Mapping[str, Any] = {
    kinds.SAGA_ADOPTED: _("Saga started from unmatched events"),
    kinds.SAGA_CANCELLED: _("Cancelled by an operator"),
    kinds.COMPENSATION_FORCED: _("Compensation forced by an operator"),
    kinds.SAGA_TERMINATED: _("Terminated by an operator"),
    kinds.INTAKE_CLOSED: _("%(intake_noun)s closed by an operator"),
    kinds.INTAKE_SILENT: _("No further %(entity_nouns)s expected"),
    kinds.COMMANDS_RETRIED: _("Commands retried by an operator"),
    kinds.COMMANDS_SKIPPED: _("Commands skipped by an operator"),
    kinds.COMMANDS_MARKED_DONE: _("Commands marked as done by an operator"),
    kinds.COMMANDS_WITHDRAWN: _("Commands withdrawn by an operator"),
    kinds.COMMAND_EXHAUSTED: _("Command needs a decision"),
    kinds.COMMAND_REQUIRED_AGAIN: _("Failed command required again"),
    kinds.COMMAND_PUBLISHED: _("Command sent, not confirmed by its service"),
}


def title(event: Event) -> str:
    """Return what an event is called: for one from Pulsar, and for a fact of a later release, the name of its type."""
    text = TITLES.get(event.type) if event.source != Source.PULSAR else None
    return event.type if text is None else capfirst(nouns.of(event.stream).fill(text))
