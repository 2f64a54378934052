"""Time: answers that do not come, clocks that rest, and claims whose process died."""

from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest

from bridge import clock, event_log
from bridge.event_log import NewFact
from bridge.models import CollapsedEvents, Event, Heartbeat, Pending
from bridge.publisher import OutgoingMessage
from compensation import deadlines, delivery, outbox, statements, switches
from compensation.models import CommandStatus, ExhaustedBy, Switch
from compensation.outbox import NewCommand, Settlement
from sagas.models import Lane, SagaLog
from tests.integration.commands import NOW, POLICY, SAGA, FakePublisher, attempts, error_of, later, new_command, row

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _switch_set_long_ago() -> None:
    Switch.objects.create(service="*", paused=False, changed_at=later(-86_400))


def bridge_is_well(since: datetime | None, at: datetime, *, silent: float = 0) -> None:
    """Write the bridge's heartbeat as it is at the time `at`; the database's own clock stands for that time."""
    now = clock.now()
    fields = {
        "kind": "bridge",
        "started_at": now,
        "beat_at": now - timedelta(seconds=silent),
        "connected": since is not None,
        "well_since": None if since is None else now - (at - since),
    }
    Heartbeat.objects.update_or_create(name="bridge:host:1", defaults=fields)


def sent(*commands: NewCommand, at: datetime = NOW) -> NewCommand:
    outbox.plan(commands)
    delivery.publish_due(FakePublisher(), "host:1", clock=lambda: at)
    return commands[0]


def pass_deadlines(seconds: float, well_since: datetime | None = NOW) -> int:
    bridge_is_well(well_since, later(seconds))
    return deadlines.pass_deadlines(later(seconds))


def test_no_answer_in_time_ends_the_attempt_and_the_next_one_is_due() -> None:
    command = sent(new_command())
    assert pass_deadlines(299) == 0
    assert pass_deadlines(300) == 1
    late = row(command)
    assert (late.status, late.next_at, late.deadline_at) == (CommandStatus.WAITING, later(301), None)
    assert error_of(command) == "No answer within 300 seconds."
    assert attempts(command) == [(1, 1, "deadline", True, True)]
    assert pass_deadlines(400) == 0


def test_the_last_attempt_without_an_answer_goes_to_a_person() -> None:
    command = new_command()
    outbox.plan([command])
    for attempt in range(1, 4):
        delivery.publish_due(FakePublisher(), "host:1", clock=partial(later, attempt * 1000))
        assert pass_deadlines(attempt * 1000 + 300) == 1
    assert row(command).exhausted_by == ExhaustedBy.ATTEMPTS
    assert [event.event_id for event in Event.objects.all()] == [f"{command.id}:exhausted:1"]
    outbox.settle([Settlement(command_id=command.id, status="confirmed", at=later(9000), event_id="late")])
    assert row(command).status == CommandStatus.CONFIRMED


def test_pages_of_overdue_answers() -> None:
    sent(*(new_command(str(number)) for number in range(deadlines.PAGE + 7)))
    assert pass_deadlines(300) == deadlines.PAGE + 7


@pytest.mark.parametrize("confirmation", ["published", "manual"])
def test_only_what_an_event_confirms_has_a_deadline(confirmation: str) -> None:
    command = sent(new_command(confirmation=confirmation))
    status = row(command).status
    Pending.objects.all().delete()
    assert pass_deadlines(1_000_000) == 0
    assert row(command).status == status


# --- refusals that the bridge only counted


def counted(at: datetime, type_: str = "ImageDeletionFailed", key: str = "task", entity: str = "image") -> None:
    """The bridge counted one more refusal, and stored none."""
    row, _ = CollapsedEvents.objects.get_or_create(stream="image_processing", key=key, entity=entity, type=type_)
    CollapsedEvents.objects.filter(pk=row.pk).update(stored=10, counted=7, last_at=at)


