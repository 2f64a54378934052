"""Bulk jobs: the list is fixed, each item is decided exactly once, and people stay in control of it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from celery import current_app
from django.db import DataError, OperationalError, connection
from django.utils import translation

from bridge import clock, event_log, quarantine
from compensation import delivery
from compensation.models import Attempt, Breaker, Command, CommandStatus
from sagaproject import env
from sagas import actions, jobs, retention
from sagas.actions import Action, ActionRequest
from sagas.applying.apply import run_apply
from sagas.errors import Busy, Invalid, Refused
from sagas.jobs import Speed, canary, check, lease, reading, runner
from sagas.models import Decision, Job, JobItem, JobItemStatus, JobStatus, Parked, PauseCause, SagaLog
from tests.integration.commands import FakePublisher
from tests.integration.decided import completed, exhausted, failed, parked, quarantined, request, running
from tests.integration.story import event, new_ids, retrieval

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(current_app, "send_task", lambda name, **options: None)


def made(action: str, ids: list[Any], *, by: ActionRequest | None = None, **more: Any) -> Job:
    return jobs.of_ids(actions.get(action), [str(one) for one in ids], by or request(), **more)


def started(action: str, ids: list[Any], *, rate: float = 0, canary: int = 0, **values: Any) -> Job:
    job = made(action, ids)
    jobs.start(job.id, request(), Speed(rate=rate, canary=canary), values)
    return job


def now(job: Job) -> Job:
    job.refresh_from_db()
    return job


def run_to_the_end(job: Job) -> Job:
    for _ in range(50):
        jobs.run_jobs()
        if now(job).status not in lease.AT_WORK:
            return job
    raise AssertionError(f"the job does not end: {job.status}")


def results(job: Job) -> dict[str, str]:
    return dict(reading.items(job.id).values_list("target", "status"))


def decisions(job: Job, action: str) -> list[Decision]:
    return list(Decision.objects.filter(job=job.id, action=action))


def many(count: int) -> list[SagaLog]:
    """Sagas that run, with one image each."""
    tasks = new_ids(count)
    for task in tasks:
        event_log.append(retrieval(task, new_ids(1)))
    run_apply()
    return list(SagaLog.objects.filter(key__in=tasks).order_by("key"))


# --- making and checking ----------------------------------------------------------------------------------------------


def test_a_job_is_checked_before_anybody_starts_it() -> None:
    open_, ended = running()[0], completed()[0]
    [unknown] = new_ids(1)
    job = made(Action.CANCEL, [open_.id, ended.id, unknown])

    jobs.run_jobs()

    assert (now(job).status, job.total, job.eligible, job.not_eligible) == (JobStatus.PREPARED, 3, 1, 2)
    assert results(job) == {
        str(open_.id): JobItemStatus.ELIGIBLE,
        str(ended.id): JobItemStatus.NOT_ELIGIBLE,
        unknown: JobItemStatus.NOT_ELIGIBLE,
    }
    assert {found.reason: found.count for found in reading.reasons(job)} == {
        "the saga is COMPLETED and no longer running: force compensation to undo what it did": 1,
        "it no longer exists, or was matched or pruned since": 1,
    }
    assert jobs.run_jobs() == 0
    assert not Decision.objects.exists()


def test_reasons_are_stored_in_each_language() -> None:
    ended, _image = completed()
    job = made(Action.CANCEL, [ended.id])
    jobs.run_jobs()
    with translation.override("es"):
        spanish = reading.reasons(job)[0].reason
    assert spanish != reading.reasons(job)[0].reason
    assert "COMPLETED" in spanish


def test_what_matches_a_filter_later_is_not_included() -> None:
    first = many(2)
    job = jobs.of_filter(actions.get(Action.CANCEL), {"status": "STARTED"}, request())
    many(3)
    jobs.start(job.id, request(), Speed(), {})
    run_to_the_end(job)
    assert set(results(job)) == {str(saga.id) for saga in first}
    assert job.selection == {"filter": {"status": "STARTED"}}


@pytest.mark.parametrize(
    ("action", "filters"),
    [
        (Action.CANCEL, {"color": "red"}),
        (Action.CANCEL, {"status": "FOO"}),
        (Action.CANCEL, {"from_date": "yesterday"}),
        (Action.CANCEL, {"task_id": "a\x00b"}),
        (Action.RETRY, {"saga": "none"}),
        (Action.RETRY, {"held": "perhaps"}),
    ],
)
def test_a_wrong_filter_is_refused(action: str, filters: dict[str, str]) -> None:
    with pytest.raises(Invalid):
        jobs.of_filter(actions.get(action), filters, request())


def test_a_job_of_nothing_is_refused() -> None:
    with pytest.raises(Invalid, match="at least one"):
        jobs.of_filter(actions.get(Action.CANCEL), {}, request())
    with pytest.raises(Invalid, match="UUID"):
        made(Action.CANCEL, ["x"])


def test_each_filter_of_each_kind_finds_rows(settings: Any) -> None:
    saga, commands = exhausted(settings)
    parked()
    quarantined()
    given: dict[str, dict[str, Any]] = {
        Action.CANCEL: {"status": saga.status, "saga_type": "IMAGE_PROCESSING", "task_id": saga.key},
        Action.RETRY: {"status": "exhausted", "service": commands[0].service, "saga": saga.id, "held": False},
        Action.REQUEUE: {"status": "open", "code": "not-json", "topic": "retrieval-started"},
        Action.DISMISS: {"reason": "no_saga", "dismissed": "no"},
        Action.ADOPT: {},
    }
    found = {action: jobs.of_filter(actions.get(action), filters, request()).total for action, filters in given.items()}
    assert found == {Action.CANCEL: 1, Action.RETRY: 1, Action.REQUEUE: 1, Action.DISMISS: 2, Action.ADOPT: 1}


def test_ten_thousand_items_are_one_job() -> None:
    [saga] = many(1)
    job = started(Action.CANCEL, [*new_ids(10_000), saga.id])
    run_to_the_end(job)
    assert (job.total, job.not_eligible, job.done) == (10_001, 10_000, 1)
    items = [jobs.NewItem(str(number)) for number in range(jobs.MOST_ITEMS + 1)]
    with pytest.raises(Invalid, match="narrow"):
        jobs.make(actions.get(Action.DISMISS_MESSAGE), items, request(), selection={})


def test_the_same_request_makes_one_job() -> None:
    saga, _images = running()
    same = request(idempotency_key="k")
    assert made(Action.CANCEL, [saga.id], by=same).id == made(Action.CANCEL, [saga.id], by=same).id
    assert Job.objects.count() == 1


# --- carrying out -----------------------------------------------------------------------------------------------------


def test_each_item_is_an_ordinary_decision_that_names_the_job() -> None:
    sagas = many(3)
    job = started(Action.CANCEL, [saga.id for saga in sagas])
    run_to_the_end(job)

    assert (job.status, job.done, job.eligible) == (JobStatus.DONE, 3, 3)
    assert {saga.status for saga in SagaLog.objects.all()} == {"COMPENSATING"}
    made_ = decisions(job, Action.CANCEL)
    assert {(one.actor, one.reason, one.door, one.saga) for one in made_} == {
        ("ana", "because", "api", saga.id) for saga in sagas
    }
    assert {one.id for one in made_} == set(reading.items(job.id).values_list("decision", flat=True))
    assert [one.action for one in reading.history(job.id)] == ["job_start"]
    assert reading.commands(job) == {"planned": 3}


def test_every_decision_can_be_a_job(settings: Any) -> None:
    """Also those that no list could make on many before."""
    _saga, commands = exhausted(settings)
    key, events = parked()
    message = quarantined()
    alone, _images = running()
    SagaLog.objects.filter(id=alone.id).update(steps_count=99)  # what a replay repairs
    ids: dict[str, list[Any]] = {
        Action.RETRY: [commands[0].id],
        Action.FORCE_COMPENSATION: [completed()[0].id],
        Action.TERMINATE: [running()[0].id],
        Action.CLOSE_RETRIEVAL: [_open_retrieval().id],
        Action.REPLAY: [alone.id],
        Action.DISMISS: [events[0]],
        Action.ADOPT: [key],
        Action.REQUEUE: [message.pk],
    }
    for action, given in ids.items():
        job = run_to_the_end(started(action, given))
        assert (job.done, job.not_eligible) == (1, 0), (action, reading.reasons(job))
    assert {spec.name for spec in actions.in_jobs()} >= set(ids)


def _open_retrieval() -> SagaLog:
    task, *images = new_ids(3)
    event_log.append(
        [
            event("RetrievalStarted", task, seconds=0),
            event("ImagesRetrieved", task, seconds=1, image_ids=images, number_of_images=2),
        ]
    )
    run_apply()
    return SagaLog.objects.get(key=task)


def test_events_are_attached_each_to_the_saga_that_its_item_names() -> None:
    saga, [image, _other] = running()
    _key, events = parked(["ProcessingStarted"], image="")
    item = jobs.NewItem(events[0], {"saga": str(saga.id), "lane": image})
    job = jobs.make(actions.get(Action.ATTACH), [item], request(), selection={"ids": 1})
    jobs.start(job.id, request(), Speed(), {})
    run_to_the_end(job)
    assert (job.done, Parked.objects.count()) == (1, 0)


def test_a_value_that_is_required_is_asked_for_at_the_start() -> None:
    _key, events = parked()
    job = made(Action.ATTACH, events)
    with pytest.raises(Invalid, match="saga is required"):
        jobs.start(job.id, request(), Speed(), {})
    with pytest.raises(Invalid, match="does not take"):
        jobs.start(job.id, request(), Speed(), {"images": 3})


def test_an_item_that_changed_since_the_check_is_refused() -> None:
    first, second = many(2)
    job = started(Action.CANCEL, [first.id, second.id])
    _check_only(job)
    actions.get(Action.FORCE_COMPENSATION).decide({"saga": first.id}, request(actor="bob"))
    run_to_the_end(job)
    assert results(job) == {str(first.id): JobItemStatus.REFUSED, str(second.id): JobItemStatus.DONE}
    assert "already failed" in reading.reasons(job)[0].reason
    assert (job.status, job.refused, job.done) == (JobStatus.DONE, 1, 1)


def test_an_item_that_somebody_else_decided_alike_is_not_decided_again() -> None:
    first, second = many(2)
    job = started(Action.CANCEL, [first.id, second.id])
    _check_only(job)
    actions.get(Action.CANCEL).decide({"saga": first.id}, request(actor="bob"))
    run_to_the_end(job)
    assert results(job)[str(first.id)] == JobItemStatus.ALREADY
    assert (job.already, job.done, len(decisions(job, Action.CANCEL))) == (1, 1, 1)


def test_an_item_that_is_gone_is_refused() -> None:
    rows = [quarantined(), quarantined()]
    job = started(Action.DISMISS_MESSAGE, [row.pk for row in rows])
    _check_only(job)
    quarantine.dismiss(rows[0].pk, actor="bob", why="because")
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute("DELETE FROM bridge_quarantined WHERE id = %s", [rows[0].pk])
        cursor.execute("SET session_replication_role = DEFAULT")
    run_to_the_end(job)
    assert results(job)[str(rows[0].pk)] == JobItemStatus.REFUSED
    assert reading.reasons(job)[0].reason == "it no longer exists, or was matched or pruned since"


def _check_only(job: Job) -> None:
    """Let the items be checked; the job would go on with the next task."""
    mine = lease.acquire(job.id)
    assert mine is not None
    while now(job).status == JobStatus.CHECKING:
        check.check_page(job, mine)
    mine.release()


@pytest.mark.parametrize("fault", [KeyError("a fault"), DataError("a value out of range")])
def test_a_fault_of_one_item_leaves_the_others(monkeypatch: pytest.MonkeyPatch, fault: Exception) -> None:
    sagas = many(3)
    job = started(Action.CANCEL, [saga.id for saga in sagas])
    _break(monkeypatch, sagas[1].id, fault)
    run_to_the_end(job)
    assert (job.status, job.done, job.failed) == (JobStatus.DONE, 2, 1)
    assert type(fault).__name__ in reading.reasons(job)[0].reason
    assert "out of range" not in reading.reasons(job)[0].reason


@pytest.mark.parametrize("busy", [Busy("busy"), OperationalError("canceling statement due to statement timeout")])
def test_an_item_that_stays_locked_is_given_up_after_the_others(
    monkeypatch: pytest.MonkeyPatch, busy: Exception
) -> None:
    sagas = many(3)
    job = started(Action.CANCEL, [saga.id for saga in sagas])
    _break(monkeypatch, sagas[0].id, busy)
    run_to_the_end(job)
    assert (job.done, job.refused) == (2, 1)
    assert "locked" in reading.reasons(job)[0].reason


def _break(monkeypatch: pytest.MonkeyPatch, saga: Any, error: Exception) -> None:
    real = actions.ActionSpec.decide

    def decide(self: Any, values: Any, by: ActionRequest) -> Any:
        if str(values.get("saga")) == str(saga):
            raise error
        return real(self, values, by)

    monkeypatch.setattr(actions.ActionSpec, "decide", decide)


def test_what_a_job_plans_does_not_count_for_the_circuit_breaker(settings: Any) -> None:
    settings.SAGA_BREAKER_COMMANDS = 2
    job = started(Action.CANCEL, [saga.id for saga in many(5)])
    run_to_the_end(job)
    assert (job.done, Command.objects.count(), Breaker.objects.count()) == (5, 5, 0)


# --- speed ------------------------------------------------------------------------------------------------------------


def test_no_more_items_are_carried_out_than_the_rate_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    job = started(Action.CANCEL, [saga.id for saga in many(12)], rate=2)
    at = clock.now()
    monkeypatch.setattr(clock, "now", lambda: at)
    jobs.run_jobs()
    assert now(job).done <= 1
    Job.objects.filter(id=job.id).update(paced_at=at)
    done = now(job).done
    for seconds, expected in ((0.4, 0), (1.0, 2), (3.0, 6), (600.0, 12)):
        monkeypatch.setattr(clock, "now", lambda passed=seconds: at + timedelta(seconds=passed))
        jobs.run_jobs()
        assert now(job).done - done == min(expected, 12 - done), seconds
    assert now(job).status == JobStatus.DONE


def test_a_pause_of_the_workers_is_not_followed_by_a_burst() -> None:
    at = clock.now()
    job = Job(rate=2.0, paced_at=at - timedelta(hours=1))
    assert runner._allowed(job, at) == 10
    assert runner._paced(job, at, 10) == at
    slow = Job(rate=0.1, paced_at=at - timedelta(seconds=9))
    assert runner._allowed(slow, at) == 0
    assert runner._allowed(slow, at + timedelta(seconds=1)) == 1


@pytest.mark.parametrize("speed", [Speed(rate=-1), Speed(rate=float("nan")), Speed(rate=1e9), Speed(canary=-1)])
def test_a_speed_that_cannot_be_is_refused(speed: Speed) -> None:
    job = made(Action.CANCEL, [running()[0].id])
    with pytest.raises(Invalid):
        jobs.start(job.id, request(), speed, {})


# --- the canary -------------------------------------------------------------------------------------------------------


def answer(commands: Any, kind: str = "ImageDeletionCompleted") -> None:
    """What is due leaves, and the service answers these commands."""
    delivery.publish_due(FakePublisher(), "host:1")
    for command in commands:
        key = SagaLog.objects.get(id=command.saga_id).key
        event_log.append([event(kind, key, command.entity, seconds=60, error_message="locked")])
    run_apply()
    run_apply()


def test_the_others_follow_when_the_canary_is_confirmed() -> None:
    job = started(Action.CANCEL, [saga.id for saga in many(5)], canary=2)
    jobs.run_jobs()
    jobs.run_jobs()
    assert (now(job).status, job.done) == (JobStatus.RUNNING, 2)
    state = canary.look(job)
    assert (state.carried_out, state.waiting, state.failed) == (2, 2, False)

    answer(Command.objects.all()[:1])
    jobs.run_jobs()
    assert now(job).done == 2

    answer(Command.objects.exclude(status=CommandStatus.CONFIRMED))
    run_to_the_end(job)
    assert (job.status, job.done) == (JobStatus.DONE, 5)


def test_a_command_of_the_canary_that_is_refused_pauses_the_job() -> None:
    job = started(Action.CANCEL, [saga.id for saga in many(5)], canary=2)
    jobs.run_jobs()
    answer(Command.objects.all()[:1], "ImageDeletionFailed")
    jobs.run_jobs()
    assert (now(job).status, job.pause_cause, job.done) == (JobStatus.PAUSED, PauseCause.CANARY_UNCONFIRMED, 2)

    # A person has looked: the refusal of before does not count for the new canary.
    jobs.resume(job.id, request(), canary=1)
    jobs.run_jobs()
    jobs.run_jobs()
    assert (now(job).status, job.done) == (JobStatus.RUNNING, 3)
    answer(Command.objects.filter(id__in=reading.items(job.id).filter(in_canary=True).get().commands))
    run_to_the_end(job)
    assert job.done == 5


def test_a_refusal_of_long_ago_is_not_the_canarys(settings: Any) -> None:
    _saga, commands = exhausted(settings, 3)
    assert Attempt.objects.filter(outcome="refused").count() == 3
    job = started(Action.RETRY, [command.id for command in commands], canary=1)
    jobs.run_jobs()
    jobs.run_jobs()
    assert (now(job).status, job.done) == (JobStatus.RUNNING, 1)


def test_a_decision_without_commands_counts_as_soon_as_it_is_made() -> None:
    _key, events = parked(["ProcessingStarted"] * 4)
    job = run_to_the_end(started(Action.DISMISS, events, canary=2))
    assert (job.status, job.done) == (JobStatus.DONE, 4)


def test_an_item_of_the_canary_that_is_refused_pauses_the_job() -> None:
    sagas = many(4)
    job = started(Action.CANCEL, [saga.id for saga in sagas], canary=3)
    _check_only(job)
    first = reading.items(job.id)[0].target
    actions.get(Action.FORCE_COMPENSATION).decide({"saga": first}, request())
    jobs.run_jobs()
    assert (now(job).status, job.pause_cause) == (JobStatus.PAUSED, PauseCause.CANARY_REFUSED)
    assert (job.refused, job.done) == (1, 0)


def test_what_is_held_or_given_up_is_not_waited_for() -> None:
    job = started(Action.CANCEL, [saga.id for saga in many(3)], canary=1)
    jobs.run_jobs()
    [command] = Command.objects.all()
    actions.get(Action.WITHDRAW).decide({"command": command.id}, request())
    run_to_the_end(job)
    assert job.done == 3


def test_a_job_that_is_all_canary_ends_when_it_is_confirmed() -> None:
    job = started(Action.CANCEL, [saga.id for saga in many(2)], canary=9)
    jobs.run_jobs()
    jobs.run_jobs()
    assert (now(job).status, job.done) == (JobStatus.RUNNING, 2)
    answer(Command.objects.all())
    assert run_to_the_end(job).status == JobStatus.DONE


# --- people -----------------------------------------------------------------------------------------------------------


def test_a_pause_takes_effect_between_two_items(monkeypatch: pytest.MonkeyPatch) -> None:
    job = started(Action.CANCEL, [saga.id for saga in many(6)])
    _after(monkeypatch, 3, lambda: jobs.pause(job.id, request("wait", actor="bob")))
    jobs.run_jobs()
    jobs.run_jobs()
    assert (now(job).status, job.done, job.changed_by) == (JobStatus.PAUSED, 3, "bob")
    assert jobs.run_jobs() == 0

    jobs.resume(job.id, request("go on", actor="carl"))
    run_to_the_end(job)
    assert (job.status, job.done) == (JobStatus.DONE, 6)
    told = [(one.action, one.actor, one.reason) for one in reading.history(job.id)]
    assert told == [("job_start", "ana", "because"), ("job_pause", "bob", "wait"), ("job_resume", "carl", "go on")]
    assert {one.actor for one in decisions(job, Action.CANCEL)} == {"ana"}


def test_a_job_that_is_stopped_carries_out_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    job = started(Action.CANCEL, [saga.id for saga in many(6)])
    _after(monkeypatch, 2, lambda: jobs.stop(job.id, request("enough")))
    jobs.run_jobs()
    assert (now(job).status, job.done) == (JobStatus.STOPPED, 2)
    assert reading.items(job.id).filter(status=JobItemStatus.ELIGIBLE).count() == 4
    for act in (jobs.pause, jobs.resume, jobs.stop):
        with pytest.raises(Refused):
            act(job.id, request())
    assert jobs.run_jobs() == 0


def _after(monkeypatch: pytest.MonkeyPatch, count: int, act: Callable[[], object]) -> None:
    """Does something in the middle of a page, after so many items."""
    real, done = runner.carry_out_item, []

    def carry_out_item(job: Job, item: JobItem) -> Any:
        result = real(job, item)
        done.append(item)
        if len(done) == count:
            act()
        return result

    monkeypatch.setattr(runner, "carry_out_item", carry_out_item)


def test_what_people_may_decide_follows_from_the_status() -> None:
    allowed = {status: [one.value for one in jobs.possible(Job(status=status))] for status in JobStatus.values}
    assert allowed == {
        "checking": ["job_start", "job_stop"],
        "prepared": ["job_start", "job_stop"],
        "approval": ["job_approve", "job_stop"],
        "running": ["job_pause", "job_stop"],
        "paused": ["job_resume", "job_stop"],
        "stopped": [],
        "done": [],
    }


def test_a_job_is_started_once() -> None:
    job = started(Action.CANCEL, [running()[0].id])
    with pytest.raises(Refused, match="already started"):
        jobs.start(job.id, request(actor="bob"), Speed(), {})


@pytest.mark.parametrize("act", [jobs.pause, jobs.resume, jobs.stop, jobs.approve])
def test_each_decision_on_a_job_needs_a_reason(act: Callable[..., object]) -> None:
    job = started(Action.CANCEL, [running()[0].id])
    with pytest.raises(Invalid, match="reason"):
        act(job.id, request(" "))


# --- two people -------------------------------------------------------------------------------------------------------


def test_a_large_job_waits_for_another_person(settings: Any) -> None:
    settings.SAGA_FOUR_EYES_FROM = 3
    job = started(Action.CANCEL, [saga.id for saga in many(3)])
    jobs.run_jobs()
    assert (now(job).status, job.done) == (JobStatus.APPROVAL, 0)
    assert jobs.run_jobs() == 0

    for same in ("ana", "ANA"):
        with pytest.raises(Refused, match="another person"):
            jobs.approve(job.id, request(actor=same))
    with pytest.raises(Refused, match="with a login"):
        jobs.approve(job.id, request(actor="bob", door="command"))
    jobs.approve(job.id, request("looked", actor="bob"))
    run_to_the_end(job)
    assert (job.status, job.approved_by, job.done) == (JobStatus.DONE, "bob", 3)


def test_who_made_a_job_does_not_approve_it_for_another(settings: Any) -> None:
    settings.SAGA_FOUR_EYES_FROM = 1
    job = made(Action.CANCEL, [running()[0].id], by=request(actor="bob"))
    jobs.start(job.id, request(actor="ana"), Speed(), {})
    jobs.run_jobs()
    with pytest.raises(Refused, match="another person"):
        jobs.approve(job.id, request(actor="bob"))


def test_a_small_job_needs_nobody_else_except_to_terminate(settings: Any) -> None:
    settings.SAGA_FOUR_EYES_FROM = 3
    small = run_to_the_end(started(Action.CANCEL, [running()[0].id]))
    assert small.status == JobStatus.DONE
    terminate = started(Action.TERMINATE, [running()[0].id])
    jobs.run_jobs()
    assert now(terminate).status == JobStatus.APPROVAL


def test_no_way_around_the_second_person(settings: Any) -> None:
    settings.SAGA_FOUR_EYES_FROM = 2
    saga, _images = failed()
    ids = list(Command.objects.values_list("id", flat=True))
    for action, values in (
        (Action.TERMINATE, {"saga": saga.id}),
        (Action.WITHDRAW, {"ids": ids}),
        (Action.WITHDRAW, {"saga": saga.id}),
        (Action.WITHDRAW, {"planned_before": clock.now()}),
        (Action.CLOSE_RETRIEVAL, {"ids": [one.id for one in many(2)]}),
    ):
        with pytest.raises(Refused, match="second person"):
            actions.get(action).decide(values, request())
        actions.get(action).decide(values, request(dry_run=True))
    assert not Decision.objects.exists()


def test_by_default_one_person_is_enough() -> None:
    job = run_to_the_end(started(Action.TERMINATE, [saga.id for saga in many(5)]))
    assert (job.status, job.done) == (JobStatus.DONE, 5)


# --- processes that die, and two at once ------------------------------------------------------------------------------


class Killed(BaseException):
    """As kill -9: nothing of the process runs any more."""


@pytest.fixture
def killing(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Of a process that is killed nothing is noted and no lease is given back."""
    with monkeypatch.context() as patch:
        patch.setattr(lease.Lease, "release", lambda self: None)
        yield patch


