"""Publish commands to Pulsar: a page at a time, with one outcome for each message."""

import os
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from django.conf import settings

from bridge.catalog import get_catalog
from bridge.errors import BrokerUnavailable
from bridge.pulsar.outlet import Outlet, Sent, refusal
from bridge.topics import Topics, get_topics

_UNANSWERED = Sent(None, "unanswered", reachable=False, permanent=False)


class OutgoingMessage(NamedTuple):
    """A message to publish. id: chosen by the caller, to identify the result; topic: a short name."""

    id: str
    topic: str
    body: bytes


class PublishResult(NamedTuple):
    """The outcome of one message.

    message_id: its position on the topic if it is known to have arrived; otherwise `error` is the code of the
        reason (see `bridge.reasons`).
    reachable: whether the broker answered. If not, the outcome is unknown: the message may have arrived.
    permanent: whether sending the same message again would fail too.
    blocked: whether the broker answered that the topic accepts no message, for example for lack of a grant.
    """

    id: str
    message_id: str | None
    error: str | None
    reachable: bool
    permanent: bool
    blocked: bool = False


class Publisher:
    """Publish messages with a client that is made when needed and discarded when the broker does not answer.

    It is discarded because a client that has seen a long outage waits for up to a minute before it tries again.
    """

    def __init__(self, make_outlet: Callable[[], Outlet], topics: Topics, probe_topic: str) -> None:
        self._make_outlet = make_outlet
        self._topics = topics
        self._probe_topic = probe_topic
        self._outlet: Outlet | None = None

    def publish(self, page: Sequence[OutgoingMessage]) -> list[PublishResult]:
        """Send the whole page, wait once, and return the outcome of each message, in the page's order.

        Does not raise if the broker is unavailable or refuses: that is an outcome. May run twice with the same
        messages: the receivers recognize them by the id in their bodies. Call it outside any transaction: it may wait
        for seconds.
        """
        answers = self._send(page)
        if not all(answer.reachable for answer in answers):
            self.close()
        return [PublishResult(message.id, *answer) for message, answer in zip(page, answers, strict=True)]

    def probe(self) -> None:
        """Check that the broker answers. Raises BrokerUnavailable if it does not within seconds."""
        try:
            self._open().probe(self._topics.full(self._probe_topic))
        except BrokerUnavailable:
            self.close()
            raise

    def prepare(self, topic: str) -> None:
        """Check that messages can be sent to a topic (short name), sending none. Raises BrokerUnavailable."""
        self._open().prepare(self._topics.full(topic))

    def close(self) -> None:
        """Disconnect; the next call connects again. Never raises."""
        outlet, self._outlet = self._outlet, None
        if outlet is not None:
            outlet.close()

    def _send(self, page: Sequence[OutgoingMessage]) -> list[Sent]:
        answers = [_UNANSWERED] * len(page)
        try:
            outlet = self._open()
        except BrokerUnavailable as error:
            return [refusal(error)] * len(page)
        for number, message in enumerate(page):
            try:
                outlet.send(self._topics.full(message.topic), message.body, partial(answers.__setitem__, number))
            except BrokerUnavailable as error:
                answers[number] = refusal(error)
                if answers[number].blocked or not answers[number].reachable:
                    # A failed attempt to make a producer costs a request or a timeout: once, not for each message.
                    answers[number + 1 :] = [answers[number]] * (len(page) - number - 1)
                    break
        outlet.flush()
        return answers

    def _open(self) -> Outlet:
        if self._outlet is None:
            self._outlet = self._make_outlet()
        return self._outlet


class _ProcessPublisher:
    """The publisher of this process."""

    pid: int = 0
    publisher: Publisher | None = None
    lock = threading.Lock()
    # A client does not survive a fork: using or even deleting the parent's client hangs, so it is kept and not used.
    inherited: list[Publisher] = []


def get_publisher() -> Publisher:
    """Return the publisher of this process, made on the first call. A forked child gets its own."""
    with _ProcessPublisher.lock:
        if _ProcessPublisher.publisher is not None and _ProcessPublisher.pid != os.getpid():
            _ProcessPublisher.inherited.append(_ProcessPublisher.publisher)
            _ProcessPublisher.publisher = None
        if _ProcessPublisher.publisher is None:
            _ProcessPublisher.pid = os.getpid()
            _ProcessPublisher.publisher = _make_publisher()
        return _ProcessPublisher.publisher


def _make_publisher() -> Publisher:
    # The bridge subscribes to the probe topic, so the token's role may look it up.
    return Publisher(lambda: Outlet(settings.PULSAR), get_topics(), get_catalog().probe_topic)
