"""Of many equal events the first are stored and the rest counted, by any number of bridges, in one transaction."""

import threading
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from bridge import collapsed, event_log, retention
from bridge.catalog import Catalog, EventType
from bridge.codec import Codec
from bridge.collapsed import Group
from bridge.envelope import Envelope, Message
from bridge.event_log import StoreResult
from bridge.models import CollapsedEvents, Duplicate, Event, EventReading, Pending
from tests.integration.bridge_messages import PUBLISHED, body, message

pytestmark = pytest.mark.django_db

CODEC = Codec(
    Catalog(
        (
            EventType(
                name="Refused",
                stream="orders",
                topics=("orders",),
                key_field="order",
                entity_field="item",
                collapse_after=10,
            ),
        )
    ),
    max_body=1_000_000,
)


def refusals(*numbers: int, item: str = "i-1", **fields: Any) -> list[Envelope]:
    found = [
        CODEC.decode(message(body(f"e-{item}-{number}", item=item, **fields)), PUBLISHED + timedelta(seconds=number))
        for number in numbers
    ]
    assert all(isinstance(each, Envelope) for each in found)
    return found  # type: ignore[return-value]


def counts(item: str = "i-1") -> tuple[int, int]:
    row = CollapsedEvents.objects.get(entity=item)
    assert row.stored == Event.objects.filter(entity=item).count()
    return row.stored, row.counted


def test_the_first_ten_are_stored_and_the_rest_counted_in_one_row() -> None:
    assert event_log.store_batch(refusals(*range(8))) == StoreResult(8)
    assert event_log.store_batch(refusals(*range(8, 15))) == StoreResult(stored=2, counted=5)
    assert event_log.store_batch(refusals(*range(15, 115))) == StoreResult(counted=100)
    assert counts() == (10, 105)
    assert Pending.objects.count() == 10
    row = CollapsedEvents.objects.get()
    assert (row.first_at, row.last_at) == (PUBLISHED + timedelta(seconds=10), PUBLISHED + timedelta(seconds=114))
    assert len(row.recent) == collapsed.REMEMBERED


def test_each_key_and_entity_is_counted_by_itself() -> None:
    mixed = [
        event for pair in zip(refusals(*range(12)), refusals(*range(12), item="i-2"), strict=True) for event in pair
    ]
    assert event_log.store_batch(mixed) == StoreResult(stored=20, counted=4)
    assert event_log.store_batch(refusals(*range(12, 14), order="o-2", item="i-3")) == StoreResult(2)
    assert counts("i-1") == counts("i-2") == (10, 2)
    assert counts("i-3") == (2, 0)


def test_a_redelivery_is_not_counted_again() -> None:
    """Neither of a stored event, which is a duplicate, nor of one of the last hundred that were counted."""
    event_log.store_batch(refusals(*range(20)))
    assert event_log.store_batch(refusals(*range(20))) == StoreResult(duplicates=10, counted=10)
    assert counts() == (10, 10)
    assert Duplicate.objects.count() == 10
    twice = [*refusals(20), *refusals(20)]
    event_log.store_batch(twice)
    assert counts() == (10, 11)


def test_what_is_older_than_the_remembered_ones_counts_once_more() -> None:
    event_log.store_batch(refusals(*range(10, 10 + 10 + collapsed.REMEMBERED + 1)))
    event_log.store_batch(refusals(20, 21))
    assert counts() == (10, collapsed.REMEMBERED + 2)


