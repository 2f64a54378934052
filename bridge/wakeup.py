"""Wake a Celery task by name. A nudge carries no arguments and no promise: the sweepers find what it lost."""

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import Literal

from celery import current_app
from django.conf import settings
from django.db import transaction

logger = logging.getLogger(__name__)

Wakeup = Literal["apply", "publish"]

# How long RabbitMQ keeps a nudge that nobody takes, by its own clock, so that hours without a worker pile up nothing.
# Not Celery's `expires`, which a worker compares with its clock: one that is ahead would throw every nudge away. On
# Valkey the length of a queue is bounded instead (sagaproject.valkey_transport).
_KEPT_SECONDS = 15
_EVERY_SECONDS = 0.05
_AFTER_A_FAILURE_SECONDS = 2.0
_LAST_NUDGE_SECONDS = 0.5


def nudge(name: Wakeup) -> bool:
    """Say that there is work. Never raises, may be repeated at will; False if the Celery broker did not take it."""
    try:
        current_app.send_task(settings.WAKEUPS[name], expiration=_KEPT_SECONDS, ignore_result=True, retry=False)
    except Exception as error:  # whatever the transport raises: the work is in the database, and so is the sweeper's
        logger.warning("no nudge to %s: %s", name, type(error).__name__)
        return False
    return True


def nudge_on_commit(name: Wakeup) -> None:
    """Nudge when the current transaction has committed, or at once outside one. Never fails the commit's caller."""
    transaction.on_commit(partial(nudge, name), robust=True)


class Nudger:
    """Nudges from a thread of its own, at most every 50 ms: a Celery broker that hangs holds up nobody but itself.

    However often it is asked meanwhile, one nudge follows the last time it was asked.
    """

    def __init__(self, name: Wakeup, send: Callable[[Wakeup], bool] = nudge) -> None:
        self._name = name
        self._send = send
        self._asked = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"nudge-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def ask(self) -> None:
        """There is work. Returns at once."""
        self._asked.set()

    def stop(self) -> None:
        """Let a nudge that is asked for go out, if that takes no time. May be called though it was never started."""
        self._stopping.set()
        self._asked.set()
        if self._thread.is_alive():
            self._thread.join(_LAST_NUDGE_SECONDS)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._asked.wait()
            self._asked.clear()
            went_out = self._send(self._name)
            # What did not go out is not owed: the sweeper finds the work.
            self._stopping.wait(_EVERY_SECONDS if went_out else _AFTER_A_FAILURE_SECONDS)
