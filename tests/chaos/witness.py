"""What the broker was given, read from the broker itself, past everything that may have failed."""

import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pulsar

from devtools.simulator import wire
from devtools.simulator.transport import Broker

SUBSCRIPTION = "witness"
SILENCE_MS = 3_000
TRIES = 5
AT_ONCE = 8


@dataclass(frozen=True)
class Message:
    """One message of a topic (short name). `place`: what the event log and the attempts call its message id."""

    topic: str
    place: str
    body: bytes

    @cached_property
    def content(self) -> Any:
        """The body as JSON; None if it is none."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None


class Witness:
    """Subscribes before the first message and testifies at the end; its subscription keeps what others acknowledge."""

    def __init__(self, broker: Broker, regions: Sequence[str]) -> None:
        self._broker = broker
        self.event_topics = sorted(
            set(wire.TOPICS.values())
            | {
                topic
                for kind in wire.PROCESSING
                for region in regions
                for topic in wire.processing_topics(kind, region)
            }
        )
        self.command_topics = sorted(wire.COMMAND_TOPICS.values())
        self._on_every_topic(self._attend)

    def testify(self) -> list[Message]:
        """Every message of every topic. When nobody sends any more; once."""
        return [message for messages in self._on_every_topic(self._read) for message in messages]

    def _on_every_topic(self, do: Any) -> list[Any]:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(do, [*self.event_topics, *self.command_topics]))

    def _attend(self, topic: str) -> None:
        client = self._broker.connect()
        self._subscribe(client, topic)
        client.close()

    def _subscribe(self, client: pulsar.Client, topic: str) -> pulsar.Consumer:
        return client.subscribe(
            self._broker.full_name(topic),
            SUBSCRIPTION,
            consumer_type=pulsar.ConsumerType.Exclusive,
            initial_position=pulsar.InitialPosition.Earliest,
        )

    def _read(self, topic: str) -> list[Message]:
        """Until the broker's own word for the last message; by a new connection where one falls silent."""
        found: dict[str, Message] = {}
        for _ in range(TRIES):
            client = self._broker.connect()  # each topic its own: pulsar-lite stalls with several on one
            try:
                consumer = self._subscribe(client, topic)
                last = _last(consumer)
                _receive(consumer, topic, found, last)
                if last is None or last <= max(map(_order, found), default=()):
                    return list(found.values())
            except pulsar.PulsarException:
                time.sleep(1)
            finally:
                client.close()
        raise RuntimeError(f"{topic} could not be read to its end: {len(found)} messages")


def _receive(consumer: pulsar.Consumer, topic: str, found: dict[str, Message], last: tuple[int, ...] | None) -> None:
    """Until the last message, or, where that is not known or does not come, until silence."""
    with suppress(pulsar.Timeout):
        while True:
            message = consumer.receive(SILENCE_MS)
            place = _place(message.message_id())
            found[place] = Message(topic, place, message.data())
            consumer.acknowledge(message)
            # Of a batch pulsar-lite does not say how many there are.
            if last and _order(place) >= last and _order(place)[-1] in (-1, last[-1]):
                return


def _last(consumer: pulsar.Consumer) -> tuple[int, ...] | None:
    """Where the topic ends, if the broker says so; () for one without messages."""
    with suppress(pulsar.PulsarException):
        last = consumer.get_last_message_id()
        return _order(_place(last)) if last.entry_id() >= 0 else ()
    return None


def _place(message_id: Any) -> str:
    return f"{message_id.ledger_id()}:{message_id.entry_id()}:{message_id.partition()}:{message_id.batch_index()}"


def _order(place: str) -> tuple[int, ...]:
    ledger, entry, _, index = map(int, place.split(":"))
    return ledger, entry, index
