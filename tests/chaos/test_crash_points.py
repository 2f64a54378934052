"""A process is killed at each seam of the work; another one then finds all, does it once, and under one id."""

from __future__ import annotations

import json
from collections import Counter
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from django.db import connection
from django.db.models import Count, F
from django.utils import timezone

from bridge import event_log, heartbeats
from bridge.models import Duplicate, Event, HeartbeatKind, Pending, Quarantined
from compensation.models import Attempt, AttemptOutcome, Command, CommandStatus
from devtools.simulator import wire
from devtools.simulator.wire import Image, Task
from devtools.simulator.wire import SimulatedEvent as Said
from sagas.applying import verify
from sagas.models import Decision, Lane, Parked, SagaEvent, SagaLog
from tests.chaos import dying
from tests.chaos.dying import Broker, Topic, killed
from tests.integration.story import START, event, new_ids, retrieval

pytestmark = pytest.mark.django_db(transaction=True)

IMAGES = 3


def everything_is_as_its_log_says() -> bool:
    return all(verdict.well for verdict in verify.each(verify.all_ids()))


# --- the bridge -------------------------------------------------------------------------------------------------------

STORING = [
    ("before", "bridge.event_log.store_batch"),  # received, nothing stored
    ("after", "bridge.event_log._insert"),  # the events are in the open transaction
    ("after", "bridge.quarantine.keep"),  # all of it is
    ("before", "COMMIT"),
    ("after", "COMMIT"),  # stored, nobody woken, nothing acknowledged
    ("before", "tests.chaos.dying.wake"),
    ("after", "tests.chaos.dying.wake"),  # woken, nothing acknowledged
    ("before", "tests.chaos.dying.Topic.acknowledge"),
    ("after", "tests.chaos.dying.Topic.acknowledge"),
]


@pytest.mark.parametrize(("when", "name"), STORING)
def test_a_killed_bridge_loses_nothing_and_stores_nothing_twice(when: str, name: str, tmp_path: Path) -> None:
    topic = Topic(tmp_path)
    story = story_of_a_failure()
    for said in story:
        topic.publish(said.topic, said.body())
    topic.publish("retrieval-started", b"not json")

    killed(tmp_path, dying.bridge, when, name)
    stored = set(Event.objects.values_list("message_id", flat=True))
    stored |= set(Quarantined.objects.values_list("message_id", flat=True))
    assert set(topic.acked) <= stored

    dying.bridge(tmp_path)

    assert sorted(topic.acked) == sorted(topic.places)
    assert Counter(Event.objects.values_list("event_id", flat=True)) == Counter(said.event_id for said in story)
    assert Quarantined.objects.count() == 1
    assert Pending.objects.count() == len(story)
    assert Duplicate.objects.count() in (0, len(story))


def story_of_a_failure() -> list[Said]:
    task_id, *images = new_ids(IMAGES + 1)
    task = Task(task_id, task_id, "HOSPITAL-NORTE", "Lima")
    pictures = [Image(image, number, "CT", "usa", task_id, task_id) for number, image in enumerate(images)]
    told = [
        ("RetrievalStarted", wire.retrieval_started(task)),
        ("ImagesRetrieved", wire.images_retrieved(task, pictures)),
        ("RetrievalFailed", wire.retrieval_failed(task, "disk full")),
    ]
    return [
        Said(kind, wire.TOPICS[kind], event_id, START, fields)
        for (kind, fields), event_id in zip(told, new_ids(len(told)), strict=True)
    ]


# --- applying ---------------------------------------------------------------------------------------------------------

