"""What pages and commands read: the list, what a saga waits for, its story, what needs a person."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from bridge import event_log
from bridge.models import Event, Quarantined
from compensation import delivery, switches
from compensation.models import Attempt, Command
from sagas import queries
from sagas.applying.apply import run_apply
from sagas.definitions import registry
from sagas.models import Parked, SagaKey, SagaLog
from sagas.queries import SagaFilters, parts
from tests import order_saga
from tests.integration.commands import FakePublisher, remove
from tests.integration.story import START, event, image_through, new_ids, retrieval

pytestmark = pytest.mark.django_db(transaction=True)


def tell(*facts: Any) -> None:
    event_log.append(list(facts))
    run_apply()


def saga(task: str) -> SagaLog:
    return SagaLog.objects.get(key=task)


def failed_saga(images: int = 1) -> tuple[SagaLog, list[str]]:
    """A saga whose images were anonymized, and whose processing then failed."""
    task, *ids = new_ids(images + 1)
    facts = [*retrieval(task, ids), *(fact for image in ids for fact in image_through(task, image)[:5])]
    tell(*facts, *(event("ProcessingFailed", task, image, seconds=60, error_message="no") for image in ids))
    return saga(task), ids


def waiting(task: str) -> queries.Waiting:
    found = queries.waiting(saga(task))
    assert found is not None
    return found


# --- the list -------------------------------------------------------------------------------------------------------


def test_filters_combine_and_the_total_counts_all() -> None:
    tasks = new_ids(5)
    for number, task in enumerate(tasks):
        tell(*retrieval(task, ["image-1", f"only-{number}"], seconds=number * 60))
    page = queries.list_sagas(limit=2)
    assert (page.total, [row.key for row in page.items]) == (5, [tasks[4], tasks[3]])
    assert queries.list_sagas(SagaFilters(image_id="only-2")).items[0].key == tasks[2]
    assert queries.list_sagas(SagaFilters(image_id="image-1")).total == 5
    assert queries.list_sagas(SagaFilters(image_id="image-1", task_id=tasks[1])).total == 1
    assert queries.list_sagas(SagaFilters(task_id=tasks[1].upper())).total == 1
    window = SagaFilters(from_date=START + timedelta(minutes=1), to_date=START + timedelta(minutes=3))
    assert queries.list_sagas(window).total == 3
    assert queries.list_sagas(SagaFilters(status="COMPLETED")).total == 0
    for nothing in ("no such", "nul\x00", "\ud800", " "):
        assert queries.list_sagas(SagaFilters(task_id=nothing)).total == 0
        assert queries.list_sagas(SagaFilters(image_id=nothing)).total == 0


def test_a_saga_is_found_by_every_key_and_id_of_its_events() -> None:
    task, own, image = new_ids(3)
    tell(*retrieval(task, [image]), event("ProcessingStarted", own, image, id="event-7", seconds=9))
    assert SagaKey.objects.get().key == own
    assert [row.key for row in queries.by_task(own)] == [task]
    assert [row.key for row in queries.by_task(task)] == [task]
    assert [found.key for found in queries.of_event("event-7")] == [task]
    assert queries.of_event("nobody") == queries.of_event("\x00") == []
    assert queries.by_correlation(task.upper()) == saga(task)


# --- what it waits for ----------------------------------------------------------------------------------------------


def test_a_started_saga_says_which_event_is_missing() -> None:
    task, image = new_ids(2)
    tell(event("RetrievalStarted", task))
    found = waiting(task)
    assert found.sentence == "The number of images is not known yet. Expected next: RetrievalCompleted."
    assert found.event == "RetrievalCompleted"
    tell(event("RetrievalCompleted", task, seconds=2, result={"successful_images": 2}))
    assert waiting(task).sentence.startswith("2 of 2 announced images have not appeared")
    tell(event("ImagesRetrieved", task, seconds=3, image_ids=[image]))
    found = waiting(task)
    assert (found.kind, found.count) == ("lanes", 1)
    assert "Expected next: ImageReadyForAnonymization (" in found.sentence
    tell(*image_through(task, image)[:3])
    assert (
        "1 of 1 image has been waiting for Anonymization since 2026-03-01 12:00:12 UTC. "
        f"Expected next: ImageReadyForProcessing or ProcessingCompleted ({image})."
    ) in waiting(task).sentence


def lanes_waiting(task: str) -> tuple[str | None, int]:
    """What most open images wait for, and how many they are. The intake is over."""
    found = waiting(task)
    assert found.kind == "events"
    return found.event, found.count


def test_what_an_image_waits_for_follows_the_definition_and_not_the_clocks() -> None:
    task, image, other = new_ids(3)
    tell(*retrieval(task, [image, other]))
    assert lanes_waiting(task) == ("ImageReadyForAnonymization", 2)
    # Anonymization's clock is an hour ahead of Processing's, and its request is left out.
    tell(event("AnonymizationCompleted", task, image, seconds=3600), event("ImageReadyForProcessing", task, image))
    tell(event("ImageReadyForProcessing", task, other, seconds=8))
    assert lanes_waiting(task) == ("ProcessingStarted, ProcessingCompleted", 2)
    tell(event("ProcessingStarted", task, image, seconds=2))
    found = waiting(task)
    assert (found.count, found.entity) == (1, image)  # the one that has waited longer
    assert found.event == "ProcessingCompleted"
    tell(event("ProcessingStarted", task, seconds=9))  # of no image: it speaks for all
    assert lanes_waiting(task) == ("ProcessingCompleted", 2)


def test_an_image_that_only_an_answer_named_waits_for_its_first_event() -> None:
    task, image = new_ids(2)
    tell(*retrieval(task, []), event("ImageDeletionFailed", task, image, seconds=5))
    assert lanes_waiting(task) == ("ImageReadyForAnonymization", 1)


def test_an_order_waits_for_its_own_events_and_one_that_can_never_end_says_so() -> None:
    endless = replace(
        order_saga.DEFINITION,
        name="endless",
        events=tuple(replace(item, means=replace(item.means, processes=False)) for item in order_saga.EVENTS),
    )
    with registry.also(order_saga.DEFINITION, endless):
        for stream in (order_saga.DEFINITION.name, "endless"):
            tell(event("OrderPlaced", "order-7", stream=stream), event("OrderPaid", "order-7", stream=stream))
            found = queries.waiting(SagaLog.objects.get(saga_type=stream))
            assert found is not None
            assert found.sentence.startswith("Waiting for Shop since 2026-03-01 12:00:00 UTC. Expected next: Shipment")
            assert found.event == "ShipmentRequested, OrderShipped"
        tell(event("OrderShipped", "order-7", stream="endless"))
        found = queries.waiting(SagaLog.objects.get(saga_type="endless"))
        assert found is not None
        assert found.event is None
        assert "no further event is defined for it (order-7)" in found.sentence


def test_a_compensating_saga_names_command_topic_attempt_and_times() -> None:
    row, [image] = failed_saga()
    switches.set_switch("*", False, "test", "")
    found = waiting(row.key)
    assert (found.kind, found.command, found.topic) == ("due", "RollbackAnonymization", "anonymization-commands")
    rollback = Command.objects.filter(name="RollbackAnonymization")
    soon = timezone.now() + timedelta(minutes=1)
    rollback.update(status="published", attempt=2, published_at=timezone.now(), deadline_at=soon, next_at=None)
    found = waiting(row.key)
    assert (found.kind, found.attempt, found.maximum_attempts, found.deadline) == ("confirmation", 2, 10, soon)
    assert (
        f"ANONYMIZATION to confirm RollbackAnonymization for {image} (topic anonymization-commands, " in found.sentence
    )
    rollback.update(status="waiting", next_at=soon, deadline_at=None, last_error="The service refused it: busy")
    found = waiting(row.key)
    assert (found.kind, found.next_retry) == ("retry", soon)
    assert "The service refused it: [text, 4 characters]" in found.sentence
    assert found.error == "The service refused it: [text, 4 characters]"
    shown = queries.waiting(saga(row.key), payload=True)
    assert shown is not None
    assert shown.error == "The service refused it: busy"
    assert shown.error in shown.sentence
    switches.set_switch("ANONYMIZATION", True, "ana", "broken")
    assert waiting(row.key).sentence.startswith("Sending commands to ANONYMIZATION has been paused since")
    remove(rollback)
    assert "is waiting until RollbackAnonymization for the same image is answered" in waiting(row.key).sentence


def test_an_exhausted_command_asks_a_person() -> None:
    row, _ = failed_saga()
    Command.objects.filter(name="RollbackAnonymization").update(
        status="exhausted", settled_at=timezone.now(), next_at=None, attempt=10, last_error="No answer"
    )
    SagaLog.objects.update(status="COMPENSATION_FAILED")
    found = waiting(row.key)
    assert found.kind == "decision"
    assert "after attempt 10 of 10: No answer. Retry it, skip it, or mark it as done." in found.sentence


def test_a_saga_that_is_set_aside_and_one_with_parked_events_say_so() -> None:
    task, image = new_ids(2)
    tell(*retrieval(task, [image]), *image_through(task, image))
    assert queries.waiting(saga(task)) is None
    tell(event("AnonymizationCompleted", task, seconds=90))
    assert waiting(task).kind == "parked"
    SagaLog.objects.update(set_aside_at=timezone.now(), set_aside_error="KeyError in fold, line 3")
    assert "KeyError in fold, line 3" in waiting(task).sentence


# --- its story ------------------------------------------------------------------------------------------------------


def test_the_timeline_shows_all_in_one_order() -> None:
    row, [image] = failed_saga()
    command = Command.objects.get(name="RollbackAnonymization")
    now = timezone.now()
    Attempt.objects.create(command=command, round=1, number=1, started_at=now, ended_at=now, outcome="deadline")
    Command.objects.filter(id=command.id).update(status="waiting", attempt=1, next_at=now + timedelta(hours=1))
    page = queries.timeline(row.id)
    kinds = [entry.kind for entry in page.items]
    assert page.total == len(page.items) == 9 + 2 + 1 + 1 + 1
    assert kinds == ["event"] * 9 + ["command"] * 2 + ["attempt", "deadline", "deadline"]
    assert [entry.future for entry in page.items][-2:] == [False, True]
    failure = next(entry for entry in page.items if entry.title == "ProcessingFailed")
    assert failure.entity == image
    assert any("required" in change for entry in page.items for change in entry.changes)
    assert "error_message" not in failure.detail
    middle = queries.timeline(row.id, 4, 3)
    assert list(middle.items) == list(page.items[4:7])


def test_the_timeline_costs_the_same_for_many_images() -> None:
    small, _ = failed_saga(1)
    big, _ = failed_saga(20)
    counts = []
    switches.read()
    for row in (small, big):
        with CaptureQueriesContext(connection) as asked:
            queries.timeline(row.id, 0, 500)
            queries.waiting(row)
            queries.metadata(row)
            queries.duplicates(row)
        counts.append(len(asked))
    assert counts[0] == counts[1]


def test_what_was_undone_without_us_is_marked_in_the_story_and_shown_for_a_week() -> None:
    """A deletion that somebody else ordered, before it was owed; and one of a command that waits for another."""
    task, early, late = new_ids(3)
    tell(*retrieval(task, [early, late]), event("AnonymizationCompleted", task, late, seconds=5))
    tell(event("ImageDeletionCompleted", task, early, seconds=6))
    tell(event("RetrievalFailed", task, seconds=7, error_message="no"))
    assert [item.kind for item in queries.attention().items] == ["confirmed_unsent"]
    tell(event("ImageDeletionCompleted", task, late, seconds=-86_400 * 300))  # a clock that is wrong, or a lie

    row = saga(task)
    marked = Command.objects.filter(confirmed_unsent_at__isnull=False)
    assert set(marked.values_list("entity", "name", "status")) == {
        (image, "DeleteRetrievedImage", "confirmed") for image in (early, late)
    }
    [item] = queries.attention().items
    assert (item.kind, item.count, item.saga_id) == ("confirmed_unsent", 2, row.id)
    assert f"2 commands of saga {task} were confirmed by events although they were never sent" in item.sentence
    assert "for 7 days" in item.advice
    told = [entry for entry in queries.timeline(row.id).items if "although it was never sent" in entry.title]
    assert [entry.entity for entry in told] == [early, late]
    assert {entry.kind for entry in told} == {"command"}

    marked.update(confirmed_unsent_at=timezone.now() - timedelta(days=7, minutes=1))
    assert not queries.attention().by_kind["confirmed_unsent"]
    assert len([entry for entry in queries.timeline(row.id).items if "never sent" in entry.title]) == 2, "for ever"


def test_what_was_sent_and_confirmed_needs_no_attention() -> None:
    row, [image] = failed_saga()
    delivery.publish_due(FakePublisher(), "host:1")
    tell(event("AnonymizationRolledBack", row.key, image, seconds=70))
    delivery.publish_due(FakePublisher(), "host:1")
    tell(event("ImageDeletionCompleted", row.key, image, seconds=80))
    assert saga(row.key).status == "COMPENSATION_SUCCEEDED"
    assert not queries.attention().by_kind["confirmed_unsent"]
    assert not [entry for entry in queries.timeline(row.id).items if "never sent" in entry.title]


# --- what needs a person --------------------------------------------------------------------------------------------


def test_attention_holds_each_kind_the_most_severe_first() -> None:
    row, _ = failed_saga()
    task = new_ids(1)[0]
    tell(event("ProcessingCompleted", task, seconds=5), event("ProcessingStarted", task, seconds=4))
    ago = timezone.now() - timedelta(hours=1)
    Parked.objects.update(since=ago)
    Command.objects.filter(name="RollbackAnonymization").update(
        status="exhausted", settled_at=ago - timedelta(hours=1), next_at=None
    )
    SagaLog.objects.update(updated_at=ago)
    Quarantined.objects.create(
        topic="t", message_id="1", received_at=timezone.now(), body=b"{", body_hash=b"1", code="not-json", reason="no"
    )
    stalled = new_ids(1)[0]
    tell(event("RetrievalStarted", stalled))
    SagaLog.objects.filter(key=stalled).update(updated_at=ago, set_aside_at=ago, set_aside_error="KeyError")
    page = queries.attention()
    kinds = [item.kind for item in page.items]
    assert kinds == ["set_aside", "exhausted", "stalled", "quarantined", "parked"]
    assert {kind: count for kind, count in page.by_kind.items() if count} == dict.fromkeys(kinds, 1)
    by_kind = {item.kind: item for item in page.items}
    assert by_kind["exhausted"].saga_id == row.id
    assert by_kind["parked"].count == 2
    assert by_kind["parked"].link["key"] == task
    assert queries.attention(offset=1, limit=1).items == page.items[1:2]


@pytest.mark.parametrize("kind", ["set_aside", "exhausted", "overdue", "stalled", "parked"])
def test_the_newest_of_six_hundred_is_on_the_first_page_and_the_oldest_on_the_last(kind: str) -> None:
    """An outage with 603 of a kind, and older trouble of the least severe kind beside it."""
    number, size = 603, 50
    newest = _outage(kind, number)
    pages = [queries.attention(offset, size) for offset in range(0, number + 3 * size, size)]
    items = [item for page in pages for item in page.items if item.kind == kind]
    assert {page.total for page in pages} == {number + 1 if kind != "parked" else number}
    assert pages[0].by_kind[kind] == number
    assert len({item.link["key"] if kind == "parked" else item.saga_id for item in items}) == number
    assert (items[0].link["key"] if kind == "parked" else items[0].saga_id) == newest
    assert [item.latest for item in items] == sorted((item.latest for item in items), reverse=True)
    shown = [item.kind for page in pages for item in page.items]
    assert shown == [*[kind] * number, *(["parked"] if kind != "parked" else [])]
    assert queries.attention(0, 2, kind=kind).total == number
    assert list(queries.attention(number - 1, 5, kind=kind).items) == items[-1:]


@pytest.mark.parametrize("kind", ["set_aside", "exhausted", "overdue", "stalled", "parked"])
def test_attention_asks_no_more_for_more(kind: str) -> None:
    counts = []
    _outage(kind, 2)
    for more in (1, 200):
        _outage(kind, more)
        with CaptureQueriesContext(connection) as asked:
            page = queries.attention(0, 1000)
        assert page.by_kind[kind] >= more
        assert all(count == 0 or name in (kind, "parked") for name, count in page.by_kind.items())
        counts.append(len(asked))
    assert counts[0] == counts[1]
    assert counts[1] <= 30


def _outage(kind: str, number: int) -> Any:
    """So many of a kind, a second apart, hours ago; returns what names the newest."""
    began = timezone.now() - timedelta(hours=3)
    times = [began + timedelta(seconds=second) for second in range(number)]
    if kind == "parked":
        keys = new_ids(number)
        rows = [(key, at) for key, at in zip(keys, times, strict=True)]
        _park(rows)
        return keys[-1]
    _park([(new_ids(1)[0], began - timedelta(days=1))])
    row, _ = failed_saga()
    command = Command.objects.filter(saga_id=row.id)[0]
    remove(Command.objects.filter(saga_id=row.id).exclude(id=command.id))
    ended = SagaLog.objects.filter(id=row.id)
    ended.update(status="COMPENSATION_SUCCEEDED")
    names = [uuid.uuid4() for _ in times]
    status, aside = ("STARTED", None) if kind == "stalled" else ("COMPENSATING", None)
    sagas = [
        SagaLog(
            **{
                field.attname: getattr(row, field.attname)
                for field in SagaLog._meta.concrete_fields
                if field.attname not in ("id", "key", "status", "set_aside_at", "last_event_at", "updated_at")
            },
            id=name,
            key=str(name),
            status=status if kind in ("stalled", "set_aside") else "COMPENSATION_FAILED",
            set_aside_at=at if kind == "set_aside" else aside,
            last_event_at=at,
            updated_at=at,
        )
        for name, at in zip(names, times, strict=True)
    ]
    SagaLog.objects.bulk_create(sagas)
    if kind in ("exhausted", "overdue"):
        state: dict[str, Any] = {"status": "exhausted" if kind == "exhausted" else "published", "next_at": None}
        field_ = "settled_at" if kind == "exhausted" else "deadline_at"
        fields = [field.attname for field in Command._meta.concrete_fields if field.attname not in (*state, field_)]
        same = {name: getattr(command, name) for name in fields if name not in ("id", "saga_id", "key")}
        Command.objects.bulk_create(
            Command(**same, **state, id=uuid.uuid4(), saga_id=name, key=str(name), **{field_: at})
            for name, at in zip(names, times, strict=True)
        )
    remove(Command.objects.filter(saga_id=row.id))
    return names[-1]


def _park(rows: list[tuple[str, datetime]]) -> None:
    first = 10_000_000 + Parked.objects.count()
    Parked.objects.bulk_create(
        Parked(event=first + number, stream="image_processing", key=key, entity="", reason="no_saga", since=at)
        for number, (key, at) in enumerate(rows)
    )


def test_parked_events_are_grouped_by_key_with_the_saga_of_their_image() -> None:
    task, other, image = new_ids(3)
    tell(*retrieval(task, [image]))
    tell(event("ImageDeletionCompleted", other, image, id="e1"), event("ImageDeletionFailed", other, image, id="e2"))
    page = queries.parked_groups()
    [group] = page.items
    assert page.total == 1
    assert (group.key, group.count, group.entity) == (other, 2, image)
    assert group.types == ["ImageDeletionCompleted", "ImageDeletionFailed"]
    assert group.event_ids == ["e1", "e2"]
    assert (group.suggestion, group.suggestion_key) == (saga(task).id, task)


def test_counts_are_capped() -> None:
    for task in new_ids(3):
        tell(event("RetrievalStarted", task))
    counts = queries.status_counts(limit=2)
    assert counts.by_status["STARTED"] == 2
    assert counts.is_more("STARTED")
    assert queries.status_counts().by_status == {
        "STARTED": 3, "COMPLETED": 0, "FAILED": 0,
        "COMPENSATING": 0, "COMPENSATION_SUCCEEDED": 0, "COMPENSATION_FAILED": 0,
    }  # fmt: skip


def test_the_log_is_paged_without_bodies() -> None:
    row, _ = failed_saga()
    page = parts.event_page(parts.log(row.id), 2, 3)
    assert (page.total, [item.log.seq for item in page.items]) == (9, [3, 4, 5])
    assert "payload" in page.items[0].event.get_deferred_fields()
    assert Event.objects.count() == 9
