"""manage.py run_bridge: run the process that moves messages from Pulsar to the event log."""

import logging
import os
import signal
import threading
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from bridge.consumer import Consumer, make_consumer
from bridge.pulsar.admin import PulsarAdmin
from bridge.pulsar.backlog import BacklogMonitor
from bridge.wakeup import Nudger

logger = logging.getLogger(__name__)

# A hanging call into libpq or Pulsar delays Python's signal handlers. Ending the process during it loses nothing:
# unacknowledged messages are redelivered.
_STOP_SECONDS = 4.0


class Command(BaseCommand):
    help = "Receive events from Pulsar and store them in the event log until SIGTERM or Ctrl-C."

    def handle(self, *args: Any, **options: Any) -> None:
        nudger = Nudger("apply")
        consumer = make_consumer(nudger.ask)
        monitor = BacklogMonitor(PulsarAdmin(settings.PULSAR))
        ended = threading.Event()
        _end_on_signals(consumer, ended)
        nudger.start()
        if settings.PULSAR["admin_url"]:
            monitor.start()
        try:
            consumer.run()
            nudger.stop()
            monitor.stop()
        finally:
            ended.set()


def _end_on_signals(consumer: Consumer, ended: threading.Event) -> None:
    """Stop the consumer at the first SIGTERM or SIGINT, and end the process by force if it does not stop in time."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)  # written by C code, even while the main thread hangs
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: consumer.stop())
    threading.Thread(target=_exit_by_force, args=(reader, ended), daemon=True).start()


def _exit_by_force(reader: int, ended: threading.Event) -> None:
    os.read(reader, 1)
    if not ended.wait(_STOP_SECONDS):
        logger.warning("the last step did not end in time: exiting; its messages will be redelivered")
        os._exit(0)
