"""Send messages: producers made when first needed, asynchronous sends, one flush."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import pulsar

from bridge.errors import BrokerUnavailable
from bridge.pulsar.client import TOPIC_ANSWERS, connect, describe, quietly, translated

_MAX_PENDING = 1000
_SEND_TIMEOUT_MS = 5_000
_OPERATION_TIMEOUT_SECONDS = 5

_PERMANENT = frozenset({"MessageTooBig", "InvalidMessage"})


class Sent(NamedTuple):
    """The outcome of sending one message. `reachable` false: the outcome is unknown, the message may have arrived.

    error: the code of the reason (see `bridge.reasons`) if it was not sent.
    blocked: the broker answered that the topic accepts no message at all until a person changes something.
    """

    message_id: str | None
    error: str | None
    reachable: bool
    permanent: bool
    blocked: bool = False


class Outlet:
    """A client and its producers, for one process and one thread, never across a fork.

    The constructor may raise BrokerUnavailable.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        timeout = min(_OPERATION_TIMEOUT_SECONDS, options["operation_timeout_seconds"])
        with translated():
            self._client = connect(options, timeout)
        self._producers: dict[str, pulsar.Producer] = {}

    def send(self, topic: str, body: bytes, done: Callable[[Sent], None]) -> None:
        """Send without waiting; `done` is called once, from another thread, at the latest by the end of `flush`.

        topic: its full name. Raises BrokerUnavailable if no producer can be made for it.
        """
        with translated():
            self._producer(topic).send_async(body, partial(_done, done))

    def flush(self) -> None:
        """Wait until every message is acknowledged, refused or timed out. Never raises."""
        for producer in self._producers.values():
            with quietly("flush"):
                producer.flush()

    def probe(self, topic: str) -> None:
        """Look up a topic at the broker. Raises BrokerUnavailable if there is no answer within 5 seconds."""
        with translated():
            self._client.get_topic_partitions(topic)

    def prepare(self, topic: str) -> None:
        """Make sure that there is a producer for a topic. Raises BrokerUnavailable if none can be made."""
        with translated():
            self._producer(topic)

    def close(self) -> None:
        """Disconnect. Never raises."""
        with quietly("close"):
            self._client.close()

    def _producer(self, topic: str) -> pulsar.Producer:
        producer = self._producers.get(topic)
        if producer is None:
            producer = self._producers[topic] = self._client.create_producer(
                topic,
                send_timeout_millis=_SEND_TIMEOUT_MS,
                max_pending_messages=_MAX_PENDING,
                block_if_queue_full=True,
                # The receiving services nack what fails, and a nack redelivers the whole entry: one command per entry.
                batching_enabled=False,
            )
        return producer


def refusal(error: BrokerUnavailable) -> Sent:
    """Return the outcome of a message for which no producer could be made."""
    return _failed(error.answer, error.code)


def _failed(answer: str, code: str) -> Sent:
    """Classify the failure: the message itself is refused, its topic is blocked, or the broker may be unreachable."""
    blocked = answer in TOPIC_ANSWERS
    permanent = answer in _PERMANENT
    return Sent(None, code, reachable=blocked or permanent, permanent=permanent, blocked=blocked)


def _done(done: Callable[[Sent], None], result: pulsar.Result, message_id: Any) -> None:
    """Pass the result to `done`, on the client's thread. Must not raise: the client's next flush would never return."""
    if result == pulsar.Result.Ok:
        place = (message_id.ledger_id(), message_id.entry_id(), message_id.partition(), message_id.batch_index())
        done(Sent(":".join(map(str, place)), None, reachable=True, permanent=False))
    else:
        done(_failed(result.name, describe(result.name)))
