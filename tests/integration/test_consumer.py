"""The bridge's loop, a step at a time: real database, a stand-in for Pulsar."""

import itertools
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError
from django.utils import timezone

from bridge import event_log, heartbeats
from bridge.consumer import Consumer
from bridge.envelope import Message
from bridge.errors import BrokerUnavailable, Interrupted
from bridge.event_log import StoreResult
from bridge.heartbeats import UnreadTopic
from bridge.models import Event, Heartbeat, Quarantined
from bridge.pulsar.inlet import Batch
from tests.integration.bridge_messages import CODEC, body, message

pytestmark = pytest.mark.django_db


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Source:
    """Hands out what it is given, then nothing."""

    def __init__(self) -> None:
        self.is_connected = True
        self.is_blocking = False
        self.batches: list[Batch] = []
        self.acknowledged: list[Batch] = []
        self.opened = 0
        self.receives = 0
        self.is_closed = False
        self.trouble: list[Exception] = []
        self.unread: list[UnreadTopic] = []

    def give(self, *messages: Message, full: bool = False) -> Batch:
        self.batches.append(Batch(list(messages), full=full))
        return self.batches[-1]

    def open(self) -> None:
        if self.trouble:
            raise self.trouble.pop(0)
        self.opened += 1

    def receive(self) -> Batch:
        self.receives += 1
        return self.batches.pop(0) if self.batches else Batch()

    def acknowledge(self, batch: Batch) -> None:
        # Whoever asks on another connection must see the events by now; here: they are there.
        assert Event.objects.count() + Quarantined.objects.count() > 0
        self.acknowledged.append(batch)

    def close(self) -> None:
        self.is_closed = True


class Bridge:
    def __init__(self) -> None:
        self.source = Source()
        self.clock = Clock()
        self.nudges: list[int] = []
        self.consumer = Consumer(self.source, CODEC, wake=self.wake, clock=self.clock, sleep=self.clock.sleep)

    def wake(self) -> None:
        self.nudges.append(Event.objects.count())

    def after(self, seconds: float) -> bool:
        self.clock.now += seconds
        return self.consumer.step()


@pytest.fixture
def bridge() -> Bridge:
    return Bridge()


def test_a_turn_stores_acknowledges_and_nudges(bridge: Bridge) -> None:
    batch = bridge.source.give(message(body("e-1")), message(b"garbage"), message(body("e-2")))
    assert bridge.consumer.step()
    assert bridge.source.acknowledged == [batch]
    assert Event.objects.count() == 2
    assert Quarantined.objects.count() == 1
    assert len(bridge.nudges) == 1
    assert not bridge.consumer.step()
    assert len(bridge.nudges) == 1
    assert bridge.source.opened == 1


def test_the_bridge_is_connected_when_the_first_event_is_visible(bridge: Bridge) -> None:
    bridge.source.trouble = [BrokerUnavailable("not yet")]
    bridge.consumer.step()
    assert not Heartbeat.objects.get().connected
    bridge.source.give(message(body("e-1")))
    bridge.after(0.1)
    assert Event.objects.count() == 1
    assert Heartbeat.objects.get().connected


def test_what_is_only_repeats_or_garbage_needs_no_nudge(bridge: Bridge) -> None:
    bridge.source.give(message(body("e-1")))
    bridge.source.give(message(body("e-1")), message(b"garbage"))
    bridge.consumer.step()
    bridge.after(1)
    assert len(bridge.nudges) == 1


def test_a_database_that_is_away_gets_the_same_batch_again(bridge: Bridge, monkeypatch: pytest.MonkeyPatch) -> None:
    real: Callable[..., StoreResult] = event_log.store_batch
    tries: list[float] = []

    def away_for_a_while(*args: Any) -> StoreResult:
        tries.append(bridge.clock.now)
        assert not bridge.source.acknowledged
        if len(tries) < 8:
            raise OperationalError("away")
        return real(*args)

    monkeypatch.setattr(event_log, "store_batch", away_for_a_while)
    monkeypatch.setattr("bridge.consumer.connection.close", lambda: None)
    bridge.source.give(message(body("e-1")))
    assert bridge.consumer.step()
    assert bridge.source.receives == 1
    assert len(bridge.source.acknowledged) == 1
    waits = [after - before for before, after in itertools.pairwise(tries)]
    assert waits == sorted(waits)
    assert waits[-1] == pytest.approx(5, abs=0.11)


