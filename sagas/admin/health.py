"""The start page's tiles: what `compensation.health` judges, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _

from compensation import health
from compensation.health import BACKLOG_CAP, HealthLevel, Name, State
from sagas.admin import formatting
from sagas.queries.holding import service_words

TONES = {HealthLevel.OK: "good", HealthLevel.WARNING: "warn", HealthLevel.ERROR: "bad"}


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthTile:
    """One part of the service: `tone` good, warn or bad; `words` say what is so, `advice` what to do if not."""

    name: Any
    tone: str
    words: str
    advice: str = ""


def parts() -> list[HealthTile]:
    """All parts. Four queries."""
    return [_WORDS[part.name](part) for part in health.measure().parts]


def _bridge(part: health.HealthPart) -> HealthTile:
    silent = _("silent for %(age)s") % {"age": formatting.age(part.age)} if part.age else ""
    why, away = "; ".join(part.errors), ", ".join(part.away)
    told = {
        State.HEALTHY: (_("connected and caught up"), ""),
        State.NEVER_RAN: (_("not running"), _("No event comes in. Start run_bridge.")),
        State.SILENT: (silent, _("No event comes in. Start run_bridge.")),
        State.DISCONNECTED: (
            why or _("no connection to Pulsar"),
            _("No event comes in. manage.py doctor says what to do."),
        ),
        State.PARTLY_AWAY: (
            _("%(n)d connected; silent or not connected: %(names)s") % {"n": part.connected, "names": away},
            _("Start it again. If it was removed on purpose, its row is forgotten after a day."),
        ),
        State.BEHIND: (why or _("connected, catching up"), _("Deadlines are on hold meanwhile.")),
        State.STALLED: (
            _("messages wait on %(topics)s, and none is taken") % {"topics": ", ".join(part.topics)},
            _("manage.py doctor says what to do. Deadlines are on hold for a while only."),
        ),
    }
    return _tile(_("Bridge"), part, *told[part.state])


def _worker(part: health.HealthPart) -> HealthTile:
    advice = _("Commands and deadlines stand still. Start the Celery worker and beat.")
    told = {
        State.HEALTHY: (_("working"), ""),
        State.NEVER_RAN: (_("no sign of life"), advice),
        State.SILENT: (_("silent for %(age)s") % {"age": formatting.age(part.age)} if part.age else "", advice),
    }
    return _tile(_("Worker and beat"), part, *told[part.state])


def _publisher(part: health.HealthPart) -> HealthTile:
    advice = _("Commands wait and no attempt is lost. manage.py doctor says what to do.")
    services = ", ".join(service_words(service) for service in part.paused)
    told = {
        State.HEALTHY: (_("connected"), ""),
        State.NEVER_RAN: (_("no sign of life"), advice),
        State.SILENT: (_("silent for %(age)s") % {"age": formatting.age(part.age)} if part.age else "", advice),
        State.DISCONNECTED: (_("Pulsar cannot be reached"), advice),
        State.PAUSED: (_("paused for all services"), _("No command is sent until publishing is resumed.")),
        State.PARTLY_PAUSED: (
            _("connected; paused for %(services)s") % {"services": services},
            _("No command is sent to them until publishing is resumed."),
        ),
    }
    return _tile(_("Publisher"), part, *told[part.state])


def _backlog(part: health.HealthPart) -> HealthTile:
    if part.state == State.LONG:
        return _tile(
            _("Events to be applied"), part, _("%(n)d or more") % {"n": BACKLOG_CAP}, _("More workers would help.")
        )
    return _tile(_("Events to be applied"), part, str(part.count))


def _tile(name: str, part: health.HealthPart, told: str, advice: str = "") -> HealthTile:
    return HealthTile(name=name, tone=TONES[part.level], words=told, advice=advice)


_WORDS = {Name.BRIDGE: _bridge, Name.WORKER: _worker, Name.PUBLISHER: _publisher, Name.BACKLOG: _backlog}