def expire(job: Job) -> None:
    Job.objects.filter(id=job.id).update(lease_until=clock.now() - timedelta(seconds=1))


@pytest.mark.parametrize("action", [Action.CANCEL, Action.CLOSE_RETRIEVAL, Action.TERMINATE])
def test_an_item_whose_result_was_not_noted_is_not_decided_again(killing: pytest.MonkeyPatch, action: str) -> None:
    """Also by a decision that has no name of its own, such as closing a retrieval."""
    sagas = many(4) if action != Action.CLOSE_RETRIEVAL else [_open_retrieval() for _ in range(4)]
    job = started(action, [saga.id for saga in sagas])

    def die(*_args: Any, **_more: Any) -> None:
        raise Killed

    killing.setattr(runner, "note", die)
    with pytest.raises(Killed):
        jobs.run_jobs()
    assert len(decisions(job, action)) == 4
    assert (now(job).done, job.status) == (0, JobStatus.RUNNING)
    assert jobs.run_jobs() == 0  # its lease still counts
    killing.undo()

    expire(job)
    run_to_the_end(job)
    assert (job.status, job.done, job.already) == (JobStatus.DONE, 4, 0)
    assert len(decisions(job, action)) == 4


def test_two_runners_that_believe_to_have_the_job_decide_each_item_once() -> None:
    sagas = many(12)
    job = started(Action.CANCEL, [saga.id for saga in sagas])
    _check_only(job)
    items = list(reading.items(job.id))

    def carry_out(page: list[JobItem]) -> None:
        try:
            runner.note(job, [runner.carry_out_item(job, item) for item in page])
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(carry_out, items), pool.submit(carry_out, list(reversed(items)))]:
            done.result(60)
    assert (now(job).done, job.already, job.refused, job.failed) == (12, 0, 0, 0)
    assert len(decisions(job, Action.CANCEL)) == 12


