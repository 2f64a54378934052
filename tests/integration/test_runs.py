"""A task that is started again, on real PostgreSQL: its runs, and commands that are no longer required."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import translation

from bridge import clock, event_log
from bridge.models import Event
from compensation import delivery
from compensation.models import Attempt, Command, CommandStatus
from sagas import actions, queries
from sagas.applying import replay
from sagas.applying.apply import run_apply
from sagas.applying.replay import compare
from sagas.definitions import image_processing_v1, registry
from sagas.engine import facts
from sagas.engine.state import SagaCounts, saga_from
from sagas.errors import Invalid, Refused
from sagas.models import Decision, Lane, SagaLog, SagaStep
from sagas.queries import parts
from tests.integration.api import Api, viewer
from tests.integration.commands import FakePublisher
from tests.integration.deciding import ActionRequest, cancel, close_retrieval, decide_command
from tests.integration.story import START, event, image_through, new_ids
from tests.integration.terminal import decide, run

pytestmark = pytest.mark.django_db(transaction=True)

DELETE = "DeleteRetrievedImage"


def happens(*found: Any) -> None:
    """The facts arrive, one after another."""
    for fact in found:
        event_log.append([fact])
        run_apply()


def saga(task: str) -> SagaLog:
    row = SagaLog.objects.get(key=task)
    assert compare(row.id) == [], "stored as its log folds"
    return row


def started(task: str, seconds: int) -> Any:
    return event("RetrievalStarted", task, seconds=seconds)


def failed(task: str, seconds: int) -> Any:
    return event("RetrievalFailed", task, seconds=seconds, error_message="no network")


def retrieved(task: str, image: str, seconds: int) -> Any:
    return event("ImagesRetrieved", task, seconds=seconds, image_ids=[image])


def command(task: str) -> Command:
    return Command.objects.get(key=task)


def test_images_of_a_task_that_is_started_again_are_not_deleted() -> None:
    task, first, second = new_ids(3)
    happens(
        started(task, 0), retrieved(task, first, 2), failed(task, 5), started(task, 10), retrieved(task, second, 11)
    )
    assert set(Command.objects.filter(key=task).values_list("entity", flat=True)) == {first}
    row = saga(task)
    assert row.version == 2
    assert len(saga_from(row.state, SagaCounts()).runs) == 2
    assert row.status == "COMPENSATING"
    happens(event("ImageDeletionCompleted", task, first, seconds=20))
    assert saga(task).status == "STARTED"
    happens(*image_through(task, second, 30), event("RetrievalCompleted", task, seconds=50, result={"total_images": 1}))
    row = saga(task)
    assert (row.status, row.lanes_known, row.lanes_processed, row.lanes_undone) == ("COMPLETED", 2, 1, 1)
    assert row.error_message is None


def test_a_deletion_that_was_never_claimed_is_required_again_under_the_same_id_and_round() -> None:
    task, image = new_ids(2)
    happens(started(task, 0), failed(task, 5), retrieved(task, image, 12))
    before = command(task)
    assert before.status == CommandStatus.PLANNED
    happens(started(task, 10))
    ended = command(task)
    assert (ended.status, ended.next_at, ended.id) == (CommandStatus.NOT_REQUIRED, None, before.id)
    assert not delivery.claim(clock.now(), "test")
    assert saga(task).status == "STARTED"
    happens(event("AnonymizationFailed", task, image, seconds=30, error_message="broken"))
    again = command(task)
    assert (again.status, again.round, again.attempt, again.id) == (CommandStatus.PLANNED, 1, 0, before.id)
    assert [claim.id for claim in delivery.claim(clock.now(), "test")] == [str(before.id)]
    assert saga(task).status == "COMPENSATING"


def test_a_command_that_was_sent_before_the_restart_was_known_may_still_be_carried_out() -> None:
    task, image = new_ids(2)
    happens(started(task, 0), failed(task, 5), retrieved(task, image, 12))
    assert not delivery.publish_due(FakePublisher(), "test")
    assert command(task).status == CommandStatus.PUBLISHED
    happens(started(task, 10))
    assert command(task).status == CommandStatus.NOT_REQUIRED
    assert not Attempt.objects.filter(ended_at=None).exists()
    happens(event("ImageDeletionCompleted", task, image, seconds=20))
    done = command(task)
    assert (done.status, done.confirmed_unsent_at) == (CommandStatus.CONFIRMED, None)
    assert done.overtaken_at is not None
    row = saga(task)
    assert Lane.objects.get(saga=row).outcome == "undone"
    assert "before the restart" in (row.error_message or "")


def test_a_deletion_that_was_never_sent_and_is_confirmed_after_the_restart_is_marked_as_such() -> None:
    task, image = new_ids(2)
    happens(started(task, 0), failed(task, 5), retrieved(task, image, 12), started(task, 10))
    happens(event("ImageDeletionCompleted", task, image, seconds=20))
    done = command(task)
    assert (done.status, done.overtaken_at) == (CommandStatus.CONFIRMED, None)
    assert done.confirmed_unsent_at is not None


def test_a_step_that_existed_only_because_of_its_command_is_gone_with_it() -> None:
    task, image = new_ids(2)
    happens(started(task, 0), failed(task, 5), event("ImageReadyForAnonymization", task, image, seconds=12))
    uploads = SagaStep.objects.filter(entity=image, step_type="DATA_RETRIEVAL_UPLOAD")
    assert [step.status for step in uploads] == ["COMPENSATING"]
    happens(started(task, 10))
    assert not uploads.all()
    assert saga(task).steps_count == SagaStep.objects.filter(saga__key=task).count()


def test_an_exhausted_command_that_is_required_again_begins_a_new_round() -> None:
    task, image = new_ids(2)
    happens(started(task, 0), failed(task, 5), retrieved(task, image, 12))
    Command.objects.filter(key=task).update(
        status=CommandStatus.EXHAUSTED, attempt=1, next_at=None, settled_at=clock.now(), exhausted_by="attempts"
    )
    fact = event(facts.COMMAND_EXHAUSTED, task, image, seconds=13, name=DELETE, round=1)
    happens(fact._replace(source="compensation"))
    assert saga(task).status == "COMPENSATION_FAILED"
    happens(started(task, 10))
    assert command(task).status == CommandStatus.NOT_REQUIRED
    assert saga(task).status == "STARTED"
    happens(event("AnonymizationFailed", task, image, seconds=30, error_message="broken"))
    again = command(task)
    assert (again.status, again.round, again.attempt, again.exhausted_by) == (CommandStatus.WAITING, 2, 0, "")
    assert saga(task).status == "COMPENSATING"
    assert compare(saga(task).id) == []
    [told] = Event.objects.filter(type=facts.COMMAND_REQUIRED_AGAIN)
    assert (told.event_id, told.payload["round"]) == (f"{again.id}:required:2", 2)


def test_a_repair_ends_what_is_not_required() -> None:
    task, image = new_ids(2)
    happens(started(task, 0), failed(task, 5), retrieved(task, image, 12), started(task, 10))
    Command.objects.filter(key=task).update(status=CommandStatus.PLANNED, next_at=clock.now())
    row = SagaLog.objects.get(key=task)
    [difference] = compare(row.id)
    assert (difference.stored, difference.folded) == ("planned", None)
    replay.repair(row.id)
    assert command(task).status == CommandStatus.NOT_REQUIRED
    assert compare(row.id) == []


# --- decisions --------------------------------------------------------------------------------------------------------


def request(**more: Any) -> ActionRequest:
    return ActionRequest(actor="ana", door="api", reason="because", **more)


def test_a_decision_is_about_the_latest_run_and_can_be_made_again_in_the_next() -> None:
    task, first, second = new_ids(3)
    happens(started(task, 0), retrieved(task, first, 2))
    row = saga(task)
    assert not cancel(row.id, request=request()).repeated
    assert set(Command.objects.filter(key=task).values_list("entity", flat=True)) == {first}
    later = (clock.now() - START).total_seconds() + 3600
    happens(started(task, int(later)), retrieved(task, second, int(later) + 1))
    assert Lane.objects.get(saga=row, entity=second).outcome == "open"
    decided = cancel(row.id, request=request())
    assert not decided.repeated, "what was cancelled was the first run"
    assert Lane.objects.get(saga=saga(task), entity=second).outcome == "undoing", "though the service's clock is ahead"


def test_a_person_closes_the_retrieval() -> None:
    task, image = new_ids(2)
    happens(started(task, 0), retrieved(task, image, 2), *image_through(task, image, 10))
    row = saga(task)
    assert row.status == "STARTED"
    preview = close_retrieval(row.id, 1, request=request(dry_run=True))
    assert preview.effects["status_after"] == "COMPLETED"
    close_retrieval(row.id, 2, request=request())
    assert saga(task).status == "STARTED", "one image has not appeared"
    close_retrieval(row.id, 1, request=request())
    assert saga(task).status == "COMPLETED"
    with pytest.raises(Refused, match="its retrieval is over"):
        close_retrieval(row.id, 1, request=request())


def test_a_person_closes_the_retrieval_of_many_each_with_its_own_number() -> None:
    many = [new_ids(3) for _ in range(3)]
    for task, one, two in many:
        happens(started(task, 0), retrieved(task, one, 2), *image_through(task, one, 10))
        happens(retrieved(task, two, 3), *image_through(task, two, 10))
    [none] = new_ids(1)
    happens(started(none, 0))
    [over, image] = new_ids(2)
    happens(started(over, 0), retrieved(over, image, 2), event("RetrievalFailed", over, seconds=3))
    tasks = [task for task, _, _ in many]
    ids = [saga(task).id for task in (*tasks, none, over)] + [uuid.uuid4()]

    outcome = actions.get("close_retrieval").decide({"ids": ids}, request())

    assert [saga(task).status for task in tasks] == ["COMPLETED"] * 3
    assert all(Event.objects.get(key=task, type=facts.INTAKE_CLOSED).payload["lanes"] == 2 for task in tasks)
    left_out = {line["task_id"]: line["code"] for line in outcome.effects["not_eligible"]}
    assert left_out[none] == "refused"
    assert left_out[""] == "not_found"
    assert saga(none).status == "STARTED", "nobody knows how many images it has"
    assert outcome.effects["eligible"] == len(ids) - len(left_out)
    assert Decision.objects.filter(action="close_retrieval").count() == 1 + outcome.effects["eligible"]


def test_of_a_restarted_task_only_the_images_of_the_latest_run_count_as_known() -> None:
    task, one, two = new_ids(3)
    happens(started(task, 0), retrieved(task, one, 2), failed(task, 5), started(task, 10), retrieved(task, two, 11))
    actions.get("close_retrieval").decide({"ids": [saga(task).id]}, request())
    assert Event.objects.get(key=task, type=facts.INTAKE_CLOSED).payload["lanes"] == 1


def test_a_number_given_for_many_counts_for_each_and_a_repeat_is_answered_as_the_first() -> None:
    tasks = new_ids(2)
    for task in tasks:
        happens(started(task, 0))
    ids = [saga(task).id for task in tasks]
    spec, once = actions.get("close_retrieval"), request(idempotency_key="k")
    spec.decide({"ids": ids, "images": 0}, once)
    assert [saga(task).status for task in tasks] == ["COMPLETED"] * 2
    assert spec.decide({"ids": ids, "images": 0}, once).repeated


@pytest.mark.parametrize("given", [{"images": -1}, {"ids": []}, {"ids": ["x"]}])
def test_a_selection_or_number_that_cannot_be_is_refused_for_all(given: dict[str, Any]) -> None:
    [task] = new_ids(1)
    happens(started(task, 0))
    with pytest.raises(Invalid):
        actions.get("close_retrieval").decide({"ids": [saga(task).id], "images": 1, **given}, request())
    assert not Decision.objects.exists()


def test_the_retrieval_can_be_closed_while_a_failed_command_waits_for_a_decision(settings: Any) -> None:
    settings.SAGA_RETRY = {**settings.SAGA_RETRY, "maximum_attempts": 1}
    task, first, second = new_ids(3)
    happens(started(task, 0), retrieved(task, first, 2), retrieved(task, second, 3), *image_through(task, second, 10))
    happens(event("AnonymizationFailed", task, first, seconds=20, error_message="broken"))
    delivery.publish_due(FakePublisher(), "test")
    happens(event("ImageDeletionFailed", task, first, seconds=30, error_message="locked"))
    assert saga(task).status == "COMPENSATION_FAILED"
    close_retrieval(saga(task).id, 2, request=request())
    assert saga(task).status == "COMPENSATION_FAILED"
    decide_command("skip", command(task).id, request=request())
    assert saga(task).status == "COMPLETED"


@pytest.mark.parametrize("images", [-1, None, 10**7, "2"])
def test_a_number_of_images_that_cannot_be_is_refused(images: Any) -> None:
    task, image = new_ids(2)
    happens(started(task, 0), retrieved(task, image, 2))
    with pytest.raises(Invalid):
        close_retrieval(saga(task).id, images, request=request())


def test_the_number_of_the_service_cannot_be_corrected_by_a_person() -> None:
    task, image = new_ids(2)
    happens(started(task, 0), retrieved(task, image, 2))
    happens(event("RetrievalCompleted", task, seconds=3, result={"total_images": 2}))
    with pytest.raises(Refused, match="its number counts"):
        close_retrieval(saga(task).id, 1, request=request())


def test_what_people_see_of_a_restart() -> None:
    task, image = new_ids(2)
    happens(started(task, 0), failed(task, 5), retrieved(task, image, 12))
    assert not delivery.publish_due(FakePublisher(), "test")
    happens(started(task, 10), event("ImageDeletionCompleted", task, image, seconds=20))
    row = saga(task)
    assert queries.metadata(row)["runs"] == 2
    [item] = [item for item in queries.attention().items if item.kind == "overtaken"]
    assert "was carried out although its task was started again" in item.sentence
    told = [entry.title for entry in queries.timeline(row.id).items]
    assert (
        f"{DELETE} was carried out although the task was started again: it had been sent, or marked as done, before"
        in told
    )
    changed = [change for entry in queries.timeline(row.id).items for change in entry.changes]
    assert "Run 2 of the task began" in changed


def test_every_door_names_the_runs_of_images_and_commands() -> None:
    """The page, the command and the API: which run is the latest, and the run of each image and command."""
    task, first, second = new_ids(3)
    happens(started(task, 0), retrieved(task, first, 2))
    row = saga(task)
    assert queries.run_text(row) == ""
    assert " of 1 since" not in run("show_saga", task).out
    happens(failed(task, 5), started(task, 10), retrieved(task, second, 12))
    happens(event("AnonymizationFailed", task, second, seconds=15, error_message="no model"))
    row = saga(task)
    since = "Run 2 of 2 since 2026-03-01 12:00:10 UTC"
    told = run("show_saga", task)
    assert since in told.out
    of_image = {item["entity"]: item["run"] for item in run("show_saga", task, "--json").data["lanes"]["items"]}
    assert of_image == {first: 1, second: 2}
    listed = Api(viewer()).get(f"sagas/{row.id}/lanes").json()["items"]
    assert {item["entity"]: item["run"] for item in listed} == {first: 1, second: 2}
    client = Client()
    client.force_login(User.objects.create_superuser("ana", "ana@example.org", "x"))
    page = client.get(reverse("admin:sagas_sagalog_change", args=[row.id])).content.decode()
    assert since in page
    assert "Number of the run" in page
    assert "run 2" in page
    stories = parts.command_page(parts.commands(row.id), 0, 50, saga=row).items
    assert {story.command.entity: story.run for story in stories}[second] == 2


def test_a_failed_command_of_an_earlier_run_says_so() -> None:
    task, image = new_ids(2)
    happens(started(task, 0), retrieved(task, image, 2))
    happens(event("AnonymizationFailed", task, image, seconds=5, error_message="no model"))
    Command.objects.filter(key=task).update(
        status=CommandStatus.EXHAUSTED, attempt=1, next_at=None, settled_at=clock.now(), exhausted_by="attempts"
    )
    fact = event(facts.COMMAND_EXHAUSTED, task, image, seconds=6, name=DELETE, round=1)
    happens(fact._replace(source="compensation"))

    def sentence() -> str:
        found = queries.waiting(saga(task))
        assert found is not None
        assert found.kind == "decision"
        return found.sentence

    assert " run " not in sentence()
    happens(failed(task, 8), started(task, 10))
    assert sentence().endswith("The command belongs to the earlier run 1 of 2.")
    with translation.override("es"):
        assert sentence().endswith("El comando pertenece a la ejecución anterior 1 de 2.")


def test_nobody_is_advised_to_cancel_what_did_not_fail() -> None:
    task, image = new_ids(2)
    happens(started(task, 0), retrieved(task, image, 2), *image_through(task, image, 10))
    SagaLog.objects.update(updated_at=START, last_event_at=START, start_time=START)
    [item] = [item for item in queries.attention().items if item.kind == "stalled"]
    assert "close the retrieval" in item.advice
    assert "cancel" not in item.advice


# --- sagas of the version before --------------------------------------------------------------------------------------


def test_a_saga_of_the_old_version_gets_runs_when_its_task_is_started_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task, first, second = new_ids(3)
    with monkeypatch.context() as before:
        before.setattr(registry, "DEFINITIONS", (image_processing_v1.DEFINITION,))
        happens(started(task, 0), retrieved(task, first, 2), failed(task, 5))
        stored = saga(task)
        assert (stored.version, "last_start" in stored.state) == (1, False)
    happens(event("AnonymizationRequested", task, first, seconds=6))
    assert saga(task).version == 1
    happens(started(task, 10), retrieved(task, second, 11))
    assert saga(task).version == 3
    assert {lane.entity: lane.outcome for lane in Lane.objects.filter(saga=stored)} == {
        first: "undoing",
        second: "open",
    }
    assert set(Command.objects.filter(key=task).values_list("entity", flat=True)) == {first}


def processed_by(task: str, image: str, status: str, seconds: int = 20) -> list[Any]:
    """An image goes all the way, and Processing says this of it."""
    *before, _completed = image_through(task, image, seconds - 10)
    return [*before, event("ProcessingCompleted", task, image, seconds=seconds, status=status)]


@pytest.fixture
def finished(monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """A task and its image, which version 1 finished although Processing had reported an error."""
    task, image = new_ids(2)
    with monkeypatch.context() as before:
        before.setattr(registry, "DEFINITIONS", (image_processing_v1.DEFINITION,))
        happens(started(task, 0), retrieved(task, image, 2), *processed_by(task, image, "ERROR"))
        happens(event("RetrievalCompleted", task, seconds=30, result={"total_images": 1}))
        assert saga(task).status == "COMPLETED"
    return task, image


def undoes_nothing(task: str, version: int) -> None:
    row = saga(task)
    assert (row.version, row.status) == (version, "COMPLETED")
    assert not Command.objects.filter(key=task).exists()
    assert set(Lane.objects.filter(saga=row).values_list("outcome", flat=True)) == {"processed"}


def test_no_path_reads_what_version_1_finished_by_version_2(finished: tuple[str, str]) -> None:
    task, image = finished
    [late] = new_ids(1)
    happens(event("ProcessingCompleted", task, image, seconds=25, status="FAILED"), retrieved(task, late, 3))
    happens(*processed_by(task, late, "error"))
    undoes_nothing(task, 1)
    assert run("verify_sagas").code == 0
    assert decide("replay_saga", task, "--apply").code in (0, 4), "nothing differs"
    replay.repair(saga(task).id)
    undoes_nothing(task, 1)


def test_what_version_1_finished_stays_when_its_task_is_started_again(finished: tuple[str, str]) -> None:
    task, _image = finished
    [second] = new_ids(1)
    happens(started(task, 100), retrieved(task, second, 101), *processed_by(task, second, "COMPLETED", 120))
    happens(event("RetrievalCompleted", task, seconds=130, result={"total_images": 1}))
    undoes_nothing(task, 3)
    assert len(saga_from(saga(task).state, SagaCounts()).runs) == 2
    replay.repair(saga(task).id)
    undoes_nothing(task, 3)
    happens(failed(task, 140), started(task, 5))
    assert set(Command.objects.filter(key=task).values_list("entity", flat=True)) == {second}
