"""What one fold hands to the store: every value that must be written, and none that was written before."""

from __future__ import annotations

from typing import Any

import pytest

from sagas.engine import facts
from sagas.engine.change import CommandAnswer, LaneChange, LaneValues, Refusal, RequiredCommand, SagaChange
from sagas.engine.decide import SAGA_SCOPE, LaneContext, LaneView, command_id
from sagas.engine.facts import Fact
from sagas.engine.fold import Fold
from sagas.engine.state import CommandState, LaneState
from tests.properties.histories import SENDING_IS_ENOUGH
from tests.stories import DELETE, MIDNIGHT, ROLLBACK, SAGA_ID, TASK, A, B, Story

CREATE = ("DATA_RETRIEVAL_CREATE", "DATA_RETRIEVAL")
UPLOAD = ("DATA_RETRIEVAL_UPLOAD", "DATA_RETRIEVAL")
ASK = ("ANONYMIZATION_REQUEST", "ANONYMIZATION")
ANONYMIZE = ("ANONYMIZATION_COMPLETE", "ANONYMIZATION")


def last(story: Story, count: int = 1) -> SagaChange:
    """What the last facts of a story change, with the saga of those before them loaded from the database."""
    before = Story(story.identity.scope, story.identity.definition, story.identity.key)
    before.facts = story.facts[:-count]
    stored = before.folded()
    fold = Fold(stored.identity, stored.saga, stored.lanes)
    for fact in story.facts[-count:]:
        fold.apply(fact)
    return fold.change()


def lane(change: SagaChange, entity: str) -> LaneChange:
    [found] = [lane for lane in change.lanes if lane.entity == entity]
    return found


def names(commands: tuple[RequiredCommand, ...]) -> list[str]:
    return [command.compensation.command for command in commands]


# --- the saga -------------------------------------------------------------------------------------------------------


def test_details_are_there_only_if_more_than_counters_and_time_changed() -> None:
    story = Story().happens("ImageReadyForAnonymization", A)
    assert last(story).details is not None, "its start is the time of its last event"
    assert last(story.happens("RetrievalStarted", correlation_id="x")).details is not None
    assert last(story.happens("AnonymizationCompleted", A)).details is None
    failed = last(story.failed(A, "crashed"))
    assert failed.details is not None
    assert (failed.details.error, failed.details.started_at) == ("crashed", story.facts[1].occurred_at)
    assert "last_at" not in failed.details.state


def test_the_change_of_no_fact_is_empty_but_may_be_whole() -> None:
    stored = Story().retrieved(A).failed(A).folded()
    fold = Fold(stored.identity, stored.saga, {})
    change = fold.change()
    assert (change.details, change.counted, change.lanes, change.refusals, change.notes) == (None, {}, (), (), ())
    whole = fold.change(whole=True)
    assert whole.details is not None
    assert (whole.saga, whole.status, whole.details.error) == (stored.saga, "COMPENSATING", "broken")


def test_counters_are_told_by_name_and_only_those_that_changed() -> None:
    story = Story().retrieved(A, B).failed(A)
    assert last(story).counted == {"open": -1, "undoing": 1, "on_the_way": 1, "steps": 1, "failed_steps": 1}
    assert last(story, 2).counted["known"] == 2
    assert last(story.happens("TypeOfTomorrow")).counted == {}


def test_each_fact_has_its_note() -> None:
    story = Story().retrieved(A).failed(A)
    notes = last(story, 2).notes
    assert [note.get("opened") for note in notes] == [1, None]
    assert notes[1]["owed"] == 1


def test_it_ends_at_the_time_of_the_last_fact() -> None:
    story = Story().retrieved(A).announced(1).processed(A)
    assert last(story).end_time == story.facts[-1].occurred_at
    assert last(Story().retrieved(A)).end_time is None


@pytest.mark.parametrize(
    ("text", "error"), [("broken", "broken"), ("x" * 600, "x" * 500), ("", None), (7, None), (None, None)]
)
def test_a_refusal_names_the_command_and_its_reason(text: Any, error: str | None) -> None:
    story = Story().retrieved(A).failed(A).happens("ImageDeletionFailed", A, error_message=text)
    fact = story.facts[-1]
    expected = error or ""
    assert last(story).refusals == (Refusal(command_id(SAGA_ID, A, DELETE), expected, fact.occurred_at, fact.id),)


