"""manage.py run_bridge: the process between Pulsar and the event log."""

import logging
import os
import signal
import threading
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from bridge.consumer import Consumer, make_consumer
from bridge.pulsar.admin import PulsarAdmin
from bridge.pulsar.backlog import Watch
from bridge.wakeup import Nudger

logger = logging.getLogger(__name__)

# A call into libpq or Pulsar that hangs keeps Python's own handlers waiting. What is lost by leaving it: nothing.
_PATIENCE_SECONDS = 4.0


class Command(BaseCommand):
    help = "Take events from Pulsar into the event log until SIGTERM or Ctrl-C."

    def handle(self, *args: Any, **options: Any) -> None:
        nudger = Nudger("apply")
        consumer = make_consumer(nudger.ask)
        watch = Watch(PulsarAdmin(settings.PULSAR))
        ended = threading.Event()
        _end_on_signals(consumer, ended)
        nudger.start()
        if settings.PULSAR["admin_url"]:
            watch.start()
        try:
            consumer.run()
            nudger.stop()
            watch.stop()
        finally:
            ended.set()


def _end_on_signals(consumer: Consumer, ended: threading.Event) -> None:
    """Stop the consumer at the first SIGTERM or SIGINT, and end the process by force if it has not left in time."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)  # written by C code, whatever the main thread hangs in
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: consumer.stop())
    threading.Thread(target=_leave_by_force, args=(reader, ended), daemon=True).start()


def _leave_by_force(reader: int, ended: threading.Event) -> None:
    os.read(reader, 1)
    if not ended.wait(_PATIENCE_SECONDS):
        logger.warning("the last turn did not end in time: leaving it; what it held comes again")
        os._exit(0)
