"""Run several processes that serve one socket: start them, restart those that die, and stop them together."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable
from typing import NoReturn

logger = logging.getLogger(__name__)

# A process that dies earlier is restarted only after this many seconds.
SHORTEST_LIFE = 1.0


def run(count: int, serve: Callable[[], None]) -> None:
    """Run `serve` in `count` processes until SIGTERM or SIGINT, then send them SIGTERM; return when all have ended.

    Call it before there are threads and database connections: processes must not share them.
    """
    _Processes(serve).run(count)


class _Processes:
    def __init__(self, serve: Callable[[], None]) -> None:
        self._serve = serve
        self._started: dict[int, float] = {}
        self._stopping = False

    def run(self, count: int) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        for _ in range(count):
            self._start()
        while self._started:
            pid, status = os.wait()
            began = self._started.pop(pid, None)
            if began is None or self._stopping:
                continue
            logger.error("a web process ended; restarting it", extra={"pid": pid, "status": status})
            if time.monotonic() - began < SHORTEST_LIFE:
                time.sleep(SHORTEST_LIFE)
            self._start()

    def _start(self) -> None:
        both = {signal.SIGTERM, signal.SIGINT}
        # Signals are blocked until the process is recorded, so that a stop cannot miss it.
        signal.pthread_sigmask(signal.SIG_BLOCK, both)
        try:
            if self._stopping:
                return
            pid = os.fork()
            if pid == 0:
                self._run_child(both)
            self._started[pid] = time.monotonic()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, both)

    def _run_child(self, blocked: set[signal.Signals]) -> NoReturn:
        code = 1
        try:
            for number in blocked:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, blocked)
            self._serve()
            code = 0
        except BaseException:
            logger.exception("a web process failed")
        finally:
            os._exit(code)

    def _stop(self, _number: int, _frame: object) -> None:
        self._stopping = True
        for pid in self._started:
            os.kill(pid, signal.SIGTERM)
