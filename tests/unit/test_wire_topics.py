"""Which texts the services' messages may hold as their type, on which of the real topics (the table of WIRE.md)."""

import json
from datetime import UTC, datetime

import pytest

from bridge.catalog import EventType, get_catalog
from bridge.codec import get_codec
from bridge.envelope import Envelope, Message, Rejected

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TYPES = get_catalog().event_types
TOPICS = sorted({topic.replace("{region}", "usa") for topic in get_catalog().topics})


def decode(type_: str | None, topic: str) -> Envelope | Rejected:
    said = {"id": "e-1", "timestamp": "2026-03-01T12:00:00", "task_id": "t-1", "image_id": "i-1", "type": type_}
    return get_codec().decode(Message(topic, topic, "1:1:-1:-1", 0, json.dumps(said).encode(), {}), NOW)


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.name)
def test_each_type_is_accepted_from_its_topics_however_they_name_it_and_from_no_other(kind: EventType) -> None:
    own = {topic.replace("{region}", "usa") for topic in kind.topics}
    for topic in TOPICS:
        for said in (kind.name, topic, None):
            found = decode(said, topic)
            if topic in own:
                assert isinstance(found, Envelope)
                assert (found.type, found.note) == (kind.name, "")
            elif said == kind.name:
                assert isinstance(found, Rejected)
                assert found.code == "wrong-topic"
            else:
                assert isinstance(found, Envelope)
                assert found.type != kind.name


def test_the_name_of_another_topic_is_no_type() -> None:
    for topic in TOPICS:
        for other in TOPICS:
            if other != topic:
                found = decode(other, topic)
                assert isinstance(found, Rejected)
                assert found.code == "unknown-type"


@pytest.mark.parametrize("kind", ["ProcessingStarted", "ProcessingCompleted", "ProcessingFailed"])
def test_a_type_with_a_region_is_not_accepted_from_another_regions_other_topic(kind: str) -> None:
    word = kind.removeprefix("Processing").lower()
    for region in ("usa", "latam", "new-zealand"):
        for other in ("started", "completed", "failed"):
            found = decode(kind, f"processing.{region}.{other}")
            assert isinstance(found, Envelope if other == word else Rejected)
