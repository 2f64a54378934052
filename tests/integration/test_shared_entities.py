"""Images of two tasks: what undoing them for one task would take from the other is held until a person decides."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from bridge import event_log
from compensation import delivery, held, outbox
from compensation.models import Command, CommandStatus
from sagas import retention
from sagas.applying import shared_entities, sweeper
from sagas.applying.apply import run_apply
from sagas.models import SagaLog
from tests.integration.commands import FakePublisher
from tests.integration.connections import InThread, second_connection
from tests.integration.story import event, image_through, new_ids, retrieval

pytestmark = pytest.mark.django_db(transaction=True)


def happens(*facts: Any) -> None:
    event_log.append(list(facts))
    run_apply()


def saga(task: str) -> SagaLog:
    return SagaLog.objects.get(key=task)


def commands(task: str) -> dict[str, Command]:
    return {command.name: command for command in Command.objects.filter(saga_id=saga(task).id)}


def send() -> list[str]:
    """The ids of what leaves now."""
    publisher = FakePublisher()
    while delivery.publish_due(publisher, "host:1", clock=timezone.now):
        pass
    return [message.id for message in publisher.sent]


def completed(image: str) -> str:
    """A completed task with this image."""
    [task] = new_ids(1)
    happens(*retrieval(task, [image]), *image_through(task, image))
    assert saga(task).status == "COMPLETED"
    return task


def fails_with(image: str) -> str:
    """Another task, which one event makes know the image, and which fails."""
    [task] = new_ids(1)
    happens(event("RetrievalStarted", task, seconds=50), event("ProcessingFailed", task, image, seconds=51))
    return task


def test_one_event_does_not_have_the_image_of_another_task_deleted() -> None:
    [image] = new_ids(1)
    victim = completed(image)
    forged = fails_with(image)
    assert send() == []
    found = commands(forged)
    assert set(found) == {"DeleteRetrievedImage", "RollbackAnonymization"}
    for command in found.values():
        assert (command.status, command.held_by, command.attempt) == (CommandStatus.PLANNED, saga(victim).id, 0)
        assert command.held_since is not None


def test_both_tasks_of_an_image_hold_what_was_not_sent() -> None:
    """The second task's lane opens when the first one's command is planned already, and paused."""
    [image, first, second] = new_ids(3)
    happens(*retrieval(first, [image]), event("RetrievalFailed", first, seconds=9, error_message="disk full"))
    assert commands(first)["DeleteRetrievedImage"].held_since is None
    happens(*retrieval(second, [image], seconds=20))
    assert commands(first)["DeleteRetrievedImage"].held_by == saga(second).id
    happens(event("RetrievalFailed", second, seconds=30, error_message="disk full"))
    assert commands(second)["DeleteRetrievedImage"].held_by == saga(first).id
    assert send() == []


def test_what_was_sent_before_the_other_task_knew_the_image_is_not_held() -> None:
    [image, first, second] = new_ids(3)
    happens(*retrieval(first, [image]), event("RetrievalFailed", first, seconds=9, error_message="disk full"))
    [sent] = send()
    happens(*retrieval(second, [image], seconds=20))
    command = commands(first)["DeleteRetrievedImage"]
    assert (str(command.id), command.status, command.held_since) == (sent, CommandStatus.PUBLISHED, None)


def test_two_tasks_of_one_page_hold_each_other() -> None:
    [image, first, second] = new_ids(3)
    facts = [
        fact
        for number, task in enumerate((first, second))
        for fact in (
            *retrieval(task, [image], seconds=10 * number),
            event("RetrievalFailed", task, seconds=10 * number + 9, error_message="disk full"),
        )
    ]
    happens(*facts)
    assert commands(first)["DeleteRetrievedImage"].held_by == saga(second).id
    assert commands(second)["DeleteRetrievedImage"].held_by == saga(first).id


def test_a_claim_holds_what_planning_and_opening_missed() -> None:
    """A process that dies between its commit and what follows holds nothing."""
    [image, other] = new_ids(2)
    victim = completed(image)
    forged = fails_with(image)
    Command.objects.filter(saga_id=saga(forged).id).update(held_since=None, held_by=None)
    happens(*retrieval(other, [other]), event("RetrievalFailed", other, seconds=9, error_message="disk full"))
    [sent] = send()  # what nobody else knows leaves all the same
    assert sent == str(commands(other)["DeleteRetrievedImage"].id)
    found = commands(forged)["RollbackAnonymization"]
    assert (found.held_by, found.attempt, found.attempts.count()) == (saga(victim).id, 0, 0)


@pytest.mark.parametrize("order", ["plan, open, claim", "open, plan, claim", "plan, claim, open"])
def test_no_order_of_two_commits_lets_a_command_be_claimed_that_another_saga_knows(
    order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing that follows a commit runs: only planning itself and the claim are left to see the other lane."""
    monkeypatch.setattr(shared_entities, "look_again", lambda entities: 0)
    [image, first, second] = new_ids(3)
    happens(*retrieval(first, [image]))

    def plan() -> None:
        happens(event("RetrievalFailed", first, seconds=9, error_message="disk full"))

    steps = {"plan": plan, "open": lambda: happens(*retrieval(second, [image], seconds=20)), "claim": send}
    sent: Any = None
    for step in order.split(", "):
        sent = steps[step]() or sent
    assert bool(sent) is (order == "plan, claim, open")
    assert (commands(first)["DeleteRetrievedImage"].held_by is None) is bool(sent)


