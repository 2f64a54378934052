"""Retention: what is old and over leaves whole, what may still need a person stays, and nothing comes back."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import DatabaseError, connection, transaction
from django.db.models import F
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from bridge import event_log, quarantine
from bridge import retention as edge
from bridge.codec import get_codec
from bridge.envelope import Envelope, Message
from bridge.errors import StillUnreadable
from bridge.event_log import StoreResult
from bridge.models import Duplicate, Event, Pending, PrunedEvent, Quarantined, QuarantineStatus
from compensation import retention as commands
from compensation.models import Attempt, Command
from sagaproject.celery import app
from sagas import queries as reads
from sagas import retention, tasks
from sagas.applying import verify
from sagas.applying.apply import run_apply
from sagas.models import (
    Attachment,
    Decision,
    Lane,
    Parked,
    PrunedKey,
    SagaEvent,
    SagaKey,
    SagaLog,
    SagaStep,
)
from sagas.retention import Pruned
from tests.bench.load import NOW, Teller
from tests.integration import decided
from tests.integration import deciding as actions
from tests.integration.connections import InThread, second_connection
from tests.integration.history import rewrite
from tests.integration.story import event, image_through, new_ids, retrieval
from tests.integration.terminal import run

pytestmark = pytest.mark.django_db(transaction=True)

LOCK = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"
OF_SAGAS = (
    SagaLog,
    SagaEvent,
    SagaStep,
    Lane,
    SagaKey,
    Attachment,
    Parked,
    Command,
    Attempt,
    Event,
    Duplicate,
    Pending,
)


def age(days: int = 100) -> None:
    """Lets everything have happened so many days earlier."""
    at = timezone.now() - timedelta(days=days)
    SagaLog.objects.filter(end_time__isnull=False).update(end_time=at)
    SagaLog.objects.update(updated_at=at)
    Parked.objects.filter(dismissed_at__isnull=False).update(dismissed_at=at)
    rewrite("bridge_quarantined", "UPDATE bridge_quarantined SET received_at = %s", [at])
    Quarantined.objects.filter(decided_at__isnull=False).update(decided_at=at)


def prune(days: int = 30, **more: Any) -> Pruned:
    return sum(retention.steps(retention.days_ago(days), retention.days_ago(90), **more), Pruned())


def left_over() -> dict[str, int]:
    """What is in the tables that sagas fill."""
    return {model.__name__: count for model in OF_SAGAS if (count := model._default_manager.count())}


def wire() -> list[Envelope]:
    """All messages of a saga of long ago, as they come from Pulsar."""
    at = (timezone.now() - timedelta(days=100)).isoformat().encode()
    decoded = [read(topic, body.replace(NOW, at)) for topic, body in Teller(1, stamped=True).whole()]
    assert all(isinstance(item, Envelope) for item in decoded)
    return [item for item in decoded if isinstance(item, Envelope)]


def read(topic: str, body: bytes) -> Any:
    message = Message(topic, topic, f"1:{uuid.uuid4()}", round(timezone.now().timestamp() * 1000), body, {})
    return get_codec().decode(message, timezone.now())


def stored(envelopes: Sequence[Envelope]) -> None:
    event_log.store_batch(envelopes)
    run_apply()


# --- what leaves ------------------------------------------------------------------------------------------------------


def test_a_saga_leaves_with_all_its_rows() -> None:
    messages = wire()
    stored(messages)
    assert SagaLog.objects.get().status == "COMPLETED"
    event_log.store_batch(messages[:2])  # repeats
    age()
    assert prune() == Pruned(sagas=1, events=8)
    assert left_over() == {}
    assert PrunedEvent.objects.count() == 8
    assert PrunedKey.objects.count() == 1


def test_an_undone_saga_leaves_with_its_commands_their_attempts_and_what_was_attached() -> None:
    saga, names = decided.failed()
    decided.published()
    event_log.append([event("AnonymizationRolledBack", saga.key, names[0], seconds=29)])
    run_apply()
    decided.published()
    event_log.append([event("ImageDeletionCompleted", saga.key, name, seconds=30) for name in names])
    run_apply()
    key, _ = decided.parked()
    actions.attach(saga_id=saga.id, key=key, request=decided.request())
    run_apply()
    saga.refresh_from_db()
    assert saga.status == "COMPENSATION_SUCCEEDED"
    assert {"Command": 3, "Attempt": 3, "Attachment": 1, "SagaKey": 1}.items() <= left_over().items()
    age()
    assert prune().sagas == 1
    assert left_over() == {}
    assert set(PrunedKey.objects.values_list("key", flat=True)) == {saga.key, key}
    assert Decision.objects.filter(saga=saga.id).count() == 1  # the audit stays


def test_only_keys_of_messages_are_kept() -> None:
    """Nothing delivers our own facts again."""
    saga, _ = decided.failed()
    actions.terminate(saga.id, request=decided.request())
    age()
    own = Event.objects.exclude(source="pulsar").count()
    gone = prune()
    assert (gone.sagas, own) == (1, 1)
    assert PrunedEvent.objects.count() == gone.events - 1


def test_what_may_be_delivered_again_unnoticed_is_never_pruned() -> None:
    """The bridge looks up only what occurred long enough ago."""
    [pk] = event_log.append([event("RetrievalStarted", "task")._replace(occurred_at=timezone.now() - edge.YOUNGEST)])
    with pytest.raises(ValueError, match="must not be pruned"), transaction.atomic():
        edge.forget([pk], timezone.now() - timedelta(seconds=1))
    with transaction.atomic():
        assert edge.forget([pk], timezone.now() + timedelta(seconds=1)) == 1


def test_what_was_dismissed_lately_stays_when_its_saga_leaves() -> None:
    saga, _ = decided.completed()
    event_log.append([event("AnonymizationCompleted", saga.key, seconds=50)])  # speaks of an image and names none
    run_apply()
    age()
    actions.dismiss(key=saga.key, request=decided.request())
    assert prune() == Pruned(sagas=1, events=9)
    assert left_over() == {"Parked": 1, "Event": 1}
    age()
    assert prune() == Pruned(dismissed_events=1)


def test_those_that_ended_first_leave_first_and_no_more_than_asked_for() -> None:
    tasks_ = [decided.completed()[0].key for _ in range(3)]
    age()
    for number, task in enumerate(tasks_):
        SagaLog.objects.filter(key=task).update(end_time=timezone.now() - timedelta(days=50 - number))
    assert prune(limit=2).sagas == 2
    assert SagaLog.objects.get().key == tasks_[-1]


def test_a_saga_larger_than_a_transaction_leaves_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "EVENTS", 3)
    for _ in range(3):
        decided.completed()
    age()
    assert prune() == Pruned(sagas=3, events=27)
    assert left_over() == {}


def test_dismissed_events_of_no_saga_leave_and_open_ones_never() -> None:
    key, _ = decided.parked()
    open_key, _ = decided.parked()
    actions.dismiss(key=key, request=decided.request())
    assert prune() == Pruned()  # not old enough
    age()
    assert prune() == Pruned(dismissed_events=2)
    assert set(Parked.objects.values_list("key", flat=True)) == {open_key}
    assert Event.objects.count() == 2
    assert PrunedEvent.objects.count() == 2


def test_dismissed_events_of_a_saga_leave_with_it() -> None:
    saga, _ = decided.completed()
    event_log.append([event("AnonymizationCompleted", saga.key, seconds=50)])  # speaks of an image and names none
    run_apply()
    assert Parked.objects.get().reason == "no_entity"
    age()
    assert prune() == Pruned(left=1)
    actions.dismiss(key=saga.key, request=decided.request())
    age()
    assert prune() == Pruned(sagas=1, events=10)
    assert left_over() == {}


def test_decided_messages_leave_and_open_ones_never() -> None:
    dismissed, kept = decided.quarantined(b"no json"), decided.quarantined(b"no json either")
    quarantine.dismiss(dismissed.pk, actor="ana", why="noise")
    assert prune() == Pruned()
    age()
    assert prune() == Pruned(messages=1)
    assert Quarantined.objects.get() == kept


def test_keys_leave_after_their_own_time() -> None:
    stored(wire())
    age()
    prune()
    assert prune() == Pruned()
    PrunedEvent.objects.update(pruned_at=retention.days_ago(91))
    PrunedKey.objects.update(pruned_at=retention.days_ago(91))
    assert prune() == Pruned(keys=9)
    assert not PrunedEvent.objects.exists()
    assert not PrunedKey.objects.exists()


# --- what stays -------------------------------------------------------------------------------------------------------


def running(_settings: Any, _patch: pytest.MonkeyPatch) -> None:
    decided.running()


def being_undone(_settings: Any, _patch: pytest.MonkeyPatch) -> None:
    decided.failed()


def exhausted(settings: Any, _patch: pytest.MonkeyPatch) -> None:
    decided.exhausted(settings)


def set_aside(_settings: Any, patch: pytest.MonkeyPatch) -> None:
    """It was over before the fault."""
    saga, _ = decided.completed()
    SagaLog.objects.filter(id=saga.id).update(set_aside_at=timezone.now(), set_aside_error="a fault")


def an_event_waits(_settings: Any, _patch: pytest.MonkeyPatch) -> None:
    saga, image = decided.completed()
    event_log.append([event("ProcessingStarted", saga.key, image, seconds=50)])


def an_event_waits_under_an_attached_key(_settings: Any, _patch: pytest.MonkeyPatch) -> None:
    saga, _ = decided.completed()
    [key] = new_ids(1)
    actions.attach(saga_id=saga.id, key=key, request=decided.request())
    event_log.append([event("ProcessingStarted", key, seconds=50)])


def an_event_is_parked_for_it(_settings: Any, _patch: pytest.MonkeyPatch) -> None:
    """Under a key of nobody's, and it is the likely saga."""
    _, image = decided.completed()
    event_log.append([event("ImageDeletionCompleted", new_ids(1)[0], image, seconds=50)])
    run_apply()
    assert Parked.objects.get().suggestion is not None