@pytest.mark.parametrize("key", ["task", ""])
def test_no_further_copy_leaves_while_the_service_still_refuses_the_last_one(key: str) -> None:
    """Whether the refusals name the task or, as some do, the image alone."""
    command = sent(new_command())
    counted(later(250), key=key)
    assert pass_deadlines(300) == 1
    refused = row(command)
    assert (refused.status, refused.next_at, refused.deadline_at) == (CommandStatus.PUBLISHED, None, later(600))
    assert refused.last_error == "refused"
    assert attempts(command) == [(1, 1, "refused", True, True)]
    counted(later(590), key=key)
    assert pass_deadlines(600) == 1
    assert (row(command).attempt, row(command).deadline_at) == (2, later(900))
    assert pass_deadlines(900) == 1, "a whole deadline without a word"
    assert (row(command).status, row(command).attempt) == (CommandStatus.WAITING, 2)
    assert row(command).next_at is not None


def test_a_service_that_refuses_for_ever_ends_with_a_person() -> None:
    command = sent(new_command())
    for turn in range(1, 4):
        counted(later(300 * turn - 10))
        assert pass_deadlines(300 * turn) == 1
    assert (row(command).status, row(command).exhausted_by) == (CommandStatus.EXHAUSTED, ExhaustedBy.ATTEMPTS)
    assert attempts(command) == [(1, number, "refused", True, True) for number in (1, 2, 3)]


def test_what_was_counted_before_the_copy_left_or_of_another_type_is_no_answer_to_it() -> None:
    command = sent(new_command())
    counted(later(-1))
    counted(later(250), "ImageDeletionCompleted")
    counted(later(250), key="", entity="another image")
    counted(later(250), key="another task")
    assert pass_deadlines(300) == 1
    assert attempts(command) == [(1, 1, "deadline", True, True)]


def of_other(saga: UUID, **changes: Any) -> NewCommand:
    """The same deletion, for the task of another saga."""
    return new_command(saga_id=saga, key=f"task of {saga}", routing_key=f"image_processing:{saga}", **changes)


def shared_by(*sagas: UUID) -> None:
    """These sagas know the image."""
    for number, saga in enumerate(sagas):
        SagaLog.objects.create(
            id=saga, saga_type="image_processing", version=2, failure_scope="lane", key=f"key {number}",
            correlation_id="", status="COMPENSATING", start_time=NOW, last_event_at=NOW, state={},
            created_at=NOW, updated_at=NOW,
        )  # fmt: skip
        Lane.objects.create(saga_id=saga, entity="image", known=True, failed=True, outcome="undoing", state={})


def test_a_counted_refusal_without_a_key_answers_the_saga_whose_command_was_sent() -> None:
    """The other sagas know the image, but of their commands none left."""
    second, third = uuid4(), uuid4()
    ours, theirs = new_command(), of_other(second, released=False)
    sent(ours)
    shared_by(SAGA, second, third)
    outbox.plan([theirs])
    counted(later(250), key="")
    assert pass_deadlines(300) == 1
    assert attempts(ours) == [(1, 1, "refused", True, True)]
    assert attempts(theirs) == []


@pytest.mark.parametrize("named", [False, True])
def test_of_two_sagas_that_sent_theirs_a_refusal_without_a_key_answers_neither(named: bool) -> None:
    others = [uuid4() for _ in range(3)]
    ours, theirs = new_command(), of_other(max(others))
    sent(ours, theirs)
    shared_by(SAGA, *others)
    counted(later(250), key="")
    if named:
        counted(later(240))
    assert pass_deadlines(300) == 2
    assert [outcome for _, _, outcome, _, _ in attempts(ours)] == ["refused" if named else "deadline"]
    assert [outcome for _, _, outcome, _, _ in attempts(theirs)] == ["deadline"]


# --- clocks that rest


def test_while_the_bridge_is_not_well_no_deadline_passes() -> None:
    sent(new_command())
    assert pass_deadlines(10_000, well_since=None) == 0
    Heartbeat.objects.filter(kind="bridge").delete()
    assert deadlines.pass_deadlines(later(10_000)) == 0


def test_a_bridge_that_fell_silent_is_not_well() -> None:
    sent(new_command())
    bridge_is_well(NOW, later(300), silent=100)
    assert deadlines.pass_deadlines(later(300)) == 0


