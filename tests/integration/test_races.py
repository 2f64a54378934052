"""The races of the apply turn, each laid out with two connections."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction

from bridge import event_log
from bridge.models import Pending
from sagas.applying import apply as applying
from sagas.applying import claim, statements, sweeper
from sagas.applying.apply import run_apply
from sagas.models import Parked, SagaEvent, SagaLog
from tests.integration.connections import InThread, second_connection
from tests.integration.story import event, image_through, new_ids, retrieval

pytestmark = pytest.mark.django_db(transaction=True)

LOCK = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"


def routed(task: str) -> str:
    return f"image_processing:{task}"


def test_an_event_between_read_and_mark_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Marking by key would take the event that came in while its saga was being applied for applied."""
    task, image = new_ids(2)
    event_log.append(retrieval(task, [image]))
    real = statements.log_applied
    late = image_through(task, image)

    def another_arrives_first(written: Any) -> None:
        if late:
            facts, late[:] = list(late), []
            InThread(lambda: event_log.append(facts)).result()
        real(written)

    monkeypatch.setattr(statements, "log_applied", another_arrives_first)
    assert run_apply() == 9  # in one call: it needs no second message to be seen
    assert SagaLog.objects.get(key=task).status == "COMPLETED"
    assert not Pending.objects.exists()


def test_an_event_that_was_sent_to_its_saga_after_the_claim_is_not_applied_without_the_saga_s_lock() -> None:
    """Its page was claimed, and locked, under the key that it named first: nobody's task."""
    task, image = new_ids(2)
    event_log.append(retrieval(task, [image]))
    run_apply()
    event_log.append([event("ProcessingStarted", "a task of processing's own", image, seconds=30)])
    claimed = statements.claim(0, 10)
    assert applying.apply_page(claimed) == 1  # another worker sends it to the image's saga

    with second_connection() as other:
        other.execute(LOCK, [routed(task)])
        assert applying.apply_page(claimed) == 0
    assert SagaEvent.objects.count() == 3
    assert run_apply() == 1
    assert SagaEvent.objects.count() == 4


def test_what_a_holder_had_read_before_a_nudge_is_seen_by_the_holder() -> None:
    """A nudge that finds the key locked leaves; the holder claims again after its commit."""
    task, image = new_ids(2)
    event_log.append(retrieval(task, [image]))
    with second_connection() as holder:
        holder.execute(LOCK, [routed(task)])
        assert run_apply() == 0  # not waited for, not applied by a second worker
        assert Pending.objects.count() == 3
    assert run_apply() == 3


def test_who_finds_no_turn_leaves_all_to_who_has_it() -> None:
    task, image = new_ids(2)
    event_log.append(retrieval(task, [image]))
    with second_connection() as holder:
        holder.execute(LOCK, [f"apply on {socket.gethostname()} 0"])
        assert run_apply(slots=1) == 0
        assert Pending.objects.count() == 3
        assert run_apply(slots=2) == 3  # a second slot is free


@pytest.mark.parametrize(("waiting", "turns"), [(1, 4), (100, 4), (101, 1), (1999, 1), (2000, 4)])
def test_more_than_one_applies_where_little_waits_or_more_than_a_page(waiting: int, turns: int) -> None:
    assert claim.slots_for(waiting, 4) == turns


def test_any_number_may_apply_where_slots_are_not_counted() -> None:
    task, image = new_ids(2)
    event_log.append(retrieval(task, [image]))
    with second_connection() as holder:
        holder.execute(LOCK, [f"apply on {socket.gethostname()} 0"])
        assert run_apply() == 3


def test_keys_that_others_hold_do_not_starve_the_rest(settings: Any) -> None:
    settings.APPLY_PAGE = 3
    held, free, image = new_ids(3)
    event_log.append([event("RetrievalStarted", held, seconds=number) for number in range(6)])
    event_log.append(retrieval(free, [image]))
    with second_connection() as holder:
        holder.execute(LOCK, [routed(held)])
        assert run_apply() == 3
    assert SagaLog.objects.get().key == free


def test_a_second_holder_reads_after_it_has_the_lock() -> None:
    """Lock and read in one statement see a snapshot from before the lock: events would be applied twice."""
    task, image = new_ids(2)
    event_log.append(retrieval(task, [image]))
    page = statements.claim(0, 100)  # claimed, and then slow
    assert run_apply() == 3
    assert applying.apply_page(page) == 0
    assert SagaEvent.objects.count() == 3


def test_try_lock_takes_no_more_locks_than_keys() -> None:
    """A volatile filter pushed down into a subquery took a lock on every row that it read."""
    keys = [routed(task) for task in new_ids(10)]
    with transaction.atomic():
        assert statements.try_lock(keys[:3]) == set(keys[:3])
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()")
            assert cursor.fetchone()[0] == 3


def test_without_any_lock_the_unique_keys_refuse_double_work() -> None:
    task, image = new_ids(2)
    event_log.append(retrieval(task, [image]))
    first = statements.read_events(statements.pending_of([routed(task)]), statements.content_types())
    run_apply()
    with pytest.raises(IntegrityError), transaction.atomic():
        applying._apply(first, raise_errors=True)
    assert SagaEvent.objects.count() == 3


def test_parking_and_birth_both_look_under_the_lock() -> None:
    """An event that is being parked while its saga is born: one of the two finds the other."""
    task, image = new_ids(2)
    facts = retrieval(task, [image])
    event_log.append(facts[1:])
    with second_connection() as birth:
        birth.execute(LOCK, [routed(task)])
        assert run_apply() == 0  # the birth holds the key: nothing may be parked beside it
    run_apply()
    assert Parked.objects.count() == 2
    event_log.append(facts[:1])
    assert run_apply() == 3  # with what was parked for it
    assert (SagaLog.objects.get().events_count, Parked.objects.count()) == (3, 0)


def test_parking_against_a_lane_that_opens_is_swept(monkeypatch: pytest.MonkeyPatch) -> None:
    """No lock covers images: an event parked while its lane was being committed is matched again by the sweeper."""
    task, own, image = new_ids(3)
    event_log.append([event("ProcessingCompleted", own, image)])
    run_apply()
    monkeypatch.setattr(statements, "unpark_entities", lambda entities: 0)  # the worker died right after its commit
    event_log.append(retrieval(task, [image]))
    run_apply()
    assert Parked.objects.count() == 1
    sweeper.sweep()
    run_apply()
    assert SagaLog.objects.get().status == "COMPLETED"
    assert not Parked.objects.exists()


def test_the_sweeper_leaves_alone_what_has_no_match() -> None:
    task, other, image = new_ids(3)
    event_log.append(retrieval(task, [image]))
    run_apply()
    event_log.append(
        [
            event("ImageDeletionCompleted", other, image),  # may not be found by its image
            event("AnonymizationCompleted", task),  # speaks of an image and names none
            event("ProcessingCompleted", other),
        ]
    )
    run_apply()
    since = list(Parked.objects.order_by("event").values_list("event", "since"))
    sweeper.sweep()
    run_apply()
    assert list(Parked.objects.order_by("event").values_list("event", "since")) == since


def test_two_drains_at_once_apply_each_event_once() -> None:
    tasks = new_ids(30)
    for task in tasks:
        event_log.append([*retrieval(task, new_ids(1))])
    others = [InThread(run_apply) for _ in range(2)]
    moved = run_apply() + sum(other.result() for other in others)
    assert moved == 90
    assert SagaEvent.objects.count() == 90
    assert set(SagaLog.objects.values_list("events_count", flat=True)) == {3}
