"""Limit the rate of requests across all web processes, without a database statement for each request."""

from __future__ import annotations

import logging
import math
import threading
import time
from dataclasses import dataclass
from functools import cache

from django.db import DatabaseError, InterfaceError

from sagaproject import request_counts

logger = logging.getLogger(__name__)

_SECONDS = {"sec": 1, "min": 60, "hour": 3600, "day": 86_400}
# Windows that a process caches. Discarded ones are still in the database.
_MAX_WINDOWS = 10_000


@dataclass(slots=True)
class _Window:
    """How many requests this process may still accept until `until` (time.monotonic()).

    is_last: the database has no more requests left in this window. is_logged: the refusal has been logged.
    """

    left: int
    until: float
    is_last: bool
    is_logged: bool = False


class Limiter:
    """Accept `count` requests of each client in `seconds`, in all processes together.

    A process takes `block` requests at a time from the counter in the database and spends them locally; requests that
    it took and did not spend are lost to the other processes until the window ends. While the database is unavailable
    or read-only, each process counts separately. May be used by several threads.
    """

    def __init__(self, scope: str, count: int, seconds: int, block: int) -> None:
        self._scope = scope
        self._count = count
        self._seconds = seconds
        self._block = block
        self._windows: dict[str, _Window] = {}
        self._lock = threading.Lock()

    def wait(self, who: str) -> float:
        """Return the seconds that `who` must wait, as far as this process knows; 0.0 if none. Counts nothing."""
        with self._lock:
            window = self._current(who)
            return self._refuse(who, window) if window and window.is_last and not window.left else 0.0

    def spend(self, who: str) -> float:
        """Count one request. Return the seconds to wait if it exceeds the limit, else 0.0."""
        with self._lock:
            window = self._current(who)
            if window and window.left:
                window.left -= 1
                return 0.0
            if window and window.is_last:
                return self._refuse(who, window)
        granted, seconds, is_last = self._take(who)
        with self._lock:
            before = self._current(who)
            window = _Window(before.left if before else 0, time.monotonic() + seconds, is_last)
            self._windows[who] = window
            self._discard_old()
            if not granted:
                return self._refuse(who, window)
            window.left += granted - 1
        return 0.0

    def _take(self, who: str) -> tuple[int, float, bool]:
        """Return how many requests this process gets, for how many seconds, and whether they are the last ones."""
        try:
            count, seconds = request_counts.add(f"{self._scope}:{who}", self._block, self._seconds)
        except (DatabaseError, InterfaceError):
            return self._count, self._seconds, True
        return max(0, min(self._block, self._count - (count - self._block))), seconds, count >= self._count

    def _refuse(self, who: str, window: _Window) -> float:
        seconds = max(0.001, window.until - time.monotonic())
        if not window.is_logged:
            window.is_logged = True
            extra = {"scope": self._scope, "who": who, "seconds": math.ceil(seconds)}
            logger.warning("too many requests: refused until the window ends", extra=extra)
        return seconds

    def _current(self, who: str) -> _Window | None:
        window = self._windows.get(who)
        return window if window and window.until > time.monotonic() else None

    def _discard_old(self) -> None:
        if len(self._windows) > _MAX_WINDOWS:
            self._windows = {who: window for who in self._windows if (window := self._current(who))}
        if len(self._windows) > _MAX_WINDOWS:
            self._windows.clear()


@cache
def limiter(scope: str, rate: str, blocks: int) -> Limiter:
    """Return the limiter of a scope for a rate such as 60/min, which a process takes in this number of blocks."""
    count, _, unit = rate.partition("/")
    return Limiter(scope, int(count), _SECONDS[unit], max(1, int(count) // blocks))