def test_one_runner_at_a_time() -> None:
    job = started(Action.CANCEL, [saga.id for saga in many(2)])
    mine = lease.acquire(job.id)
    assert mine is not None
    assert lease.acquire(job.id) is None
    assert jobs.run_jobs() == 0

    expire(job)
    other = lease.acquire(job.id)
    assert other is not None
    assert not mine.keep(now(job).status)
    mine.release()  # of one that was lost: changes nothing
    assert other.keep(job.status)


def test_a_process_that_is_killed_is_followed_by_another(tmp_path: Any) -> None:
    """With kill -9, in the middle of a job, at a moment that nobody chose."""
    sagas = many(60)
    job = started(Action.CANCEL, [saga.id for saga in sagas])
    found = connection.settings_dict
    url = f"postgresql://{found['USER']}@{found['HOST']}:{found['PORT']}/{found['NAME']}"
    if found.get("PASSWORD"):
        url = url.replace("@", f":{found['PASSWORD']}@", 1)
    code = "import django; django.setup(); from sagas import jobs; jobs.run_jobs(50)"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=env.ROOT,
        env={**os.environ, "DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "tests.settings", "ENVIRONMENT": "dev"},
        stderr=subprocess.DEVNULL,
    ) as process:
        until = time.monotonic() + 60
        while len(decisions(job, Action.CANCEL)) < 25 and time.monotonic() < until:
            threading.Event().wait(0.02)
        process.kill()
    before = len(decisions(job, Action.CANCEL))
    assert 25 <= before < 60
    expire(job)
    run_to_the_end(job)
    assert (job.status, job.done, job.already) == (JobStatus.DONE, 60, 0)
    assert len(decisions(job, Action.CANCEL)) == 60
    assert Command.objects.count() == 60


def test_several_jobs_share_the_time_of_a_task() -> None:
    first = started(Action.CANCEL, [saga.id for saga in many(3)])
    second = started(Action.CANCEL, [saga.id for saga in many(3)])
    for _ in range(6):
        jobs.run_jobs(0.0)
    assert now(first).done > 0
    assert now(second).done > 0


# --- retention --------------------------------------------------------------------------------------------------------


def test_retention_deletes_the_items_of_old_jobs_and_keeps_the_jobs() -> None:
    old = run_to_the_end(started(Action.CANCEL, [saga.id for saga in many(3)]))
    fresh = run_to_the_end(started(Action.CANCEL, [saga.id for saga in many(2)]))
    waits = made(Action.CANCEL, [running()[0].id])
    Job.objects.filter(id=old.id).update(finished_at=clock.now() - timedelta(days=40))
    before = retention.days_ago(30)
    assert retention.count(before).job_items == 3
    assert sum(retention.steps(before, before), retention.Pruned()).job_items == 3
    assert set(JobItem.objects.values_list("job", flat=True)) == {fresh.id, waits.id}
    assert now(old).done == 3
    assert len(decisions(old, Action.CANCEL)) == 3
