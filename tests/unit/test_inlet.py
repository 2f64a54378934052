"""When a connection is looked at again, and what becomes of topics that cannot be had. Without a broker."""

import re
from collections.abc import Callable, Mapping
from typing import Any, cast

import pulsar
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.envelope import producer_name
from bridge.errors import BrokerUnavailable
from bridge.pulsar import inlet as inlets
from bridge.pulsar.inlet import Flow, Inlet, _Connection
from bridge.pulsar.outlet import refusal
from bridge.topics import Subscriptions, Topics

FLOW = Flow(batch_size=500, wait_ms=20, window=200, silence_seconds=600)
OLD = 600.0  # seconds after which an untroubled connection is looked at again


class Consumer:
    """A consumer that says whether it is connected, and can be closed."""

    def __init__(self) -> None:
        self.connected = True

    def is_connected(self) -> bool:
        return self.connected

    def close(self) -> None:
        self.connected = False


class Client:
    def subscribe(self, *args: Any, **kwargs: Any) -> Consumer:
        return Consumer()


def old_connection(now: list[float]) -> _Connection:
    """A connection that has been well for so long that it is looked at only every ten minutes."""
    connection = _Connection({"subscription": "saga"}, ["topic"], FLOW, 20, lambda: now[0])
    connection._client = cast(Any, Client())
    connection.subscribe_again()
    connection.reset_after_reconnection()
    for _ in range(8):
        now[0] += OLD + 1
        assert connection.is_suspect
        connection.subscribe_again()
        connection.reset_after_reconnection()
    now[0] += 15
    assert not connection.is_suspect
    return connection


def test_a_connection_that_the_client_renewed_is_looked_at_as_a_new_one() -> None:
    now = [0.0]
    connection = old_connection(now)
    consumer = cast(Consumer, connection._consumer)

    consumer.connected = False
    connection.reset_after_reconnection()
    assert not connection.is_suspect
    consumer.connected = True
    connection.reset_after_reconnection()
    now[0] += 11

    assert connection.is_suspect


def test_a_connection_that_stays_is_left_alone() -> None:
    now = [0.0]
    connection = old_connection(now)

    connection.reset_after_reconnection()
    now[0] += 11

    assert not connection.is_suspect


# --- topics that cannot be had ---


class Broker:
    """Refuses what it is told to, by the end of the topic's name; `away` refuses everything."""

    def __init__(self) -> None:
        self.refuses: dict[str, type[Exception]] = {}
        self.away: type[Exception] | None = None
        self.consumers: list[TopicsConsumer] = []
        self.asked: list[Any] = []

    def check(self, target: Any) -> None:
        self.asked.append(target)
        if self.away:
            raise self.away
        topics = self.matching(target) if isinstance(target, re.Pattern) else target
        for topic in topics:
            if topic.rpartition("/")[2] in self.refuses:
                raise self.refuses[topic.rpartition("/")[2]]

    def matching(self, pattern: re.Pattern[str]) -> list[str]:
        return [
            name for name in (f"persistent://acme/imaging/{short}" for short in self.refuses) if pattern.match(name)
        ]

    @property
    def subscribed(self) -> list[Any]:
        return [consumer.target for consumer in self.consumers if consumer.connected]


class TopicsConsumer(Consumer):
    def __init__(self, target: Any) -> None:
        super().__init__()
        self.natives: list[Any] = []
        self.target = target if isinstance(target, re.Pattern) else [topic.rpartition("/")[2] for topic in target]

    def batch_receive(self) -> list[Any]:
        natives, self.natives = self.natives, []
        return natives


class BrokersClient:
    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._own: list[TopicsConsumer] = []

    def subscribe(self, target: Any, *args: Any, **kwargs: Any) -> TopicsConsumer:
        self._broker.check(target)
        consumer = TopicsConsumer(target)
        self._own.append(consumer)
        self._broker.consumers.append(consumer)
        return consumer

    def get_topic_partitions(self, topic: str) -> list[str]:
        self._broker.check([topic])
        return [topic]

    def close(self) -> None:
        for consumer in self._own:
            consumer.close()


class Place:
    """A message's id, and whatever else of it no test looks at."""

    def __getattr__(self, name: str) -> Any:
        return lambda: 1


