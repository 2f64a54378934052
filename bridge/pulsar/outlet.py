"""Sending out: producers made when first needed, asynchronous sends, one flush."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import pulsar

from bridge.errors import BrokerUnavailable
from bridge.pulsar.client import TOPIC_ANSWERS, connect, in_words, quietly, translated

_MAX_PENDING = 1000
_SEND_TIMEOUT_MS = 5_000
_OPERATION_TIMEOUT_SECONDS = 5

_PERMANENT = frozenset({"MessageTooBig", "InvalidMessage"})


class Sent(NamedTuple):
    """What became of one message. `reachable` false: nothing is known, it may even have arrived.

    blocked: the broker answered, and the topic takes no message at all until somebody changes something.
    """

    message_id: str | None
    error: str | None
    reachable: bool
    permanent: bool
    blocked: bool = False


class Outlet:
    """A client and its producers, for one process and one thread, never across a fork. May raise BrokerUnavailable."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        timeout = min(_OPERATION_TIMEOUT_SECONDS, options["operation_timeout_seconds"])
        with translated():
            self._client = connect(options, timeout)
        self._producers: dict[str, pulsar.Producer] = {}

    def send(self, topic: str, body: bytes, done: Callable[[Sent], None]) -> None:
        """Send without waiting; `done` is called once, from another thread, at the latest by the end of `flush`.

        topic: its full name. Raises BrokerUnavailable if there is no producer for it to be had.
        """
        with translated():
            self._producer(topic).send_async(body, partial(_done, done))

    def flush(self) -> None:
        """Wait until every message is answered or timed out. Never raises."""
        for producer in self._producers.values():
            with quietly("flush"):
                producer.flush()

    def probe(self, topic: str) -> None:
        """Ask the broker about a topic. Raises BrokerUnavailable if there is no answer within seconds."""
        with translated():
            self._client.get_topic_partitions(topic)

    def prepare(self, topic: str) -> None:
        """Have a producer for a topic. Raises BrokerUnavailable if none is to be had."""
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
                # The receiving services nack what fails, and a nack brings back the whole entry: one command each.
                batching_enabled=False,
            )
        return producer


def refusal(error: BrokerUnavailable) -> Sent:
    """What a message became for which there was no producer."""
    return _failed(error.answer, str(error))


def _failed(answer: str, words: str) -> Sent:
    """Tell apart what the message is refused for, what its topic is, and what may be the way to the broker."""
    blocked = answer in TOPIC_ANSWERS
    permanent = answer in _PERMANENT
    return Sent(None, words, reachable=blocked or permanent, permanent=permanent, blocked=blocked)


def _done(done: Callable[[Sent], None], result: pulsar.Result, message_id: Any) -> None:
    """Runs on the client's thread. It must not raise: the client would wait for ever in its next flush."""
    if result == pulsar.Result.Ok:
        place = (message_id.ledger_id(), message_id.entry_id(), message_id.partition(), message_id.batch_index())
        done(Sent(":".join(map(str, place)), None, reachable=True, permanent=False))
    else:
        done(_failed(result.name, in_words(result.name)))
