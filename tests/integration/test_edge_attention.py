"""What the edge cannot use, where people and machines look: attention list, start page, quarantine's pages, API."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from hashlib import sha256

import pytest
from django.contrib.auth.models import User
from django.test import Client, override_settings
from django.urls import reverse

from bridge import event_log, heartbeats
from bridge.codec import Codec
from bridge.envelope import Rejected
from bridge.heartbeats import UnreadTopic
from bridge.models import BlockedTopic, Quarantined, QuarantineStatus
from compensation import outbox
from sagas import queries
from sagas.admin import formatting
from tests.integration.api import Api
from tests.integration.bridge_messages import CATALOG, message, rejected
from tests.integration.commands import NOW, new_command

pytestmark = pytest.mark.django_db

BUSY = "another system holds the subscription exclusively: ConsumerBusy"


@pytest.fixture
def person() -> User:
    return User.objects.create_superuser("ana", "ana@example.org", "x")


@pytest.fixture
def staff(person: User) -> Client:
    client = Client()
    client.force_login(person)
    return client


def overflow(count: int, at: datetime) -> None:
    """One message is kept, the others are only counted."""
    with override_settings(BRIDGE_QUARANTINE_PER_HOUR=1):
        event_log.store_batch([], [rejected()._replace(received_at=at) for _ in range(count)])


def a_bridge_without(topic: str, since: datetime) -> None:
    detail = {"unread_topics": [UnreadTopic(topic, since, BUSY)._asdict()]}
    heartbeats.beat("bridge:1", "bridge", connected=True, well=False, detail=detail)


def items(kind: str) -> list[queries.AttentionItem]:
    return [item for item in queries.attention().items if item.kind == kind]


def test_what_was_only_counted_needs_a_person_with_the_exact_number() -> None:
    overflow(1, NOW)
    assert items("counted") == []
    overflow(1234, NOW)
    [item] = items("counted")
    assert item.count == 1234
    assert "1234 more messages on topic orders could not be read and were only counted" in item.sentence
    assert "not JSON" in item.sentence
    Quarantined.objects.update(status=QuarantineStatus.DISMISSED)
    assert items("counted") == []


def test_a_topic_that_is_not_read_needs_a_person() -> None:
    a_bridge_without("image-processing", NOW)
    [item] = items("unread")
    assert item.since == NOW
    assert "No messages have been read from topic image-processing since" in item.sentence
    assert BUSY in item.sentence


def test_the_start_page_and_the_api_show_each_kind(staff: Client, person: User) -> None:
    overflow(8, NOW)
    a_bridge_without("image-processing", NOW)
    outbox.plan([new_command()])
    BlockedTopic.objects.create(
        topic="data-retrieval-commands", since=NOW - timedelta(minutes=9), last_at=NOW, reason="a schema"
    )
    text = staff.get(reverse("admin:index")).content.decode()
    for said in ("7 more messages on topic orders", "No messages have been read", "has refused commands", "a schema"):
        assert said in text
    kinds = {item["kind"] for item in Api(person).get("attention").json()["items"]}
    assert {"counted", "unread", "blocked", "quarantined"} <= kinds


def test_the_state_of_the_bridge_names_the_topic_instead_of_catching_up(staff: Client) -> None:
    a_bridge_without("image-processing", NOW)
    text = staff.get(reverse("admin:index")).content.decode()
    assert f"no messages are read from image-processing: {BUSY}" in text
    assert "connected, catching up" not in text


def test_the_list_of_quarantined_messages_shows_what_was_only_counted(staff: Client) -> None:
    address = reverse("admin:bridge_quarantined_changelist")
    overflow(1, NOW)
    assert "Counted, not stored" not in staff.get(address).content.decode()
    overflow(4321, NOW)
    text = staff.get(address).content.decode()
    assert "Counted, not stored" in text
    assert re.search(r"<td[^>]*>4,?321</td>", text)


@override_settings(BRIDGE_MAX_BODY=100_000)
def test_the_page_of_a_message_that_was_cut_says_so_and_offers_no_requeue(staff: Client) -> None:
    raw = b"x" * 200_000
    found = Codec(CATALOG, 100_000).decode(message(raw), NOW)
    assert isinstance(found, Rejected)
    event_log.store_batch([], [found])
    row = Quarantined.objects.get()
    text = staff.get(reverse("admin:bridge_quarantined_change", args=[row.pk])).content.decode()
    assert "it cannot be requeued" in text
    assert sha256(raw).hexdigest() in text
    assert formatting.decide_url("requeue", message=row.pk) not in text


def test_the_page_of_a_message_that_is_whole_says_nothing_of_a_part(staff: Client) -> None:
    event_log.store_batch([], [rejected(b"short")])
    row = Quarantined.objects.get()
    text = staff.get(reverse("admin:bridge_quarantined_change", args=[row.pk])).content.decode()
    assert "are stored, so it cannot be requeued" not in text
    assert sha256(b"short").hexdigest() in text
