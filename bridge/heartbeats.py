"""Who is alive, and since when all is well. One row a process, rewritten about every second."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
from django.db import connection

from bridge.models import Heartbeat, HeartbeatKind

FRESH = timedelta(seconds=15)
_KEPT = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class BridgeState:
    """How the bridges fare, all in all. Those whose last beat is older than 15 s count as dead.

    alive: how many are.
    connected: whether one at least is connected to Pulsar.
    well_since: since when every connected bridge has been connected and caught up without a break; None if not so now.
        One that holds unread messages may hold the answer that somebody waits for, so one is enough to say no.
    lag_seconds: how long the oldest message of the last batch had waited, at worst.
    errors: what the bridges say is wrong, in words.
    """

    alive: int
    connected: bool
    well_since: datetime | None
    last_message_at: datetime | None
    per_second: float
    lag_seconds: float
    errors: tuple[str, ...]


def beat(
    name: str,
    kind: HeartbeatKind | str,
    *,
    now: datetime,
    connected: bool,
    well: bool | None = None,
    last_message_at: datetime | None = None,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Say that `name` is alive. One statement, in its own transaction unless the caller has one; may be repeated.

    well: connected and, where that means something, caught up (default: connected). `well_since` is kept for as long
    as beats follow each other within 15 s and all of them are well.
    """
    values: dict[str, str | bool | datetime | None] = {
        "name": name,
        "kind": str(kind),
        "now": now,
        "fresh_since": now - FRESH,
        "connected": connected,
        "well_since": now if (connected if well is None else well) else None,
        "last_message_at": last_message_at,
        "detail": orjson.dumps(detail or {}).decode(),
    }
    with connection.cursor() as cursor:
        cursor.execute(_BEAT_SQL, values)


def leave(name: str) -> None:
    """Say that `name` ends, and on purpose. May be repeated."""
    Heartbeat.objects.filter(name=name).delete()


def forget_the_dead(now: datetime) -> None:
    """Drop the rows of processes that have not been heard of for a day. May be repeated."""
    Heartbeat.objects.filter(beat_at__lt=now - _KEPT).delete()


def bridge_state(now: datetime) -> BridgeState:
    """How the bridges fare, from one query."""
    rows = list(Heartbeat.objects.filter(kind=HeartbeatKind.BRIDGE, beat_at__gt=now - FRESH))
    connected = [row for row in rows if row.connected]
    well = [row.well_since for row in connected if row.well_since]
    return BridgeState(
        alive=len(rows),
        connected=bool(connected),
        well_since=max(well) if well and len(well) == len(connected) else None,
        last_message_at=max((row.last_message_at for row in rows if row.last_message_at), default=None),
        per_second=sum(row.detail.get("per_second", 0.0) for row in rows),
        lag_seconds=max((row.detail.get("lag_seconds", 0.0) for row in rows), default=0.0),
        errors=tuple(row.detail["error"] for row in rows if row.detail.get("error")),
    )


_BEAT_SQL = """
    INSERT INTO bridge_heartbeat AS old
        (name, kind, started_at, beat_at, connected, well_since, last_message_at, detail)
    VALUES
        (%(name)s, %(kind)s, %(now)s, %(now)s, %(connected)s, %(well_since)s, %(last_message_at)s, %(detail)s::jsonb)
    ON CONFLICT (name) DO UPDATE SET
        kind = excluded.kind,
        started_at = CASE WHEN old.beat_at > %(fresh_since)s THEN old.started_at ELSE excluded.started_at END,
        beat_at = excluded.beat_at,
        connected = excluded.connected,
        well_since = CASE
            WHEN excluded.well_since IS NOT NULL AND old.beat_at > %(fresh_since)s
            THEN coalesce(old.well_since, excluded.well_since)
            ELSE excluded.well_since
        END,
        last_message_at = coalesce(excluded.last_message_at, old.last_message_at),
        detail = excluded.detail
"""
