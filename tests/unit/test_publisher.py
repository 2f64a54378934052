"""What becomes of a page of commands, whatever the broker does. No broker: the outlet is a stand-in."""

import os
from collections.abc import Callable
from typing import Any

import pytest

from bridge import publisher as publishing
from bridge.errors import BrokerUnavailable
from bridge.publisher import OutgoingMessage, Publisher
from bridge.pulsar.outlet import Sent
from bridge.topics import Topics

TOPICS = Topics("acme", "imaging", {}, ())
ARRIVED = Sent("1:2:-1:-1", None, reachable=True, permanent=False)
TOO_BIG = Sent(None, "Pulsar answers MessageTooBig", reachable=True, permanent=True)
LOST = Sent(None, "Pulsar answers Timeout", reachable=False, permanent=False)


class Outlet:
    """Answers each message as told, by its body; "-" is never answered, "!" has no producer."""

    answers = {b"ok": ARRIVED, b"big": TOO_BIG, b"lost": LOST}

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes]] = []
        self.closed = False
        self.is_away = False

    def send(self, topic: str, body: bytes, done: Callable[[Sent], None]) -> None:
        if body == b"!":
            raise BrokerUnavailable("Pulsar answers Timeout")
        self.sent.append((topic, body))
        if body in self.answers:
            done(self.answers[body])

    def flush(self) -> None: ...

    def probe(self, topic: str) -> None:
        if self.is_away:
            raise BrokerUnavailable("away")

    def close(self) -> None:
        self.closed = True


def page(*bodies: bytes) -> list[OutgoingMessage]:
    return [OutgoingMessage(str(number), "commands", body) for number, body in enumerate(bodies)]


@pytest.fixture
def outlets() -> list[Outlet]:
    return []


@pytest.fixture
def publisher(outlets: list[Outlet]) -> Publisher:
    def make() -> Any:
        outlets.append(Outlet())
        return outlets[-1]

    return Publisher(make, TOPICS, "started")


def test_each_message_has_an_outcome_of_its_own_in_the_pages_order(publisher: Publisher, outlets: list[Outlet]) -> None:
    results = publisher.publish(page(b"ok", b"big", b"ok"))
    assert [(result.id, result.message_id, result.reachable, result.permanent) for result in results] == [
        ("0", "1:2:-1:-1", True, False),
        ("1", None, True, True),
        ("2", "1:2:-1:-1", True, False),
    ]
    assert outlets[0].sent[0] == ("persistent://acme/imaging/commands", b"ok")
    assert not outlets[0].closed


def test_of_a_message_without_an_answer_nothing_is_known(publisher: Publisher, outlets: list[Outlet]) -> None:
    results = publisher.publish(page(b"ok", b"-", b"lost"))
    assert [result.reachable for result in results] == [True, False, False]
    assert outlets[0].closed
    publisher.publish(page(b"ok"))
    assert len(outlets) == 2


def test_a_producer_that_cannot_be_had_costs_its_time_out_once(publisher: Publisher, outlets: list[Outlet]) -> None:
    results = publisher.publish(page(b"ok", b"!", b"ok"))
    assert [result.reachable for result in results] == [True, False, False]
    assert len(outlets[0].sent) == 1


def test_a_client_that_cannot_be_made_is_an_outcome_too() -> None:
    def make() -> Any:
        raise BrokerUnavailable("no")

    results = Publisher(make, TOPICS, "started").publish(page(b"ok", b"ok"))
    assert [result.reachable for result in results] == [False, False]


def test_a_probe_that_fails_drops_the_client(publisher: Publisher, outlets: list[Outlet]) -> None:
    publisher.probe()
    outlets[0].is_away = True
    with pytest.raises(BrokerUnavailable):
        publisher.probe()
    assert outlets[0].closed
    publisher.probe()
    assert len(outlets) == 2
    publisher.close()
    publisher.close()


def test_a_forked_child_gets_a_publisher_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = publishing.get_publisher()
    assert publishing.get_publisher() is mine
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert publishing.get_publisher() is not mine


def test_a_topic_that_takes_nothing_is_asked_once_and_costs_no_connection(
    publisher: Publisher, outlets: list[Outlet], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bytes] = []

    def busy(_self: Outlet, _topic: str, body: bytes, _done: Callable[[Sent], None]) -> None:
        asked.append(body)
        raise BrokerUnavailable("another producer holds the topic", "ProducerBusy")

    monkeypatch.setattr(Outlet, "send", busy)
    results = publisher.publish(page(b"a", b"b", b"c"))
    assert [(result.blocked, result.reachable, result.permanent) for result in results] == [(True, True, False)] * 3
    assert len(asked) == 1
    assert not outlets[0].closed