@pytest.mark.parametrize("follows", [True, False], ids=["alive", "dies after its commit"])
def test_a_lane_that_is_committed_while_the_command_is_being_planned_holds_it(
    follows: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planning has looked already, and its command is not there yet for who opens the lane."""
    [image, first, second] = new_ids(3)
    happens(*retrieval(first, [image]))
    if not follows:
        monkeypatch.setattr(shared_entities, "look_again", lambda entities: 0)
    real = outbox.plan

    def plan(commands: Any) -> None:
        real(commands)
        if commands:
            InThread(lambda: happens(*retrieval(second, [image], seconds=20))).result()

    monkeypatch.setattr(outbox, "plan", plan)
    happens(event("RetrievalFailed", first, seconds=9, error_message="disk full"))
    assert send() == []
    assert commands(first)["DeleteRetrievedImage"].held_by == saga(second).id


def test_publishers_beside_those_who_open_lanes_send_nothing_that_two_know() -> None:
    """Every image opens in the second task before any command of it is due, on another connection."""
    images, [first, second] = new_ids(30), new_ids(2)
    happens(*retrieval(first, images))
    opening = InThread(lambda: happens(*retrieval(second, images, seconds=20)))
    failing = InThread(lambda: happens(event("RetrievalFailed", first, seconds=9, error_message="disk full")))
    opening.result()
    failing.result()
    run_apply()
    publishers = [InThread(send) for _ in range(3)]
    assert [found for publisher in publishers for found in publisher.result()] == []
    held_ones = Command.objects.filter(saga_id=saga(first).id, held_by=saga(second).id, attempt=0)
    assert held_ones.count() == len(images)


def test_a_lane_that_is_not_committed_when_a_command_is_claimed_does_not_hold_it() -> None:
    """The limit of what a claim can see. The lane's own transaction finds the command claimed, and leaves it."""
    [image, first, second] = new_ids(3)
    happens(*retrieval(first, [image]), *retrieval(second, [], seconds=20))
    other = saga(second)
    happens(event("RetrievalFailed", first, seconds=9, error_message="disk full"))
    with second_connection() as cursor:
        cursor.execute(
            "INSERT INTO sagas_lane (saga_id, entity, known, failed, outcome, opened_at, state)"
            " VALUES (%s, %s, true, false, 'open', now(), '{}')",
            [other.id, image],
        )
        [sent] = send()
        cursor.connection.commit()
    assert shared_entities.look_again([("image_processing", image)]) == 0
    assert sent == str(commands(first)["DeleteRetrievedImage"].id)
    assert commands(first)["DeleteRetrievedImage"].status == CommandStatus.PUBLISHED


def undone(task: str, image: str, seconds: int = 60) -> None:
    """The service confirms what undoes the image."""
    happens(
        event("AnonymizationRolledBack", task, image, seconds=seconds),
        event("ImageDeletionCompleted", task, image, seconds=seconds + 1),
    )


def released(task: str) -> None:
    held.release([command.id for command in commands(task).values()], timezone.now())


def test_a_hold_ends_when_the_other_task_s_image_is_undone() -> None:
    [image, first, second] = new_ids(3)
    for number, task in enumerate((first, second)):
        happens(*retrieval(task, [image], seconds=20 * number))
    for task in (first, second):
        happens(event("RetrievalFailed", task, seconds=50, error_message="disk full"))
    assert send() == []
    released(first)
    assert send() == [str(commands(first)["DeleteRetrievedImage"].id)]
    assert commands(second)["DeleteRetrievedImage"].held_by == saga(first).id
    happens(event("ImageDeletionCompleted", first, image, seconds=60))
    command = commands(second)["DeleteRetrievedImage"]
    assert (command.held_by, command.held_since, command.hold_released_at) == (None, None, None)
    assert send() == [str(command.id)]


def test_a_forged_confirmation_of_what_was_never_sent_ends_no_hold() -> None:
    [image] = new_ids(1)
    victim = completed(image)
    forged = fails_with(image)
    undone(victim, image)
    assert commands(victim)["DeleteRetrievedImage"].status == CommandStatus.CONFIRMED
    sweeper.sweep()
    assert commands(forged)["DeleteRetrievedImage"].held_by == saga(victim).id
    assert send() == []


def test_the_sweep_ends_a_hold_whose_end_was_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    [image, first, second] = new_ids(3)
    for number, task in enumerate((first, second)):
        happens(*retrieval(task, [image], seconds=20 * number))
    for task in (first, second):
        happens(event("RetrievalFailed", task, seconds=50, error_message="disk full"))
    released(first)
    send()
    with monkeypatch.context() as patched:
        patched.setattr(shared_entities, "look_again", lambda entities: 0)
        happens(event("ImageDeletionCompleted", first, image, seconds=60))
    assert commands(second)["DeleteRetrievedImage"].held_by is not None
    sweeper.sweep()
    assert commands(second)["DeleteRetrievedImage"].held_by is None


def test_a_hold_ends_when_no_event_ever_proved_the_other_lane() -> None:
    """Such as after a replay under a corrected release: what only people said of an image is no knowledge of it."""
    [image] = new_ids(1)
    victim = completed(image)
    forged = fails_with(image)
    saga(victim).lanes.filter(entity=image).update(known=False)
    sweeper.sweep()
    assert commands(forged)["RollbackAnonymization"].held_since is None


def test_a_task_because_of_which_a_command_is_held_is_not_pruned() -> None:
    [image] = new_ids(1)
    victim = completed(image)
    forged = fails_with(image)
    later = timezone.now() + timedelta(days=1)
    assert retention.count(later).sagas == 0
    released(forged)
    assert retention.count(later).sagas == 1
    assert saga(victim).status == "COMPLETED"


def test_a_hold_outlives_the_task_that_it_is_because_of() -> None:
    """Nobody can say any more what a pruned saga knew: a person decides."""
    [image] = new_ids(1)
    saga_id = saga(completed(image)).id
    forged = fails_with(image)
    with connection.cursor() as cursor:
        for table, column in (("sagas_lane", "saga_id"), ("sagas_saga", "id")):
            cursor.execute(f"DELETE FROM {table} WHERE {column} = %s", [saga_id])
    sweeper.sweep()
    assert commands(forged)["RollbackAnonymization"].held_since is not None


def test_what_a_person_released_is_not_held_again() -> None:
    [image] = new_ids(1)
    completed(image)
    forged = fails_with(image)
    released(forged)
    shared_entities.look_again([("image_processing", image)])
    sweeper.sweep()
    assert send() == [str(commands(forged)["RollbackAnonymization"].id)]
    happens(event("AnonymizationRolledBack", forged, image, seconds=70))
    assert send() == [str(commands(forged)["DeleteRetrievedImage"].id)]


def test_a_sweep_goes_through_all_that_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_entities, "PAGE", 1)
    tasks = []
    for _ in range(2):
        [image] = new_ids(1)
        victim = completed(image)
        tasks.append(fails_with(image))
        saga(victim).lanes.update(known=False)
    for _ in range(6):
        sweeper.sweep()
    assert not Command.objects.filter(held_since__isnull=False).exists()