def test_a_refusal_that_names_no_image_is_of_no_command() -> None:
    assert last(Story().retrieved(A).failed(A).happens("ImageDeletionFailed")).refusals == ()


# --- a lane and its steps -------------------------------------------------------------------------------------------


def test_the_steps_of_the_saga_itself_have_no_lane() -> None:
    change = lane(last(Story().happens("RetrievalStarted")), TASK)
    assert change.values is None
    assert [key for key, _ in change.steps] == [CREATE]


def test_the_values_of_a_lane() -> None:
    story = Story().retrieved(A)
    opened = story.facts[-1].occurred_at
    assert lane(last(story), A).values == LaneValues(True, False, "open", opened, {"opened_at": opened.isoformat()})
    values = lane(last(story.failed(A)), A).values
    assert values is not None
    assert (values.failed, values.outcome) == (True, "undoing")


def test_what_a_person_said_of_a_lane_that_nobody_knows_is_kept() -> None:
    for story in (
        Story().happens("RetrievalStarted").decided_on(facts.COMMANDS_SKIPPED, (A, DELETE)),
        Story().happens("RetrievalStarted").decided(facts.COMPENSATION_FORCED, A),
    ):
        values = lane(last(story), A).values
        assert values is not None
        assert (values.known, values.failed, values.outcome) == (False, False, "open")


def test_only_steps_that_may_be_shown_otherwise_are_written() -> None:
    story = Story().retrieved(A).happens("AnonymizationRequested", A)
    assert [key for key, _ in lane(last(story), A).steps] == [ASK]
    done = lane(last(story.happens("AnonymizationCompleted", A)), A)
    assert {key: view.status for key, view in done.steps} == {ASK: "COMPLETED", ANONYMIZE: "COMPLETED"}
    earlier = lane(last(story.happens("AnonymizationCompleted", A, at=0)), A)
    assert earlier.values is not None
    assert (earlier.values.opened_at, earlier.steps) == (MIDNIGHT, ()), "only when the lane opened"
    story.happens("AnonymizationRequested", B).happens("AnonymizationRequested", B, at=0)
    assert lane(last(story), B).steps == (), "its request is open as before"


def test_every_step_of_a_lane_with_commands_is_written() -> None:
    story = Story().retrieved(A).anonymized(A).failed(A)
    failed = lane(last(story), A)
    assert {UPLOAD: "COMPENSATING", ANONYMIZE: "COMPENSATING"}.items() <= {
        key: view.status for key, view in failed.steps
    }.items()
    skipped = Story().retrieved(A).decided_on(facts.COMMANDS_SKIPPED, (A, DELETE))
    assert [key for key, _ in lane(last(skipped), A).steps] == [UPLOAD]


# --- commands -------------------------------------------------------------------------------------------------------


def test_a_command_is_planned_once_with_what_the_outbox_needs() -> None:
    story = Story().retrieved(A).anonymized(A).failed(A)
    planned = {command.compensation.command: command for command in lane(last(story), A).planned}
    assert planned.keys() == {ROLLBACK, DELETE}
    rollback, delete = planned[ROLLBACK], planned[DELETE]
    assert (rollback.released, delete.released) == (True, False)
    assert (delete.id, delete.entity, delete.problem) == (command_id(SAGA_ID, A, DELETE), A, "")
    assert (delete.state, delete.confirmed, delete.answer) == (CommandState.PENDING, None, None)
    assert not delete.confirmed_by_service
    again = lane(last(story.failed(A, "again")), A)
    assert (again.planned, again.answers, again.released) == ((), (), ())


def test_a_command_that_becomes_required_later_is_planned_beside_the_first() -> None:
    story = Story().retrieved(A).failed(A).happens("AnonymizationCompleted", A)
    assert names(lane(last(story), A).planned) == [ROLLBACK]
    assert lane(last(story, 2), A).planned, "both in one fold"


def test_a_command_that_was_done_before_it_was_required_is_planned_as_confirmed() -> None:
    story = Story().retrieved(A).happens("ImageDeletionCompleted", A)
    [delete] = lane(last(story), A).planned
    assert delete.confirmed is not None
    assert delete.confirmed.event_id == story.facts[-1].id
    assert delete.confirmed_by_service
    assert delete.answer == CommandAnswer(delete.id, "confirmed", story.facts[-1].occurred_at, story.facts[-1].id)


