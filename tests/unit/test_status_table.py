"""The status table of the design, line by line, and every sentence of the notes around it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sagas.engine import facts
from sagas.engine.decide import LANE_SCOPE, SAGA_SCOPE, shape_problem
from sagas.engine.definition import Fails, Meaning, StepStatus, SuccessField
from sagas.engine.evolve import meaning_of
from sagas.engine.problems import problems_of
from sagas.engine.status import end_time
from tests import order_saga
from tests.stories import DELETE, ECHO, REVERSED, ROLLBACK, TASK, A, B, C, Story

FAILED_LANE = {DELETE: "on_the_way"}
SCOPES = pytest.mark.parametrize("scope", [LANE_SCOPE, SAGA_SCOPE])


# --- COMPENSATION_FAILED: a command is exhausted --------------------------------------------------------------------


@SCOPES
def test_one_exhausted_command_is_shown_before_all_else(scope: str) -> None:
    story = Story(scope).retrieved(A, B).announced(2).failed(A).failed(B).exhausted(A, DELETE)
    assert story.required(B) == FAILED_LANE
    assert story.status == "COMPENSATION_FAILED"


def test_also_where_the_other_lanes_are_processed() -> None:
    story = Story().retrieved(A, B).announced(2).processed(A).failed(B).exhausted(B, DELETE)
    assert story.status == "COMPENSATION_FAILED"


# --- COMPENSATING: a command is on its way --------------------------------------------------------------------------


@SCOPES
def test_a_command_on_its_way(scope: str) -> None:
    assert Story(scope).retrieved(A, B).failed(A).status == "COMPENSATING"


def test_a_late_failure_takes_a_completed_saga_to_compensating() -> None:
    story = Story().retrieved(A).announced(1).processed(A)
    assert story.status == "COMPLETED"
    story.happens("ProcessingFailed", A, error_message="late")
    assert story.status == "COMPENSATING"
    assert story.folded().apply(story.facts[-1]) == {}, "a repeat changes nothing"


# --- COMPENSATION_SUCCEEDED -----------------------------------------------------------------------------------------


@SCOPES
def test_all_lanes_failed_and_every_command_confirmed(scope: str) -> None:
    story = Story(scope).retrieved(A).announced(1).failed(A).happens("ImageDeletionCompleted", A)
    assert story.lanes == {A: "undone"}
    assert story.status == "COMPENSATION_SUCCEEDED"


def test_the_saga_failed_and_every_command_confirmed() -> None:
    story = Story().retrieved(A).happens("RetrievalFailed", error_message="disk")
    assert story.status == "COMPENSATING"
    assert story.happens("ImageDeletionCompleted", A).status == "COMPENSATION_SUCCEEDED"


def test_confirmed_by_hand_is_confirmed() -> None:
    story = Story().retrieved(A).announced(1).anonymized(A).failed(A).happens("ImageDeletionCompleted", A)
    assert story.status == "COMPENSATING"
    story.decided_on(facts.COMMANDS_MARKED_DONE, (A, "RollbackAnonymization"))
    assert story.lanes == {A: "undone"}
    assert story.status == "COMPENSATION_SUCCEEDED"


def test_all_lanes_failed_needs_the_retrieval_to_be_over() -> None:
    story = Story().retrieved(A).failed(A).happens("ImageDeletionCompleted", A)
    assert story.status == "STARTED"
    assert story.announced(1).status == "COMPENSATION_SUCCEEDED"


def test_all_lanes_failed_needs_as_many_lanes_as_announced() -> None:
    story = Story().retrieved(A).announced(2).failed(A).happens("ImageDeletionCompleted", A)
    assert story.status == "STARTED"
    story.happens("ImagesRetrieved", image_ids=[B]).failed(B)
    assert story.status == "COMPENSATING"
    assert story.happens("ImageDeletionCompleted", B).status == "COMPENSATION_SUCCEEDED"


def test_more_lanes_than_announced_are_enough() -> None:
    story = Story().retrieved(A, B).announced(1)
    for each in (A, B):
        story.failed(each).happens("ImageDeletionCompleted", each)
    assert story.status == "COMPENSATION_SUCCEEDED"


def test_the_echo_of_our_deletions_counts_as_the_end_of_the_retrieval() -> None:
    story = Story().retrieved(A).failed(A).happens("RetrievalFailed", error_message=ECHO)
    assert story.status == "COMPENSATING"
    assert story.error == "broken", "an echo is no failure"
    assert ("DATA_RETRIEVAL_START", "DATA_RETRIEVAL") not in story.steps(), "and it moves no step"
    assert story.happens("ImageDeletionCompleted", A).status == "COMPENSATION_SUCCEEDED"


def test_the_echo_counts_in_that_condition_alone() -> None:
    story = Story().retrieved(A).processed(A).happens("RetrievalFailed", error_message=ECHO)
    assert story.status == "STARTED"
    assert Story().happens("RetrievalStarted").happens("RetrievalFailed", error_message=ECHO).status == "STARTED"


def test_a_failed_saga_does_not_wait_for_lanes_that_never_came() -> None:
    story = Story().retrieved(A).announced(3).happens("RetrievalFailed", error_message="disk")
    assert story.happens("ImageDeletionCompleted", A).status == "COMPENSATION_SUCCEEDED"
    story.happens("ImageReadyForAnonymization", B)
    assert story.status == "COMPENSATING", "they are undone when they appear"
    assert story.required(B) == FAILED_LANE


# --- FAILED ---------------------------------------------------------------------------------------------------------


@SCOPES
@pytest.mark.parametrize("type_", ["RetrievalFailed", "ProcessingFailed"])
def test_a_failed_saga_without_a_command(scope: str, type_: str) -> None:
    story = Story(scope).happens("RetrievalStarted").happens(type_, error_message="no source")
    assert story.status == "FAILED"
    assert story.error == "no source"


@pytest.mark.parametrize("decision", [facts.COMMANDS_SKIPPED, facts.COMMANDS_WITHDRAWN])
def test_a_command_given_up(decision: str) -> None:
    story = Story().retrieved(A).announced(1).failed(A).decided_on(decision, (A, DELETE))
    assert story.lanes == {A: "settled"}
    assert story.status == "FAILED"


def test_failed_uploads_and_no_lane() -> None:
    story = Story().happens("RetrievalStarted").happens("ImageUploadFailed", error_message="too big")
    assert story.status == "STARTED", "the retrieval is not over"
    assert story.announced(0).status == "FAILED"
    assert story.error == "too big"


def test_failed_images_of_the_announcement_are_failed_uploads() -> None:
    story = Story().happens("RetrievalStarted")
    story.happens("RetrievalCompleted", result={"total_images": 2, "failed_images": 2})
    assert story.status == "FAILED"
    assert story.error == "2 could not be retrieved"


def test_failed_uploads_where_nothing_was_announced() -> None:
    story = Story().happens("RetrievalStarted").happens("ImageUploadFailed").happens("RetrievalCompleted")
    assert story.status == "FAILED"


def test_failed_uploads_beside_lanes_fail_nothing_in_the_scope_of_lanes() -> None:
    story = Story().retrieved(A).happens("ImageUploadFailed").announced(1).processed(A)
    assert story.status == "COMPLETED"


# --- COMPLETED ------------------------------------------------------------------------------------------------------


@SCOPES
def test_all_lanes_processed(scope: str) -> None:
    story = Story(scope).retrieved(A, B).announced(2).processed(A)
    assert story.status == "STARTED"
    assert story.processed(B).status == "COMPLETED"


def test_not_before_the_retrieval_is_over() -> None:
    story = Story().retrieved(A).processed(A)
    assert story.status == "STARTED"
    assert story.announced(1).status == "COMPLETED"


def test_not_with_fewer_lanes_than_announced() -> None:
    assert Story().retrieved(A).announced(2).processed(A).status == "STARTED"


def test_one_processed_is_enough_where_the_others_are_settled() -> None:
    story = Story().retrieved(A, B, C).announced(3).processed(A).failed(B).happens("ImageDeletionCompleted", B)
    story.failed(C).decided_on(facts.COMMANDS_SKIPPED, (C, DELETE))
    assert story.lanes == {A: "processed", B: "undone", C: "settled"}
    assert story.status == "COMPLETED"
    assert story.folded().saga.counts[:6] == (3, 0, 1, 0, 1, 1)


@SCOPES
def test_no_images_at_all(scope: str) -> None:
    assert Story(scope).happens("RetrievalStarted").announced(0).status == "COMPLETED"
    assert Story(scope).happens("RetrievalStarted").happens("RetrievalCompleted").status == "COMPLETED"


def test_none_announced_but_one_known() -> None:
    story = Story().retrieved(A).announced(0)
    assert story.status == "STARTED"
    assert story.processed(A).status == "COMPLETED"


# --- STARTED --------------------------------------------------------------------------------------------------------


@SCOPES
def test_otherwise(scope: str) -> None:
    assert Story(scope).happens("RetrievalStarted").status == "STARTED"
    assert Story(scope).retrieved(A, B).announced(2).processed(A).anonymized(B).status == "STARTED"


# --- when a lane fails ----------------------------------------------------------------------------------------------


def test_a_failure_is_sticky() -> None:
    story = Story().retrieved(A).announced(1).failed(A).processed(A)
    assert story.lanes == {A: "undoing"}
    assert story.required(A) == {"RollbackAnonymization": "on_the_way", DELETE: "on_the_way"}


def test_a_lane_fails_with_its_saga() -> None:
    story = Story().retrieved(A, B).anonymized(A).happens("ProcessingFailed", error_message="gpu")
    assert story.required(A) == {"RollbackAnonymization": "on_the_way", DELETE: "on_the_way"}
    assert story.required(B) == FAILED_LANE


@pytest.mark.parametrize("decision", [facts.COMPENSATION_FORCED, facts.SAGA_CANCELLED])
def test_a_person_forces_a_lane(decision: str) -> None:
    story = Story().retrieved(A, B).announced(2).processed(A).processed(B).decided(decision, A)
    assert story.lanes == {A: "undoing", B: "processed"}
    assert story.status == "COMPENSATING"
    assert "because" in str(story.error)


@pytest.mark.parametrize("decision", [facts.COMPENSATION_FORCED, facts.SAGA_CANCELLED])
def test_a_person_forces_a_saga(decision: str) -> None:
    story = Story().retrieved(A, B).processed(A).decided(decision)
    assert story.lanes == {A: "undoing", B: "undoing"}
    assert "because" in str(story.error)


def test_undone_by_another_party() -> None:
    story = Story().retrieved(A).announced(1).happens("ImageDeletionCompleted", A)
    assert story.lanes == {A: "undone"}
    assert story.required(A) == {DELETE: "confirmed"}
    assert story.status == "COMPENSATION_SUCCEEDED"
    assert "somebody else" in str(story.error)


def test_rolled_back_by_another_party_still_requires_the_deletion() -> None:
    story = Story().retrieved(A).announced(1).anonymized(A).happens("AnonymizationRolledBack", A)
    assert story.required(A) == {"RollbackAnonymization": "confirmed", DELETE: "on_the_way"}
    assert story.status == "COMPENSATING"


def test_a_deletion_refused_fails_nothing() -> None:
    story = Story().retrieved(A).announced(1).happens("ImageDeletionFailed", A, error_message="busy")
    assert story.lanes == {A: "open"}
    assert story.error is None


def test_a_reversal_confirms_and_is_no_failure() -> None:
    story = Story().retrieved(A).announced(1).anonymized(A).happens("ProcessingFailed", A, error_message="gpu")
    story.happens("AnonymizationFailed", A, error_message=REVERSED).happens("ImageDeletionCompleted", A)
    assert story.required(A) == {"RollbackAnonymization": "confirmed", DELETE: "confirmed"}
    assert story.error == "gpu"
    assert story.status == "COMPENSATION_SUCCEEDED"


@pytest.mark.parametrize("words", ["  " + REVERSED, "Anonimizacio\u0301n revertida"])
def test_a_reversal_is_read_whatever_its_spelling(words: str) -> None:
    story = Story().retrieved(A).anonymized(A).failed(A, words)
    assert story.required(A)["RollbackAnonymization"] == "confirmed"


@pytest.mark.parametrize("words", ["", "la Anonimización revertida", None, 7])
def test_another_text_is_a_failure(words: object) -> None:
    story = Story().retrieved(A).anonymized(A).happens("AnonymizationFailed", A, error_message=words)
    assert story.required(A)["RollbackAnonymization"] == "on_the_way"


# --- what is owed ---------------------------------------------------------------------------------------------------

LATER_FACTS = ["ImageReadyForProcessing", "ProcessingStarted", "ProcessingCompleted", "ProcessingFailed"]


@pytest.mark.parametrize("type_", ["AnonymizationCompleted", *LATER_FACTS])
def test_the_rollback_is_required_after_anonymization(type_: str) -> None:
    story = Story().retrieved(A).failed(A).happens(type_, A)
    assert set(story.required(A)) == {"RollbackAnonymization", DELETE}


@pytest.mark.parametrize(
    "type_", ["ImageReadyForAnonymization", "AnonymizationRequested", "ImageDeletionFailed", "AnonymizationRolledBack"]
)
def test_the_rollback_is_not_required_before(type_: str) -> None:
    assert set(Story().failed(A).happens(type_, A).required(A)) == {DELETE}


@pytest.mark.parametrize(
    "type_", [*LATER_FACTS, "AnonymizationRequested", "ImageDeletionFailed", "ImageReadyForAnonymization"]
)
def test_any_event_that_names_an_image_opens_its_lane(type_: str) -> None:
    assert A in Story().happens(type_, A).lanes


def test_also_one_that_is_about_the_task() -> None:
    story = Story().happens("RetrievalStarted", A)
    assert story.lanes == {A: "open"}
    assert story.steps(A) == {}
    assert story.steps() == {("DATA_RETRIEVAL_CREATE", "DATA_RETRIEVAL"): "STARTED"}


def test_an_attachment_names_the_lane_where_the_event_does_not() -> None:
    story = Story().retrieved(A, B).happens("ProcessingCompleted", lane=A)
    assert story.lanes == {A: "processed", B: "open"}
    assert Story().retrieved(A).happens("ProcessingCompleted", B, lane=A).lanes == {A: "open", B: "processed"}


def test_an_anonymization_under_way_is_rolled_back_when_it_completes() -> None:
    story = Story().retrieved(A).happens("AnonymizationRequested", A).decided(facts.SAGA_CANCELLED)
    assert set(story.required(A)) == {DELETE}
    assert set(story.happens("AnonymizationCompleted", A).required(A)) == {"RollbackAnonymization", DELETE}


def test_the_deletion_waits_for_the_answer_to_the_rollback() -> None:
    story = Story().retrieved(A).anonymized(A).failed(A)
    assert story.released(A) == {"RollbackAnonymization"}
    assert story.exhausted(A, "RollbackAnonymization").released(A) == {"RollbackAnonymization"}
    story.happens("AnonymizationRolledBack", A)
    assert DELETE in story.released(A)


@pytest.mark.parametrize("decision", [facts.COMMANDS_SKIPPED, facts.COMMANDS_WITHDRAWN, facts.COMMANDS_MARKED_DONE])
def test_skipped_and_withdrawn_are_answers(decision: str) -> None:
    story = Story().retrieved(A).anonymized(A).failed(A).decided_on(decision, (A, "RollbackAnonymization"))
    assert DELETE in story.released(A)


def test_without_a_rollback_the_deletion_is_released_at_once() -> None:
    assert Story().retrieved(A).failed(A).released(A) == {DELETE}


# --- what holds of a command ----------------------------------------------------------------------------------------


def test_a_retry_opens_a_new_round() -> None:
    story = Story().retrieved(A).failed(A).exhausted(A, DELETE)
    assert story.required(A) == {DELETE: "exhausted"}
    story.decided_on(facts.COMMANDS_RETRIED, (A, DELETE), number=2)
    assert story.required(A) == FAILED_LANE
    assert story.exhausted(A, DELETE, 2).required(A) == {DELETE: "exhausted"}


def test_a_requirement_that_returns_opens_a_new_round() -> None:
    story = Story().retrieved(A).failed(A).exhausted(A, DELETE).required_again(A, DELETE, 2)
    assert story.required(A) == FAILED_LANE
    assert story.exhausted(A, DELETE, 2).required(A) == {DELETE: "exhausted"}


def test_news_of_an_earlier_round_says_nothing_of_this_one() -> None:
    story = Story().retrieved(A).failed(A).decided_on(facts.COMMANDS_RETRIED, (A, DELETE), number=2)
    assert story.exhausted(A, DELETE, 1).required(A) == FAILED_LANE


@pytest.mark.parametrize(
    ("decision", "held"), [(facts.COMMANDS_SKIPPED, "skipped"), (facts.COMMANDS_WITHDRAWN, "withdrawn")]
)
def test_given_up_beats_exhausted_and_confirmed_beats_both(decision: str, held: str) -> None:
    story = Story().retrieved(A).failed(A).decided_on(decision, (A, DELETE)).exhausted(A, DELETE)
    assert story.required(A) == {DELETE: held}
    assert story.happens("ImageDeletionCompleted", A).required(A) == {DELETE: "confirmed"}


def test_skip_beats_withdrawn() -> None:
    story = Story().retrieved(A).failed(A).decided_on(facts.COMMANDS_WITHDRAWN, (A, DELETE))
    assert story.decided_on(facts.COMMANDS_SKIPPED, (A, DELETE)).required(A) == {DELETE: "skipped"}


def test_a_late_confirmation_ends_what_was_exhausted() -> None:
    story = Story().retrieved(A).announced(1).failed(A).exhausted(A, DELETE)
    assert story.status == "COMPENSATION_FAILED"
    assert story.happens("ImageDeletionCompleted", A).status == "COMPENSATION_SUCCEEDED"


def test_a_late_confirmation_after_a_skip_makes_the_saga_succeed() -> None:
    story = Story().retrieved(A).announced(1).failed(A).decided_on(facts.COMMANDS_SKIPPED, (A, DELETE))
    assert story.status == "FAILED"
    assert story.happens("ImageDeletionCompleted", A).status == "COMPENSATION_SUCCEEDED"


def test_sending_is_not_enough_here() -> None:
    assert Story().retrieved(A).failed(A).published(A, DELETE).required(A) == FAILED_LANE


def test_decisions_may_come_before_the_command_is_required() -> None:
    story = Story().retrieved(A).announced(1).decided_on(facts.COMMANDS_WITHDRAWN, (A, DELETE))
    assert story.lanes == {A: "open"}
    assert story.failed(A).required(A) == {DELETE: "withdrawn"}


# --- terminate ------------------------------------------------------------------------------------------------------


def test_terminate_lets_go_on_only_what_is_claimed() -> None:
    story = Story().retrieved(A, B).anonymized(A).failed(A).terminated((A, "RollbackAnonymization"))
    assert story.required(A) == {"RollbackAnonymization": "on_the_way", DELETE: "withdrawn"}
    assert story.required(B) == {DELETE: "withdrawn"}
    assert story.status == "COMPENSATING"
    story.happens("AnonymizationRolledBack", A)
    assert story.lanes == {A: "settled", B: "settled"}
    assert story.status == "FAILED"
    assert story.error == "Terminated: because"


def test_terminate_also_withdraws_what_is_required_later() -> None:
    story = Story().retrieved(A).terminated().happens("ImagesRetrieved", image_ids=[B])
    assert story.required(B) == {DELETE: "withdrawn"}
    assert story.status == "FAILED"


def test_a_confirmation_after_terminate_is_a_confirmation() -> None:
    story = Story().retrieved(A).terminated().happens("ImageDeletionCompleted", A)
    assert story.required(A) == {DELETE: "confirmed"}
    assert story.status == "COMPENSATION_SUCCEEDED"


def test_what_two_terminations_both_let_go_on() -> None:
    story = Story().retrieved(A, B).terminated((A, DELETE), (B, DELETE)).terminated((B, DELETE))
    assert story.required(A) == {DELETE: "withdrawn"}
    assert story.required(B) == FAILED_LANE


# --- facts that speak for all lanes ---------------------------------------------------------------------------------


def test_a_task_level_completion_processes_the_anonymized_lanes() -> None:
    story = Story().retrieved(A, B).announced(2).anonymized(A).happens("ProcessingCompleted")
    assert story.lanes == {A: "processed", B: "open"}
    assert story.steps()[("PROCESSING_COMPLETE", "PROCESSING")] == "COMPLETED"
    assert ("PROCESSING_COMPLETE", "PROCESSING") not in story.steps(A), "one row, the task's"


def test_also_those_that_come_later() -> None:
    story = Story().retrieved(A).happens("ProcessingCompleted").announced(2).anonymized(A).anonymized(B)
    assert story.lanes == {A: "processed", B: "processed"}
    assert story.status == "COMPLETED"


def test_a_processing_failure_of_an_image_fails_its_lane_alone() -> None:
    story = Story().retrieved(A, B).announced(2).processed(B).happens("ProcessingFailed", A, error_message="gpu")
    assert story.lanes == {A: "undoing", B: "processed"}


# --- failure scope --------------------------------------------------------------------------------------------------


def test_in_the_scope_of_the_saga_a_lane_fails_all() -> None:
    story = Story(SAGA_SCOPE).retrieved(A, B).announced(2).processed(B).failed(A)
    assert story.lanes == {A: "undoing", B: "undoing"}
    assert story.error == "broken"


@pytest.mark.parametrize("result", [None, {"total_images": 2, "failed_images": 1}])
def test_in_the_scope_of_the_saga_a_failed_upload_fails_all(result: dict[str, int] | None) -> None:
    story = Story(SAGA_SCOPE).retrieved(A)
    if result is None:
        story.happens("ImageUploadFailed", error_message="too big")
    else:
        story.happens("RetrievalCompleted", result=result)
    assert story.lanes == {A: "undoing"}
    assert story.status == "COMPENSATING"


@pytest.mark.parametrize(("type_", "decided"), [("ImageDeletionCompleted", False), (facts.COMPENSATION_FORCED, True)])
def test_in_the_scope_of_the_saga_so_does_an_undone_or_forced_lane(type_: str, decided: bool) -> None:
    story = Story(SAGA_SCOPE).retrieved(A, B)
    story = story.decided(type_, A) if decided else story.happens(type_, A)
    assert story.required(B) == FAILED_LANE


def test_in_the_scope_of_lanes_it_does_not() -> None:
    story = Story().retrieved(A, B).announced(2).failed(A)
    assert story.lanes == {A: "undoing", B: "open"}


# --- announced ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "count"),
    [
        ({"successful_images": 2, "total_images": 5, "failed_images": 1}, 2),
        ({"total_images": 5, "failed_images": 1}, 4),
        ({"total_images": 3}, 3),
        ({"total_images": 1, "failed_images": 4}, 0),
        ({"successful_images": True, "total_images": 3}, 3),
    ],
)
def test_how_many_are_announced(result: dict[str, int], count: int) -> None:
    announced = Story().happens("RetrievalCompleted", result=result).folded().saga.latest.announced
    assert announced is not None
    assert announced.lanes == count


@pytest.mark.parametrize("content", [{}, {"result": None}, {"result": []}, {"result": {"total_images": "3"}}])
def test_an_end_without_a_number_announces_nothing(content: dict[str, Any]) -> None:
    saga = Story().happens("RetrievalCompleted", **content).folded().saga
    assert saga.latest.intake_over
    assert saga.latest.announced is None


def test_the_latest_announcement_holds() -> None:
    story = Story().retrieved(A).announced(2).processed(A)
    story.happens("RetrievalCompleted", at=1.5, result={"successful_images": 1})
    assert story.status == "STARTED", "it is the earlier one, whenever it arrives"
    story.happens("RetrievalCompleted", at=99, result={"successful_images": 1})
    assert story.status == "COMPLETED"


# --- words ----------------------------------------------------------------------------------------------------------


def test_the_sagas_own_failure_is_named_before_a_lanes() -> None:
    story = Story().retrieved(A).failed(A, "first").happens("RetrievalFailed", error_message="second")
    assert story.error == "second"


def test_else_the_first_lanes() -> None:
    story = Story().retrieved(A, B).failed(A, "later")
    story.happens("AnonymizationFailed", B, at=0.5, error_message="earlier")
    assert story.error == "earlier"


def test_the_end_is_the_time_of_the_last_fact_while_nothing_is_under_way() -> None:
    story = Story().retrieved(A).announced(1).processed(A)
    assert end_time(story.folded().status, story.folded().saga) == story.facts[-1].occurred_at
    story.failed(A)
    assert end_time(story.folded().status, story.folded().saga) is None


def test_an_adopted_saga_starts_when_its_first_event_did() -> None:
    story = Story().happens("ImageReadyForAnonymization", A)
    story.decided(facts.SAGA_ADOPTED, started_at=story.facts[0].occurred_at.isoformat())
    started = story.folded().saga.started
    assert started is not None
    assert started.occurred_at == story.facts[0].occurred_at
    again = Story().decided(facts.SAGA_ADOPTED).folded().saga.started
    assert again is not None


def test_unknown_types_change_nothing_but_the_time() -> None:
    story = Story().retrieved(A)
    before = story.folded()
    after = story.happens("SomethingElse", A).decided("SomethingNew", A).decided("SomethingNew").folded()
    assert after.lanes == before.lanes
    assert after.saga._replace(last_at=None) == before.saga._replace(last_at=None)


def test_what_a_fact_of_our_own_means_is_not_in_the_definition() -> None:
    story = Story().happens("ImageDeletionFailed", A).happens("SomethingElse").decided("ImageDeletionFailed", A)
    refused, unknown, ours = (meaning_of(story.identity.definition, fact) for fact in story.facts)
    assert refused.refuses == DELETE
    assert unknown == ours == Meaning()


def test_what_the_service_would_refuse_for_its_shape_is_reported() -> None:
    delete = Story().identity.definition.compensation_of[DELETE]
    assert shape_problem(delete, A, TASK) == ""
    assert shape_problem(delete, A.upper(), TASK) == ""
    assert "image_id" in shape_problem(delete, "IMG-7", TASK)
    assert "task_id" in shape_problem(delete, A, "order-123")


# --- a field says whether the work succeeded -------------------------------------------------------------------------


@pytest.mark.parametrize("said", ["COMPLETED", "completed", " Completed\n"])
def test_a_status_of_success_processes_the_lane(said: str) -> None:
    story = Story().retrieved(A).announced(1).anonymized(A).happens("ProcessingCompleted", A, status=said)
    assert (story.lanes, story.status) == ({A: "processed"}, "COMPLETED")


@pytest.mark.parametrize("said", ["FAILED", "failed ", "Error", "FAILURE"])
def test_a_status_of_failure_fails_the_lane_that_it_names(said: str) -> None:
    story = Story().retrieved(A, B).announced(2).processed(B)
    story.happens("ProcessingCompleted", A, status=said, message="no model")
    assert story.lanes == {A: "undoing", B: "processed"}
    assert set(story.required(A)) == {DELETE, ROLLBACK}, "the image had been anonymized, or it could not be processed"
    assert (story.status, story.error) == ("COMPENSATING", "no model")
    assert story.steps(A)["PROCESSING_COMPLETE", "PROCESSING"] == "FAILED"


@pytest.mark.parametrize("said", ["PARTIAL", "", "None", "COMPLETED!", None, 7, True, ["COMPLETED"]])
@pytest.mark.parametrize("entity", [A, ""])
def test_any_other_status_moves_nothing_and_is_noted(said: object, entity: str) -> None:
    story = Story().retrieved(A).announced(1).anonymized(A)
    before = story.folded()
    story.happens("ProcessingCompleted", entity, status=said)
    after = story.folded()
    assert (after.lanes, after.saga.counts, after.status) == (before.lanes, before.saga.counts, before.status)
    assert before.apply(story.facts[-1]) == {"unclear": True}


def test_a_failure_without_an_image_moves_nothing_until_a_person_names_its_lane() -> None:
    story = Story().retrieved(A, B).announced(2).anonymized(A).anonymized(B)
    before = story.folded()
    story.happens("ProcessingCompleted", status="FAILED")
    assert before.apply(story.facts[-1]) == {"unclear": True}
    assert story.lanes == {A: "open", B: "open"}
    story.happens("ProcessingCompleted", lane=A, status="FAILED")
    assert story.lanes == {A: "undoing", B: "open"}


def test_a_success_without_an_image_speaks_for_all_as_before() -> None:
    story = Story().retrieved(A, B).announced(2).anonymized(A).anonymized(B)
    assert story.happens("ProcessingCompleted", status="completed").lanes == {A: "processed", B: "processed"}


def test_in_a_saga_without_entities_the_saga_is_the_lane_that_failed() -> None:
    shipped = next(event for event in order_saga.DEFINITION.events if event.type == "OrderShipped")
    stated = SuccessField(
        field="result",
        success=("ok",),
        failure=("lost",),
        fails=Meaning(step=order_saga.SHIP, becomes=StepStatus.FAILED, fails=Fails.LANE),
    )
    events = tuple(
        replace(event, success_field=stated, fields={**event.fields, "result": "text"}) if event is shipped else event
        for event in order_saga.DEFINITION.events
    )
    definition = replace(order_saga.DEFINITION, events=events)
    assert problems_of(definition) == []

    def order(result: str) -> str:
        return (
            Story(definition=definition, key="o-1").happens("OrderPlaced").happens("OrderShipped", result=result).status
        )

    assert [order("OK"), order("lost"), order("?")] == ["COMPLETED", "COMPENSATING", "STARTED"]
    assert events[4].is_unclear({"result": "?"}, "o-1")
    assert not events[4].is_unclear({"result": "lost"}, "o-1")
    assert not shipped.is_unclear({}, "o-1")