APPLYING = [
    ("after", "sagas.applying.statements.claim"),  # claimed, nothing locked
    ("after", "sagas.applying.statements.try_lock"),  # locked, nothing read
    ("after", "sagas.applying.statements.read_events"),
    ("after", "sagas.applying.fold.fold"),  # folded, nothing written
    ("after", "sagas.applying.statements.insert_sagas"),
    ("after", "sagas.applying.statements.log_applied"),
    ("after", "compensation.outbox.plan"),
    ("after", "sagas.applying.store.store"),  # all written, not committed
    ("before", "COMMIT"),
    ("after", "COMMIT"),
    ("before", "sagas.applying.apply.after_commit"),  # committed, nothing that was parked looked for
    ("after", "sagas.applying.statements.unpark_entities"),
    ("before", "sagas.applying.apply.nudge"),  # commands owed, nobody woken
    ("after", "sagas.applying.apply.nudge"),
]


@pytest.mark.parametrize(("when", "name"), APPLYING)
def test_a_killed_worker_applies_every_event_once(when: str, name: str, tmp_path: Path) -> None:
    task, *images = new_ids(IMAGES + 1)
    early = event("ProcessingStarted", "a task of processing's own", images[0], seconds=30)
    event_log.append([early])
    dying.apply(tmp_path)
    assert Parked.objects.count() == 1
    event_log.append([*retrieval(task, images), event("RetrievalFailed", task, seconds=20, error_message="disk full")])

    killed(tmp_path, dying.apply, when, name)
    dying.sweep(tmp_path)

    saga = SagaLog.objects.get()
    assert (saga.key, saga.status) == (task, "COMPENSATING")
    assert not Pending.objects.exists()
    assert not Parked.objects.exists()
    assert sorted(SagaEvent.objects.values_list("seq", flat=True)) == [1, 2, 3, 4, 5]
    assert SagaEvent.objects.values("event").distinct().count() == 5
    assert sorted(Lane.objects.values_list("entity", flat=True)) == sorted(images)
    assert sorted(Command.objects.filter(name="DeleteRetrievedImage").values_list("entity", flat=True)) == sorted(
        images
    )
    assert everything_is_as_its_log_says()
    # The nudge is lost; the commands' own sweep finds them due.
    dying.publish(tmp_path)
    assert set(dict(Broker(tmp_path).sent)) == {
        str(pk) for pk in Command.objects.exclude(released_at=None).values_list("pk", flat=True)
    }


# --- publishing -------------------------------------------------------------------------------------------------------

# Each with how many of the three commands the service has received by then.
PUBLISHING = [
    ("before", "compensation.delivery.claim", 1, 0),
    ("after", "compensation.statements.claim", 1, 0),  # attempts counted, not committed
    ("before", "COMMIT", 2, 0),  # the first reads the switches
    ("after", "COMMIT", 2, 0),  # attempts counted, nothing sent
    ("after", "compensation.delivery.claim", 1, 0),
    ("before", "tests.chaos.dying.Broker.publish", 1, 0),
    ("after", "tests.chaos.dying.Broker.send", 1, 1),  # in the middle of a page
    ("after", "tests.chaos.dying.Broker.send", 2, 2),
    ("after", "tests.chaos.dying.Broker.publish", 1, 3),  # all sent, nothing recorded
    ("before", "compensation.delivery.record", 1, 3),
    ("after", "compensation.statements.lock_available", 1, 3),
    ("after", "compensation.statements.write", 1, 3),
    ("after", "compensation.statements.record_attempts", 1, 3),
    ("before", "COMMIT", 3, 3),  # recorded, not committed
    ("after", "COMMIT", 3, 3),
    ("after", "compensation.delivery.record", 1, 3),
]