def test_after_an_outage_the_clock_starts_again() -> None:
    command = sent(new_command())
    assert pass_deadlines(1000, well_since=later(900)) == 0
    deadline = row(command).deadline_at
    assert deadline is not None
    assert abs(deadline - later(1200)) < timedelta(seconds=1)
    assert pass_deadlines(1199, well_since=later(900)) == 0
    assert pass_deadlines(1200, well_since=later(900)) == 1


def test_after_a_pause_the_clock_starts_again_for_that_service() -> None:
    paused, other = new_command("paused"), new_command("other", service="ANONYMIZATION")
    sent(paused, other)
    Switch.objects.create(service="DATA_RETRIEVAL", paused=True, changed_at=later(10))
    assert pass_deadlines(400) == 1
    assert (row(paused).status, row(other).status) == (CommandStatus.PUBLISHED, CommandStatus.WAITING)
    Switch.objects.filter(service="DATA_RETRIEVAL").update(paused=False, changed_at=later(500))
    assert pass_deadlines(600) == 0
    assert row(paused).deadline_at == later(800)
    assert pass_deadlines(800) == 1


def test_while_everything_is_paused_deadlines_rest() -> None:
    sent(new_command())
    switches.set_switch("*", True, "ana", "stop")
    assert pass_deadlines(10_000) == 0


def test_while_events_wait_to_be_applied_the_answer_may_be_among_them() -> None:
    fact = NewFact("pulsar", "e1", "image_processing", "ImageDeletionCompleted", "task", "image", NOW, {}, "k")
    [pk] = event_log.append([fact])
    received = (Event.objects.get(pk=pk).received_at - NOW).total_seconds()
    sent(new_command(planned_at=later(received - 1000)), at=later(received - 1000))
    assert pass_deadlines(received + 6) == 0
    assert pass_deadlines(received + 4) == 1


def test_when_they_are_applied_deadlines_pass_again() -> None:
    event_log.append([NewFact("pulsar", "e1", "image_processing", "RetrievalFailed", "task", "", NOW, {}, "k")])
    command = sent(new_command())
    future = 10**9
    assert pass_deadlines(future) == 0
    Pending.objects.all().delete()
    assert pass_deadlines(future) == 1
    assert row(command).status == CommandStatus.WAITING


# --- claims whose process died


def test_a_lost_claim_comes_back_and_counts() -> None:
    command = new_command()
    outbox.plan([command])
    statements.claim(NOW, [], "host:1", 10)
    assert deadlines.recover_lost(later(60)) == 0
    assert deadlines.recover_lost(later(60.1)) == 1
    lost = row(command)
    assert (lost.status, lost.attempt) == (CommandStatus.WAITING, 1)
    assert lost.last_error == "superseded"
    assert attempts(command) == [(1, 1, "superseded", True, True)]
    publisher = FakePublisher()
    delivery.publish_due(publisher, "host:2", clock=lambda: later(70))
    assert len(publisher.sent) == 1


def test_a_command_that_kills_its_publisher_every_time_goes_to_a_person() -> None:
    command = new_command()
    outbox.plan([command])
    for attempt in range(1, POLICY.maximum_attempts + 1):
        assert len(statements.claim(later(attempt * 1000), [], "host:1", 10)) == 1
        deadlines.recover_lost(later(attempt * 1000 + 61))
    assert (row(command).status, row(command).exhausted_by) == (CommandStatus.EXHAUSTED, ExhaustedBy.ATTEMPTS)
    assert statements.claim(later(99_999), [], "host:1", 10) == []


def test_who_comes_back_late_does_not_move_what_was_recovered() -> None:
    command = new_command()
    outbox.plan([command])
    claims = delivery.claim(NOW, "host:1")
    deadlines.recover_lost(later(61))
    publisher = FakePublisher()
    results = {
        result.id: result
        for result in publisher.publish([OutgoingMessage(id=claims[0].id, topic=claims[0].topic, body=b"{}")])
    }
    delivery.record(claims, results, later(62))
    assert row(command).status == CommandStatus.WAITING
    assert attempts(command) == [(1, 1, "superseded", True, True)]
