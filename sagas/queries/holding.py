"""Whether a command's deadline is on hold, and whether its service is paused: as data and as sentences for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from bridge import instants
from compensation import deadlines, switches
from compensation.deadlines import DeadlineHolds, Hold, HoldReason
from compensation.models import Breaker, Command, CommandStatus, TripCause
from compensation.switches import Pause
from compensation.undelivered import Undelivered


@dataclass(frozen=True, slots=True, kw_only=True)
class OnHold:
    """Why a deadline does not run.

    reason: paused, bridge_away, bridge_behind, backlog or undelivered. For a pause, `service` is the service whose
    commands are paused ("*": all), `since` and `by` are when and by whom. `sentence` is the same for a person, in
    their language.
    """

    reason: str
    service: str
    since: datetime | None
    by: str | None
    sentence: str

    def as_data(self) -> dict[str, Any]:
        """Return all fields by name."""
        return asdict(self)


def read_for(commands: Sequence[Command]) -> DeadlineHolds | None:
    """Read what keeps deadlines on hold, for a list of commands; None for an empty list.

    It is read even if no command has a deadline, so that a page makes the same number of queries whatever it shows.
    """
    return deadlines.deadline_holds() if commands else None


def on_hold(command: Command, holds: DeadlineHolds | None = None) -> OnHold | None:
    """Return why the deadline of this command is on hold; None if it runs, or if there is none.

    holds: the result of `read_for` for a list of commands; read here if not given.
    """
    if not _has_deadline(command):
        return None
    hold = (holds or deadlines.deadline_holds()).of(command)
    return _described(hold) if hold else None


def of_service(service: str, holds: DeadlineHolds) -> OnHold | None:
    """Return why the deadlines of this service ("*": of every service) are on hold; None if they run."""
    hold = holds.of_service(service)
    return _described(hold) if hold else None


def pause_text(pause: Pause, *, reason: bool = True) -> str:
    """Describe what is paused, since when, by whom and, with `reason`, why: for banners, pages and sentences."""
    if isinstance(pause, Breaker):
        return breaker_text(pause)
    values = {
        "service": service_title(pause.service),
        "since": when(pause.changed_at),
        "by": pause.changed_by or _("the setting SAGA_PUBLISHING"),
        "reason": pause.reason,
    }
    if reason and pause.reason and pause.changed_by:
        text = _("Sending commands to %(service)s has been paused since %(since)s by %(by)s (%(reason)s).")
    else:
        text = _("Sending commands to %(service)s has been paused since %(since)s by %(by)s.")
    return text % values


def breaker_text(breaker: Breaker) -> str:
    """Describe why an open circuit breaker paused its service, since when, and what to do."""
    text = {
        TripCause.PLANNED: _(
            "The circuit breaker paused %(service)s at %(since)s: %(planned)d commands planned in ten minutes, the "
            "limit is %(allowed)d. Check them, then resume."
        ),
        TripCause.REFUSED: _(
            "The circuit breaker paused %(service)s again at %(since)s: the service refused one of the first commands. "
            "Before, %(planned)d commands were planned in ten minutes, the limit was %(allowed)d."
        ),
        TripCause.DEADLINE: _(
            "The circuit breaker paused %(service)s again at %(since)s: one of the first commands was not answered in "
            "time. Before, %(planned)d commands were planned in ten minutes, the limit was %(allowed)d."
        ),
        TripCause.EXHAUSTED: _(
            "The circuit breaker paused %(service)s again at %(since)s: one of the first commands ran out of "
            "attempts. Before, %(planned)d commands were planned in ten minutes, the limit was %(allowed)d."
        ),
    }[TripCause(breaker.cause)]
    return text % _values_of(breaker)


def canary_text(breaker: Breaker) -> str:
    """Describe what a circuit breaker that was resumed waits for."""
    if breaker.canary:
        text = ngettext(
            "%(service)s was resumed at %(since)s by %(by)s after its circuit breaker had paused it: the first "
            "%(first)d command is sent, the others when the service has confirmed it.",
            "%(service)s was resumed at %(since)s by %(by)s after its circuit breaker had paused it: the first "
            "%(first)d commands are sent, the others when the service has confirmed these.",
            len(breaker.canary),
        )
    else:
        text = _(
            "%(service)s was resumed at %(since)s by %(by)s after its circuit breaker had paused it: the first "
            "commands are sent as soon as they are due and nothing else pauses them."
        )
    return text % _values_of(breaker)


def _values_of(breaker: Breaker) -> dict[str, Any]:
    return {
        "service": breaker.service,
        "since": when(breaker.changed_at),
        "by": breaker.changed_by,
        "planned": breaker.planned,
        "allowed": breaker.allowed,
        "first": len(breaker.canary),
    }


def service_title(service: str) -> str:
    """Return the name of a service, or "all services"."""
    return _("all services") if service == switches.EVERYTHING else service


def when(moment: datetime | None) -> str:
    """Format a time as in the sentences: UTC, to the second; a dash for none."""
    return "–" if moment is None else instants.for_people(moment)


def _has_deadline(command: Command) -> bool:
    return command.status == CommandStatus.PUBLISHED and command.deadline_at is not None


def _described(hold: Hold) -> OnHold:
    return OnHold(
        reason=hold.reason.value,
        service=hold.pause.service if hold.pause else switches.EVERYTHING,
        since=hold.since,
        by=(hold.pause.changed_by or None) if hold.pause else None,
        sentence=_("The deadline is on hold.") + " " + _cause(hold),
    )


def _undelivered_text(found: Undelivered) -> str:
    return ngettext(
        "%(count)d message on %(topics)s has not been delivered since %(since)s; the deadline runs again by "
        "%(until)s at the latest.",
        "%(count)d messages on %(topics)s have not been delivered since %(since)s; the deadline runs again by "
        "%(until)s at the latest.",
        found.messages,
    ) % {
        "count": found.messages,
        "topics": ", ".join(found.topics),
        "since": when(found.since),
        "until": when(found.until),
    }


def _cause(hold: Hold) -> str:
    if hold.pause is not None:
        return pause_text(hold.pause)
    if hold.reason == HoldReason.BRIDGE_AWAY:
        return _("The bridge is not connected to Pulsar.")
    if hold.reason == HoldReason.BRIDGE_BEHIND:
        if not hold.topics:
            return _("The bridge has not caught up with Pulsar yet.")
        return _("The bridge has not caught up with Pulsar yet on %(topics)s.") % {"topics": ", ".join(hold.topics)}
    if hold.undelivered is not None:
        return _undelivered_text(hold.undelivered)
    return _("Events received since %(since)s have not been applied yet.") % {"since": when(hold.since)}
