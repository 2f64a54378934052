"""Commands on their way to Pulsar: a page at a time, each with an outcome of its own."""

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

_UNANSWERED = Sent(None, "Pulsar gave no answer", reachable=False, permanent=False)


class OutgoingMessage(NamedTuple):
    """id: the caller's, to tell the results apart; topic: a short name."""

    id: str
    topic: str
    body: bytes


class PublishResult(NamedTuple):
    """message_id: where it is, if it is known to be there; else error says why, in words.

    reachable: whether the broker answered. If not, nothing is known: the message may have arrived all the same.
    permanent: whether sending the same again must fail.
    blocked: whether the broker answered that the topic takes no message at all, such as for a grant or a schema.
    """

    id: str
    message_id: str | None
    error: str | None
    reachable: bool
    permanent: bool
    blocked: bool = False


class Publisher:
    """Publishes, with a client that it makes when it needs one and drops when the broker does not answer.

    Dropped, because a client that has seen a long outage waits for up to a minute before it tries again.
    """

    def __init__(self, make_outlet: Callable[[], Outlet], topics: Topics, probe_topic: str) -> None:
        self._make_outlet = make_outlet
        self._topics = topics
        self._probe_topic = probe_topic
        self._outlet: Outlet | None = None

    def publish(self, page: Sequence[OutgoingMessage]) -> list[PublishResult]:
        """Send all of the page, wait once, and say of each what became of it, in the page's order.

        Raises nothing for a broker that is away or refuses: that is an outcome. May be repeated with the same messages:
        the receivers know them by the id in their bodies. Call it outside of any transaction: it may wait for seconds.
        """
        answers = self._send(page)
        if not all(answer.reachable for answer in answers):
            self.close()
        return [PublishResult(message.id, *answer) for message, answer in zip(page, answers, strict=True)]

    def probe(self) -> None:
        """Raises BrokerUnavailable if the broker cannot be reached within some seconds."""
        try:
            self._open().probe(self._topics.full(self._probe_topic))
        except BrokerUnavailable:
            self.close()
            raise

    def prepare(self, topic: str) -> None:
        """Ask whether messages may be sent to a topic (its short name), and send none. Raises BrokerUnavailable."""
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
                    # A producer that cannot be had costs a time-out or a question: once, not for each message.
                    answers[number + 1 :] = [answers[number]] * (len(page) - number - 1)
                    break
        outlet.flush()
        return answers

    def _open(self) -> Outlet:
        if self._outlet is None:
            self._outlet = self._make_outlet()
        return self._outlet


class _Own:
    """The publisher of this process."""

    pid: int = 0
    publisher: Publisher | None = None
    lock = threading.Lock()
    # A client does not survive a fork: using or even deleting the parent's hangs, so it is kept and left alone.
    inherited: list[Publisher] = []


def get_publisher() -> Publisher:
    """The publisher of this process, made when first asked for: a forked child gets its own."""
    with _Own.lock:
        if _Own.publisher is not None and _Own.pid != os.getpid():
            _Own.inherited.append(_Own.publisher)
            _Own.publisher = None
        if _Own.publisher is None:
            _Own.pid = os.getpid()
            _Own.publisher = _make_publisher()
        return _Own.publisher


def _make_publisher() -> Publisher:
    # The bridge subscribes to the probe topic, so whoever may do that may look it up.
    return Publisher(lambda: Outlet(settings.PULSAR), get_topics(), get_catalog().probe_topic)