def a_command_is_open(_settings: Any, _patch: pytest.MonkeyPatch) -> None:
    """Were the saga's own counters ever wrong, the commands would still be asked."""
    saga, _ = decided.failed()
    SagaLog.objects.filter(id=saga.id).update(
        status="FAILED", commands_on_the_way=0, commands_exhausted=0, end_time=timezone.now()
    )


@pytest.mark.parametrize(
    "story",
    [
        running,
        being_undone,
        exhausted,
        set_aside,
        an_event_waits,
        an_event_waits_under_an_attached_key,
        an_event_is_parked_for_it,
        a_command_is_open,
    ],
)
def test_what_is_not_over_stays(story: Any, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    story(settings, monkeypatch)
    age()
    before = left_over()
    assert prune().sagas == 0
    assert left_over() == before
    assert not PrunedEvent.objects.exists()


def test_what_is_not_old_by_both_clocks_stays() -> None:
    """Sagas of long ago that were read from the topics just now are no old sagas: their events may still come in."""
    decided.completed()  # it ended in March
    SagaLog.objects.update(end_time=retention.days_ago(200))
    assert prune() == Pruned(left=1)
    age(29)
    assert prune() == Pruned()
    age(31)
    assert prune().sagas == 1


# --- what comes afterwards --------------------------------------------------------------------------------------------


def test_a_message_that_is_delivered_again_is_a_duplicate() -> None:
    messages = wire()
    stored(messages)
    age()
    prune()
    assert event_log.store_batch([*messages, messages[0]._replace(note="once more")]) == StoreResult(duplicates=9)
    fresh = wire()
    assert event_log.store_batch([*messages[:3], *fresh]) == StoreResult(stored=8, duplicates=3)
    run_apply()
    assert SagaLog.objects.get().key == fresh[0].key


def test_the_same_id_with_other_content_is_quarantined_after_pruning_too() -> None:
    messages = wire()
    stored(messages)
    age()
    prune()
    changed = messages[0].message.body.replace(b"hospital-central", b"hospital-del-sur")
    other = read(messages[0].message.topic, changed)
    assert other.event_id == messages[0].event_id
    assert event_log.store_batch([other, messages[1]]) == StoreResult(duplicates=1, quarantined=1)
    assert Quarantined.objects.get().code == "conflicting-content"
    assert left_over() == {}


def test_a_message_of_a_pruned_saga_is_not_requeued() -> None:
    messages = wire()
    stored(messages)
    age()
    prune()
    row = decided.quarantined(messages[0].message.body)
    assert event_log.unreadable(row)
    with pytest.raises(StillUnreadable, match="has been removed with its saga"):
        event_log.requeue(row.pk)
    row.refresh_from_db()
    assert row.status == QuarantineStatus.OPEN
    assert left_over() == {}


def test_a_late_event_parks_and_shows_that_its_saga_was_pruned() -> None:
    task, image = new_ids(2)
    event_log.append(retrieval(task, [image]) + image_through(task, image))
    run_apply()
    age()
    prune()
    event_log.append([event("ProcessingFailed", task, image, seconds=900, error_message="late")])
    run_apply()
    assert not SagaLog.objects.exists()
    assert Parked.objects.get().reason == "no_saga"
    Parked.objects.update(since=timezone.now() - timedelta(hours=1))
    [item] = reads.attention().items
    assert "was pruned at" in item.sentence
    assert "too late" in item.advice
    [group] = reads.parked_groups().items
    assert group.pruned_at == PrunedKey.objects.get().pruned_at
    client = Client()
    client.force_login(User.objects.create_superuser("ana", "ana@example.org", "x"))
    assert b"had ended and was pruned" in client.get(reverse("admin:sagas_parked_changelist")).content
    address = f"{reverse('admin:sagas_parked_group')}?stream=image_processing&key={task}"
    assert b"had ended and was pruned" in client.get(address).content
    asked = run("show_saga", task)
    assert asked.code == 3
    assert "was pruned at" in asked.err
    actions.dismiss(key=task, request=decided.request())
    age()
    assert prune() == Pruned(dismissed_events=1)


def test_a_task_that_begins_anew_is_a_new_saga() -> None:
    """By a starting event that was never seen: the service says that it begins again."""
    task, image = new_ids(2)
    for _ in range(2):
        event_log.append(retrieval(task, [image]) + image_through(task, image))
        run_apply()
        assert SagaLog.objects.get(key=task).status == "COMPLETED"
        age()
        assert prune().sagas == 1


# --- races and crashes ------------------------------------------------------------------------------------------------


@pytest.fixture
def between(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What to do in the middle of pruning, when the events are gone and nothing is committed."""
    todo: list[Any] = []
    real = commands.forget

    def forget(saga_ids: Sequence[uuid.UUID]) -> None:
        for work in todo:
            work()
        real(saga_ids)

    monkeypatch.setattr(commands, "forget", forget)
    return todo


def test_a_key_that_was_adopted_and_pruned_may_be_adopted_anew() -> None:
    """The audit stays for ever: it must not answer what comes years later with what was decided then."""
    key, image = new_ids(2)
    event_log.append(retrieval(key, [image])[1:] + image_through(key, image))
    run_apply()
    first = actions.adopt(key, request=decided.request())
    assert SagaLog.objects.get().status == "COMPLETED"
    age()
    assert prune().sagas == 1
    event_log.append(image_through(key, image)[:1])
    run_apply()
    assert actions.adopt(key, request=decided.request(dry_run=True)).effects["events"] == 2
    second = actions.adopt(key, request=decided.request())
    assert not second.repeated
    assert first.effects["saga"] != second.effects["saga"] == str(SagaLog.objects.get().id)
    again = actions.adopt(key, request=decided.request())
    assert again.repeated
    assert again.effects["saga"] == second.effects["saga"]


def test_a_saga_that_is_being_applied_is_left_for_the_next_time() -> None:
    held, _ = decided.completed()
    decided.completed()
    age()
    with second_connection() as applying:
        applying.execute(LOCK, [f"image_processing:{held.key}"])
        assert prune() == Pruned(sagas=1, events=9, left=1)
    assert SagaLog.objects.get() == held
    assert prune().sagas == 1


def test_a_saga_whose_other_key_is_held_is_left_too() -> None:
    """An event may be on its way to the saga from there."""
    saga, _ = decided.completed()
    [key] = new_ids(1)
    actions.attach(saga_id=saga.id, key=key, request=decided.request())
    age()
    with second_connection() as applying:
        applying.execute(LOCK, [f"image_processing:{key}"])
        assert prune() == Pruned(left=1)


def test_an_event_that_comes_while_its_saga_is_pruned_waits_and_then_parks(between: list[Any]) -> None:
    saga, image = decided.completed()
    age()
    late = [event("ProcessingFailed", saga.key, image, seconds=900, error_message="late")]
    moved: list[int] = []

    def arrives() -> None:
        InThread(lambda: event_log.append(late)).result()
        moved.append(InThread(run_apply).result())

    between.append(arrives)
    assert prune().sagas == 1
    assert moved == [0]  # nobody applies to a saga that is half gone
    assert run_apply() == 1
    assert Parked.objects.get().key == saga.key
    assert not SagaLog.objects.exists()


def test_what_was_applied_before_the_lock_keeps_the_saga(monkeypatch: pytest.MonkeyPatch) -> None:
    """The look for candidates is older than the lock: it is looked at again."""
    saga, image = decided.completed()
    age()
    real = retention._groups

    def late_failure_first(page: Any) -> Any:
        event_log.append([event("ProcessingFailed", saga.key, image, seconds=900, error_message="late")])
        run_apply()
        return real(page)

    monkeypatch.setattr(retention, "_groups", late_failure_first)
    assert prune() == Pruned(left=1)
    saga.refresh_from_db()
    assert saga.status == "COMPENSATING"


def test_a_repeat_that_waits_for_the_pruning_of_its_event_does_not_slip_in(between: list[Any]) -> None:
    """The bridge's insert has a snapshot in which no key was kept yet, and finds its place free after the commit."""
    messages = wire()
    stored(messages)
    age()
    bridges: list[InThread] = []

    def delivered_again() -> None:
        bridges.append(InThread(lambda: event_log.store_batch(messages)))
        until_somebody_waits()

    between.append(delivered_again)
    assert prune().sagas == 1
    assert bridges[0].result() == StoreResult(duplicates=8)
    assert left_over() == {}


def until_somebody_waits() -> None:
    """Until another connection to this database waits for a transaction to end."""
    waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted"
    for _ in range(10_000):
        with connection.cursor() as cursor:
            cursor.execute(waits)
            if cursor.fetchone()[0]:
                return
    raise AssertionError("nobody waits")


def test_a_repeat_whose_event_is_pruned_between_two_statements_is_a_duplicate(monkeypatch: pytest.MonkeyPatch) -> None:
    messages = wire()
    stored(messages)
    age()
    real = event_log._compare

    def pruned_first(repeats: Any) -> Any:
        assert InThread(prune).result().sagas == 1
        return real(repeats)

    monkeypatch.setattr(event_log, "_compare", pruned_first)
    assert event_log.store_batch(messages[:1]) == StoreResult(duplicates=1)
    assert left_over() == {}


def test_two_prunings_at_once_share_the_work(between: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "EVENTS", 1)
    for _ in range(4):
        decided.completed()
    age()
    others: list[Pruned] = []

    def another() -> None:
        between.clear()
        others.append(InThread(prune).result())

    between.append(another)
    assert (prune().sagas, others[0].sagas, others[0].left) == (1, 3, 1)
    assert left_over() == {}
    assert PrunedKey.objects.count() == 4


def test_a_crash_leaves_whole_sagas_or_none(between: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "EVENTS", 1)
    sagas = [decided.completed()[0] for _ in range(3)]
    age()
    calls: list[int] = []

    def dies_in_the_second() -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    between.append(dies_in_the_second)
    with pytest.raises(KeyboardInterrupt):
        prune()
    SagaLog.objects.update(end_time=F("last_event_at"))  # as their logs say it
    left = set(SagaLog.objects.values_list("id", flat=True))
    assert len(left) == 2
    assert left < {saga.id for saga in sagas}
    assert [verdict.well for verdict in verify.each(left)] == [True, True]
    assert (Event.objects.count(), PrunedEvent.objects.count(), PrunedKey.objects.count()) == (18, 9, 1)
    between.clear()
    assert prune().sagas == 2
    assert left_over() == {}


# --- history is append-only for all others ----------------------------------------------------------------------------


def test_the_permission_to_delete_ends_with_the_statement() -> None:
    decided.completed()
    first = Event.objects.order_by("pk").values_list("pk", flat=True)[0]
    with transaction.atomic(), connection.cursor() as cursor:
        assert edge.forget([first], timezone.now()) == 1
        with pytest.raises(DatabaseError, match="only ever added"):
            cursor.execute("DELETE FROM bridge_event")
        transaction.set_rollback(True)
    assert Event.objects.count() == 9


def test_retention_leaves_a_sagas_updates_as_cheap_as_they_were() -> None:
    """A row version needs no new index entries (HOT) while no indexed column changes: none may change per event."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT DISTINCT a.attname FROM pg_depend d
            JOIN pg_index i ON i.indexrelid = d.objid
            JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
            WHERE d.refobjid = 'sagas_saga'::regclass AND d.classid = 'pg_class'::regclass AND i.indrelid = d.refobjid
            """
        )
        indexed = {row[0] for row in cursor.fetchall()}
    assert "end_time" in indexed
    changing = {"last_event_at", "updated_at", "events_count", "state", "steps_count", "lanes_open", "lanes_known"}
    assert not indexed & changing


# --- the doors --------------------------------------------------------------------------------------------------------


def test_off_by_default(settings: Any) -> None:
    decided.completed()
    age(5000)
    assert settings.SAGA_RETENTION_DAYS == 0
    tasks.prune()
    assert SagaLog.objects.count() == 1
    refused = run("prune")
    assert refused.code == 2
    assert "SAGA_RETENTION_DAYS" in refused.err


def test_the_task_does_a_little_and_goes_on_there_the_next_time(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.SAGA_RETENTION_DAYS = 30
    monkeypatch.setattr(retention, "SECONDS", 0.0)
    monkeypatch.setattr(retention, "EVENTS", 1)
    monkeypatch.setattr(retention, "_place", retention.Place())
    first, *_others = (decided.completed()[0] for _ in range(3))
    age()
    SagaLog.objects.filter(id=first.id).update(
        end_time=timezone.now() - timedelta(days=200), set_aside_at=timezone.now()
    )
    assert [retention.run_prune().sagas for _ in range(4)] == [1, 1, 0, 0]  # the first must stay: it is walked past
    assert SagaLog.objects.get() == first
    SagaLog.objects.update(set_aside_at=None)
    assert retention.run_prune().sagas == 0
    monkeypatch.setattr(retention, "AGAIN", 0.0)
    assert retention.run_prune().sagas == 1  # and looked at again after a while


def test_what_cannot_be_pruned_for_an_error_does_not_keep_the_next_from_it(
    settings: Any, between: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.SAGA_RETENTION_DAYS = 30
    monkeypatch.setattr(retention, "EVENTS", 1)
    monkeypatch.setattr(retention, "_place", retention.Place())
    for _ in range(3):
        decided.completed()
    age()

    def fails_once() -> None:
        between.clear()
        raise ValueError("must not be pruned")

    between.append(fails_once)
    with pytest.raises(ValueError, match="must not be pruned"):
        retention.run_prune()
    assert SagaLog.objects.count() == 3
    assert retention.run_prune().sagas == 2


def test_beat_asks_for_it_on_the_queue_of_housekeeping() -> None:
    assert tasks.prune.name in {entry["task"] for entry in app.conf.beat_schedule.values()}
    assert app.conf.task_routes[tasks.prune.name] == {"queue": "housekeeping"}


def test_the_command_counts_first_and_prunes_then() -> None:
    for _ in range(3):
        decided.completed()
    decided.running()
    key, _ = decided.parked()
    actions.dismiss(key=key, request=decided.request())
    message = decided.quarantined(b"no json")
    quarantine.dismiss(message.pk, actor="ana", why="noise")
    age()
    before = left_over()
    expected = {"sagas": 2, "events": 18, "left": 0, "dismissed_events": 2, "messages": 1, "keys": 0, "job_items": 0}
    looked = run("prune", "--days", 30, "--limit", 2, "--dry-run", "--json").data
    assert looked == {"days": 30, "dry_run": True, **expected, "seconds": looked["seconds"]}
    assert left_over() == before
    assert Quarantined.objects.count() == 1
    done = run("prune", "--days", 30, "--limit", 2, "--json").data
    assert done == {"days": 30, "dry_run": False, **expected, "seconds": done["seconds"]}
    assert SagaLog.objects.count() == 2


def test_the_command_says_it_in_plain_text() -> None:
    decided.completed()
    held, _ = decided.completed()
    SagaLog.objects.filter(id=held.id).update(set_aside_at=timezone.now())
    age()
    looked = run("prune", "--days", 30, "--dry-run")
    assert looked.out.splitlines()[0] == "1 sagas with 9 events would be deleted"
    assert "1 sagas that are old enough stay" in looked.out
    assert run("prune", "--days", 30).out.startswith("1 sagas with 9 events deleted in ")


@pytest.mark.parametrize("words", [("--days", 0), ("--days", 30, "--limit", 0)])
def test_the_command_is_strict(words: Sequence[object]) -> None:
    assert run("prune", *words).code == 2


def test_days_are_counted_back_from_now() -> None:
    found = retention.days_ago(30)
    assert isinstance(found, datetime)
    assert timedelta(days=30) <= timezone.now() - found < timedelta(days=30, minutes=1)