@pytest.mark.parametrize(("when", "name", "nth", "received"), PUBLISHING)
def test_a_killed_publisher_loses_no_command_and_sends_it_again_under_its_one_id(
    when: str, name: str, nth: int, received: int, tmp_path: Path
) -> None:
    saga = a_failed_saga(tmp_path)
    broker = Broker(tmp_path)

    killed(tmp_path, dying.publish, when, name, nth)
    assert len(broker.sent) == received
    dying.publish(tmp_path)
    let_claims_be_lost()
    dying.pass_time(tmp_path)
    dying.publish(tmp_path)
    let_waits_be_over()
    dying.publish(tmp_path)

    commands = {str(command.pk): command for command in Command.objects.all()}
    assert len(commands) == IMAGES
    assert {command.status for command in commands.values()} == {CommandStatus.PUBLISHED}
    assert set(dict(broker.sent)) == commands.keys()
    # Sent again only what may not have been sent, and always the same bytes.
    assert len(set(broker.sent)) == IMAGES
    assert len(broker.sent) <= IMAGES + received
    for id_, count in Counter(id_ for id_, _ in broker.sent).items():
        tries = Attempt.objects.filter(command_id=UUID(id_)).order_by("number")
        assert count <= len(tries)
        assert [attempt.number for attempt in tries] == list(range(1, len(tries) + 1))
        assert tries.last().outcome == AttemptOutcome.PUBLISHED  # type: ignore[union-attr]
    confirm_all(saga)
    dying.apply(tmp_path)
    saga.refresh_from_db()
    assert saga.status == "COMPENSATION_SUCCEEDED"
    assert everything_is_as_its_log_says()


def a_failed_saga(folder: Path) -> SagaLog:
    task, *images = new_ids(IMAGES + 1)
    event_log.append([*retrieval(task, images), event("RetrievalFailed", task, seconds=20, error_message="disk full")])
    dying.apply(folder)
    return SagaLog.objects.get(key=task)


def confirm_all(saga: SagaLog) -> None:
    event_log.append(
        event("ImageDeletionCompleted", saga.key, entity, seconds=60)
        for entity in Command.objects.values_list("entity", flat=True)  # type: ignore[arg-type]
    )


def let_claims_be_lost() -> None:
    Command.objects.filter(status=CommandStatus.PUBLISHING).update(claimed_at=timezone.now() - timedelta(hours=1))


def let_waits_be_over() -> None:
    Command.objects.filter(status=CommandStatus.WAITING).update(next_at=timezone.now())


# --- time -------------------------------------------------------------------------------------------------------------

EXHAUSTING = [
    ("after", "compensation.statements.lock_overdue", 1),
    ("after", "compensation.statements.write", 2),  # the first one writes what only moves
    ("after", "compensation.statements.end_attempts", 1),
    ("before", "compensation.facts.append_facts", 1),
    ("after", "bridge.event_log.append", 1),  # the log has been told, not committed
    ("before", "COMMIT", 1),
    ("after", "COMMIT", 1),  # exhausted, nobody woken
]


@pytest.mark.parametrize(("when", "name", "nth"), EXHAUSTING)
def test_a_killed_sweeper_exhausts_a_command_once_and_a_person_sees_it(
    when: str, name: str, nth: int, tmp_path: Path
) -> None:
    saga = a_failed_saga(tmp_path)
    dying.publish(tmp_path)
    Command.objects.update(attempt=F("maximum_attempts"), deadline_at=timezone.now() - timedelta(seconds=1))
    Command.objects.update(confirmation_timeout=0.001)
    long_ago = timezone.now() - timedelta(hours=1)
    heartbeats.beat("bridge", HeartbeatKind.BRIDGE, connected=True)
    connection.cursor().execute("UPDATE bridge_heartbeat SET well_since = %s", [long_ago])
    connection.cursor().execute("UPDATE compensation_command SET published_at = %s", [long_ago])

    killed(tmp_path, dying.pass_time, when, name, nth)
    heartbeats.beat("bridge", HeartbeatKind.BRIDGE, connected=True)
    dying.pass_time(tmp_path)
    dying.sweep(tmp_path)

    saga.refresh_from_db()
    assert saga.status == "COMPENSATION_FAILED"
    assert set(Command.objects.values_list("status", flat=True)) == {CommandStatus.EXHAUSTED}
    assert Event.objects.filter(type="CommandExhausted").count() == IMAGES
    assert set(Attempt.objects.values_list("outcome", flat=True)) == {AttemptOutcome.DEADLINE}
    assert Attempt.objects.count() == IMAGES
    assert everything_is_as_its_log_says()


