"""Sentences on what a decision means for its commands: the same in the admin and on a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from compensation.breaker import CANARY
from sagas import nouns
from sagas.actions.action import ActionResult
from sagas.models import SagaStatusChoice


def sentences(outcome: ActionResult) -> Iterator[str]:
    """Describe which commands are sent because of the decision, counted by name: its targets and those it releases.

    The sentences apply to a dry run and to a decision that was carried out.
    """
    will_be_sent = [command for command in outcome.commands if command.status_after in ("planned", "waiting")]
    sent = Counter(command.name for command in will_be_sent if command.leaves and not command.released)
    later = Counter(command.name for command in will_be_sent if not command.leaves and not command.held_by)
    held = Counter(command.name for command in will_be_sent if command.held_by)
    released = outcome.effects.get("released") or {}
    if sent:
        yield ngettext("%(what)s is sent.", "%(what)s are sent.", sent.total()) % {"what": counted(sent)}
    if released:
        text = ngettext(
            "%(what)s that was waiting for this is sent.",
            "%(what)s that were waiting for this are sent.",
            sum(released.values()),
        )
        yield text % {"what": counted(released)}
    if outcome.effects.get("released_at_least"):
        yield _("There are more: counting stopped here.")
    if later:
        text = ngettext(
            "%(what)s is sent once the commands before it are answered.",
            "%(what)s are sent once the commands before them are answered.",
            later.total(),
        )
        yield text % {"what": counted(later)}
    if held:
        text = ngettext(
            "%(what)s is held for a decision because another saga uses what it undoes: %(sagas)s.",
            "%(what)s are held for a decision because another saga uses what they undo: %(sagas)s.",
            held.total(),
        )
        yield text % {"what": counted(held), "sagas": _sagas(outcome.effects.get("held") or {})}
    if also := outcome.effects.get("also_known_to"):
        text = _("Other sagas also lose what is undone: %(sagas)s.")
        yield text % {"sagas": _sagas(also)}
    yield from of_closing(outcome.effects)
    yield from _of_publishing(outcome.effects)
    if paused := outcome.effects.get("publishing_paused"):
        text = _("Sending commands to %(services)s is paused: these commands are sent after it is resumed.")
        yield text % {"services": ", ".join(paused)}
    if services := outcome.effects.get("after_canary"):
        text = _(
            "After a circuit breaker opened, only the first commands are sent to %(services)s for now. These commands "
            "follow when the first are confirmed."
        )
        yield text % {"services": ", ".join(services)}


def of_closing(effects: Mapping[str, Any]) -> Iterator[str]:
    """State the number with which an intake was closed, and how many of these lanes were known then."""
    if "images" in effects:
        text = _("Number: %(number)d. Known: %(known)d. Still awaited: %(awaited)d.")
        known, awaited = effects["images_known"], effects["images_awaited"]
        yield text % {"number": effects["images"], "known": known, "awaited": awaited}


def _of_publishing(effects: Mapping[str, Any]) -> Iterator[str]:
    """Describe what a resumption changed, and what still pauses the service."""
    if breaker := effects.get("breaker"):
        text = {
            "canary": _(
                "The circuit breaker of %(service)s is resumed: of %(waiting)d waiting commands the first %(first)d "
                "are sent now, the others when the service has confirmed these. One refusal or missed deadline pauses "
                "it again."
            ),
            "chosen_later": _(
                "The circuit breaker of %(service)s is resumed: of %(waiting)d waiting commands the first %(most)d are "
                "sent as soon as they are due and nothing else pauses them, the others when the service has confirmed "
                "these."
            ),
            "closed": _(
                "The circuit breaker of %(service)s is closed: none of the %(waiting)d waiting commands is released "
                "and answered by an event, so none is tried first."
            ),
        }[breaker["state"]]
        yield text % {**breaker, "most": CANARY}
    if by := effects.get("stays_paused_by"):
        yield {
            "all": _("Sending commands remains paused: it is paused for all services."),
            "service": _("Sending commands remains paused by the service's switch."),
            "breaker": _("Sending commands remains paused by the circuit breaker."),
        }[by]


def counted(names: Mapping[str, int]) -> str:
    """Count the commands of each name: "36 image deletions, 1 anonymization rollback"."""
    return ", ".join(nouns.command(name, names[name]) for name in sorted(names))


def _sagas(counts: Mapping[str, Mapping[str, Any]]) -> str:
    """List sagas by key, each with its status."""
    return ", ".join(
        f"{saga['task_id']} ({SagaStatusChoice(saga['status']).label})" if saga["task_id"] else identity
        for identity, saga in counts.items()
    )
