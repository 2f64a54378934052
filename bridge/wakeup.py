"""Wake a Celery task by name. A nudge has no arguments and no guarantee: the sweeps find work whose nudge was lost."""

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import Literal

from celery import current_app
from django.conf import settings
from django.db import transaction

logger = logging.getLogger(__name__)

Wakeup = Literal["apply", "publish", "jobs"]

# How long RabbitMQ keeps a nudge that no worker takes, by its own clock, so that hours without a worker leave no
# backlog of nudges. Not Celery's `expires`: a worker compares that with its own clock, and one that is ahead would
# discard every nudge. On Valkey the length of the queue is limited instead (sagaproject.valkey_transport).
_KEPT_SECONDS = 15
_INTERVAL_SECONDS = 0.05
_AFTER_FAILURE_SECONDS = 2.0
_LAST_NUDGE_SECONDS = 0.5


def nudge(name: Wakeup) -> bool:
    """Signal that there is work. Return False if the Celery broker did not accept it. Never raises; may run twice."""
    try:
        current_app.send_task(settings.WAKEUPS[name], expiration=_KEPT_SECONDS, ignore_result=True, retry=False)
    except Exception as error:  # whatever the transport raises: the work is in the database, where the sweep finds it
        logger.warning("could not wake %s: %s", name, type(error).__name__)
        return False
    return True


def nudge_on_commit(name: Wakeup) -> None:
    """Nudge after the current transaction has committed, or immediately outside one. Never raises."""
    transaction.on_commit(partial(nudge, name), robust=True)


class Nudger:
    """Send nudges from a separate thread, at most every 50 ms, so that a hanging Celery broker delays no caller.

    However often it is asked in between, one nudge follows the last request.
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
        """Request a nudge. Returns immediately."""
        self._asked.set()

    def stop(self) -> None:
        """Stop the thread; send a requested nudge first if that takes at most 0.5 s. May be called before `start`."""
        self._stopping.set()
        self._asked.set()
        if self._thread.is_alive():
            self._thread.join(_LAST_NUDGE_SECONDS)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._asked.wait()
            self._asked.clear()
            is_sent = self._send(self._name)
            # A nudge that could not be sent is not repeated: the sweep finds the work.
            self._stopping.wait(_INTERVAL_SECONDS if is_sent else _AFTER_FAILURE_SECONDS)
