"""Send the events of a run at the requested rate."""

import threading
import time
from collections import Counter
from collections.abc import Sequence

from devtools.simulator.mischief import Kind, Sending
from devtools.simulator.transport import SimulatorTransport

LATE_PAUSE = 2.0  # seconds between the last event and those that come late, and between two waves
SLACK = 0.005  # seconds that the sender may be ahead of its pace before it sleeps


class Sender:
    """Send every message once, in order. rate: messages per second, 0 for as fast as possible."""

    def __init__(self, transport: SimulatorTransport, sendings: Sequence[Sending], rate: float) -> None:
        self._transport = transport
        self._sendings = sendings
        self._rate = rate
        self.sent: Counter[Kind] = Counter()
        self.finished = False

    def run(self, over: threading.Event) -> None:
        """Send until everything is sent or `over` is set. May be called once."""
        began, part = time.monotonic(), (0, False)
        for number, sending in enumerate(self._sendings):
            if sending.part != part:
                part = sending.part
                self._drain(over)
                over.wait(LATE_PAUSE)
                began += LATE_PAUSE
            if self._rate:
                ahead = began + number / self._rate - time.monotonic()
                if ahead > SLACK:
                    over.wait(ahead)
            if over.is_set():
                return
            self._transport.send(sending.event.topic, sending.body())
            self.sent[sending.kind] += 1
        self._drain(over)
        self.finished = not over.is_set()

    def _drain(self, over: threading.Event) -> None:
        while not self._transport.flush() and not over.wait(0.5):
            pass