@pytest.mark.django_db(transaction=True)
def test_two_bridges_store_ten_between_them() -> None:
    barrier = threading.Barrier(4)

    def bridge(number: int) -> None:
        barrier.wait()
        try:
            for start in range(0, 20, 5):
                event_log.store_batch(refusals(*range(number * 100 + start, number * 100 + start + 5)))
                event_log.store_batch(refusals(*range(1_000 + start, 1_000 + start + 5)))  # the same for all of them
        finally:
            connection.close()

    threads = [threading.Thread(target=bridge, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts() == (10, 4 * 20 + 20 - 10)


def test_it_is_all_or_nothing_with_its_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(_rejected: object) -> None:
        raise RuntimeError("the process dies here")

    event_log.store_batch(refusals(*range(10)))
    with monkeypatch.context() as patched:
        patched.setattr("bridge.quarantine.keep", crash)
        with pytest.raises(RuntimeError):
            event_log.store_batch(refusals(10, 11))
    assert counts() == (10, 0)
    event_log.store_batch(refusals(10, 11))
    assert counts() == (10, 2)


def test_the_rows_are_deleted_with_their_events() -> None:
    event_log.store_batch([*refusals(*range(12)), *refusals(*range(12), item="i-2")])
    gone = list(Event.objects.filter(entity="i-1").values_list("pk", flat=True))
    retention.forget(gone, timezone.now())
    assert list(CollapsedEvents.objects.values_list("entity", flat=True)) == ["i-2"]


def test_when_the_last_one_was_counted() -> None:
    event_log.store_batch([*refusals(*range(12)), *refusals(1, item="i-2")])
    groups = [Group("orders", "o-1", item, "Refused") for item in ("i-1", "i-2", "i-3")]
    assert collapsed.last_counted(groups) == {groups[0]: PUBLISHED + timedelta(seconds=11)}
    assert collapsed.last_counted([]) == {}


@pytest.mark.parametrize("named", ["t", "None"])
def test_the_saga_shows_what_was_only_counted(client: Client, named: str) -> None:
    from bridge.codec import get_codec
    from sagas.applying.apply import run_apply
    from sagas.models import SagaLog

    def sent(topic: str, type_: str, number: int, **fields: Any) -> Envelope:
        raw = body(f"{type_}-{number}", type=type_, **fields)
        found = get_codec().decode(Message(topic, topic, f"2:{number}:-1:-1", 0, raw, {}), timezone.now())
        assert isinstance(found, Envelope), found
        return found

    refused = [
        sent(
            "retrieval-imagedeletionfailed",
            "ImageDeletionFailed",
            number,
            task_id=named,
            image_id="i",
            error_message="x",
        )
        for number in range(25)
    ]
    start = sent("retrieval-started", "RetrievalStarted", 0, task_id="t")
    first = sent("images-retrieved", "ImagesRetrieved", 0, task_id="t", image_ids=["i"])
    event_log.store_batch([start, first])
    run_apply()
    event_log.store_batch(refused)
    run_apply()
    saga = SagaLog.objects.get()
    assert saga.events_count == 12
    client.force_login(User.objects.create_superuser("ana", "ana@example.org", "x"))
    page = client.get(reverse("admin:sagas_sagalog_change", args=[saga.id])).content.decode()
    assert "Events that were only counted" in page
    told = client.get(f"/api/v1/saga/sagas/{saga.id}").json()["metadata"]["counted_events"]
    assert [(row["type"], row["entity"], row["stored"], row["counted"]) for row in told] == [
        ("ImageDeletionFailed", "i", 10, 15)
    ]


def test_an_event_that_two_saga_types_read_is_counted_when_neither_needs_it() -> None:
    """One item is refused for ever, to one customer after another: each customer's saga gets the first ones."""
    [of_orders] = CODEC._catalog.event_types
    twin = replace(of_orders, stream="points", key_field="customer", entity_field=None, collapse_after=4)
    codec = Codec(Catalog((of_orders, twin)), max_body=1_000_000)

    def told(customer: str, *numbers: int) -> StoreResult:
        found = [
            codec.decode(message(body(f"e-{number}", item="i", customer=customer)), PUBLISHED) for number in numbers
        ]
        return event_log.store_batch([one for one in found if isinstance(one, Envelope)])

    assert told("c-1", *range(12)) == StoreResult(stored=10, counted=2)
    assert told("c-2", *range(12, 25)) == StoreResult(stored=10, counted=3), (
        "the first customer's are enough for itself"
    )
    rows = {row.key: (row.stored, row.counted) for row in CollapsedEvents.objects.all()}
    assert rows == {"o-1": (20, 5), "c-1": (10, 2), "c-2": (10, 3)}
    told("c-2", 24)
    assert rows == {row.key: (row.stored, row.counted) for row in CollapsedEvents.objects.all()}, "counted already"
    with transaction.atomic(), retention.deleting():
        ids = list(EventReading.objects.filter(stream="points").values_list("id", flat=True))
        retention.forget(ids, timezone.now())
    assert {row.key for row in CollapsedEvents.objects.all()} == {"o-1"}
    assert Event.objects.count() == 20
