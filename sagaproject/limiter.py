"""How often somebody may ask: one limit for all web processes, without a statement of the database for each request."""

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
# Windows that a process remembers. Those that it forgets are still in the database.
_MOST_WINDOWS = 10_000


@dataclass(slots=True)
class _Window:
    """What this process may still let through until `until` (time.monotonic()).

    is_last: nothing more can be had from the database in this window. is_told: the log says so.
    """

    left: int
    until: float
    is_last: bool
    is_told: bool = False


class Limiter:
    """Lets `count` requests of each somebody through in `seconds`, in all processes together.

    A process takes `block` requests at a time from the counter in the database and spends them by itself, so what it
    took and did not spend is lost to the others until the window ends. Where the database is away or takes no changes,
    each process counts by itself. May be used by several threads.
    """

    def __init__(self, scope: str, count: int, seconds: int, block: int) -> None:
        self._scope = scope
        self._count = count
        self._seconds = seconds
        self._block = block
        self._windows: dict[str, _Window] = {}
        self._lock = threading.Lock()

    def wait(self, who: str) -> float:
        """Seconds for which this process knows that `who` must wait; 0.0 if it knows of none. Counts nothing."""
        with self._lock:
            window = self._current(who)
            return self._refuse(who, window) if window and window.is_last and not window.left else 0.0

    def spend(self, who: str) -> float:
        """Count one request: the seconds to wait if it is one too many, else 0.0."""
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
            self._keep_small()
            if not granted:
                return self._refuse(who, window)
            window.left += granted - 1
        return 0.0

    def _take(self, who: str) -> tuple[int, float, bool]:
        """How many requests this process gets, for how many seconds, and whether there are none after them."""
        try:
            count, seconds = request_counts.add(f"{self._scope}:{who}", self._block, self._seconds)
        except (DatabaseError, InterfaceError):
            return self._count, self._seconds, True
        return max(0, min(self._block, self._count - (count - self._block))), seconds, count >= self._count

    def _refuse(self, who: str, window: _Window) -> float:
        seconds = max(0.001, window.until - time.monotonic())
        if not window.is_told:
            window.is_told = True
            told = {"scope": self._scope, "who": who, "seconds": math.ceil(seconds)}
            logger.warning("too many requests, refused for a while", extra=told)
        return seconds

    def _current(self, who: str) -> _Window | None:
        window = self._windows.get(who)
        return window if window and window.until > time.monotonic() else None

    def _keep_small(self) -> None:
        if len(self._windows) > _MOST_WINDOWS:
            self._windows = {who: window for who in self._windows if (window := self._current(who))}
        if len(self._windows) > _MOST_WINDOWS:
            self._windows.clear()


@cache
def limiter(scope: str, rate: str, blocks: int) -> Limiter:
    """Give the limiter of a scope for a rate such as 60/min, which a process takes in so many blocks."""
    count, _, unit = rate.partition("/")
    return Limiter(scope, int(count), _SECONDS[unit], max(1, int(count) // blocks))
