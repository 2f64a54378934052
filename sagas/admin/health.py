"""The tiles of the start page: the verdicts of `compensation.health` as texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _

from compensation import health
from compensation.health import BACKLOG_CAP, HealthLevel, Name, State
from sagas.admin import formatting
from sagas.queries.holding import service_title

TONES = {HealthLevel.OK: "good", HealthLevel.WARNING: "warn", HealthLevel.ERROR: "bad"}


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthTile:
    """One part of the service: `tone` good, warn or bad; `text` states its condition, `advice` what to do."""

    name: Any
    tone: str
    text: str
    advice: str = ""


def parts() -> list[HealthTile]:
    """Return the tiles of all parts. Four queries."""
    return [_TILES[part.name](part) for part in health.measure().parts]


def _bridge(part: health.HealthPart) -> HealthTile:
    silent = _("no signal for %(age)s") % {"age": formatting.age(part.age)} if part.age else ""
    errors, missing = "; ".join(part.errors), ", ".join(part.away)
    texts = {
        State.HEALTHY: (_("connected and up to date"), ""),
        State.NEVER_RAN: (_("not running"), _("No events arrive. Start run_bridge.")),
        State.SILENT: (silent, _("No events arrive. Start run_bridge.")),
        State.DISCONNECTED: (
            errors or _("no connection to Pulsar"),
            _("No events arrive. Run manage.py doctor for advice."),
        ),
        State.PARTLY_AWAY: (
            _("%(n)d connected; no signal or not connected: %(names)s") % {"n": part.connected, "names": missing},
            _("Restart it. If it was removed intentionally, its entry disappears after a day."),
        ),
        State.BEHIND: (errors or _("connected, catching up"), _("Deadlines are on hold until it has caught up.")),
        State.STALLED: (
            _("messages are waiting on %(topics)s, but none are read") % {"topics": ", ".join(part.topics)},
            _("Run manage.py doctor for advice. Deadlines are on hold only for a limited time."),
        ),
    }
    return _tile(_("Bridge"), part, *texts[part.state])


def _worker(part: health.HealthPart) -> HealthTile:
    advice = _("Commands and deadlines are not processed. Start the Celery worker and beat.")
    texts = {
        State.HEALTHY: (_("OK"), ""),
        State.NEVER_RAN: (_("no signal"), advice),
        State.SILENT: (_("no signal for %(age)s") % {"age": formatting.age(part.age)} if part.age else "", advice),
    }
    return _tile(_("Background worker"), part, *texts[part.state])


def _publisher(part: health.HealthPart) -> HealthTile:
    advice = _("Commands wait; no attempts are used up. Run manage.py doctor for advice.")
    services = ", ".join(service_title(service) for service in part.paused)
    texts = {
        State.HEALTHY: (_("connected"), ""),
        State.NEVER_RAN: (_("no signal"), advice),
        State.SILENT: (_("no signal for %(age)s") % {"age": formatting.age(part.age)} if part.age else "", advice),
        State.DISCONNECTED: (_("Pulsar cannot be reached"), advice),
        State.PAUSED: (_("paused for all services"), _("No commands are sent until sending is resumed.")),
        State.PARTLY_PAUSED: (
            _("connected; paused for %(services)s") % {"services": services},
            _("No commands are sent to them until sending is resumed."),
        ),
    }
    return _tile(_("Publisher"), part, *texts[part.state])


def _backlog(part: health.HealthPart) -> HealthTile:
    if part.state == State.LONG:
        return _tile(_("Backlog"), part, _("%(n)d or more") % {"n": BACKLOG_CAP}, _("Start more workers."))
    return _tile(_("Backlog"), part, str(part.count))


def _tile(name: str, part: health.HealthPart, text: str, advice: str = "") -> HealthTile:
    return HealthTile(name=name, tone=TONES[part.level], text=text, advice=advice)


_TILES = {Name.BRIDGE: _bridge, Name.WORKER: _worker, Name.PUBLISHER: _publisher, Name.BACKLOG: _backlog}
