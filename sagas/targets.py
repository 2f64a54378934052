"""What a decision is about, as a code with parameters: stored like that, and written out in the reader's language.

Each also has a name for programs, in the column `target` of the audit, in the API's answers and in JSON. It never
changes: earlier releases stored nothing else, so a row without a code is shown by its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any
from uuid import UUID

from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext_lazy

from sagas import nouns

# Every code with its name for programs and its text for people, which may have placeholders of `nouns.Nouns`. A code is
# stored: it is never renamed, and one that is no longer written stays here.
_UNKNOWN = ""
_NAMES: Mapping[str, str] = {
    _UNKNOWN: "{name}",
    "saga": "saga {saga}",
    "lane": "saga {saga} lane {lane}",
    "sagas": "{count} sagas (selection {mark})",
    "command": "command {command}",
    "commands": "{count} commands (selection {mark})",
    "commands-of-saga": "commands of saga {saga}",
    "commands-planned-before": "commands planned before {time}",
    "key": "key {key}",
    "key-to-saga": "key {key} to saga {saga}",
    "key-to-lane": "key {key} to saga {saga} lane {lane}",
    "event": "event {event}",
    "event-to-saga": "event {event} to saga {saga}",
    "event-to-lane": "event {event} to saga {saga} lane {lane}",
    "message": "message {message}",
    "job": "job {job}",
    "incident": "incident {incident}",
    "publishing": "publishing",
    "publishing-to": "publishing to {service}",
}
TEXTS: Mapping[str, Any] = {
    "saga": _("saga %(saga)s"),
    "lane": _("%(entity_noun)s %(lane)s of saga %(saga)s"),
    "sagas": ngettext_lazy("%(count)s saga", "%(count)s sagas", "count"),
    "command": _("command %(command)s"),
    "commands": ngettext_lazy("%(count)s command", "%(count)s commands", "count"),
    "commands-of-saga": _("commands of saga %(saga)s"),
    "commands-planned-before": _("commands planned before %(time)s"),
    "key": _("%(key_id)s %(key)s"),
    "key-to-saga": _("%(key_id)s %(key)s to saga %(saga)s"),
    "key-to-lane": _("%(key_id)s %(key)s to %(entity_noun)s %(lane)s of saga %(saga)s"),
    "event": _("event %(event)s"),
    "event-to-saga": _("event %(event)s to saga %(saga)s"),
    "event-to-lane": _("event %(event)s to %(entity_noun)s %(lane)s of saga %(saga)s"),
    "message": _("quarantined message %(message)s"),
    "job": _("job %(job)s"),
    "incident": _("incident %(incident)s"),
    "publishing": _("sending commands"),
    "publishing-to": _("sending commands to %(service)s"),
}


@dataclass(frozen=True, slots=True)
class DecisionTarget:
    """What a decision is about. data: the parameters of its code, all JSON; `saga_type` tells whose nouns are used."""

    code: str
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Return the name for programs."""
        return _NAMES[self.code].format(**self.data)

    @property
    def stored(self) -> dict[str, Any]:
        """Return the code with its parameters, as the audit stores them."""
        return {"code": self.code, **self.data}

    def __str__(self) -> str:
        """Return the text for people, in the current language."""
        return text(self.name, self.stored)


def of_saga(saga: UUID, saga_type: str, lane: str | None = None) -> DecisionTarget:
    """Return a saga, or one lane of it, as a target."""
    if lane is None:
        return DecisionTarget("saga", {"saga": str(saga)})
    return DecisionTarget("lane", {"saga": str(saga), "lane": lane, "saga_type": saga_type})


def of_command(command: UUID | str) -> DecisionTarget:
    """Return one command as a target."""
    return DecisionTarget("command", {"command": str(command)})


def of_message(message: int) -> DecisionTarget:
    """Return one quarantined message as a target."""
    return DecisionTarget("message", {"message": message})


def of_job(job: UUID) -> DecisionTarget:
    """Return a job as a target."""
    return DecisionTarget("job", {"job": str(job)})


def of_incident(incident: UUID) -> DecisionTarget:
    """Return an incident as a target."""
    return DecisionTarget("incident", {"incident": str(incident)})


def attached(what: str, value: str, saga: UUID, saga_type: str, lane: str | None) -> DecisionTarget:
    """Return what is attached to a saga, or to one lane of it. what: "key" or "event"."""
    data = {what: value, "saga": str(saga), "saga_type": saga_type}
    if not lane:
        return DecisionTarget(f"{what}-to-saga", data)
    return DecisionTarget(f"{what}-to-lane", {**data, "lane": lane})


def sending(service: str | None) -> DecisionTarget:
    """Return sending commands to one service, or to all (None), as a target."""
    return DecisionTarget("publishing") if service is None else DecisionTarget("publishing-to", {"service": service})


def stored(name: str, data: Mapping[str, Any] | None) -> DecisionTarget:
    """Return the target of a row of the audit; of one without a code known here, a target with only its name."""
    if not data or data.get("code") not in _NAMES:
        return DecisionTarget(_UNKNOWN, {"name": name})
    return DecisionTarget(data["code"], {key: value for key, value in data.items() if key != "code"})


def text(name: str, stored: Mapping[str, Any] | None) -> str:
    """Write a stored target out in the current language; by its name if its code or a parameter is unknown here."""
    data = dict(stored or {})
    template = TEXTS.get(data.get("code", ""))
    words = nouns.of(data["saga_type"]) if data.get("saga_type") else nouns.shared()
    try:
        return name if template is None else str(template % {**asdict(words), **data})
    except (KeyError, TypeError, ValueError):  # a later release has other parameters
        return name