class Native:
    """A message as the client gives it; `producer` and `properties` are bytes that their producer chose."""

    def __init__(self, producer: bytes, properties: Mapping[bytes, bytes]) -> None:
        self._producer = producer
        self._properties = properties

    def topic_name(self) -> str:
        return "persistent://acme/imaging/t0"

    def message_id(self) -> Place:
        return Place()

    def encryption_context(self) -> None:
        return None

    def publish_timestamp(self) -> int:
        return 0

    def data(self) -> bytes:
        return b"{}"

    def producer_name(self) -> str:
        return self._producer.decode()

    def properties(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self._properties.items()}


class Rig:
    def __init__(self, broker: Broker, patterns: tuple[str, ...] = (), count: int = 5) -> None:
        self.now = 1000.0
        self.broker = broker
        topics = Topics("acme", "imaging", {}, ())
        names = tuple(topics.full(f"t{number}") for number in range(count))
        options = {"subscription": "saga", "operation_timeout_seconds": 10}
        self.inlet = Inlet(options, topics, Subscriptions(names, patterns), FLOW, lambda: self.now)

    def after(self, seconds: float) -> None:
        self.now += seconds
        self.inlet.receive()

    @property
    def unread(self) -> list[str]:
        return [topic.topic for topic in self.inlet.unread]


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    broker = Broker()
    connect: Callable[..., BrokersClient] = lambda *_: BrokersClient(broker)  # noqa: E731
    monkeypatch.setattr(inlets, "connect", connect)
    return broker


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (pulsar.ConsumerBusy, "another system holds the subscription exclusively"),
        (pulsar.IncompatibleSchema, "has a schema"),
        (pulsar.AuthorizationError, "lacks a grant"),
        (pulsar.TopicNotFound, "the topic does not exist"),
        (pulsar.InvalidTopicName, "does not accept this topic name"),
        (pulsar.Timeout, "no answer for this topic"),
        (pulsar.UnknownError, "UnknownError"),
    ],
)
@pytest.mark.parametrize("which", ["t0", "t3"])
def test_one_topic_that_cannot_be_had_is_named_and_the_others_are_read(
    broker: Broker, which: str, answer: type[Exception], words: str
) -> None:
    broker.refuses = {which: answer}
    rig = Rig(broker)
    if which == "t0" and answer is pulsar.Timeout:
        # The first question is whether the broker answers at all; the next time it is about another topic.
        with pytest.raises(BrokerUnavailable):
            rig.inlet.open()
    rig.inlet.open()
    assert rig.inlet.is_connected
    assert broker.subscribed == [[name for name in ("t0", "t1", "t2", "t3", "t4") if name != which]]
    assert rig.unread == [which]
    assert words in str(rig.inlet.unread[0])


def test_a_missing_topic_is_probed_every_some_seconds_and_read_once_it_is_available(
    broker: Broker,
) -> None:
    broker.refuses = {"t1": pulsar.ConsumerBusy, "t2": pulsar.AuthorizationError}
    rig = Rig(broker)
    rig.inlet.open()
    since = {topic.topic: topic.since for topic in rig.inlet.unread}
    broker.asked.clear()
    rig.after(9)
    assert not broker.asked
    rig.after(2)
    assert [target for target in broker.asked if len(target) == 1] == [
        [f"persistent://acme/imaging/t{n}"] for n in (1, 2)
    ]
    assert {topic.topic: topic.since for topic in rig.inlet.unread} == since

    del broker.refuses["t1"]
    rig.after(31)
    assert rig.unread == ["t2"]
    assert broker.subscribed == [["t0", "t1", "t3", "t4"]]
    broker.refuses = {}
    rig.after(31)
    assert rig.unread == []
    assert broker.subscribed == [["t0", "t1", "t2", "t3", "t4"]]


def test_where_no_topic_can_be_had_it_is_reported_as_before(broker: Broker) -> None:
    broker.refuses = {f"t{number}": pulsar.AuthorizationError for number in range(5)}
    rig = Rig(broker)
    with pytest.raises(BrokerUnavailable, match="the token's role lacks a grant: AuthorizationError"):
        rig.inlet.open()
    assert rig.unread == []
    broker.refuses = {}
    rig.inlet.open()
    assert len(broker.subscribed[-1]) == 5


