"""Who is outside the service during a soak: one who tells sagas at a steady rate, and the services that obey commands.

Each is a process of its own. The broker may fall silent or refuse for a while: what failed is sent again, as the
services do it.
"""

import time
import uuid
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from random import Random
from typing import Any, NamedTuple

import orjson
import pulsar

from devtools.simulator import wire
from devtools.simulator.transport import Broker, SimulatorTransport
from tests.bench.load import Teller
from tests.bench.parties import Party

Message = tuple[str, bytes]

IN_FLIGHT = 300
DUPLICATE_RATE = 0.02
FAILURE_RATE = 0.1
SILENCE = 5.0


class Told(NamedTuple):
    """What was published: messages with repeats, events that differ, sagas, and seconds behind the rate at most."""

    messages: int
    events: int
    sagas: int
    behind: float


def teller(broker: Broker, *, rate: float, seconds: float, seed: int) -> Party:
    """Tells sagas for so long, `rate` messages a second, and ends those that it began. Its result is a Told."""
    return Party(_tell, broker, rate, seconds, seed)


def services(broker: Broker) -> Party:
    """Confirms every command at once, until its end."""
    return Party(_obey, broker)


@dataclass(slots=True)
class Stories:
    """Sagas told beside each other, some of them failing; now and then a message is told again."""

    rng: Random
    sagas: int = 0
    events: int = 0
    _running: list[Iterator[Message]] = field(default_factory=list)

    def next(self, *, may_begin: bool) -> Message | None:
        """The next message; None when nothing is left to tell. may_begin: whether a new saga may start."""
        while may_begin and len(self._running) < IN_FLIGHT:
            self._running.append(self._begin())
        while self._running:
            number = self.rng.randrange(len(self._running))
            message = next(self._running[number], None)
            if message is not None:
                self.events += 1
                return message
            self._running[number] = self._running[-1]
            self._running.pop()
            if may_begin:
                self._running.append(self._begin())
        return None

    def _begin(self) -> Iterator[Message]:
        self.sagas += 1
        return Teller(self.rng.randint(1, 5), fails=self.rng.random() < FAILURE_RATE, stamped=False).whole()


class Sender:
    """Producers that send without waiting, and again what failed."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._client = broker.connect()
        self._producers: dict[str, pulsar.Producer] = {}
        self._failed: deque[Message] = deque()

    def send(self, message: Message) -> None:
        # Called by the client's thread; must not raise.
        def done(result: pulsar.Result, _: object) -> None:
            if result != pulsar.Result.Ok:
                self._failed.append(message)

        try:
            self._producer(message[0]).send_async(message[1], done)
        except pulsar.PulsarException:
            self._failed.append(message)

    def again(self) -> None:
        """Send again what failed by now."""
        for _ in range(len(self._failed)):
            self.send(self._failed.popleft())

    def flush(self) -> None:
        """Wait until all is sent."""
        while True:
            for producer in self._producers.values():
                try:
                    producer.flush()
                except pulsar.PulsarException:
                    time.sleep(0.5)
            if not self._failed:
                return
            self.again()

    def close(self) -> None:
        self._client.close()

    def _producer(self, topic: str) -> pulsar.Producer:
        if topic not in self._producers:
            self._producers[topic] = self._client.create_producer(
                self._broker.full_name(topic), batching_enabled=True, batching_max_publish_delay_ms=5
            )
        return self._producers[topic]


def _tell(pipe: Connection, broker: Broker, rate: float, seconds: float, seed: int) -> None:
    sender = Sender(broker)
    stories = Stories(Random(seed))
    pipe.send(("ready", None))
    pipe.recv()
    began = time.monotonic()
    sent, behind = 0, 0.0
    while (message := stories.next(may_begin=time.monotonic() < began + seconds)) is not None:
        for _ in range(2 if stories.rng.random() < DUPLICATE_RATE else 1):
            sender.send(message)
            sent += 1
        early = began + sent / rate - time.monotonic()
        behind = max(behind, -early)
        if early > 0.005:
            sender.again()
            time.sleep(early)
    sender.flush()
    pipe.send(("result", Told(sent, stories.events, stories.sagas, round(behind, 1))))
    pipe.recv()
    sender.close()


def _obey(pipe: Connection, broker: Broker) -> None:
    transport = SimulatorTransport(broker, f"soak-services-{time.time_ns()}")
    pipe.send(("ready", None))
    pipe.recv()
    heard = time.monotonic()
    while True:
        commands = transport.receive()
        for _, body in commands:
            transport.send(*_confirmation(orjson.loads(body)))
        if commands:
            heard = time.monotonic()
        elif time.monotonic() - heard > SILENCE:
            # pulsar-lite sometimes stops to deliver until a consumer subscribes anew.
            transport.resubscribe()
            heard = time.monotonic()
        if not transport.healthy:
            transport.flush()


def _confirmation(command: dict[str, Any]) -> Message:
    task, image = command["data"]["task_id"], command["data"]["image_id"]
    if command["type"] == wire.DELETE:
        kind, fields = "ImageDeletionCompleted", wire.image_deletion_completed(task, image, "Saga compensation")
    else:
        kind, fields = "AnonymizationRolledBack", wire.anonymization_rolled_back(task, image, "Saga compensation")
    envelope = {"id": str(uuid.uuid4()), "timestamp": wire.timestamp(datetime.now(UTC)), "type": kind}
    return wire.TOPICS[kind], wire.encode({**envelope, **fields})
