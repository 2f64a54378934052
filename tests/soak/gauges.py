"""What a soak looks at every few seconds: memory by process, tables and their dead rows, queues, and the web."""

import http.cookiejar
import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import psutil
import redis

from tests.bench.rig import Rig

QUEUES = ("applying", "commands", "housekeeping")
# Written again and again, or filled and emptied: here dead rows pile up if they do anywhere.
HOT_TABLES = (
    "bridge_pending",
    "bridge_heartbeat",
    "sagas_saga",
    "sagas_lane",
    "sagas_step",
    "sagas_parked",
    "compensation_command",
    "compensation_attempt",
)
_TABLES = """
    SELECT s.relname, pg_total_relation_size(s.relid), s.n_live_tup, s.n_dead_tup, c.reltuples,
           coalesce(own.threshold, current_setting('autovacuum_vacuum_threshold')::float8),
           coalesce(own.scale, current_setting('autovacuum_vacuum_scale_factor')::float8)
    FROM pg_stat_user_tables s JOIN pg_class c ON c.oid = s.relid
    LEFT JOIN LATERAL (
        SELECT max(option_value::float8) FILTER (WHERE option_name = 'autovacuum_vacuum_threshold') AS threshold,
               max(option_value::float8) FILTER (WHERE option_name = 'autovacuum_vacuum_scale_factor') AS scale
        FROM pg_options_to_table(c.reloptions)
    ) AS own ON TRUE
"""

_UNANSWERED = """
    SELECT count(*) FROM compensation_command WHERE status IN ('planned', 'publishing', 'published', 'waiting')
"""


def memory(pids: Mapping[str, int], parts: tuple[str, ...]) -> dict[str, dict[int, float]]:
    """Resident megabytes by role, then by process: «worker» is the parent, «worker child» each of its children."""
    found: dict[str, dict[int, float]] = {}
    for part in parts:
        with suppress(psutil.NoSuchProcess, KeyError):
            root = psutil.Process(pids[part])
            for process in (root, *root.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):
                    role = part if process is root else f"{part} child"
                    found.setdefault(role, {})[process.pid] = round(process.memory_info().rss / 1e6, 1)
    return found


def tables(rig: Rig) -> dict[str, dict[str, float]]:
    """By table: megabytes with indexes, live and dead rows, and at how many dead rows vacuum comes."""
    return {
        name: {
            "megabytes": round(size / 1e6, 3),
            "live": live,
            "dead": dead,
            "vacuum_at": round(threshold + scale * max(rows, 0)),
        }
        for name, size, live, dead, rows, threshold, scale in rig.ask(_TABLES)
    }


def queues(rig: Rig, valkey: redis.Redis) -> dict[str, int]:
    """What waits: events, commands due, Celery's messages, messages handed out and not acknowledged."""
    waiting = {f"celery {queue}": int(valkey.llen(f"saga:{queue}")) for queue in QUEUES}
    return {
        "events": int(rig.one("SELECT count(*) FROM bridge_pending")),
        "commands": int(rig.one(_UNANSWERED)),
        "parked": int(rig.one("SELECT count(*) FROM sagas_parked")),
        **waiting,
    }


class Visitor:
    """Somebody who looks at API and admin while it all runs. `seen`: answers by their status."""

    def __init__(self, base_url: str, login: Mapping[str, str]) -> None:
        self._base = base_url
        self._login = login
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),  # this machine is never behind a proxy
            urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()),
        )
        self.seen: Counter[str] = Counter()
        self.slowest = 0.0

    def enter(self) -> None:
        """Log in to the admin."""
        page = self._get("/admin/login/")
        found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
        assert found, "the login page has no form"
        self._get("/admin/login/", {**self._login, "csrfmiddlewaretoken": found[1], "next": "/admin/"})

    def look(self) -> None:
        """Look at the lists, at the newest saga and at the start page."""
        api = "/api/v1/saga"
        for address in ("/health", "/admin/", "/admin/sagas/sagalog/", f"{api}/attention", f"{api}/parked"):
            self._get(address)
        sagas = self._get(f"{api}/sagas?limit=3")
        for saga in json.loads(sagas or '{"items": []}')["items"]:
            for part in ("", "/timeline", "/lanes"):
                self._get(f"{api}/sagas/{saga['id']}{part}")
            self._get(f"/admin/sagas/sagalog/{saga['id']}/change/")

    def _get(self, address: str, form: Mapping[str, str] | None = None) -> str:
        data = urllib.parse.urlencode(form).encode() if form else None
        request = urllib.request.Request(f"{self._base}{address}", data, {"Referer": f"{self._base}{address}"})
        began = time.monotonic()
        body = ""
        try:
            with self._opener.open(request, timeout=30) as answer:
                body = answer.read().decode()
                self.seen[str(answer.status)] += 1
        except urllib.error.HTTPError as error:
            self.seen[str(error.code)] += 1
        except OSError:
            self.seen["no answer"] += 1
        self.slowest = max(self.slowest, time.monotonic() - began)
        return body


def sample(rig: Rig, valkey: redis.Redis, parts: tuple[str, ...], began: float) -> dict[str, Any]:
    """One look at everything."""
    return {
        "at": round(time.monotonic() - began, 1),
        "events": int(rig.one("SELECT coalesce(max(id), 0) FROM bridge_event")),
        "memory": memory(rig.pids, parts),
        "tables": tables(rig),
        "queues": queues(rig, valkey),
    }