def test_asked_to_stop_while_the_database_is_away_nothing_is_acknowledged(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> StoreResult:
        bridge.consumer.stop()
        raise OperationalError("away")

    monkeypatch.setattr(event_log, "store_batch", away)
    monkeypatch.setattr("bridge.consumer.connection.close", lambda: None)
    bridge.source.give(message(body("e-1")))
    bridge.consumer.run()
    assert not bridge.source.acknowledged
    assert bridge.source.is_closed
    assert not Heartbeat.objects.exists()


def test_a_broker_that_is_away_is_waited_for_and_reported(bridge: Bridge) -> None:
    bridge.source.trouble = [BrokerUnavailable("Pulsar answers Timeout")]
    assert not bridge.consumer.step()
    bridge.source.is_connected = False
    bridge.consumer._beat()
    state = heartbeats.bridge_state()
    assert (state.alive, state.connected, state.well_for) == (1, False, None)
    assert "Timeout" in state.errors[0]
    bridge.source.is_connected = True
    bridge.after(1)
    bridge.after(2)
    assert heartbeats.bridge_state().errors == ()
    assert heartbeats.bridge_state().well_for is not None


def test_a_topic_that_cannot_be_had_is_named_and_deadlines_are_on_hold(bridge: Bridge) -> None:
    since = timezone.now() - timedelta(minutes=3)
    bridge.source.unread = [UnreadTopic("orders", since, "another system holds it: ConsumerBusy")]
    bridge.consumer.step()
    bridge.after(1)
    state = heartbeats.bridge_state()
    assert (state.connected, state.well_for) == (True, None)
    assert state.errors == ("no messages are read from orders: another system holds it: ConsumerBusy",)
    assert heartbeats.unread_topics() == bridge.source.unread
    bridge.source.unread = []
    bridge.after(1)
    assert heartbeats.unread_topics() == []
    assert heartbeats.bridge_state().well_for is not None


def test_of_several_bridges_the_longest_lack_of_a_topic_is_shown_once(bridge: Bridge) -> None:
    now = timezone.now()
    topics = [UnreadTopic("orders", now - timedelta(minutes=minutes), "busy") for minutes in (3, 9, 5)]
    for number, topic in enumerate(topics):
        detail = {"unread_topics": [topic._asdict()]}
        heartbeats.beat(f"bridge:{number}", "bridge", connected=True, detail=detail)
    assert heartbeats.unread_topics() == [topics[1]]


def test_stopping_wakes_a_call_that_waits_for_pulsar(bridge: Bridge) -> None:
    bridge.consumer.stop()
    bridge.source.is_blocking = True
    with pytest.raises(Interrupted):
        bridge.consumer.stop()
    bridge.source.trouble = [Interrupted("signal")]
    fresh = Bridge()
    fresh.source.trouble = [Interrupted("signal")]
    fresh.consumer.run()
    assert fresh.source.is_closed


def test_the_first_batch_that_is_not_full_has_caught_up(bridge: Bridge) -> None:
    bridge.source.give(message(body("e-1")), full=True)
    bridge.consumer.step()
    bridge.consumer._beat()
    row = Heartbeat.objects.get()
    assert row.well_since is None
    assert row.last_message_at is not None
    assert row.detail["stored"] == 1
    assert row.detail["behind_topics"] == [message(b"").topic]
    assert heartbeats.bridge_state().behind_topics == (message(b"").topic,)
    bridge.after(0.1)
    bridge.consumer._beat()
    caught_up = Heartbeat.objects.get()
    assert caught_up.well_since is not None
    assert caught_up.detail["behind_topics"] == []


@pytest.mark.parametrize("days", [-400, -1, 1, 400])
def test_a_wrong_clock_of_a_producer_puts_no_bridge_behind(bridge: Bridge, days: int) -> None:
    bridge.consumer.step()
    for number in range(20):
        bridge.source.give(message(body(f"e-{number}"), timezone.now() + timedelta(days=days)))
        bridge.after(1)
        assert heartbeats.bridge_state().well_for is not None


def test_full_batches_put_a_bridge_behind_when_they_go_on(bridge: Bridge) -> None:
    bridge.consumer.step()
    seen = []
    for number in range(8):
        bridge.source.give(message(body(f"e-{number}")), full=True)
        bridge.after(1)
        bridge.consumer._beat()
        seen.append(heartbeats.bridge_state().well_for is not None)
    assert seen == [True] * 5 + [False] * 3
    bridge.after(1)
    bridge.after(1)
    assert heartbeats.bridge_state().well_for is not None


def test_who_was_not_connected_has_not_caught_up_before_the_first_batch(bridge: Bridge) -> None:
    bridge.consumer.step()
    bridge.source.is_connected = False
    bridge.after(1)
    bridge.source.is_connected = True
    bridge.source.give(message(body("e-1")), full=True)
    bridge.after(1)
    assert heartbeats.bridge_state().well_for is None
    bridge.after(1)
    bridge.after(1)
    assert heartbeats.bridge_state().well_for is not None


def test_logs_tell_ids_and_types_never_payload(bridge: Bridge, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    secret = "Jane-Doe-1970"
    bridge.source.give(
        message(body("e-1", name=secret)),
        message(body("e-1", name=secret + "-b")),
        message(secret.encode()),
        message(body("e-2", timestamp=secret)),
    )
    bridge.consumer.step()
    assert Quarantined.objects.count() == 3
    assert secret not in caplog.text