def test_a_command_that_is_published_but_unanswered_is_not_confirmed() -> None:
    story = Story().retrieved(A).published(A, DELETE).failed(A)
    [delete] = lane(last(story), A).planned
    assert (delete.state, delete.confirmed, delete.confirmed_by_service) == ("on_the_way", None, False)


def test_a_key_that_is_no_uuid_is_a_problem_of_the_command() -> None:
    story = Story().retrieved("scan-7").failed("scan-7")
    [delete] = lane(last(story), "scan-7").planned
    assert delete.problem == "not-a-uuid:image_id"


@pytest.mark.parametrize(
    ("decision", "status"),
    [
        (facts.COMMANDS_MARKED_DONE, "confirmed"),
        (facts.COMMANDS_SKIPPED, "skipped"),
        (facts.COMMANDS_WITHDRAWN, "withdrawn"),
    ],
)
def test_what_people_answer(decision: str, status: Any) -> None:
    story = Story().retrieved(A).failed(A).decided_on(decision, (A, DELETE))
    fact, identity = story.facts[-1], command_id(SAGA_ID, A, DELETE)
    expected = CommandAnswer(identity, status, fact.occurred_at, fact.id, by_hand=True)
    assert lane(last(story), A).answers == (expected,)
    confirmed = story.happens("ImageDeletionCompleted", A)
    fact = confirmed.facts[-1]
    expected = CommandAnswer(identity, "confirmed", fact.occurred_at, fact.id)
    assert lane(last(confirmed), A).answers == (expected,), "the service's own answer is the stronger one"


def test_sending_is_the_answer_where_it_is_enough() -> None:
    story = Story(definition=SENDING_IS_ENOUGH).retrieved(A).failed(A).published(A, DELETE)
    [answer] = lane(last(story), A).answers
    assert (answer.status, answer.by_hand, answer.event_id) == ("confirmed", False, story.facts[-1].id)


def test_a_termination_withdraws_what_was_not_sent() -> None:
    story = Story().retrieved(A, B).failed(A).failed(B).terminated((A, DELETE))
    change = last(story)
    assert A not in [each.entity for each in change.lanes], "its command is on its way, as before"
    [answer] = lane(change, B).answers
    assert (answer.status, answer.event_id, answer.by_hand) == ("withdrawn", story.facts[-1].id, True)


def test_a_retry_begins_a_round_at_the_time_of_the_last_fact() -> None:
    story = Story().retrieved(A).failed(A).exhausted(A, DELETE)
    assert lane(last(story), A).answers == (), "the outbox knows it already"
    story.decided_on(facts.COMMANDS_RETRIED, (A, DELETE), number=2)
    identity = command_id(SAGA_ID, A, DELETE)
    retried = CommandAnswer(identity, "retried", story.facts[-1].occurred_at, round=2)
    assert lane(last(story), A).answers == (retried,)


def test_the_second_is_released_when_the_first_is_answered() -> None:
    story = Story().retrieved(A).anonymized(A).failed(A)
    answered = lane(last(story.happens("AnonymizationRolledBack", A)), A)
    assert answered.released == (command_id(SAGA_ID, A, DELETE),)
    assert lane(last(story.happens("AnonymizationRolledBack", A)), A).released == (), "it was released before"


def test_the_failure_of_one_lane_plans_for_all_in_the_scope_of_the_saga() -> None:
    change = last(Story(SAGA_SCOPE).retrieved(A, B).failed(A))
    assert {each.entity: names(each.planned) for each in change.lanes if each.planned} == {A: [DELETE], B: [DELETE]}


def test_a_view_of_a_lane_is_computed_once_for_each_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """One view before the fold and one after its only fact: the note, the rows and the commands read these two."""
    stored = Story().retrieved(A).anonymized(A).failed(A).folded()
    views: list[LaneState] = []
    real = LaneView.__init__

    def counted(self: LaneView, identity: Any, context: LaneContext, lane: LaneState) -> None:
        views.append(lane)
        real(self, identity, context, lane)

    monkeypatch.setattr(LaneView, "__init__", counted)
    fold = Fold(stored.identity, stored.saga, {A: stored.lanes[A]})
    fold.apply(Fact("r1", "AnonymizationRolledBack", MIDNIGHT, entity=A))
    assert fold.change().lanes[0].released
    assert len(views) == 2
