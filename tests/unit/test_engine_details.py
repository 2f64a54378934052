"""Small print of the engine: defaults of what a fact leaves out, words that staff read, and every column of a step."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta

import pytest

from sagas.definitions import image_processing_v1
from sagas.engine import facts
from sagas.engine.decide import (
    LANE_SCOPE,
    SAGA_SCOPE,
    LaneContext,
    LaneView,
    SagaIdentity,
    command_id,
    shape_problem,
)
from sagas.engine.definition import Definition, Fails, Meaning, Retry, StepStatus
from sagas.engine.evolve import interpret, meaning_of, needs_all_lanes
from sagas.engine.facts import Fact
from sagas.engine.fold import Fold, replay
from sagas.engine.problems import problems_of
from sagas.engine.state import (
    Announced,
    CommandFacts,
    CommandState,
    LaneState,
    Mark,
    RunState,
    SagaCounts,
    SagaState,
    StepFacts,
    lane_data,
    lane_from,
    saga_data,
    saga_from,
)
from sagas.engine.step_view import StepView, step_view
from tests import order_saga
from tests.properties.histories import IMAGES, SENDING_IS_ENOUGH
from tests.stories import DELETE, MIDNIGHT, REVERSED, ROLLBACK, SAGA_ID, TASK, A, B, C, Story, outcome_of, owed_in
from tests.unit.test_definition import MISTAKES, with_event, with_undo

CREATE = ("DATA_RETRIEVAL_CREATE", "DATA_RETRIEVAL")
UPLOAD = ("DATA_RETRIEVAL_UPLOAD", "DATA_RETRIEVAL")
ANONYMIZE = ("ANONYMIZATION_COMPLETE", "ANONYMIZATION")


def view(story: Story, entity: str, key: tuple[str, str]) -> StepView:
    return step_view(story.folded().view(entity), key)


def after(seconds: float) -> Mark:
    return Mark(MIDNIGHT + timedelta(seconds=seconds), f"e{seconds:04}", "why")


# --- what a step shows, column by column ----------------------------------------------------------------------------


def test_a_step_that_facts_made() -> None:
    story = Story().retrieved(A).failed(A, "crashed")
    made, when = story.facts[2], MIDNIGHT + timedelta(seconds=2)
    assert view(story, A, ANONYMIZE) == StepView(
        StepStatus.FAILED, 3, when, made.id, "AnonymizationFailed", "crashed", None, None
    )


def test_a_step_that_a_command_made_and_no_one_answered() -> None:
    story = Story().happens("ImageReadyForProcessing", A, at=5).decided(facts.COMPENSATION_FORCED, A)
    opened = MIDNIGHT + timedelta(seconds=5)
    assert view(story, A, ANONYMIZE) == StepView(StepStatus.COMPENSATING, 0, opened, "", "", "", None, None)
    story.decided_on(facts.COMMANDS_MARKED_DONE, (A, ROLLBACK))
    done = MIDNIGHT + timedelta(seconds=2)
    words = {"compensation": "by_hand"}
    assert view(story, A, ANONYMIZE) == StepView(StepStatus.COMPENSATED, 0, opened, "", "", "", words, done)


def test_a_step_that_was_compensated_though_nothing_is_required() -> None:
    story = Story().happens("AnonymizationRolledBack", A, at=7)
    fold = story.folded()
    assert ROLLBACK not in fold.view(A).commands
    shown = step_view(fold.view(A), ANONYMIZE)
    assert (shown.status, shown.compensated_at) == ("COMPENSATED", MIDNIGHT + timedelta(seconds=7))
    forgotten = fold.lanes[A]._replace(commands={})
    view = LaneView(fold.identity, LaneContext(), forgotten)
    assert step_view(view, ANONYMIZE).compensated_at == MIDNIGHT + timedelta(seconds=7)


def test_a_step_that_was_compensated_though_no_command_undoes_it() -> None:
    no_rollback = replace(IMAGES, compensations=(replace(IMAGES.compensation_of[DELETE], after=()),))
    story = Story(definition=no_rollback).anonymized(A).happens("AnonymizationRolledBack", A, at=9)
    shown = view(story, A, ANONYMIZE)
    assert (shown.status, shown.compensated_at) == ("COMPENSATED", MIDNIGHT + timedelta(seconds=9))


def test_when_sending_is_enough_the_time_is_when_it_was_sent() -> None:
    story = Story(definition=SENDING_IS_ENOUGH).retrieved(A).failed(A).published(A, DELETE)
    shown = view(story, A, UPLOAD)
    assert (shown.status, shown.compensated_at, shown.metadata) == ("COMPENSATED", story.facts[-1].occurred_at, None)
    story.decided_on(facts.COMMANDS_MARKED_DONE, (A, DELETE))
    assert view(story, A, UPLOAD).compensated_at == story.facts[-2].occurred_at, "the earlier of the two"


def test_a_step_of_a_healthy_lane_says_nothing_of_an_undo() -> None:
    shown = view(Story().retrieved(A).decided_on(facts.COMMANDS_SKIPPED, (A, DELETE)), A, UPLOAD)
    assert (shown.status, shown.metadata, shown.compensated_at) == ("COMPLETED", None, None)
    assert view(Story().retrieved(A), TASK, CREATE).compensated_at is None


def test_the_text_of_a_fact_that_fails_nothing_is_no_error() -> None:
    story = Story().retrieved(A).happens("AnonymizationCompleted", A, error_message="0 warnings")
    assert view(story, A, ANONYMIZE).error == ""


# --- what a fact leaves out -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("decision", sorted(facts.COMMAND_DECISIONS))
def test_a_decision_that_names_no_command_changes_nothing(decision: str) -> None:
    story = Story().retrieved(A).failed(A)
    before = story.folded()
    after_it = story.decided(decision).folded()
    assert after_it.lanes == before.lanes
    assert after_it.saga._replace(last_at=None) == before.saga._replace(last_at=None)


def test_a_termination_that_names_no_command_lets_none_go_on() -> None:
    story = Story().retrieved(A).decided(facts.SAGA_TERMINATED)
    assert story.folded().saga.latest.claimed == frozenset()
    assert story.required(A) == {DELETE: "withdrawn"}


def test_news_without_a_round_are_of_the_first() -> None:
    story = Story().retrieved(A).failed(A)
    content = {"name": DELETE}
    story.facts.append(Fact("n1", facts.COMMAND_EXHAUSTED, MIDNIGHT, facts.COMPENSATION, A, content=content))
    assert story.folded().lanes[A].commands == {DELETE: CommandFacts(exhausted_round=1)}


def test_news_without_a_name_are_of_no_command() -> None:
    story = Story().retrieved(A).failed(A)
    story.facts.append(Fact("n1", facts.COMMAND_EXHAUSTED, MIDNIGHT, facts.COMPENSATION, A))
    assert list(story.folded().lanes[A].commands) == [""]
    assert story.required(A) == {DELETE: "on_the_way"}


def test_a_decision_without_a_reason_has_none() -> None:
    fact = Fact("d1", facts.COMMANDS_SKIPPED, MIDNIGHT, facts.OPERATOR, content={"commands": [[A, DELETE, 1]]})
    skipped = replay(Story().identity, [fact]).lanes[A].commands[DELETE].skipped
    assert skipped == Mark(MIDNIGHT, "d1", "")


def test_what_a_fact_is_about() -> None:
    assert Fact("1", "X", MIDNIGHT, entity=A, lane=B).names == A
    assert Fact("1", "X", MIDNIGHT, lane=B).names == B
    assert Fact("1", "X", MIDNIGHT).names == ""


def test_a_fact_of_our_own_or_of_tomorrow_is_about_its_entity_or_nothing() -> None:
    identity = Story().identity
    forced = Fact("1", facts.COMPENSATION_FORCED, MIDNIGHT, facts.OPERATOR, A)
    assert interpret(identity, forced)[1:] == (Meaning(), A, (A,), "")
    cancelled = Fact("1", facts.SAGA_CANCELLED, MIDNIGHT, facts.OPERATOR)
    assert interpret(identity, cancelled)[1:] == (Meaning(), "", (), "")
    assert interpret(identity, Fact("1", "TypeOfTomorrow", MIDNIGHT, entity=A))[1:] == (Meaning(), "", (), "")


def test_a_meaning_is_read_from_the_text() -> None:
    fact = Fact("1", "AnonymizationFailed", MIDNIGHT, entity=A, content={"error_message": REVERSED})
    assert meaning_of(IMAGES, fact).confirms == ROLLBACK


# --- words that staff read ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("decision", "words"),
    [
        (facts.SAGA_CANCELLED, "Cancelled: because"),
        (facts.COMPENSATION_FORCED, "Compensation forced: because"),
        (facts.SAGA_TERMINATED, "Terminated: because"),
    ],
)
def test_what_people_did_is_the_sagas_error(decision: str, words: str) -> None:
    story = Story().retrieved(A).decided(decision)
    assert story.error == words
    assert story.folded().saga.latest.failure == Mark(story.facts[-1].occurred_at, story.facts[-1].id, words)


def test_what_people_did_to_a_lane() -> None:
    story = Story().retrieved(A).decided(facts.COMPENSATION_FORCED, A)
    mark = Mark(story.facts[-1].occurred_at, story.facts[-1].id, "Compensation forced: because")
    assert story.folded().lanes[A].forced == mark
    assert story.folded().saga.latest.lane_failure == mark
    silent = Fact("d1", facts.SAGA_CANCELLED, MIDNIGHT, facts.OPERATOR)
    assert replay(story.identity, [silent]).saga.latest.failure == Mark(MIDNIGHT, "d1", "Cancelled: ")


def test_an_adoption_and_an_announcement_keep_the_id_of_their_fact() -> None:
    story = Story().decided(facts.SAGA_ADOPTED, started_at="2025-12-31T00:00:00+00:00")
    story.happens("RetrievalCompleted", result={"total_images": 3, "failed_images": 2})
    saga = story.folded().saga
    assert saga.started == Mark(MIDNIGHT - timedelta(days=1), story.facts[0].id)
    assert saga.latest.upload_failure == Mark(story.facts[1].occurred_at, story.facts[1].id, "2 could not be retrieved")
    assert saga.latest.announced == Announced(story.facts[1].occurred_at, story.facts[1].id, 1)
    assert Story().announced(2).folded().saga.latest.upload_failure is None
    none_failed = Story().happens("RetrievalCompleted", result={"total_images": 3, "failed_images": 0})
    assert none_failed.folded().saga.latest.upload_failure is None


def test_the_first_failure_is_the_sagas_whichever_came_first() -> None:
    story = Story().happens("RetrievalFailed", at=9, error_message="late")
    story.happens("RetrievalFailed", at=3, error_message="first").happens("RetrievalFailed", at=6, error_message="mid")
    assert story.error == "first"
    story.facts.reverse()
    assert story.error == "first"


def test_an_event_that_starts_and_fails_its_saga_does_both() -> None:
    stillborn = with_event(starts=True, means=Meaning(fails=Fails.SAGA))
    saga = Story(definition=stillborn, key="o-1").happens("Extra").folded().saga
    assert (saga.started, saga.latest.failure) == (Mark(MIDNIGHT, "e0000"), Mark(MIDNIGHT, "e0000", "Extra"))


def test_of_two_terminations_only_what_both_claim_goes_on() -> None:
    story = Story().retrieved(A, B).terminated((A, DELETE)).terminated((A, DELETE), (B, DELETE))
    assert story.folded().saga.latest.claimed == frozenset({command_id(SAGA_ID, A, DELETE)})


def test_an_error_without_text_has_its_types_name() -> None:
    story = Story().retrieved(A).happens("AnonymizationFailed", A, error_message=7)
    assert story.error == "AnonymizationFailed"


@pytest.mark.parametrize(("definition", "words"), MISTAKES, ids=[words for _, words in MISTAKES])
def test_what_is_wrong_with_a_definition_is_reported_in_whole_sentences(definition: Definition, words: str) -> None:
    for problem in problems_of(definition):
        assert re.fullmatch(r"[a-z_ ]+ version \w+(, \w+| \d+)*: [a-z].*[^X]", problem), problem


# --- bounds ---------------------------------------------------------------------------------------------------------


def test_the_least_that_a_retry_policy_allows() -> None:
    least = Retry(
        initial_interval=0.1,
        maximum_interval=0.1,
        maximum_attempts=1,
        backoff_coefficient=1,
        confirmation_timeout=0.1,
    )
    assert problems_of(with_undo(retry=least)) == []


@pytest.mark.parametrize(
    ("becomes", "rank"),
    [
        (None, 0),
        (StepStatus.PENDING, 0),
        (StepStatus.STARTED, 1),
        (StepStatus.COMPLETED, 2),
        (StepStatus.FAILED, 3),
        (StepStatus.COMPENSATED, 4),
    ],
)
def test_the_rank_of_what_an_event_makes_of_its_step(becomes: StepStatus | None, rank: int) -> None:
    assert Meaning(step=order_saga.PAY, becomes=becomes).rank == rank


def test_a_field_that_is_a_fixed_text_is_no_uuid() -> None:
    delete = IMAGES.compensation_of[DELETE]
    assert shape_problem(delete, A, TASK) == ""
    assert shape_problem(delete, "", TASK) == "not-a-uuid:image_id"


# --- a step's outcome -----------------------------------------------------------------------------------------------


def test_a_step_that_awaits_no_outcome_stays_as_its_fact_left_it() -> None:
    orders = order_saga.DEFINITION
    identity = SagaIdentity(orders, LANE_SCOPE, SAGA_ID, "o-1")
    lane = LaneState("o-1", True, MIDNIGHT, steps={("PAYMENT", "BANK"): StepFacts(1, MIDNIGHT, "1")})
    assert LaneView(identity, LaneContext(), lane).steps == {("PAYMENT", "BANK"): StepStatus.STARTED}


def test_a_start_is_not_ended_by_another_start_nor_by_another_steps_end() -> None:
    identity = Story().identity
    ask, start = ("ANONYMIZATION_REQUEST", "ANONYMIZATION"), StepFacts(1, MIDNIGHT, "1")
    begun = LaneState(A, True, MIDNIGHT, steps={ask: start, ANONYMIZE: start})
    assert LaneView(identity, LaneContext(), begun).steps[ask] is StepStatus.STARTED
    other = LaneState(A, True, MIDNIGHT, steps={ask: start, UPLOAD: StepFacts(2, MIDNIGHT, "2")})
    assert LaneView(identity, LaneContext(processing_failed=True), other).steps[ask] is StepStatus.STARTED
    unknown = other._replace(known=False)
    assert LaneView(identity, LaneContext(processed_all=True), unknown).steps[ask] is StepStatus.STARTED


# --- counters, notes and what a fold remembers ----------------------------------------------------------------------


def test_a_lane_is_counted_with_its_saga() -> None:
    story = Story().retrieved(A).happens("RetrievalFailed")
    fold = story.folded()
    counted = SagaCounts(known=1, undoing=1, on_the_way=1, steps=1)
    assert fold.view(A).counts == counted
    assert LaneView(fold.identity, LaneContext(failed=True), fold.lanes[A]).counts == counted
    alone = LaneView(fold.identity, LaneContext(), fold.lanes[A])
    assert (alone.counts, alone.required) == (SagaCounts(known=1, open=1, steps=1), ())


def test_failed_steps_of_a_lane_that_did_not_fail_are_counted() -> None:
    lane = LaneState(
        A, True, MIDNIGHT, steps={UPLOAD: StepFacts(3, MIDNIGHT, "1"), ANONYMIZE: StepFacts(2, MIDNIGHT, "1")}
    )
    counts = LaneView(Story().identity, LaneContext(), lane).counts
    assert counts == SagaCounts(known=1, open=1, steps=2, failed_steps=1)


def test_sums_and_differences_of_counters() -> None:
    one, two = SagaCounts(*range(1, 13)), SagaCounts(*range(10, 130, 10))
    assert one.plus(two) == SagaCounts(*[11 * number for number in range(1, 13)])
    assert two.replacing(one, two) == SagaCounts(*[19 * number for number in range(1, 13)])
    assert SagaCounts(known=3, open=1, steps=4).differences(SagaCounts(known=1, open=2, steps=4)) == {
        "known": 2,
        "open": -1,
    }
    assert one.differences(one) == {}


def test_a_fold_that_goes_on_from_stored_lanes_remembers_what_was() -> None:
    story = Story().retrieved(A, B).failed(A)
    stored = story.folded()
    fold = Fold(stored.identity, stored.saga, {A: stored.lanes[A]})
    assert set(fold.view(A).commands) == {DELETE}
    fold.apply(Story().happens("RetrievalStarted").anonymized(A).facts[3])
    assert set(fold.view(A).commands) == {DELETE, ROLLBACK}
    fold.apply(Story().retrieved(C).facts[1])
    [of_a, of_c] = fold.change().lanes
    assert [command.compensation.command for command in of_a.planned] == [ROLLBACK], "the other was planned before"
    assert (of_c.entity, of_c.planned) == (C, ())
    assert fold.changed == {A: None, C: None}
    assert fold.before == stored.saga


def test_a_fact_of_the_whole_saga_changes_the_lanes_that_show_it_and_no_other() -> None:
    story = Story().retrieved(A, B).anonymized(A).happens("ProcessingStarted", B)
    stored = story.folded()
    fold = Fold(stored.identity, stored.saga, stored.lanes)
    fold.apply(Fact("p1", "ProcessingCompleted", MIDNIGHT, content={"status": "COMPLETED"}))
    assert set(fold.changed) == {A, B, TASK}
    fold = Fold(stored.identity, stored.saga, {A: stored.lanes[A], "c": LaneState("c")})
    fold.apply(Fact("p1", "ProcessingCompleted", MIDNIGHT, content={"status": "COMPLETED"}))
    assert "c" not in fold.changed


def test_only_lanes_with_an_open_step_may_show_otherwise_though_they_count_as_before() -> None:
    stored = Story().retrieved(A).happens("AnonymizationRequested", B).folded()
    fold = Fold(stored.identity, stored.saga, stored.lanes)
    fold.apply(Fact("p1", "ProcessingCompleted", MIDNIGHT, content={"status": "COMPLETED"}))
    assert set(fold.changed) == {B, TASK}


def test_a_repeat_changes_no_lane() -> None:
    story = Story().retrieved(A).failed(A)
    fold = story.folded()
    fold.changed.clear()
    fold.apply(story.facts[-1])
    assert fold.changed == {}


def test_notes_count_what_is_new() -> None:
    fold = replay(Story().identity, Story().retrieved(A, B).facts)
    opened = fold.apply(Fact("i1", "ImagesRetrieved", MIDNIGHT, content={"image_ids": [B, C]}))
    assert opened["opened"] == 1
    assert fold.apply(Fact("f1", "AnonymizationFailed", MIDNIGHT, entity=A))["owed"] == 1
    assert fold.apply(Fact("f2", "AnonymizationFailed", MIDNIGHT, entity=B))["owed"] == 1
    three = fold.apply(Fact("i2", "ImagesRetrieved", MIDNIGHT, content={"image_ids": ["x", "y", "z"]}))
    assert (len(three["steps"]), "steps_count" in three) == (3, False)
    four = fold.apply(Fact("i3", "ImagesRetrieved", MIDNIGHT, content={"image_ids": ["p", "q", "r", "s"]}))
    assert (len(four["steps"]), four["steps_count"]) == (3, 4)


@pytest.mark.parametrize("scope", [LANE_SCOPE, SAGA_SCOPE])
def test_which_facts_need_every_lane(scope: str) -> None:
    identity = SagaIdentity(IMAGES, scope, SAGA_ID, TASK)

    def needs_all(type_: str, source: str = facts.WIRE, entity: str = "", **content: object) -> bool:
        fact = Fact("1", type_, MIDNIGHT, source, entity, content=content)
        return needs_all_lanes(identity, fact, interpret(identity, fact))

    lanes_fail_saga = scope == SAGA_SCOPE
    assert needs_all("RetrievalFailed")
    assert needs_all("ProcessingFailed")
    assert needs_all("ProcessingCompleted", status="COMPLETED")
    assert not needs_all("ProcessingCompleted"), "one that does not say that it succeeded changes nothing"
    assert needs_all("ProcessingCompleted", entity=A, status="FAILED") is lanes_fail_saga
    assert needs_all(facts.SAGA_CANCELLED, facts.OPERATOR)
    assert not needs_all("ProcessingCompleted", entity=A)
    assert not needs_all("AnonymizationCompleted", entity=A)
    assert not needs_all("ProcessingStarted")
    assert not needs_all(facts.COMMANDS_SKIPPED, facts.OPERATOR)
    assert not needs_all(facts.COMMAND_EXHAUSTED, facts.COMPENSATION, A)
    assert needs_all("AnonymizationFailed", entity=A) is lanes_fail_saga
    assert needs_all("ProcessingFailed", entity=A) is lanes_fail_saga
    assert needs_all("ImageDeletionCompleted", entity=A) is lanes_fail_saga
    assert needs_all("RetrievalCompleted") is lanes_fail_saga
    assert needs_all("ImageUploadFailed") is lanes_fail_saga
    assert needs_all(facts.COMPENSATION_FORCED, facts.OPERATOR, A) is lanes_fail_saga


def test_sending_is_the_answer_only_where_the_definition_says_so() -> None:
    for definition, held in ((IMAGES, CommandState.PENDING), (SENDING_IS_ENOUGH, CommandState.CONFIRMED)):
        fold = Story(definition=definition).retrieved(A).failed(A).published(A, DELETE).folded()
        assert owed_in(fold, A) == {DELETE: held}
        assert fold.view(A).released == {DELETE}


def test_an_unknown_lane_is_open_also_in_a_failed_saga() -> None:
    story = Story().decided_on(facts.COMMANDS_SKIPPED, (A, DELETE)).happens("RetrievalFailed")
    fold = story.folded()
    assert not fold.lanes[A].known
    assert outcome_of(fold, A) == "open"
    assert fold.view(A).required == ()


# --- as data --------------------------------------------------------------------------------------------------------


WHOLE_RUN = RunState(
    began=MIDNIGHT,
    last_start=MIDNIGHT,
    first_end=MIDNIGHT,
    intake_over=True,
    undo_echoed=True,
    announced=Announced(MIDNIGHT, "a1", 3),
    closed=Announced(MIDNIGHT, "a2", 4),
    silent=after(6),
    broken=True,
    failure=after(3),
    lane_failure=after(4),
    upload_failure=after(5),
    processed_all=True,
    processing_failed=True,
    claimed=frozenset({"c2", "c1"}),
)
WHOLE_SAGA = SagaState(
    started=after(1),
    correlation=after(2),
    runs=(RunState(failure=after(1), last_start=MIDNIGHT), WHOLE_RUN),
    last_at=MIDNIGHT,
    counts=SagaCounts(known=3),
    past=SagaCounts(known=1, steps=2),
)
WHOLE_LANE = LaneState(
    A,
    known=True,
    opened_at=MIDNIGHT,
    failure=after(1),
    forced=after(2),
    processed=True,
    milestones=frozenset({image_processing_v1.ANONYMIZED}),
    steps={UPLOAD: StepFacts(2, MIDNIGHT, "e1", "ImagesRetrieved")},
    commands={
        DELETE: CommandFacts(after(1), after(2), after(3), after(4), after(5), round=3, exhausted_round=2),
        ROLLBACK: CommandFacts(published=after(6)),
    },
    opening=MIDNIGHT,
)


def test_a_whole_saga_as_data() -> None:
    data = saga_data(WHOLE_SAGA)
    assert set(data) == {*SagaState._fields, *RunState._fields, "earlier"} - {"counts", "runs"}
    assert data["earlier"] == [{"last_start": MIDNIGHT.isoformat(), "failure": list(data["started"])}]
    assert data["started"] == ["2026-01-01T00:00:01+00:00", "e0001", "why"]
    assert data["claimed"] == ["c1", "c2"]
    assert saga_from(data, WHOLE_SAGA.counts) == WHOLE_SAGA
    assert saga_data(SagaState()) == {}
    assert saga_from({}, SagaCounts()) == SagaState()
    assert saga_from({}, SagaCounts(), MIDNIGHT) == SagaState(last_at=MIDNIGHT), "which the row may keep beside it"


def test_a_whole_lane_as_data() -> None:
    data = lane_data(WHOLE_LANE)
    assert set(data) == {"opened_at", "opening", "failure", "forced", "processed", "milestones", "commands"}
    assert data["commands"][ROLLBACK] == {"published": ["2026-01-01T00:00:06+00:00", "e0006", "why"]}
    assert lane_from(A, True, data, WHOLE_LANE.steps) == WHOLE_LANE
    assert data["opening"] is True, "as it opened"
    later = WHOLE_LANE._replace(opening=MIDNIGHT + timedelta(seconds=1))
    assert lane_from(A, True, lane_data(later), WHOLE_LANE.steps) == later
    assert lane_data(LaneState(A)) == {}
    assert lane_from(A, False, {}, {}) == LaneState(A)


def test_the_time_of_the_last_fact_is_the_latest_and_costs_no_counter() -> None:
    stored = SagaState(started=Mark(MIDNIGHT, "s1"), counts=SagaCounts(known=1), last_at=MIDNIGHT)
    later = MIDNIGHT + timedelta(seconds=1)
    fold = Fold(Story().identity, stored, {})
    for when in (MIDNIGHT, MIDNIGHT - timedelta(seconds=1)):
        fold.apply(Fact("1", "TypeOfTomorrow", when))
        assert fold.saga is stored
    fold.apply(Fact("2", "TypeOfTomorrow", later))
    assert fold.saga == stored._replace(last_at=later)


def test_the_first_correlation_id_is_kept() -> None:
    fold = Fold(Story().identity, SagaState(), {})
    assert fold.change().correlation == TASK
    for number, seconds in enumerate((5, 3, 4)):
        when = MIDNIGHT + timedelta(seconds=seconds)
        fold.apply(Fact(str(number), "TypeOfTomorrow", when, correlation=f"c{seconds}"))
    assert fold.change().correlation == "c3"
