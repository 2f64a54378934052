"""Step rows: their ladder, which event is shown, rows that only a command makes, and what a note tells of a fact."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

import pytest

from sagas.definitions import registry
from sagas.engine import facts
from sagas.engine.evolve import listed
from sagas.engine.facts import Fact
from sagas.engine.fold import Fold
from sagas.engine.state import SagaState, StepFacts
from sagas.engine.step_view import step_view
from tests.stories import DELETE, ECHO, ROLLBACK, TASK, A, B, C, Story

CREATE = ("DATA_RETRIEVAL_CREATE", "DATA_RETRIEVAL")
RETRIEVE = ("DATA_RETRIEVAL_START", "DATA_RETRIEVAL")
UPLOAD = ("DATA_RETRIEVAL_UPLOAD", "DATA_RETRIEVAL")
HAND_OVER = ("ANONYMIZATION_REQUEST", "DATA_RETRIEVAL")
ASK_ANONYMIZATION = ("ANONYMIZATION_REQUEST", "ANONYMIZATION")
ANONYMIZE = ("ANONYMIZATION_COMPLETE", "ANONYMIZATION")
ASK_PROCESSING = ("PROCESSING_REQUEST", "ANONYMIZATION")
START_PROCESSING = ("PROCESSING_REQUEST", "PROCESSING")
PROCESS = ("PROCESSING_COMPLETE", "PROCESSING")


def shown(story: Story, entity: str, key: tuple[str, str]) -> StepFacts:
    return story.folded().lanes[entity].steps[key]


# --- the table ------------------------------------------------------------------------------------------------------


def test_a_whole_image_as_the_table_has_it() -> None:
    story = Story().retrieved(A).processed(A).announced(1)
    assert story.steps(A) == dict.fromkeys(
        [UPLOAD, HAND_OVER, ASK_ANONYMIZATION, ANONYMIZE, ASK_PROCESSING, START_PROCESSING, PROCESS], "COMPLETED"
    )
    assert story.steps(TASK) == {CREATE: "COMPLETED", RETRIEVE: "COMPLETED"}


@pytest.mark.parametrize(
    ("type_", "key", "status"),
    [
        ("ImageReadyForAnonymization", HAND_OVER, "COMPLETED"),
        ("AnonymizationRequested", ASK_ANONYMIZATION, "STARTED"),
        ("AnonymizationCompleted", ANONYMIZE, "COMPLETED"),
        ("AnonymizationRolledBack", ANONYMIZE, "COMPENSATED"),
        ("ImageReadyForProcessing", ASK_PROCESSING, "STARTED"),
        ("ProcessingStarted", START_PROCESSING, "STARTED"),
        ("ProcessingCompleted", PROCESS, "COMPLETED"),
        ("ImageDeletionCompleted", UPLOAD, "COMPENSATED"),
    ],
)
def test_an_event_of_an_image_moves_its_step(type_: str, key: tuple[str, str], status: str) -> None:
    assert Story().happens(type_, A).steps(A)[key] == status


@pytest.mark.parametrize(("type_", "key"), [("AnonymizationFailed", ANONYMIZE), ("ProcessingFailed", PROCESS)])
def test_a_failure_of_an_image_fails_its_step(type_: str, key: tuple[str, str]) -> None:
    story = Story().happens(type_, A, error_message="  broken ")
    assert shown(story, A, key)[0] == 3
    assert shown(story, A, key).error == "broken"


@pytest.mark.parametrize(
    ("type_", "key", "status"),
    [
        ("ProcessingStarted", START_PROCESSING, "STARTED"),
        ("ProcessingCompleted", PROCESS, "COMPLETED"),
        ("ProcessingFailed", PROCESS, "FAILED"),
    ],
)
def test_a_processing_event_without_an_image_moves_the_tasks_step(
    type_: str, key: tuple[str, str], status: str
) -> None:
    assert Story().happens(type_).steps(TASK) == {key: status}


def test_an_event_that_should_name_an_image_and_does_not_moves_nothing() -> None:
    assert Story().happens("AnonymizationCompleted").folded().lanes == {}


def test_a_refusal_moves_no_step() -> None:
    assert Story().happens("ImageDeletionFailed", A).steps(A) == {}


def test_a_failed_upload_has_a_row_of_its_own() -> None:
    story = Story().happens("RetrievalStarted").happens("ImageUploadFailed", filename="x.dcm", error_message="too big")
    event = story.facts[-1].id
    assert story.steps(event) == {UPLOAD: "FAILED"}
    assert story.lanes == {}, "no image came to be"
    assert story.required(event) == {}
    story.decided(facts.SAGA_CANCELLED)
    assert story.steps(event) == {UPLOAD: "FAILED"}, "and nothing is to be undone"
    assert story.folded().saga.counts.failed_steps == 1


# --- steps that only report a start ---------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", ["RetrievalCompleted", "RetrievalFailed"])
def test_creation_is_completed_when_the_retrieval_has_an_outcome(outcome: str) -> None:
    story = Story().happens("RetrievalStarted")
    assert story.steps() == {CREATE: "STARTED"}
    assert story.happens(outcome).steps()[CREATE] == "COMPLETED"


def test_an_echo_is_no_outcome() -> None:
    story = Story().happens("RetrievalStarted").happens("RetrievalFailed", error_message=ECHO)
    assert story.steps() == {CREATE: "STARTED"}


@pytest.mark.parametrize("outcome", ["AnonymizationCompleted", "AnonymizationFailed"])
def test_a_request_is_completed_at_the_outcome(outcome: str) -> None:
    story = Story().happens("AnonymizationRequested", A).happens("AnonymizationCompleted", B)
    assert story.steps(A)[ASK_ANONYMIZATION] == "STARTED", "the outcome of another image is none"
    assert story.happens(outcome, A).steps(A)[ASK_ANONYMIZATION] == "COMPLETED"


@pytest.mark.parametrize("outcome", ["ProcessingCompleted", "ProcessingFailed"])
@pytest.mark.parametrize("entity", [A, ""])
def test_processing_requests_are_completed_by_image_and_by_task(outcome: str, entity: str) -> None:
    story = Story().retrieved(A).anonymized(A)
    story.happens("ImageReadyForProcessing", A).happens("ProcessingStarted", A)
    story.happens(outcome, entity)
    assert story.steps(A)[ASK_PROCESSING] == "COMPLETED"
    assert story.steps(A)[START_PROCESSING] == "COMPLETED"


def test_a_task_level_start_is_completed_by_the_task_level_outcome() -> None:
    story = Story().happens("ProcessingStarted").happens("ProcessingCompleted")
    assert story.steps(TASK) == {START_PROCESSING: "COMPLETED", PROCESS: "COMPLETED"}


@pytest.mark.parametrize("outcome", ["ProcessingCompleted", "ProcessingFailed"])
def test_lanes_whose_steps_show_otherwise_are_changed_though_they_count_as_before(outcome: str) -> None:
    story = Story().retrieved(A).happens("ProcessingStarted", A).decided(facts.SAGA_CANCELLED)
    fold = story.folded()
    fold.changed.clear()
    fold.apply(Story().happens(outcome).facts[0]._replace(id="later"))
    assert A in fold.changed


# --- the ladder -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", list(itertools.permutations(["Completed", "Failed", "RolledBack"])))
def test_started_completed_failed_compensated_whatever_the_order(order: tuple[str, ...]) -> None:
    story = Story()
    for name in order:
        story.happens(f"Anonymization{name}", A)
    assert shown(story, A, ANONYMIZE).rank == 4


def test_a_late_completion_does_not_lift_a_failure() -> None:
    story = Story().failed(A)
    before = shown(story, A, ANONYMIZE)
    assert shown(story.happens("AnonymizationCompleted", A), A, ANONYMIZE) == before


def test_the_greatest_time_and_id_is_shown() -> None:
    story = Story().happens("AnonymizationCompleted", A, at=5).happens("AnonymizationCompleted", A, at=3)
    assert shown(story, A, ANONYMIZE).event_id == "e0000"
    story.happens("AnonymizationCompleted", A, at=5)
    assert shown(story, A, ANONYMIZE).event_id == "e0002"


def test_texts_are_cut_and_a_failure_without_text_has_its_type() -> None:
    assert shown(Story().failed(A, "x" * 5000), A, ANONYMIZE).error == "x" * 1000
    assert Story().failed(A, " ").error == "AnonymizationFailed"


# --- the command wins -----------------------------------------------------------------------------------------------


def test_the_command_that_undoes_a_step_is_what_it_shows() -> None:
    story = Story().retrieved(A).anonymized(A).failed(A)
    assert story.steps(A)[UPLOAD] == "COMPENSATING"
    assert story.steps(A)[ANONYMIZE] == "COMPENSATING"
    story.exhausted(A, ROLLBACK)
    assert story.steps(A)[ANONYMIZE] == "COMPENSATION_FAILED"
    assert story.folded().saga.counts.failed_steps == 1
    story.decided_on(facts.COMMANDS_RETRIED, (A, ROLLBACK), number=2)
    assert story.steps(A)[ANONYMIZE] == "COMPENSATING"
    story.happens("AnonymizationRolledBack", A)
    assert story.steps(A)[ANONYMIZE] == "COMPENSATED"
    story.decided_on(facts.COMMANDS_MARKED_DONE, (A, DELETE))
    assert story.steps(A)[UPLOAD] == "COMPENSATED"


def test_a_failed_step_that_requires_nothing_stays_failed() -> None:
    story = Story().retrieved(A).failed(A)
    assert story.steps(A)[ANONYMIZE] == "FAILED"
    assert story.folded().saga.counts.failed_steps == 1


@pytest.mark.parametrize(
    ("decision", "word"), [(facts.COMMANDS_SKIPPED, "skipped"), (facts.COMMANDS_WITHDRAWN, "withdrawn")]
)
def test_skipped_and_withdrawn_leave_what_the_facts_say(decision: str, word: str) -> None:
    story = Story().retrieved(A).failed(A).decided_on(decision, (A, DELETE))
    assert story.steps(A)[UPLOAD] == "COMPLETED"
    fold = story.folded()
    assert step_view(fold.view(A), UPLOAD).metadata == {"compensation": word}


def test_a_command_makes_its_row_if_no_fact_has() -> None:
    story = Story().happens("ImageReadyForProcessing", A).decided(facts.COMPENSATION_FORCED, A)
    assert story.steps(A) == {ASK_PROCESSING: "STARTED", ANONYMIZE: "COMPENSATING", UPLOAD: "COMPENSATING"}
    assert story.folded().saga.counts.steps == 3
    story.decided_on(facts.COMMANDS_SKIPPED, (A, DELETE))
    assert story.steps(A)[UPLOAD] == "COMPLETED", "that it was owed proves that there was something to undo"
    fold = story.folded()
    view = step_view(fold.view(A), ANONYMIZE)
    assert (view.rank, view.event_id, view.occurred_at) == (0, "", story.facts[0].occurred_at)


def test_when_a_step_was_compensated_and_by_whom() -> None:
    story = Story().retrieved(A).failed(A).decided_on(facts.COMMANDS_MARKED_DONE, (A, DELETE))
    fold = story.folded()
    view = step_view(fold.view(A), UPLOAD)
    assert (view.status, view.metadata) == ("COMPENSATED", {"compensation": "by_hand"})
    assert view.compensated_at == story.facts[-1].occurred_at
    story.happens("ImageDeletionCompleted", A)
    fold = story.folded()
    view = step_view(fold.view(A), UPLOAD)
    assert view.metadata is None
    assert view.compensated_at == story.facts[-1].occurred_at


# --- notes ----------------------------------------------------------------------------------------------------------


def notes(story: Story) -> list[dict[str, object]]:
    fold = Fold(story.identity, SagaState(), {})
    return [fold.apply(fact) for fact in story.facts]


def test_a_note_shows_what_a_fact_changed() -> None:
    story = Story().retrieved(A).announced(1).failed(A).happens("ImageDeletionCompleted", A)
    assert notes(story) == [
        {"steps": [[*CREATE, 1]]},
        {"opened": 1, "steps": [[*UPLOAD, 2]]},
        {"steps": [[*RETRIEVE, 2]]},
        {"status": ["STARTED", "COMPENSATING"], "failed": "lane", "owed": 1, "steps": [[*ANONYMIZE, 3]]},
        {"status": ["COMPENSATING", "COMPENSATION_SUCCEEDED"], "confirmed": 1, "steps": [[*UPLOAD, 4]]},
    ]


def test_a_note_stays_small_where_a_fact_concerns_many_lanes() -> None:
    story = Story().retrieved(A, B, C, "d", "e").decided(facts.SAGA_CANCELLED)
    story.decided_on(facts.COMMANDS_SKIPPED, (A, DELETE), (B, DELETE)).exhausted(C, DELETE)
    opened, cancelled, skipped, exhausted = notes(story)[1:]
    assert opened == {"opened": 5, "steps": [[*UPLOAD, 2]] * 3, "steps_count": 5}
    assert cancelled == {"status": ["STARTED", "COMPENSATING"], "failed": "saga", "owed": 5}
    assert skipped == {"given_up": 2}
    assert exhausted == {"status": ["COMPENSATING", "COMPENSATION_FAILED"], "exhausted": 1}


@pytest.mark.parametrize("spelled", ["{}", "{{{}}}", "urn:uuid:{}"])
@pytest.mark.parametrize("dashes", ["-", ""])
def test_listed_images_are_compared_in_canonical_form(spelled: str, dashes: str) -> None:
    """In every spelling that the bridge takes for the same id in a field."""
    event = registry.current("image_processing").event_of["ImagesRetrieved"]
    image = "6F1D5C0E-5B1B-5A57-9F0E-3D7F0C6F2A11"
    listing = [spelled.format(image.replace("-", dashes)), "order-A"]
    fact = Fact("m1", "ImagesRetrieved", datetime(2026, 1, 1, tzinfo=UTC), content={"image_ids": listing})
    assert listed(event, fact) == [image.lower(), "order-A"]