RECOVERING = [
    ("after", "compensation.statements.lock_lost", 1),
    ("after", "compensation.statements.write", 1),
    ("after", "compensation.statements.end_attempts", 1),
    ("before", "COMMIT", 1),
    ("after", "COMMIT", 1),
]


@pytest.mark.parametrize(("when", "name", "nth"), RECOVERING)
def test_a_killed_sweeper_recovers_a_lost_claim_once(when: str, name: str, nth: int, tmp_path: Path) -> None:
    a_failed_saga(tmp_path)
    killed(tmp_path, dying.publish, "after", "compensation.delivery.claim")
    let_claims_be_lost()

    killed(tmp_path, dying.pass_time, when, name, nth)
    dying.pass_time(tmp_path)
    let_waits_be_over()
    dying.publish(tmp_path)

    assert set(Command.objects.values_list("status", "attempt")) == {(CommandStatus.PUBLISHED, 2)}
    found = Attempt.objects.values_list("number", "outcome").annotate(times=Count("id")).order_by("number")
    assert list(found) == [(1, AttemptOutcome.SUPERSEDED, IMAGES), (2, AttemptOutcome.PUBLISHED, IMAGES)]


# --- sweeping ---------------------------------------------------------------------------------------------------------

SWEEPING = [
    ("after", "sagas.applying.statements.unpark_matched", 1),
    ("before", "sagas.applying.sweeper.nudge", 1),
    ("after", "sagas.applying.sweeper.nudge", 1),
    ("before", "COMMIT", 1),
    ("after", "COMMIT", 1),
]


@pytest.mark.parametrize(("when", "name", "nth"), SWEEPING)
def test_a_killed_sweep_leaves_nothing_parked_beside_its_saga(when: str, name: str, nth: int, tmp_path: Path) -> None:
    task, image = new_ids(2)
    event_log.append([event("ProcessingStarted", "a task of processing's own", image, seconds=30)])
    dying.apply(tmp_path)
    event_log.append(retrieval(task, [image]))
    killed(tmp_path, dying.apply, "before", "sagas.applying.apply.after_commit")
    assert Parked.objects.count() == 1

    killed(tmp_path, dying.sweep, when, name, nth)
    dying.sweep(tmp_path)

    assert not Parked.objects.exists()
    assert not Pending.objects.exists()
    assert SagaEvent.objects.count() == 4
    assert everything_is_as_its_log_says()


# --- deciding ---------------------------------------------------------------------------------------------------------

DECIDING = [
    ("after", "sagas.applying.statements.lock"),
    ("after", "bridge.event_log.append"),  # the decision is in the log, not applied
    ("after", "sagas.actions.action.apply_key"),
    ("after", "sagas.actions.action._audit"),
    ("before", "COMMIT"),
    ("after", "COMMIT"),  # decided, and nobody told who pressed
    ("before", "sagas.actions.action.after_commit"),
    ("after", "sagas.actions.action.after_commit"),
]


@pytest.mark.parametrize(("when", "name"), DECIDING)
def test_a_decision_whose_process_is_killed_is_taken_whole_or_not_at_all(when: str, name: str, tmp_path: Path) -> None:
    task, *images = new_ids(IMAGES + 1)
    event_log.append(retrieval(task, images))
    dying.apply(tmp_path)
    saga = SagaLog.objects.get(key=task)
    (tmp_path / "saga").write_text(str(saga.pk), encoding="utf-8")

    killed(tmp_path, dying.decide, when, name)
    decided = Decision.objects.count()
    assert Event.objects.filter(source="operator").count() == decided
    assert Command.objects.count() == decided * IMAGES

    answer = dying.decide(tmp_path)

    assert answer.repeated == bool(decided)
    assert len(answer.commands) == IMAGES
    assert Decision.objects.count() == 1
    assert Event.objects.filter(source="operator").count() == 1
    assert Command.objects.count() == IMAGES
    assert everything_is_as_its_log_says()
    dying.publish(tmp_path)
    assert {json.loads(body)["id"] for _, body in Broker(tmp_path).sent} == {
        str(pk) for pk in Command.objects.values_list("pk", flat=True)
    }
