"""What people may decide: each decision's effects, its refusals, and that a second press answers what the first did."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from bridge import event_log
from bridge.models import Event, Pending, QuarantineStatus
from compensation.models import Command, CommandStatus
from sagas.actions import ActionRequest, ActionResult
from sagas.applying import replay
from sagas.applying.apply import run_apply
from sagas.applying.verify import all_ids, each
from sagas.errors import Busy, Invalid, NotFound, Refused
from sagas.models import Attachment, Decision, Lane, Parked, SagaEvent, SagaLog, SagaStep
from tests.integration import decided
from tests.integration import deciding as actions
from tests.integration.connections import InThread, second_connection
from tests.integration.decided import request
from tests.integration.deciding import CommandSelection
from tests.integration.story import event, new_ids, retrieval

pytestmark = pytest.mark.django_db(transaction=True)

NOBODY = str(uuid.UUID(int=7))


@pytest.fixture(autouse=True)
def _every_saga_is_what_its_log_folds_to() -> Any:
    yield
    assert [verdict for verdict in each(all_ids()) if not verdict.well] == []


def status(saga: SagaLog) -> str:
    return SagaLog.objects.get(id=saga.id).status


def statuses(saga: SagaLog) -> list[tuple[str, str]]:
    return sorted(Command.objects.filter(saga_id=saga.id).values_list("name", "status"))


def rows_of_everything() -> tuple[int, ...]:
    models = (Event, Pending, SagaEvent, SagaLog, Lane, SagaStep, Command, Decision, Parked, Attachment)
    return tuple(model.objects.count() for model in models)


# --- what all have in common ------------------------------------------------------------------------------------------


def test_a_reason_and_an_actor_are_required() -> None:
    saga, _ = decided.running()
    for wrong in (request(" "), request("x" * 1001), request("a\0b"), request(actor=" "), request(door="window")):
        with pytest.raises(Invalid):
            actions.force_compensation(saga.id, request=wrong)
    for key in ("", "x" * 201, "a\nb"):
        with pytest.raises(Invalid):
            actions.force_compensation(saga.id, request=request(idempotency_key=key))
    assert not Decision.objects.exists()
    assert not actions.force_compensation(saga.id, request=request("", dry_run=True)).repeated


def test_a_dry_run_shows_everything_and_leaves_nothing() -> None:
    saga, images = decided.running()
    before = rows_of_everything()
    outcome = actions.force_compensation(saga.id, request=request(dry_run=True))
    assert rows_of_everything() == before
    assert status(saga) == "STARTED"
    assert (outcome.dry_run, outcome.decision_id) == (True, None)
    assert outcome.effects == {"status_before": "STARTED", "status_after": "COMPENSATING"}
    told = {(command.entity, command.name): command for command in outcome.commands}
    assert len(told) == 3
    rollback = told[images[0], "RollbackAnonymization"]
    assert (rollback.status_before, rollback.status_after, rollback.leaves) == (None, "planned", True)
    assert rollback.body is not None
    assert rollback.body["data"] == {"task_id": saga.key, "image_id": images[0], "reason": "Saga compensation"}
    assert not told[images[0], "DeleteRetrievedImage"].leaves
    assert told[images[1], "DeleteRetrievedImage"].leaves


def test_the_dry_run_shows_what_is_done() -> None:
    saga, _ = decided.running()
    shown = actions.force_compensation(saga.id, request=request(dry_run=True))
    done = actions.force_compensation(saga.id, request=request())
    assert [replace(c, body=None) for c in shown.commands] == [replace(c, body=None) for c in done.commands]
    assert shown.effects == done.effects
    assert {c.id for c in done.commands} == set(Command.objects.values_list("id", flat=True))


def test_a_second_press_answers_what_the_first_did() -> None:
    saga, _ = decided.running()
    first = actions.force_compensation(saga.id, request=request("first"))
    before = rows_of_everything()
    second = actions.force_compensation(saga.id, request=request("second", actor="bob", door="admin"))
    assert rows_of_everything() == before
    assert second.repeated
    assert (second.decision_id, second.actor, second.accepted_at) == (first.decision_id, "ana", first.accepted_at)
    assert [(c.id, c.status_after) for c in second.commands] == [(c.id, c.status_after) for c in first.commands]
    row = Decision.objects.get()
    assert (row.id, row.actor, row.door, row.reason) == (first.decision_id, "ana", "api", "first")
    assert row.saga == saga.id


def test_a_request_key_answers_a_repeat_and_refuses_another_decision() -> None:
    saga, images = decided.running()
    other, _ = decided.running()
    keyed = request(idempotency_key="k1")
    first = actions.force_compensation(saga.id, images[0], request=keyed)
    assert actions.force_compensation(saga.id, images[0], request=keyed).decision_id == first.decision_id
    with pytest.raises(Refused, match="another decision"):
        actions.force_compensation(other.id, request=keyed)
    by_another = replace(keyed, actor="bob")
    assert not actions.force_compensation(other.id, request=by_another).repeated


def test_a_decision_waits_for_a_saga_at_work_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    saga, _ = decided.running()
    monkeypatch.setattr("sagas.actions.action.LOCK_WAIT", "100ms")
    with second_connection() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"image_processing:{saga.key}"])
        with pytest.raises(Busy):
            actions.cancel(saga.id, request=request())


def test_a_decision_sees_what_waits_for_the_saga() -> None:
    saga, images = decided.running(1)
    event_log.append([event("ProcessingCompleted", saga.key, images[0], seconds=50)])
    with pytest.raises(Refused, match="no longer running"):
        actions.cancel(saga.id, request=request())


@pytest.mark.parametrize("saga_id", [NOBODY, "no uuid"])
def test_what_is_not_there_is_not_found(saga_id: str) -> None:
    ask = request()
    calls: list[Callable[[], ActionResult]] = [
        lambda: actions.force_compensation(saga_id, request=ask),
        lambda: actions.cancel(saga_id, request=ask),
        lambda: actions.terminate(saga_id, request=ask),
        lambda: actions.resume(saga_id, request=ask),
        lambda: actions.replay(saga_id, request=ask),
        lambda: actions.replay(saga_id, apply=True, request=ask),
        lambda: actions.decide_command("retry", saga_id, request=ask),
        lambda: actions.decide_commands("retry", CommandSelection(saga=saga_id), request=ask),
        lambda: actions.attach(saga_id=saga_id, key="k", request=ask),
        lambda: actions.adopt("nothing", request=ask),
        lambda: actions.dismiss(key="nothing", request=ask),
        lambda: actions.dismiss(event="nothing", request=ask),
        lambda: actions.requeue_message(77, request=ask),
        lambda: actions.dismiss_message(77, request=ask),
        lambda: actions.set_publishing(True, "NOBODY", request=ask),
    ]
    for call in calls:
        with pytest.raises(NotFound):
            call()
    assert not Decision.objects.exists()


def test_two_presses_at_once_are_one_decision() -> None:
    row = decided.quarantined()
    saga, images = decided.running(1)
    key, _ = decided.parked()
    keyed = request(idempotency_key="k")
    for press in (
        lambda: actions.requeue_message(row.id, request=request()),
        lambda: actions.force_compensation(saga.id, request=request()),
        lambda: actions.set_publishing(True, request=keyed),
        lambda: actions.attach(saga_id=saga.id, key=key, lane=images[0], request=request()),
    ):
        answers = [thread.result() for thread in [InThread(press) for _ in range(4)]]
        assert len({answer.decision_id for answer in answers}) == 1
        assert [answer.repeated for answer in answers].count(False) == 1
    assert Decision.objects.count() == 4


# --- a saga or a lane -------------------------------------------------------------------------------------------------


def test_one_lane_is_undone_and_the_others_go_on() -> None:
    saga, images = decided.running()
    outcome = actions.force_compensation(saga.id, images[1], request=request())
    assert [(c.entity, c.name, c.leaves) for c in outcome.commands] == [(images[1], "DeleteRetrievedImage", True)]
    assert Lane.objects.filter(saga=saga, failed=True).count() == 1
    with pytest.raises(NotFound):
        actions.force_compensation(saga.id, "no image of it", request=request())
    with pytest.raises(Refused, match="already failed"):
        actions.cancel(saga.id, images[1], request=request())


def test_a_completed_saga_can_be_undone_but_not_cancelled() -> None:
    saga, _ = decided.completed()
    with pytest.raises(Refused):
        actions.cancel(saga.id, request=request())
    with pytest.raises(Refused):
        actions.terminate(saga.id, request=request())
    actions.force_compensation(saga.id, request=request())
    assert status(saga) == "COMPENSATING"
    with pytest.raises(Refused, match="already failed"):
        actions.cancel(saga.id, request=request())


def test_cancel_undoes_what_runs() -> None:
    saga, _ = decided.running()
    outcome = actions.cancel(saga.id, request=request())
    assert (len(outcome.commands), status(saga)) == (3, "COMPENSATING")


def test_terminate_lets_go_on_what_left_and_withdraws_the_rest_permanently() -> None:
    saga, images = decided.failed(3)
    decided.published()  # the rollback of the first image, the deletions of the others
    outcome = actions.terminate(saga.id, request=request())
    assert [(c.entity, c.name, c.status_after) for c in outcome.commands] == [
        (images[0], "DeleteRetrievedImage", "withdrawn")
    ]
    # What is owed later is withdrawn too.
    event_log.append([event("AnonymizationCompleted", saga.key, images[1], seconds=60)])
    run_apply()
    assert statuses(saga) == [
        ("DeleteRetrievedImage", "published"),
        ("DeleteRetrievedImage", "published"),
        ("DeleteRetrievedImage", "withdrawn"),
        ("RollbackAnonymization", "published"),
        ("RollbackAnonymization", "withdrawn"),
    ]
    answers = [event("AnonymizationRolledBack", saga.key, images[0], seconds=70)]
    answers += [event("ImageDeletionCompleted", saga.key, image, seconds=71) for image in images[1:]]
    event_log.append(answers)
    run_apply()
    assert status(saga) == "FAILED"
    assert actions.terminate(saga.id, request=request()).repeated


def test_terminate_an_undecided_saga() -> None:
    saga, _ = decided.running()
    actions.terminate(saga.id, request=request())
    assert status(saga) == "FAILED"
    assert {word for _, word in statuses(saga)} == {"withdrawn"}


def test_resume_applies_what_was_set_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        saga = decided.set_aside(patch)
        assert saga.set_aside_at is not None
        with pytest.raises(Refused, match="still cannot be applied"):
            actions.resume(saga.id, request=request())
        for call in (actions.force_compensation, actions.cancel, actions.terminate):
            with pytest.raises(Refused, match="blocked by an error"):
                call(saga.id, request=request())
        with pytest.raises(Refused, match="blocked by an error"):
            actions.replay(saga.id, apply=True, request=request())
        assert Parked.objects.filter(reason="set_aside").count() == 1
    outcome = actions.resume(saga.id, request=request())
    assert (outcome.effects["events"], status(saga)) == (1, "COMPENSATING")
    assert not Parked.objects.exists()
    with pytest.raises(Refused, match="not blocked by an error"):
        actions.resume(saga.id, request=request())


def test_a_saga_set_aside_twice_is_resumed_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        saga = decided.set_aside(patch)
    first = actions.resume(saga.id, request=request())
    SagaLog.objects.filter(id=saga.id).update(set_aside_at=timezone.now(), set_aside_error="another")
    second = actions.resume(saga.id, request=request())
    assert first.decision_id != second.decision_id
    assert not second.repeated


# --- replay -----------------------------------------------------------------------------------------------------------


def test_replay_shows_the_difference_and_writes_it_only_when_asked() -> None:
    saga, images = decided.failed()
    assert actions.replay(saga.id, request=request("")).effects["differences"] == []
    with pytest.raises(Refused, match="nothing to rebuild"):
        actions.replay(saga.id, apply=True, request=request())
    SagaLog.objects.filter(id=saga.id).update(status="COMPLETED", lanes_known=9, events_count=1)
    SagaStep.objects.filter(saga=saga, entity=images[0], step_type="ANONYMIZATION_COMPLETE").delete()
    Lane.objects.filter(saga=saga, entity=images[1]).update(outcome="open")
    Lane.objects.create(saga=saga, entity="stray", outcome="open", known=True)
    with connection.cursor() as cursor:  # the ORM asks for its attempts first, which nothing deletes
        cursor.execute("DELETE FROM compensation_command WHERE saga_id = %s AND entity = %s", [saga.id, images[1]])
    looked = actions.replay(saga.id, request=request(""))
    told = {item["what"] for item in looked.effects["differences"]}
    assert told == {
        "saga status",
        "saga lanes_known",
        "saga events_count",
        f"step ANONYMIZATION_COMPLETE by ANONYMIZATION of {images[0]}",
        f"lane {images[1]} outcome",
        "lane stray",
        f"command DeleteRetrievedImage of {images[1]}",
    }
    assert looked.dry_run
    assert not Decision.objects.exists()
    assert status(saga) == "COMPLETED"
    outcome = actions.replay(saga.id, apply=True, request=request())
    assert [(c.entity, c.name) for c in outcome.commands] == [(images[1], "DeleteRetrievedImage")]
    assert replay.compare(saga.id) == []
    assert status(saga) == "COMPENSATING"
    assert Decision.objects.get().action == "replay"


def test_replay_lets_leave_what_the_outbox_holds_back() -> None:
    saga, images = decided.failed()
    event_log.append([event("AnonymizationRolledBack", saga.key, images[0], seconds=50)])
    run_apply()
    deletion = Command.objects.filter(saga_id=saga.id, entity=images[0], name="DeleteRetrievedImage")
    deletion.update(released_at=None, next_at=None)
    SagaLog.objects.filter(id=saga.id).update(error_message="tampered")
    actions.replay(saga.id, apply=True, request=request())
    assert deletion.get().released_at is not None


# --- commands ---------------------------------------------------------------------------------------------------------


def test_a_retry_is_a_new_decision_in_each_round(settings: Any) -> None:
    saga, [command] = decided.exhausted(settings)
    assert status(saga) == "COMPENSATION_FAILED"
    first = actions.decide_command("retry", command.id, request=request())
    assert [(c.status_before, c.status_after, c.leaves) for c in first.commands] == [("exhausted", "waiting", True)]
    assert status(saga) == "COMPENSATING"
    assert actions.decide_command("retry", command.id, request=request()).decision_id == first.decision_id
    decided.refuse_all(saga.key, [command.entity])
    assert status(saga) == "COMPENSATION_FAILED"
    second = actions.decide_command("retry", command.id, request=request())
    assert not second.repeated
    assert second.decision_id != first.decision_id
    command.refresh_from_db()
    assert (command.round, command.attempt, command.status) == (3, 0, "waiting")
    decided.published()
    event_log.append([event("ImageDeletionCompleted", saga.key, command.entity, seconds=90)])
    run_apply()
    assert status(saga) == "COMPENSATION_SUCCEEDED"
    for action in ("retry", "skip", "withdraw", "mark_done"):
        if action != "retry":
            with pytest.raises(Refused, match="confirmed"):
                actions.decide_command(action, command.id, request=request())


def test_only_what_is_exhausted_is_retried() -> None:
    saga, _ = decided.failed(1)
    on_its_way = Command.objects.get(saga_id=saga.id, name="RollbackAnonymization")
    with pytest.raises(Refused, match="still in progress"):
        actions.decide_command("retry", on_its_way.id, request=request())
    _, invalid = decided.unfit()
    assert invalid.status == "exhausted"
    with pytest.raises(Refused, match="refuse it again"):
        actions.decide_command("retry", invalid.id, request=request())


@pytest.mark.parametrize(("action", "word"), [("skip", "skipped"), ("withdraw", "withdrawn")])
def test_giving_up_ends_in_failed_and_cannot_be_retried(action: str, word: str) -> None:
    saga, command = decided.unfit()
    outcome = actions.decide_command(action, command.id, request=request())
    assert [(c.status_before, c.status_after, c.body) for c in outcome.commands] == [("exhausted", word, None)]
    assert status(saga) == "FAILED"
    assert actions.decide_command(action, command.id, request=request()).repeated
    with pytest.raises(Refused, match="you can still mark it as done"):
        actions.decide_command("retry", command.id, request=request())
    actions.decide_command("mark_done", command.id, request=request())
    assert status(saga) == "COMPENSATION_SUCCEEDED"
    command.refresh_from_db()
    assert (command.status, command.by_hand) == ("confirmed", True)


@pytest.mark.parametrize("action", ["skip", "withdraw", "mark_done"])
def test_an_answer_shows_and_lets_leave_what_waited_for_it(action: str) -> None:
    saga, _images = decided.failed(1)
    rollback = Command.objects.get(saga_id=saga.id, name="RollbackAnonymization")
    shown = actions.decide_command(action, rollback.id, request=request(dry_run=True))
    deletion = next(c for c in shown.commands if c.name == "DeleteRetrievedImage")
    assert (deletion.status_before, deletion.status_after, deletion.leaves) == ("planned", "planned", True)
    assert deletion.body is not None
    assert Command.objects.get(id=deletion.id).released_at is None
    actions.decide_command(action, rollback.id, request=request())
    assert Command.objects.get(id=deletion.id).released_at is not None


def test_many_at_once_tell_what_is_not_eligible(settings: Any) -> None:
    saga, commands = decided.exhausted(settings, 3)
    other, _ = decided.failed(1)
    on_its_way = Command.objects.filter(saga_id=other.id)[0]
    ids = [*(str(command.id) for command in commands), str(on_its_way.id), NOBODY]
    shown = actions.decide_commands("retry", CommandSelection(ids=ids), request=request(dry_run=True))
    assert (shown.effects["eligible"], len(shown.commands)) == (3, 3)
    assert not Decision.objects.exists()
    outcome = actions.decide_commands("retry", CommandSelection(ids=ids), request=request(idempotency_key="bulk"))
    refused = {item["id"]: item["code"] for item in outcome.effects["not_eligible"]}
    assert refused == {str(on_its_way.id): "refused", NOBODY: "not_found"}
    assert (outcome.effects["eligible"], outcome.effects["sagas"]) == (3, 2)
    assert {c.status_after for c in outcome.commands} == {"waiting"}
    assert status(saga) == "COMPENSATING"
    again = actions.decide_commands("retry", CommandSelection(ids=ids), request=request(idempotency_key="bulk"))
    assert (again.repeated, again.decision_id) == (True, outcome.decision_id)
    nothing = actions.decide_commands("retry", CommandSelection(ids=ids), request=request())
    assert nothing.effects["eligible"] == 0


def test_the_commands_of_a_saga(settings: Any) -> None:
    saga, commands = decided.exhausted(settings, 2)
    actions.decide_commands("mark_done", CommandSelection(saga=saga.id), request=request())
    assert status(saga) == "COMPENSATION_SUCCEEDED"
    assert {word for _, word in statuses(saga)} == {"confirmed"}
    assert Decision.objects.count() == 2  # the saga's and the bulk's own
    assert len(commands) == 2


def test_what_waits_is_not_marked_as_done_with_what_was_sent(settings: Any) -> None:
    """A deletion that waits for its rollback: marked as done, the image would never be deleted."""
    saga, _ = decided.failed(1)
    rollback, deletion = (
        Command.objects.get(saga_id=saga.id, name=name) for name in ("RollbackAnonymization", "DeleteRetrievedImage")
    )
    decided.published()
    actions.decide_commands("mark_done", CommandSelection(saga=saga.id), request=request())
    rollback.refresh_from_db()
    deletion.refresh_from_db()
    assert (rollback.status, rollback.by_hand) == ("confirmed", True)
    assert (deletion.status, deletion.by_hand) == ("planned", False)
    assert deletion.released_at is not None


def test_all_that_is_older_than_a_cut_over_is_withdrawn() -> None:
    old, _ = decided.failed(1)
    Command.objects.filter(saga_id=old.id).update(planned_at=timezone.now() - timedelta(days=1))
    new, _ = decided.failed(1)
    cut_over = CommandSelection(planned_before=timezone.now() - timedelta(hours=1))
    outcome = actions.decide_commands("withdraw", cut_over, request=request())
    assert outcome.effects["eligible"] == 2
    assert (status(old), status(new)) == ("FAILED", "COMPENSATING")
    with pytest.raises(Invalid):
        actions.decide_commands("retry", cut_over, request=request())


def test_a_selection_says_exactly_one_thing() -> None:
    saga, _ = decided.failed(1)
    for wrong in (
        CommandSelection(),
        CommandSelection(ids=[]),
        CommandSelection(ids=["no uuid"]),
        CommandSelection(ids=[NOBODY], saga=saga.id),
    ):
        with pytest.raises(Invalid):
            actions.decide_commands("skip", wrong, request=request())
    for action in ("jump", "terminate"):
        with pytest.raises(Invalid):
            actions.decide_command(action, NOBODY, request=request())
    with pytest.raises(Invalid, match="reason"):
        actions.decide_commands("skip", CommandSelection(saga=saga.id), request=request(""))


# --- events without a saga --------------------------------------------------------------------------------------------


def test_a_key_is_attached_to_a_lane_past_and_future() -> None:
    saga, images = decided.running(1)
    key, _ = decided.parked()
    shown = actions.attach(saga_id=saga.id, key=key, lane=images[0], request=request(dry_run=True))
    assert (shown.effects["events"], Parked.objects.count()) == (2, 2)
    outcome = actions.attach(saga_id=saga.id, key=key, lane=images[0], request=request())
    assert outcome.effects == {"events": 2, "status_before": "STARTED", "status_after": "COMPLETED"}
    assert not Parked.objects.exists()
    event_log.append([event("ProcessingFailed", key, seconds=80, error_message="late")])
    run_apply()
    assert Lane.objects.get(saga=saga).failed
    assert actions.attach(saga_id=saga.id, key=key, lane=images[0], request=request()).repeated


def test_a_key_is_attached_to_a_saga_before_any_event_of_it() -> None:
    saga, _ = decided.running(1)
    [key] = new_ids(1)
    assert actions.attach(saga_id=saga.id, key=key, request=request()).effects["events"] == 0
    event_log.append([event("ProcessingCompleted", key, seconds=80)])
    run_apply()
    assert status(saga) == "COMPLETED"


def test_a_key_that_went_elsewhere_is_refused() -> None:
    saga, images = decided.running(1)
    other, theirs = decided.running(1)
    with pytest.raises(Refused, match="own key"):
        actions.attach(saga_id=saga.id, key=saga.key, request=request())
    with pytest.raises(Refused, match="belongs to another saga"):
        actions.attach(saga_id=saga.id, key=other.key, request=request())
    key, _ = decided.parked(image=theirs[0])  # found its way by its image
    assert not Parked.objects.exists()
    with pytest.raises(Refused, match="already belong"):
        actions.attach(saga_id=saga.id, key=key, request=request())
    lone, _ = decided.parked()
    actions.attach(saga_id=saga.id, key=lone, lane=images[0], request=request())
    with pytest.raises(Refused, match="already attached"):
        actions.attach(saga_id=other.id, key=lone, request=request())
    with pytest.raises(Refused, match="already attached"):
        actions.attach(saga_id=saga.id, key=lone, request=request())
    with pytest.raises(NotFound, match="no image"):
        actions.attach(saga_id=saga.id, key=new_ids(1)[0], lane="none of it", request=request())


def test_events_that_need_a_lane_stay_parked_where_only_the_saga_is_named() -> None:
    saga, images = decided.running(1)
    key, _ = decided.parked(["AnonymizationCompleted", "ProcessingStarted"])
    outcome = actions.attach(saga_id=saga.id, key=key, request=request())
    assert (outcome.effects["still_parked"], Parked.objects.get().reason) == (1, "no_entity")
    [event_id] = Event.objects.filter(id=Parked.objects.get().event).values_list("event_id", flat=True)
    actions.attach(saga_id=saga.id, event=event_id, lane=images[0], request=request())
    assert not Parked.objects.exists()


def test_one_event_is_attached() -> None:
    saga, images = decided.running(1)
    key, [first, second] = decided.parked()
    outcome = actions.attach(saga_id=saga.id, event=second, lane=images[0], request=request())
    assert (outcome.effects["events"], status(saga), Parked.objects.count()) == (1, "COMPLETED", 1)
    assert actions.attach(saga_id=saga.id, event=second, lane=images[0], request=request()).repeated
    with pytest.raises(Refused, match="no unmatched event"):
        actions.attach(saga_id=saga.id, event=second, request=request())
    with pytest.raises(Refused, match="no unmatched event"):
        actions.attach(saga_id=saga.id, event="never came", request=request())
    assert key
    assert first


def test_an_event_that_the_saga_cannot_take_is_refused_and_stays() -> None:
    saga, _ = decided.running(1)
    _, [event_id] = decided.parked(["AnonymizationCompleted"])
    with pytest.raises(Refused, match="specify the image"):
        actions.attach(saga_id=saga.id, event=event_id, request=request())
    assert Parked.objects.get().reason == "no_saga"
    assert not Pending.objects.exists()


def test_attach_and_dismiss_want_a_key_or_an_event() -> None:
    saga, _ = decided.running(1)
    for both in ({}, {"key": "k", "event": "e"}):
        with pytest.raises(Invalid):
            actions.attach(saga_id=saga.id, request=request(), **both)
        with pytest.raises(Invalid):
            actions.dismiss(request=request(), **both)


def test_a_saga_is_started_from_what_is_parked() -> None:
    task, image = new_ids(2)
    event_log.append([*retrieval(task, [image])[1:], event("AnonymizationFailed", task, image, error_message="no")])
    run_apply()
    shown = actions.adopt(task, request=request(dry_run=True))
    assert len(shown.commands) == 1
    assert not SagaLog.objects.exists()
    outcome = actions.adopt(task, "image_processing", request=request())
    saga = SagaLog.objects.get()
    assert outcome.effects == {"saga": str(saga.id), "events": 4, "status_after": "COMPENSATING"}
    assert saga.start_time == Event.objects.filter(source="pulsar").order_by("occurred_at")[0].occurred_at
    assert Decision.objects.get().saga == saga.id
    assert actions.adopt(task, request=request()).repeated
    assert not Parked.objects.exists()


def test_what_cannot_be_adopted() -> None:
    saga, _ = decided.running(1)
    with pytest.raises(Refused, match="exists"):
        actions.adopt(saga.key, request=request())
    with pytest.raises(Invalid):
        actions.adopt("", request=request())
    with pytest.raises(NotFound):
        actions.adopt("x", "no_such_type", request=request())
    key, _ = decided.parked(["AnonymizationCompleted"])
    actions.attach(saga_id=saga.id, key=key, request=request())  # stays parked: it names no image
    with pytest.raises(Refused, match="attached"):
        actions.adopt(key, request=request())


def test_dismissing_only_hides() -> None:
    key, [first, _] = decided.parked()
    assert actions.dismiss(event=first, request=request()).effects == {"events": 1}
    assert actions.dismiss(key=key, request=request()).effects == {"events": 1}
    assert Parked.objects.filter(dismissed_at=None).count() == 0
    saga, images = decided.running(1)
    actions.attach(saga_id=saga.id, key=key, lane=images[0], request=request())
    assert status(saga) == "COMPLETED"


# --- what follows from a decision belongs to it -----------------------------------------------------------------------


def previewed_and_done(press: Callable[[ActionRequest], ActionResult]) -> ActionResult:
    """Presses twice, first as a dry run, and returns the second outcome: nothing is left to apply, and both agree."""
    before = rows_of_everything()
    shown = press(request(dry_run=True))
    assert rows_of_everything() == before
    done = press(request())
    assert not Pending.objects.exists()
    assert shown.effects == done.effects
    told = [[{**command.as_json(), "body": None} for command in outcome.commands] for outcome in (shown, done)]
    assert told[0] == told[1]
    assert [bool(command.body) for command in shown.commands] == [bool(command.body) for command in done.commands]
    return done


def test_requeue_shows_that_a_finished_saga_is_undone_and_undoes_it() -> None:
    saga, image = decided.completed()
    row = decided.unread("RetrievalFailed", "retrieval-failed", saga.key, error_message="disk full")
    done = previewed_and_done(lambda ask: actions.requeue_message(row.id, request=ask))
    assert [(c.entity, c.name, c.status_before, c.leaves) for c in done.commands] == [
        (image, "RollbackAnonymization", None, True),
        (image, "DeleteRetrievedImage", None, False),
    ]
    assert (done.effects["status_before"], done.effects["status_after"]) == ("COMPLETED", "COMPENSATING")
    assert (done.effects["saga"], status(saga)) == (str(saga.id), "COMPENSATING")
    assert Decision.objects.get().saga == saga.id
    assert {c.id for c in done.commands} == set(Command.objects.values_list("id", flat=True))


def test_requeue_finds_the_saga_by_the_image_and_takes_its_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    saga, image = decided.completed()
    row = decided.unread("ProcessingFailed", "processing-failed", new_ids(1)[0], image, error_message="no")
    monkeypatch.setattr("sagas.actions.action.LOCK_WAIT", "100ms")
    with second_connection() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"image_processing:{saga.key}"])
        for dry_run in (True, False):
            with pytest.raises(Busy):
                actions.requeue_message(row.id, request=request(dry_run=dry_run))
    row.refresh_from_db()
    assert row.status == QuarantineStatus.OPEN
    done = previewed_and_done(lambda ask: actions.requeue_message(row.id, request=ask))
    assert (len(done.commands), done.effects["saga"]) == (2, str(saga.id))


def test_requeue_releases_what_waited_for_the_confirmation() -> None:
    saga, [image] = decided.failed(1)
    row = decided.unread("AnonymizationRolledBack", "anonymization-anonymizationrolledback", saga.key, image)
    done = previewed_and_done(lambda ask: actions.requeue_message(row.id, request=ask))
    assert [(c.name, c.status_after, c.released) for c in done.commands] == [
        ("RollbackAnonymization", "confirmed", False),
        ("DeleteRetrievedImage", "planned", True),
    ]
    assert done.effects["released"] == {"DeleteRetrievedImage": 1}


def test_requeue_of_a_start_takes_what_was_parked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sagas.applying.route.new_saga_id", lambda: uuid.UUID(int=5))
    task, image = new_ids(2)
    event_log.append([*retrieval(task, [image])[1:], event("AnonymizationFailed", task, image, error_message="no")])
    run_apply()
    row = decided.unread("RetrievalStarted", "retrieval-started", task)
    done = previewed_and_done(lambda ask: actions.requeue_message(row.id, request=ask))
    assert [(c.entity, c.name) for c in done.commands] == [(image, "DeleteRetrievedImage")]
    assert (done.effects["status_before"], done.effects["status_after"]) == (None, "COMPENSATING")
    assert not Parked.objects.exists()


def test_requeue_says_where_an_event_without_a_saga_goes() -> None:
    row = decided.unread("RetrievalFailed", "retrieval-failed", new_ids(1)[0], error_message="no")
    done = previewed_and_done(lambda ask: actions.requeue_message(row.id, request=ask))
    assert (done.effects["parked"], "saga" in done.effects, done.commands) == ("no_saga", False, [])


def test_requeue_of_a_stored_event_changes_nothing() -> None:
    saga, _ = decided.running(1)
    first = decided.unread("RetrievalFailed", "retrieval-failed", saga.key, error_message="no")
    actions.requeue_message(first.id, request=request())
    second = decided.requarantined(first)
    done = previewed_and_done(lambda ask: actions.requeue_message(second.id, request=ask))
    assert (done.effects["already_stored"], done.commands) == (True, [])
    assert done.effects["status_before"] == done.effects["status_after"] == "COMPENSATING"


def test_requeue_refuses_what_the_engine_cannot_apply(monkeypatch: pytest.MonkeyPatch) -> None:
    saga, image = decided.completed()
    row = decided.unread("ProcessingFailed", "processing-failed", saga.key, image, error_message="no")

    def broken(*_args: Any) -> Any:
        raise KeyError("a fault")

    with monkeypatch.context() as patch:
        patch.setattr("sagas.engine.fold.Fold.apply", broken)
        with pytest.raises(Refused, match="KeyError \\(broken:"):
            actions.requeue_message(row.id, request=request())
    row.refresh_from_db()
    assert (row.status, status(saga)) == (QuarantineStatus.OPEN, "COMPLETED")
    assert Event.objects.count() == 9


def test_a_lane_that_a_decision_opens_takes_its_parked_events_with_it() -> None:
    saga, [image] = decided.running(1)
    [late] = new_ids(1)
    decided.parked(["AnonymizationFailed"], late)  # of the anonymizer's own task, of an image that nobody knows yet
    row = decided.unread("ImagesRetrieved", "images-retrieved", saga.key, image_ids=[image, late])
    done = previewed_and_done(lambda ask: actions.requeue_message(row.id, request=ask))
    assert [(c.entity, c.name, c.leaves) for c in done.commands] == [(late, "DeleteRetrievedImage", True)]
    assert not Parked.objects.exists()


def test_a_saga_that_a_decision_starts_takes_the_parked_events_of_its_images() -> None:
    task, image = new_ids(2)
    event_log.append(retrieval(task, [image])[1:])
    run_apply()
    decided.parked(["AnonymizationFailed"], image)
    shown = actions.adopt(task, request=request(dry_run=True))
    done = actions.adopt(task, request=request())
    assert not Pending.objects.exists()
    for outcome in (shown, done):
        assert [(c.entity, c.name) for c in outcome.commands] == [(image, "DeleteRetrievedImage")]
        assert (outcome.effects["events"], outcome.effects["status_after"]) == (4, "COMPENSATING")


def test_a_command_that_no_one_could_send_counts_in_the_status_at_once() -> None:
    [task] = new_ids(1)
    event_log.append(retrieval(task, [decided.NO_UUID]))
    run_apply()
    saga = SagaLog.objects.get(key=task)
    done = previewed_and_done(lambda ask: actions.force_compensation(saga.id, request=ask))
    assert (done.effects["status_after"], status(saga)) == ("COMPENSATION_FAILED", "COMPENSATION_FAILED")


def test_resume_applies_also_what_came_under_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        saga = decided.set_aside(patch)
        [image] = Lane.objects.filter(saga=saga).values_list("entity", flat=True)
        decided.parked(["AnonymizationCompleted"], image)
        assert Parked.objects.filter(reason="set_aside").count() == 2
    done = previewed_and_done(lambda ask: actions.resume(saga.id, request=ask))
    assert {c.name for c in done.commands} == {"RollbackAnonymization", "DeleteRetrievedImage"}
    assert not Parked.objects.exists()


def test_resuming_publishing_names_what_is_sent() -> None:
    actions.set_publishing(True, request=request())
    actions.set_publishing(True, "ANONYMIZATION", request=request())
    saga, images = decided.failed(2)
    stays = actions.set_publishing(False, "ANONYMIZATION", request=request(dry_run=True))
    assert (stays.commands, "released" in stays.effects) == ([], False)
    done = previewed_and_done(lambda ask: actions.set_publishing(False, request=ask))
    assert [(c.entity, c.name, c.released) for c in done.commands] == [(images[1], "DeleteRetrievedImage", True)]
    rest = previewed_and_done(lambda ask: actions.set_publishing(False, "ANONYMIZATION", request=ask))
    assert [(c.entity, c.name) for c in rest.commands] == [(images[0], "RollbackAnonymization")]
    assert rest.effects["released"] == {"RollbackAnonymization": 1}
    assert saga.status == "COMPENSATING"


def test_resuming_publishing_counts_what_it_does_not_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sagas.actions.on_publishing.KEPT_COMMANDS", 2)
    actions.set_publishing(True, request=request())
    decided.failed(4)
    for _ in range(2):
        outcome = actions.set_publishing(False, request=request(dry_run=True))
        assert len(outcome.commands) == 2
        assert outcome.effects["released"] == {"DeleteRetrievedImage": 3, "RollbackAnonymization": 1}
        assert "released_at_least" not in outcome.effects
    monkeypatch.setattr("sagas.actions.on_publishing.COUNTED", 3)
    outcome = actions.set_publishing(False, request=request(dry_run=True))
    assert (sum(outcome.effects["released"].values()), outcome.effects["released_at_least"]) == (3, True)


# --- what is released is named ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["mark_done", "skip", "withdraw"])
def test_what_an_answer_releases_is_counted_in_plain_text(action: str) -> None:
    saga, images = decided.failed(3)
    event_log.append([event("AnonymizationCompleted", saga.key, image, seconds=30) for image in images[1:]])
    run_apply()
    held = Command.objects.filter(saga_id=saga.id, name="DeleteRetrievedImage", released_at=None).count()
    assert held == 1  # those of the others may leave already, whatever is known later
    rollbacks = Command.objects.filter(saga_id=saga.id, name="RollbackAnonymization").values_list("id", flat=True)
    done = previewed_and_done(
        lambda ask: actions.decide_commands(action, CommandSelection(ids=list(rollbacks)), request=ask)
    )
    assert done.effects["released"] == {"DeleteRetrievedImage": 1}
    assert list(actions.sentences(done)) == ["1 image deletion that was waiting for this is sent."]
    assert {c.name for c in done.commands if c.released} == {"DeleteRetrievedImage"}
    assert [row["released"] for row in done.as_json()["commands"]] == [c.released for c in done.commands]


def test_a_repeat_says_what_was_released() -> None:
    saga, _ = decided.failed(1)
    rollback = Command.objects.get(saga_id=saga.id, name="RollbackAnonymization")
    first = actions.decide_command("mark_done", rollback.id, request=request())
    again = actions.decide_command("mark_done", rollback.id, request=request())
    assert again.repeated
    assert [(c.id, c.released) for c in again.commands] == [(c.id, c.released) for c in first.commands]
    assert list(actions.sentences(again)) == list(actions.sentences(first))
    kept = Decision.objects.get().answer["commands"]
    assert all("released" not in command for command in kept), "the release before this one cannot read it"


def test_sentences_tell_what_is_sent_now_later_and_only_after_a_pause() -> None:
    saga, _ = decided.running()
    actions.set_publishing(True, "DATA_RETRIEVAL", request=request())
    shown = actions.force_compensation(saga.id, request=request(dry_run=True))
    assert list(actions.sentences(shown)) == [
        "1 image deletion, 1 anonymization rollback are sent.",
        "1 image deletion is sent once the commands before it are answered.",
        "Sending commands to DATA_RETRIEVAL is paused: these commands are sent after it is resumed.",
    ]


# --- messages and publishing ------------------------------------------------------------------------------------------


def test_a_message_is_requeued_once() -> None:
    row = decided.quarantined()
    shown = actions.requeue_message(row.id, request=request(dry_run=True))
    assert (shown.effects["type"], Event.objects.count()) == ("RetrievalStarted", 0)
    outcome = actions.requeue_message(row.id, request=request())
    run_apply()
    assert SagaLog.objects.count() == 1
    row.refresh_from_db()
    assert (row.status, row.decided_by, row.decided_why) == (QuarantineStatus.REQUEUED, "ana", "because")
    assert actions.requeue_message(row.id, request=request()).decision_id == outcome.decision_id
    with pytest.raises(Refused):
        actions.dismiss_message(row.id, request=request())


def test_what_still_cannot_be_read_is_refused_and_can_be_dismissed() -> None:
    row = decided.quarantined(b"{")
    with pytest.raises(Refused, match="still cannot be read"):
        actions.requeue_message(row.id, request=request())
    actions.dismiss_message(row.id, request=request())
    assert actions.dismiss_message(row.id, request=request()).repeated
    row.refresh_from_db()
    assert (row.status, bytes(row.body)) == (QuarantineStatus.DISMISSED, b"{")


def test_publishing_is_paused_and_resumed() -> None:
    saga, _ = decided.failed(1)
    paused = actions.set_publishing(True, "ANONYMIZATION", request=request())
    assert paused.effects == {"changed": True, "paused": ["ANONYMIZATION"]}
    decided.published()
    assert Command.objects.get(saga_id=saga.id, name="RollbackAnonymization").status == CommandStatus.PLANNED
    again = actions.set_publishing(True, "ANONYMIZATION", request=request())
    assert (again.effects["changed"], again.repeated) == (False, False)
    assert actions.set_publishing(True, request=request(dry_run=True)).effects["paused"] == ["*", "ANONYMIZATION"]
    assert actions.set_publishing(True, request=request()).effects["paused"] == ["*", "ANONYMIZATION"]
    actions.set_publishing(False, request=request())
    outcome = actions.set_publishing(False, "ANONYMIZATION", request=request())
    assert (outcome.action, outcome.effects["paused"]) == ("resume_publishing", [])
    decided.published()
    assert Command.objects.get(saga_id=saga.id, name="RollbackAnonymization").status == CommandStatus.PUBLISHED


def test_an_outcome_as_data() -> None:
    saga, _ = decided.failed(1)
    command = Command.objects.get(saga_id=saga.id, name="RollbackAnonymization")
    told = actions.decide_command("skip", command.id, request=ActionRequest(actor="ana", door="command", reason="x"))
    data = told.as_json()
    assert set(data) == {
        "decision_id", "action", "target", "actor", "accepted_at", "commands", "effects", "repeated", "dry_run",
    }  # fmt: skip
    assert data["accepted_at"].endswith("Z")
