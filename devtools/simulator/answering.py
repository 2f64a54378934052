"""Receive our commands and send the services' answers when they are due."""

import heapq
import itertools
import threading
import time
from datetime import UTC, datetime

from devtools.simulator.naming import dice
from devtools.simulator.services import Reply, Services
from devtools.simulator.transport import SimulatorTransport

SILENCE = 5.0  # seconds without a command until the consumers subscribe again
LONGEST_SILENCE = 60.0


class Answering:
    """The loop of the services that receive commands.

    expecting: set while commands are expected; only then is silence suspicious.
    duplicate_rate: share of the answers that are sent twice.
    """

    def __init__(self, transport: SimulatorTransport, services: Services, duplicate_rate: float, seed: int) -> None:
        self._transport = transport
        self._services = services
        self._duplicate_rate = duplicate_rate
        self._rng = dice(f"{seed}/answering")
        self._due: list[tuple[float, int, Reply]] = []
        self._order = itertools.count()
        self._heard_at = time.monotonic()
        self._silence = SILENCE
        self.expecting = threading.Event()
        self.expecting.set()
        self.sent = 0

    @property
    def pending(self) -> bool:
        """Whether an answer is still to be sent, other than to a command that is delivered again and again."""
        return any(not reply.redelivered for _, _, reply in self._due)

    def run(self, over: threading.Event) -> None:
        """Answer until `over` is set."""
        while not over.is_set():
            commands = self._transport.receive()
            for topic, body in commands:
                self._take(topic, body)
            self._send_due()
            self._watch(heard=bool(commands))
            if not self._transport.healthy:
                self._transport.flush()

    def _take(self, topic: str, body: bytes) -> None:
        self._schedule(self._services.receive(topic, body, datetime.now(UTC)))

    def _schedule(self, replies: list[Reply]) -> None:
        for reply in replies:
            heapq.heappush(self._due, (time.monotonic() + reply.after, next(self._order), reply))

    def _send_due(self) -> None:
        while self._due and self._due[0][0] <= time.monotonic():
            reply = self._due[0][2]
            event = reply.event
            for _ in range(2 if self._rng.random() < self._duplicate_rate else 1):
                self._transport.send(event.topic, event.body())
                self.sent += 1
            heapq.heappop(self._due)
            if reply.again is not None:
                self._schedule(reply.again(datetime.now(UTC)))

    def _watch(self, *, heard: bool) -> None:
        now = time.monotonic()
        if heard or not self.expecting.is_set():
            self._heard_at, self._silence = now, SILENCE
        elif now - self._heard_at > self._silence:
            # pulsar-lite sometimes stops delivering until a consumer subscribes again.
            self._transport.resubscribe()
            self._heard_at, self._silence = now, min(LONGEST_SILENCE, 2 * self._silence)
