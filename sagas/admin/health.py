"""Whether the parts live, from the rows that they write: nothing is assumed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.utils.translation import gettext as _

from bridge.heartbeats import bridge_state
from bridge.models import Heartbeat, HeartbeatKind, Pending

# The sweep is sent by beat and done by a worker, so its sign of life is both of theirs. It comes every 2 s.
SWEEPER_SILENT = timedelta(seconds=30)
PUBLISHER_SILENT = timedelta(seconds=60)
BACKLOG_CAP = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of the service: `tone` good, warn or bad; `words` say what is so, `advice` what to do if not."""

    name: Any
    tone: str
    words: str
    advice: str = ""


def parts(now: datetime) -> list[Part]:
    """All parts. Three queries."""
    beats = list(Heartbeat.objects.filter(kind__in=[HeartbeatKind.SWEEPER, HeartbeatKind.PUBLISHER]))
    return [_bridge(now), _workers(beats, now), _publisher(beats, now), _backlog()]


def _bridge(now: datetime) -> Part:
    state = bridge_state(now)
    name = _("Bridge")
    if not state.alive:
        return Part(name=name, tone="bad", words=_("not running"), advice=_("No event comes in. Start run_bridge."))
    if not state.connected:
        why = "; ".join(state.errors) or _("no connection to Pulsar")
        return Part(name=name, tone="bad", words=why, advice=_("No event comes in. manage.py doctor says what to do."))
    if state.well_since is None:
        return Part(name=name, tone="warn", words=_("connected, catching up"), advice=_("Deadlines rest meanwhile."))
    return Part(name=name, tone="good", words=_("connected and caught up"))


def _workers(beats: Sequence[Heartbeat], now: datetime) -> Part:
    name = _("Worker and beat")
    last = max((beat.beat_at for beat in beats if beat.kind == HeartbeatKind.SWEEPER), default=None)
    if last is None or now - last > SWEEPER_SILENT:
        advice = _("Commands and deadlines stand still. Start the Celery worker and beat.")
        return Part(name=name, tone="bad", words=_("no sign of life"), advice=advice)
    return Part(name=name, tone="good", words=_("working"))


def _publisher(beats: Sequence[Heartbeat], now: datetime) -> Part:
    name = _("Publisher")
    fresh = [b for b in beats if b.kind == HeartbeatKind.PUBLISHER and now - b.beat_at <= PUBLISHER_SILENT]
    if not fresh:
        return Part(name=name, tone="warn", words=_("not heard of lately"))
    if not any(beat.connected for beat in fresh):
        advice = _("Commands wait and no attempt is lost. manage.py doctor says what to do.")
        return Part(name=name, tone="bad", words=_("Pulsar cannot be reached"), advice=advice)
    return Part(name=name, tone="good", words=_("connected"))


def _backlog() -> Part:
    waiting = Pending.objects.order_by()[:BACKLOG_CAP].count()
    name = _("Events to be applied")
    if waiting >= BACKLOG_CAP:
        words = _("%(n)d or more") % {"n": waiting}
        return Part(name=name, tone="warn", words=words, advice=_("More workers would help."))
    return Part(name=name, tone="good", words=str(waiting))
