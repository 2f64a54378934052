"""The worker's main loop never waits long for its remote control, though its socket looks as if something came."""

import os
from collections.abc import Iterator
from typing import Any
from unittest.mock import Mock, patch

import pytest
from django.conf import settings
from kombu import Connection, Exchange, Queue

from sagaproject import valkey_transport
from tests.integration.connections import InThread

OPTIONS = {"global_keyprefix": "saga:", "socket_timeout": 5, "health_check_interval": 5}


@pytest.fixture
def channel(valkey_url: str) -> Iterator[Any]:
    """A channel that listens to a fanout queue, as the worker's does for the remote control, with its word for it."""
    with Connection(valkey_url, transport_options=OPTIONS) as connection:
        channel: Any = connection.channel()
        queue = Queue("told", Exchange("all", type="fanout"), channel=channel, auto_delete=True)
        queue.declare()
        channel.basic_consume("told", no_ack=True, callback=lambda message: None, consumer_tag="1")
        channel.connection.cycle._register_LISTEN(channel)
        while channel.subclient.connection.can_read(timeout=0.5):
            channel._receive()
        yield channel


def test_redis_urls_mean_the_repaired_transport(channel: Any) -> None:
    assert type(channel) is valkey_transport.Channel
    assert settings.CELERY_BROKER_URL.startswith(("memory", "redis"))


def test_a_closed_connection_is_forgotten_though_a_child_holds_a_copy(channel: Any) -> None:
    cycle = channel.connection.cycle
    old = channel.subclient.connection
    copy = os.dup(old._sock.fileno())
    try:
        old.disconnect()  # resets it as far as epoll is concerned: the copy hangs up
        cycle._register_LISTEN(channel)
        while channel.subclient.connection.can_read(timeout=0.5):
            channel._receive()
        assert channel.subclient.connection._sock is not None
        assert not cycle.poller.poll(0.3)
    finally:
        os.close(copy)


@pytest.mark.parametrize("done", ["ack", "reject"])
def test_a_task_whose_end_did_not_reach_valkey_makes_room_for_the_next(channel: Any, done: str) -> None:
    qos = channel.qos
    qos.prefetch_count = 1
    qos.append(Mock(delivery_info={"exchange": "", "routing_key": "applying"}, _raw={}), "tag")
    assert not qos.can_consume()
    with patch.object(qos, "_remove_from_indices", side_effect=ConnectionError), pytest.raises(ConnectionError):
        getattr(qos, done)("tag")
    assert qos.can_consume()


def test_a_read_of_nothing_ends(channel: Any) -> None:
    assert not InThread(channel._receive).result(10)


def test_what_is_there_is_taken(channel: Any, valkey_url: str) -> None:
    told: list[Any] = []
    channel.connection._callbacks["told"] = told.append
    with Connection(valkey_url, transport_options=OPTIONS) as other:
        producer = other.Producer(exchange=Exchange("all", type="fanout"), serializer="json")
        producer.publish({"method": "ping"})
        assert InThread(channel._receive).result(10)
    assert len(told) == 1
