"""The apply turn on real PostgreSQL: from rows of the event log to sagas, steps, logs and commands."""

import gc
import random
from itertools import pairwise
from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded

from bridge import event_log
from bridge.models import Pending
from compensation.models import Command
from sagas.applying import apply as applying
from sagas.applying import claim, statements
from sagas.applying.apply import run_apply
from sagas.engine.fold import Fold
from sagas.models import Lane, Parked, SagaEvent, SagaKey, SagaLog, SagaStep
from tests.integration.story import event, image_through, new_ids, retrieval

pytestmark = pytest.mark.django_db(transaction=True)


def saga(task: str) -> SagaLog:
    return SagaLog.objects.get(key=task)


def test_a_saga_that_goes_well_is_completed() -> None:
    task, image = new_ids(2)
    event_log.append(retrieval(task, [image]) + image_through(task, image))
    assert run_apply() == 9
    row = saga(task)
    assert row.status == "COMPLETED"
    assert (row.lanes_known, row.lanes_processed, row.steps_count, row.events_count) == (1, 1, 9, 9)
    assert row.end_time is not None
    assert not Pending.objects.exists()
    assert SagaStep.objects.filter(saga=row).count() == 9
    assert set(SagaStep.objects.filter(saga=row).values_list("status", flat=True)) == {"COMPLETED"}
    assert list(SagaEvent.objects.filter(saga=row).order_by("seq").values_list("seq", flat=True)) == list(range(1, 10))


def test_order_and_batches_do_not_matter() -> None:
    chance = random.Random(7)
    for _ in range(5):
        task, *images = new_ids(4)
        facts = retrieval(task, images) + [fact for image in images for fact in image_through(task, image)]
        facts.append(event("ProcessingFailed", task, images[0], seconds=60, error_message="no"))
        chance.shuffle(facts)
        cut = chance.randrange(len(facts))
        for part in (facts[:cut], facts[cut:]):
            event_log.append(part)
            run_apply()
        row = saga(task)
        assert row.status == "COMPENSATING"
        assert (row.lanes_processed, row.lanes_undoing, row.commands_on_the_way) == (2, 1, 2)
        assert not Parked.objects.exists()
        commands = {command.name: command for command in Command.objects.filter(saga_id=row.id)}
        assert commands["RollbackAnonymization"].released_at is not None
        assert commands["DeleteRetrievedImage"].released_at is None
        event_log.append([event("AnonymizationRolledBack", "", images[0], seconds=70)])
        run_apply()
        assert Command.objects.get(id=commands["DeleteRetrievedImage"].id).released_at is not None
        event_log.append([event("ImageDeletionCompleted", task, images[0], seconds=71)])
        run_apply()
        row.refresh_from_db()
        assert row.status == "COMPLETED"
        assert (row.lanes_processed, row.lanes_undone) == (2, 1)


def test_what_comes_before_its_saga_is_parked_and_taken_at_birth() -> None:
    task, image = new_ids(2)
    facts = retrieval(task, [image]) + image_through(task, image)
    event_log.append(facts[1:])
    run_apply()
    assert Parked.objects.count() == 8
    event_log.append(facts[:1])
    run_apply()
    assert saga(task).status == "COMPLETED"
    assert not Parked.objects.exists()


def test_an_event_of_a_services_own_task_finds_its_saga_by_the_image() -> None:
    task, own, image = new_ids(3)
    event_log.append([event("ProcessingCompleted", own, image, seconds=50)])
    run_apply()
    assert Parked.objects.get().reason == "no_saga"
    event_log.append(retrieval(task, [image]))
    run_apply()
    assert saga(task).status == "COMPLETED"
    assert SagaKey.objects.get().key == own


@pytest.mark.parametrize("its_task", ["", "of its own"])
def test_an_image_that_is_ready_for_processing_finds_its_saga_by_the_image(its_task: str) -> None:
    """Its producer may know no task: it then writes None, which the bridge reads as no task."""
    task, own, image = new_ids(3)
    event_log.append(retrieval(task, [image]))
    run_apply()
    event_log.append([event("ImageReadyForProcessing", own if its_task else "", image)])
    run_apply()
    assert not Parked.objects.exists()
    assert saga(task).steps.filter(step_type="PROCESSING_REQUEST", entity=image).exists()