@pytest.mark.parametrize("answer", [pulsar.Timeout, pulsar.ConnectError])
def test_a_broker_that_is_away_is_no_matter_of_topics(broker: Broker, answer: type[Exception]) -> None:
    broker.away = answer
    rig = Rig(broker)
    with pytest.raises(BrokerUnavailable):
        rig.inlet.open()
    assert len(broker.asked) == 1
    assert rig.unread == []


def test_many_silent_topics_are_a_silent_broker(broker: Broker) -> None:
    broker.refuses = {f"t{number}": pulsar.Timeout for number in range(3, 20)}
    rig = Rig(broker, count=20)
    with pytest.raises(BrokerUnavailable):
        rig.inlet.open()
    assert len(broker.asked) < 12
    assert rig.unread == []


def test_a_topic_that_is_lost_while_running_is_named_within_a_minute(broker: Broker) -> None:
    rig = Rig(broker)
    rig.inlet.open()
    rig.after(1)
    broker.refuses = {"t4": pulsar.AuthorizationError}
    broker.consumers[-1].connected = False
    for _ in range(20):
        rig.after(1)
    assert rig.unread == ["t4"]
    assert rig.inlet.is_connected
    assert broker.subscribed == [["t0", "t1", "t2", "t3"]]


def test_a_connection_is_renewed_also_while_a_topic_is_missing(broker: Broker) -> None:
    broker.refuses = {"t4": pulsar.ConsumerBusy}
    rig = Rig(broker)
    rig.inlet.open()
    broker.away = pulsar.ConnectError
    broker.consumers[-1].connected = False
    for consumer in broker.consumers:
        consumer.connected = False
    rig.after(14)
    broker.asked.clear()
    with pytest.raises(BrokerUnavailable):
        rig.after(2)
    assert len(broker.asked) == 1
    broker.away = None
    rig.after(31)
    assert broker.subscribed == [["t0", "t1", "t2", "t3"]]
    assert rig.unread == ["t4"]


def test_a_pattern_that_cannot_be_had_does_not_stop_the_topics_known_by_name(broker: Broker) -> None:
    broker.refuses = {"processing.usa.started": pulsar.ConsumerBusy}
    pattern = r"persistent://acme/imaging/(processing\.[a-z]+\.started)"
    rig = Rig(broker, (pattern,))
    rig.inlet.open()
    assert rig.inlet.is_connected
    assert broker.subscribed == [["t0", "t1", "t2", "t3", "t4"]]
    assert rig.unread == [r"(processing\.[a-z]+\.started)"]
    broker.refuses = {}
    rig.after(31)
    assert rig.unread == []
    assert re.compile(pattern) in broker.subscribed


def test_a_pattern_without_a_grant_on_the_namespace_is_reported_in_plain_text(broker: Broker) -> None:
    broker.refuses = {"processing.usa.started": pulsar.LookupError}
    rig = Rig(broker, (r"persistent://acme/imaging/(processing\.[a-z]+\.started)",))
    rig.inlet.open()
    [missing] = rig.inlet.unread
    assert "consume on the whole namespace" in str(missing)
    # For a command it may be a broker that hands the topic over: an outage, and not a topic that takes none.
    assert not refusal(BrokerUnavailable(missing.reason, "LookupError")).blocked


# --- what a producer says of itself ---


def test_metadata_that_is_no_text_stops_nothing(broker: Broker) -> None:
    """A client of one's own may write any bytes there; the Pulsar client decodes them when they are read."""
    rig = Rig(broker)
    rig.inlet.open()
    broker.consumers[-1].natives = [
        Native(b"pacs-7", {b"a": b"b"}),
        Native(b"\xff\xfe", {b"a": b"\xff"}),
        Native(b"a\0b\n" + b"x" * 300, {b"\xff": b"b"}),
        Native(b"", {}),
    ]
    found = rig.inlet.receive().messages
    assert [message.producer for message in found] == ["pacs-7", "\ufffd", "a\ufffdb\ufffd" + "x" * 196, ""]
    assert [message.properties for message in found] == [{"a": "b"}, {}, {}, {}]


@given(st.text(st.characters(), max_size=300) | st.text(st.sampled_from("\0\ud800\u202e\x7f\x85a")))
def test_any_name_of_a_producer_can_be_stored_and_shown(claimed: str) -> None:
    name = producer_name(claimed)
    assert len(name) <= 200
    assert name.replace("\ufffd", "").isprintable()
    assert "\0" not in name
    name.encode()
    assert producer_name(name) == name
