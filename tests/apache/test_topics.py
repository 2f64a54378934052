"""One topic that cannot be used: held by another system, without a grant, with a schema. The others go on."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pulsar
import pulsar.schema
import pytest
from django.conf import settings

from bridge.heartbeats import UnreadTopic, bridge_state, unread_topics
from bridge.models import Event, Heartbeat
from bridge.publisher import OutgoingMessage, Publisher, PublishResult
from bridge.pulsar.outlet import Outlet
from bridge.reasons import english
from bridge.topics import Topics
from tests.apache.conftest import Guarded
from tests.apache.rig import Space, bridges, doctor, eventually, fact, starts

pytestmark = [pytest.mark.apache, pytest.mark.timeout(240)]


def unread() -> dict[str, UnreadTopic]:
    return {topic.topic: topic for topic in unread_topics()}


def are_well() -> bool:
    return bridge_state().well_for is not None


# --- reading ---


def test_topics_that_cannot_be_had_are_named_and_the_others_are_read(space: Space, tmp_path: Path) -> None:
    held = space.full("anonymization-completed")
    elsewhere = "persistent://public/nowhere/retrieval-failed"
    environment = {**space.environment, "PULSAR_TOPICS": json.dumps({"retrieval-failed": elsewhere})}
    with space.client() as other:
        holder = other.subscribe(held, "saga", consumer_type=pulsar.ConsumerType.Exclusive)
        space.publish("retrieval-started", starts(3))
        with bridges(environment, tmp_path) as (bridge,):
            assert eventually(lambda: Event.objects.count() == 3)
            assert eventually(unread)
            found = unread()
            assert set(found) == {"anonymization-completed", elsewhere}
            assert "another system holds the subscription exclusively" in str(found["anonymization-completed"])
            assert "the topic does not exist" in str(found[elsewhere])
            assert Heartbeat.objects.filter(kind="bridge", connected=True).count() == 1
            assert not are_well()
            said = doctor(environment)["topics"]
            assert not said["well"]
            assert "no messages are read from anonymization-completed" in said["says"]

            holder.close()
            assert eventually(lambda: set(unread()) == {elsewhere})
            bodies = [fact("AnonymizationCompleted", task=str(uuid.uuid4())) for _ in range(2)]
            space.publish("anonymization-completed", bodies)
            space.publish("retrieval-started", starts(2))
            assert eventually(lambda: Event.objects.count() == 7)
            assert "anonymization-completed can be read again" in bridge.words

            space.broker.ask("PUT", "namespaces/public/nowhere")
            assert eventually(lambda: not unread())
            assert eventually(are_well)


def test_a_topic_that_is_lost_while_the_bridge_runs_shows_within_a_minute(
    guarded: Guarded, transactional_db: None, tmp_path: Path
) -> None:
    space = guarded.space("saga")
    environment = {**space.environment, "PULSAR_TOKEN": guarded.mint.token("saga")}
    with bridges(environment, tmp_path):
        assert eventually(are_well)
        space.broker.ask("DELETE", f"namespaces/public/{space.name}/permissions/saga")
        for topic in space.broker.ask("GET", f"persistent/public/{space.name}"):
            if not topic.endswith("/anonymization-completed"):
                path = topic.replace("://", "/")
                space.broker.ask("POST", f"{path}/permissions/saga", ["consume", "produce"])
        space.broker.ask("PUT", f"{space.full('anonymization-completed').replace('://', '/')}/unload")
        assert eventually(lambda: "anonymization-completed" in unread(), 60)
        assert "the token's role lacks a grant" in str(unread()["anonymization-completed"])
        space.publish("retrieval-started", starts(2))
        assert eventually(lambda: Event.objects.count() == 2)


# --- sending ---


class Sender:
    def __init__(self, space: Space, token: str = "") -> None:
        topics = Topics("public", space.name, {}, ())
        options = {**settings.PULSAR, "service_url": space.broker.server.url, "token": token}
        self.publisher = Publisher(lambda: Outlet(options), topics, "commands")

    def send(self, topic: str = "commands") -> PublishResult:
        [result] = self.publisher.publish([OutgoingMessage("1", topic, b"{}")])
        return result


@pytest.fixture
def sender(space: Space) -> Iterator[Sender]:
    sender = Sender(space)
    yield sender
    sender.publisher.close()


def is_blocked(result: PublishResult, words: str) -> bool:
    return (result.blocked, result.reachable, result.permanent) == (True, True, False) and words in english(
        result.error or ""
    )


@pytest.mark.parametrize("mode", ["Exclusive", "ExclusiveWithFencing"])
def test_a_topic_with_an_exclusive_producer_is_blocked_until_that_leaves(
    mode: str, space: Space, sender: Sender
) -> None:
    with space.client() as other:
        how: Any = getattr(pulsar.ProducerAccessMode, mode)
        holder = other.create_producer(space.full("commands"), access_mode=how)
        assert is_blocked(sender.send(), "another producer holds the topic exclusively: ProducerBusy")
        assert sender.send("others").error is None
        holder.close()
        assert eventually(lambda: sender.send().error is None)


def test_a_producer_that_is_fenced_off_is_blocked_at_the_next_try(space: Space, sender: Sender) -> None:
    assert sender.send().error is None
    with space.client() as other:
        other.create_producer(space.full("commands"), access_mode=pulsar.ProducerAccessMode.ExclusiveWithFencing)
        assert eventually(lambda: sender.send().blocked, 30)


def test_a_topic_with_a_schema_is_blocked(space: Space, sender: Sender) -> None:
    class Order(pulsar.schema.Record):  # type: ignore[misc]
        name = pulsar.schema.String()

    space.broker.ask("POST", f"namespaces/public/{space.name}/schemaValidationEnforced", True)
    with space.client() as other:
        other.create_producer(space.full("commands"), schema=pulsar.schema.JsonSchema(Order))
        assert is_blocked(sender.send(), "the topic has a schema, and messages without one do not fit it")


def test_a_role_that_may_not_produce_is_blocked_until_it_may(guarded: Guarded, transactional_db: None) -> None:
    space = guarded.space()
    space.broker.ask("POST", f"namespaces/public/{space.name}/permissions/saga", ["consume"])
    sender = Sender(space, guarded.mint.token("saga"))
    assert is_blocked(sender.send(), "the token's role lacks a grant: AuthorizationError")
    space.broker.ask("POST", f"namespaces/public/{space.name}/permissions/saga", ["consume", "produce"])
    assert eventually(lambda: sender.send().error is None)
    sender.publisher.close()