def test_a_type_that_has_no_key_of_its_own_is_not_found_by_image() -> None:
    task, other, image = new_ids(3)
    event_log.append(retrieval(task, [image]))
    run_apply()
    event_log.append([event("ImageDeletionCompleted", other, image)])
    run_apply()
    parked = Parked.objects.get()
    assert parked.suggestion == saga(task).id


def test_a_lane_event_without_an_image_is_parked_with_its_saga_as_suggestion() -> None:
    task, image = new_ids(2)
    event_log.append([*retrieval(task, [image]), event("AnonymizationCompleted", task)])
    run_apply()
    parked = Parked.objects.get()
    assert (parked.reason, parked.suggestion) == ("no_entity", saga(task).id)


def test_a_failed_saga_undoes_all_its_lanes() -> None:
    task, *images = new_ids(4)
    facts = [*retrieval(task, images), *image_through(task, images[0])]
    event_log.append([*facts, event("RetrievalFailed", task, seconds=90, error_message="disk full")])
    run_apply()
    row = saga(task)
    assert (row.status, row.error_message) == ("COMPENSATING", "disk full")
    assert Command.objects.filter(saga_id=row.id).count() == 4
    assert Lane.objects.filter(saga=row, failed=True, outcome="undoing").count() == 3


def test_a_queue_that_never_empties_lets_the_task_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under steady load each page finds the events that came meanwhile; a pass over them all would never end."""
    real = statements.claim

    def while_more_comes(after: int, limit: int) -> Any:
        event_log.append([event("RetrievalStarted", new_ids(1)[0])])
        return real(after, limit)

    monkeypatch.setattr(statements, "claim", while_more_comes)
    assert run_apply(seconds=0) == 1


def test_what_waits_for_a_saga_shares_a_page_however_far_apart_it_lies(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.APPLY_PAGE = 8
    tasks = new_ids(6)
    for second in range(4):
        event_log.append([event("RetrievalStarted", task, seconds=second) for task in tasks])
    longest_waiting_first = list(Pending.objects.order_by("id").values_list("key", flat=True))[:6]
    pages: list[list[statements.PendingRow]] = []
    apply_page = applying.apply_page

    def watched(page: list[statements.PendingRow], turns: int | None = None) -> int:
        pages.append(page)
        return apply_page(page, turns)

    monkeypatch.setattr(applying, "apply_page", watched)
    assert run_apply() == 24
    assert [len(page) for page in pages] == [8, 8, 8]
    asked = [row for page in pages for row in page]
    assert [row.key for row in asked] == [key for key in longest_waiting_first for _ in range(4)]
    assert all(one.id < next_one.id for one, next_one in pairwise(asked) if one.key == next_one.key)
    assert list(SagaLog.objects.values_list("events_count", flat=True)) == [4] * 6


def test_a_queue_longer_than_what_is_looked_at_together_is_applied_to_its_end(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    monkeypatch.setattr(claim, "WINDOW", 2)
    settings.APPLY_PAGE = 3
    tasks = new_ids(4)
    for second in range(5):
        event_log.append([event("RetrievalStarted", task, seconds=second) for task in tasks])
    assert run_apply() == 20
    assert list(SagaLog.objects.values_list("events_count", flat=True)) == [5] * 4
    assert not Pending.objects.exists()


def test_a_time_limit_sets_no_saga_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    """It strikes wherever the task happens to be, in the middle of a healthy saga's fold too."""
    [task] = new_ids(1)
    event_log.append([event("RetrievalStarted", task)])

    def out_of_time(*_: Any) -> Any:
        raise SoftTimeLimitExceeded

    with monkeypatch.context() as patch:
        patch.setattr(Fold, "apply", out_of_time)
        with pytest.raises(SoftTimeLimitExceeded):
            run_apply()
    assert not SagaLog.objects.exists()
    assert run_apply() == 1
    assert SagaLog.objects.get(key=task).set_aside_at is None


def test_a_page_leaves_the_garbage_collector_on() -> None:
    """Also where an earlier one was cut off by a time limit before it could: else the process only ever grows."""
    event_log.append([event("RetrievalStarted", new_ids(1)[0])])
    gc.disable()
    try:
        assert run_apply() == 1
        assert gc.isenabled()
    finally:
        gc.enable()
