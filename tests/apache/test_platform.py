"""The platform as it is, on the real broker: regions of any text, schemas, and the largest message of a client."""

import json
import uuid
from pathlib import Path

import pulsar
import pulsar.schema
import pytest

from bridge.models import Event, Heartbeat, Quarantined
from tests.acceptance.test_field_cases import CASES
from tests.apache.rig import Broker, Space, bridges, doctor, eventually, fact, starts

pytestmark = [pytest.mark.apache, pytest.mark.timeout(300)]

REGIONAL = {topic: body for case in CASES if case["case"].startswith("region-") for topic, body in case["send"]}
LARGEST = 5 * 1024 * 1024  # bytes: maxMessageSize


def test_a_region_is_any_text_without_a_setting(space: Space, tmp_path: Path) -> None:
    """By default: the two regions by name, every other one by the pattern. Each message is stored once."""
    for topic, body in REGIONAL.items():
        space.publish(topic, [json.dumps(body).encode()])
    others = ["processing.us.east.failed", "processing..started", "processing.usa.started", "processing.a%20b.started"]
    for topic in others:
        kind = "ProcessingFailed" if topic.endswith("failed") else "ProcessingStarted"
        space.publish(topic, [fact(kind, task=str(uuid.uuid4()))])
    environment = {**space.environment, "PULSAR_ADMIN_URL": space.broker.server.admin_url}
    with bridges(environment, tmp_path):
        assert eventually(lambda: Event.objects.count() == len(REGIONAL) + len(others), 100)
        assert set(Event.objects.values_list("topic", flat=True)) >= {*REGIONAL, *others[:3]}
        assert not Quarantined.objects.exists()
        assert eventually(lambda: Heartbeat.objects.get(kind="bridge").detail["any_region"])
        said = doctor(environment)
        assert said["regions"]["says"] == "Every region is read."
        assert said["topics"]["well"]


def test_a_json_schema_is_read_and_another_is_named(space: Space, tmp_path: Path) -> None:
    class Started(pulsar.schema.Record):  # type: ignore[misc]
        id = pulsar.schema.String()
        timestamp = pulsar.schema.String()
        task_id = pulsar.schema.String()

    with space.client() as client:
        producer = client.create_producer(space.full("retrieval-started"), schema=pulsar.schema.JsonSchema(Started))
        producer.send(Started(id=str(uuid.uuid4()), timestamp="2026-11-30T04:00:00", task_id=str(uuid.uuid4())))
        text = client.create_producer(space.full("retrieval-failed"), schema=pulsar.schema.StringSchema())
        text.send("RetrievalFailed")
    with bridges(space.environment, tmp_path):
        assert eventually(lambda: Event.objects.count() + Quarantined.objects.count() == 2)
    assert list(Event.objects.values_list("type", flat=True)) == ["RetrievalStarted"]
    (kept,) = Quarantined.objects.all()
    assert (kept.code, kept.reason) == ("schema-typed", "schema-typed:pulsar")


def test_the_largest_message_of_a_client_breaks_nothing(apache: Broker, space: Space, tmp_path: Path) -> None:
    """With what broker and bookie add, it is over 5 MB: it had closed the bookie's connection for ever."""
    with space.client() as client:
        producer = client.create_producer(space.full("retrieval-started"), batching_enabled=False)
        sent = 0
        for size in (LARGEST, LARGEST - 128, LARGEST - 1_024, LARGEST - 10_240):
            try:
                producer.send(b"x" * size)
                sent += 1
            except pulsar.MessageTooBig:
                continue
        assert sent
    space.publish("retrieval-started", starts(3))
    with bridges(space.environment, tmp_path):
        assert eventually(lambda: Event.objects.count() == 3, 60)
        assert Quarantined.objects.filter(code="too-large").count() == sent
    assert b"TooLongFrame" not in apache.log.read_bytes()
