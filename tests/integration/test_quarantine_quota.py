"""Garbage cannot fill the database: what is kept of a message is bounded, and of a topic in an hour."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import pytest
from django.test import override_settings

from bridge import event_log, quarantine, retention
from bridge.codec import Codec
from bridge.envelope import Rejected
from bridge.errors import StillUnreadable
from bridge.event_log import StoreResult
from bridge.models import QuarantineCode, QuarantineCount, Quarantined
from tests.integration.bridge_messages import CATALOG, CODEC, body, envelope, message, rejected

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 3, 1, 12, 10, tzinfo=UTC)


def garbage(count: int, at: datetime = NOON, topic: str = "orders") -> list[Rejected]:
    found = [rejected(b"not json") for _ in range(count)]
    return [one._replace(received_at=at, message=one.message._replace(topic=topic)) for one in found]


def counts() -> dict[str, tuple[int, int]]:
    return {row.topic: (row.kept, row.counted) for row in QuarantineCount.objects.all()}


def large(size: int, limit: int) -> Rejected:
    found = Codec(CATALOG, limit).decode(message(bytes(range(256)) * (size // 256 + 1)), NOON)
    assert isinstance(found, Rejected)
    assert found.code == QuarantineCode.TOO_LARGE
    return found


# --- one message ---


@override_settings(BRIDGE_MAX_BODY=100_000)
def test_of_a_body_over_the_limit_the_beginning_the_size_and_the_hash_are_kept() -> None:
    one = large(3_000_000, 100_000)
    event_log.store_batch([], [one])
    row = Quarantined.objects.get()
    assert bytes(row.body) == one.message.body[: 64 * 1024]
    assert row.size == row.full_size == len(one.message.body)
    assert row.sha256 is not None
    assert bytes(row.sha256) == sha256(one.message.body).digest()
    assert row.is_cut


@override_settings(BRIDGE_MAX_BODY=100_000)
def test_a_body_that_was_cut_is_not_requeued_whatever_the_limit_is_by_now(monkeypatch: pytest.MonkeyPatch) -> None:
    event_log.store_batch([], [large(200_000, 100_000)])
    monkeypatch.setattr(event_log, "get_codec", lambda: CODEC)
    row = Quarantined.objects.get()
    with pytest.raises(StillUnreadable, match=r"only the first 65,536 of its 200,192 bytes are kept"):
        event_log.requeue(row.pk)
    row.refresh_from_db()
    assert row.status == "open"


@override_settings(BRIDGE_MAX_BODY=1024)
def test_a_body_within_what_is_kept_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = body("e-1", name="x" * 5000)
    found = Codec(CATALOG, 1024).decode(message(raw), NOON)
    assert isinstance(found, Rejected)
    event_log.store_batch([], [found])
    row = Quarantined.objects.get()
    assert bytes(row.body) == raw
    assert not row.is_cut
    monkeypatch.setattr(event_log, "get_codec", lambda: CODEC)
    assert event_log.requeue(row.pk)


def test_properties_are_bounded_too() -> None:
    one = rejected()
    many = {f"{number}-" + "n" * 2000: "x" * 100_000 for number in range(1000)}
    event_log.store_batch([], [one._replace(message=one.message._replace(properties=many))])
    kept = Quarantined.objects.get().properties
    assert len(kept) == 100
    assert {len(value) for value in kept.values()} == {1000}
    assert max(len(name) for name in kept) == 1000


def test_a_row_of_an_earlier_release_is_whole() -> None:
    row = Quarantined(topic="orders", message_id="1:1:1:1", body=b"old", size=None, sha256=None)
    assert (row.full_size, row.is_cut) == (3, False)


# --- one hour of a topic ---


@override_settings(BRIDGE_QUARANTINE_PER_HOUR=10)
def test_beyond_the_quota_of_a_topic_and_hour_messages_are_counted_exactly() -> None:
    event_log.store_batch([], garbage(7))
    event_log.store_batch([], garbage(7, NOON + timedelta(minutes=1)))
    last = garbage(1000, NOON + timedelta(minutes=40))
    assert event_log.store_batch([envelope("e-1")], last) == StoreResult(1, 0, 1000)
    assert Quarantined.objects.count() == 10
    row = QuarantineCount.objects.get()
    assert (row.topic, row.hour, row.kept, row.counted) == ("orders", datetime(2026, 3, 1, 12, tzinfo=UTC), 10, 1004)
    assert (row.first_at, row.last_at) == (NOON + timedelta(minutes=1), NOON + timedelta(minutes=40))
    assert (row.last_code, row.last_reason) == (last[0].code, last[0].reason.code)


@override_settings(BRIDGE_QUARANTINE_PER_HOUR=10)
def test_every_topic_and_every_hour_has_a_quota_of_its_own() -> None:
    event_log.store_batch([], garbage(12) + garbage(12, topic="other"))
    assert counts() == {"orders": (10, 2), "other": (10, 2)}
    event_log.store_batch([], garbage(3, NOON + timedelta(hours=1)))
    assert Quarantined.objects.filter(topic="orders").count() == 13


@override_settings(BRIDGE_QUARANTINE_PER_HOUR=10)
def test_what_is_kept_and_comes_again_is_neither_kept_twice_nor_counted() -> None:
    kept = garbage(10)
    event_log.store_batch([], kept)
    event_log.store_batch([], [*kept, *kept, *garbage(1)])
    assert Quarantined.objects.count() == 10
    assert counts() == {"orders": (10, 1)}


@override_settings(BRIDGE_QUARANTINE_PER_HOUR=10)
def test_a_repetition_within_one_batch_takes_one_place() -> None:
    kept = garbage(9)
    event_log.store_batch([], [*kept, *kept, *garbage(1)])
    assert Quarantined.objects.count() == 10
    assert counts() == {"orders": (10, 0)}


@override_settings(BRIDGE_QUARANTINE_PER_HOUR=2)
def test_other_content_under_a_known_id_has_the_same_quota() -> None:
    event_log.store_batch([envelope("e-1", count=1)])
    event_log.store_batch([envelope("e-1", count=number) for number in range(2, 7)])
    assert Quarantined.objects.count() == 2
    [(kept, counted)] = counts().values()
    assert (kept, counted) == (2, 3)


@override_settings(BRIDGE_QUARANTINE_PER_HOUR=2)
def test_logs_say_once_a_batch_what_was_only_counted(caplog: pytest.LogCaptureFixture) -> None:
    event_log.store_batch([], garbage(500))
    lines = [record.getMessage() for record in caplog.records if record.name == "bridge.quarantine"]
    assert len(lines) == 3
    assert "498 messages of orders exceed the quota of the hour: only counted" in lines


@override_settings(BRIDGE_QUARANTINE_PER_HOUR=2)
def test_what_was_counted_is_shown_until_the_messages_kept_beside_it_are_decided() -> None:
    event_log.store_batch([], garbage(5) + garbage(6, NOON + timedelta(hours=1)) + garbage(1, topic="quiet"))
    [shown] = quarantine.counted_beside_open()
    assert (shown["topic"], shown["number"]) == ("orders", 7)
    assert (shown["first_at"], shown["last_at"]) == (NOON, NOON + timedelta(hours=1))
    assert shown["last_code"] == "not-json"

    def dismiss(**of: Any) -> None:
        for pk in Quarantined.objects.filter(**of).values_list("pk", flat=True):
            quarantine.dismiss(pk, actor="ana", why="garbage")

    dismiss(received_at=NOON)
    assert [shown["number"] for shown in quarantine.counted_beside_open()] == [4]
    dismiss(status="open")
    assert quarantine.counted_beside_open() == []


@override_settings(BRIDGE_QUARANTINE_PER_HOUR=2)
def test_old_counts_leave_with_the_messages_that_were_decided_and_never_before() -> None:
    event_log.store_batch([], garbage(5) + garbage(5, topic="other"))
    for pk in Quarantined.objects.filter(topic="other").values_list("pk", flat=True):
        quarantine.dismiss(pk, actor="ana", why="garbage")
    retention.forget_messages(NOON)
    assert set(counts()) == {"orders", "other"}
    retention.forget_messages(NOON + timedelta(hours=3))
    assert set(counts()) == {"orders"}


# --- encrypted ---


def test_an_encrypted_message_is_kept_with_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    sealed = message(b"\x01\xc3\x16")._replace(encrypted=1)
    batch = message(b"\x02\xc3\x16")._replace(encrypted=5)
    found = [CODEC.decode(one, NOON) for one in (sealed, batch)]
    assert all(isinstance(one, Rejected) for one in found)
    event_log.store_batch([], [one for one in found if isinstance(one, Rejected)])
    rows = list(Quarantined.objects.order_by("pk"))
    assert [(bytes(row.body), row.code) for row in rows] == [
        (b"\x01\xc3\x16", "encrypted"),
        (b"\x02\xc3\x16", "encrypted"),
    ]
    assert rows[0].reason_text == "the message is encrypted, and this service has no key"
    assert rows[1].reason_text == "the body is a batch of 5 encrypted messages, and this service has no key"
    monkeypatch.setattr(event_log, "get_codec", lambda: CODEC)
    with pytest.raises(StillUnreadable, match="encrypted"):
        event_log.requeue(rows[0].pk)
