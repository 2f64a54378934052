"""The Pulsar edge against a real (embedded) broker: what goes out comes in, over backlogs and restarts."""

import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pulsar
import pytest
from django.conf import settings

from bridge.envelope import Message
from bridge.errors import BrokerUnavailable
from bridge.publisher import OutgoingMessage, Publisher
from bridge.pulsar.inlet import Batch, Flow, Inlet
from bridge.pulsar.outlet import Outlet
from bridge.topics import Topics
from devtools.embedded import ports
from devtools.embedded.process import Process
from devtools.embedded.pulsar import PulsarLiteServer

FLOW = Flow(batch_size=500, wait_ms=20, window=200, silence_seconds=4)


def options(url: str, **changes: Any) -> dict[str, Any]:
    return {**settings.PULSAR, "service_url": url, "subscription": "test", "operation_timeout_seconds": 5, **changes}


class Edge:
    """Topics of its own on a broker, both ways."""

    def __init__(self, url: str, count: int = 3) -> None:
        self.shorts = [f"t-{uuid.uuid4()}-{number}" for number in range(count)]
        self.topics = Topics("public", "default", {}, ())
        self.options = options(url)
        self.publisher = Publisher(lambda: Outlet(self.options), self.topics, self.shorts[0])
        self.inlet = Inlet(self.options, self.topics, self.topics.subscriptions(self.shorts), FLOW)

    def publish(self, bodies: range) -> list[str | None]:
        page = [OutgoingMessage(str(body), self.shorts[body % len(self.shorts)], str(body).encode()) for body in bodies]
        return [result.message_id for result in self.publisher.publish(page)]

    def take(self, count: int, seconds: float = 20) -> list[Message]:
        """Receive and acknowledge until there are `count` different bodies, or the time is up."""
        taken: list[Message] = []
        until = time.monotonic() + seconds
        while len({message.body for message in taken}) < count and time.monotonic() < until:
            batch = self.inlet.receive()
            self.inlet.acknowledge(batch)
            taken += batch.messages
        return taken

    def is_connected(self) -> bool:
        return self.inlet.is_connected

    def close(self) -> None:
        self.inlet.close()
        self.publisher.close()


@pytest.fixture
def edge(pulsar_url: str) -> Iterator[Edge]:
    edge = Edge(pulsar_url)
    yield edge
    edge.close()


def bodies(messages: list[Message]) -> set[int]:
    return {int(message.body) for message in messages}


def test_what_goes_out_comes_in(edge: Edge) -> None:
    edge.inlet.open()
    before = time.time() * 1000
    places = edge.publish(range(3))
    assert all(places)
    taken = edge.take(3)
    assert bodies(taken) == {0, 1, 2}
    for message in taken:
        assert message.topic == message.short_name == edge.shorts[int(message.body)]
        assert message.message_id == places[int(message.body)]
        assert before - 1000 < message.published_ms < time.time() * 1000 + 1000
        assert message.properties == {}
        assert message.producer, "the broker named the publisher's producer"


def test_a_message_comes_with_the_name_that_its_producer_gave_itself(edge: Edge) -> None:
    edge.inlet.open()
    client = pulsar.Client(edge.options["service_url"])
    name = "señor «pacs»\n" + "x" * 250
    client.create_producer(edge.topics.full(edge.shorts[0]), producer_name=name).send(b"1")
    client.close()
    (message,) = edge.take(1)
    assert message.producer == "señor «pacs»\ufffd" + "x" * 187


def test_a_backlog_on_many_topics_comes_in_whole(pulsar_url: str) -> None:
    edge = Edge(pulsar_url, count=26)
    assert None not in edge.publish(range(3000))
    edge.inlet.open()
    assert bodies(edge.take(3000, seconds=40)) == set(range(3000))
    edge.close()


def test_what_was_not_acknowledged_comes_again(edge: Edge) -> None:
    edge.inlet.open()
    edge.publish(range(5))
    held = Batch()
    until = time.monotonic() + 10
    while len(held.messages) < 5 and time.monotonic() < until:
        held.messages += edge.inlet.receive().messages
    edge.inlet.close()
    edge.inlet.open()
    assert bodies(edge.take(5)) == set(range(5))


def test_a_body_beyond_every_limit_is_the_brokers_refusal_permanently(edge: Edge) -> None:
    (result,) = edge.publisher.publish([OutgoingMessage("1", edge.shorts[0], b"x" * 6_000_000)])
    assert result.message_id is None
    assert result.reachable
    assert result.permanent


def test_a_broker_that_is_away() -> None:
    edge = Edge(f"pulsar://127.0.0.1:{ports.free()}", count=2)
    edge.options["operation_timeout_seconds"] = 1
    with pytest.raises(BrokerUnavailable):
        edge.publisher.probe()
    started = time.monotonic()
    assert edge.publish(range(50)) == [None] * 50
    assert time.monotonic() - started < 4
    with pytest.raises(BrokerUnavailable):
        edge.inlet.open()
    assert not edge.is_connected()
    edge.close()


def test_a_broker_that_is_killed_and_comes_back_loses_nothing(tmp_path: Path) -> None:
    server = PulsarLiteServer(tmp_path / "pulsar", tmp_path / "pulsar.log")
    process = Process(server.prepare())
    process.wait_ready()
    edge = Edge(server.url)
    edge.inlet.open()
    edge.publish(range(10))
    assert bodies(edge.take(10)) == set(range(10))
    process.stop(0)
    for _ in range(20):
        edge.inlet.receive()
    assert not edge.is_connected()
    assert edge.publish(range(10, 12)) == [None, None]
    process = Process(server.prepare())
    process.wait_ready()
    edge.publisher.probe()
    assert None not in edge.publish(range(10, 20))
    assert bodies(edge.take(10, seconds=40)) >= set(range(10, 20))
    assert edge.is_connected()
    edge.close()
    process.stop(0)
