"""The runs of a task that is started again: each rule, and the facts that need the saga's log."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from sagas.definitions import image_processing, image_processing_v1, image_processing_v1_restarted
from sagas.engine import facts
from sagas.engine.decide import LANE_SCOPE, SAGA_SCOPE, command_id, saga_failed
from sagas.engine.definition import Confirmation
from sagas.engine.evolve import interpret
from sagas.engine.facts import Fact
from sagas.engine.fold import Fold, LogNeeded
from sagas.engine.state import CommandState
from tests.stories import DELETE, MIDNIGHT, A, B, Story

RETRIEVE = ("DATA_RETRIEVAL_START", "DATA_RETRIEVAL")
CREATE = ("DATA_RETRIEVAL_CREATE", "DATA_RETRIEVAL")


def failed_once() -> Story:
    """The first run fails, the second has an image."""
    story = Story().happens("RetrievalStarted", at=0).happens("ImagesRetrieved", at=2, image_ids=[A])
    story.happens("RetrievalFailed", at=5).happens("RetrievalStarted", at=10)
    return story.happens("ImagesRetrieved", at=11, image_ids=[B])


def begins(story: Story) -> list[float | None]:
    runs = story.folded().saga.runs
    return [None if run.began is None else (run.began - MIDNIGHT).total_seconds() for run in runs]


def silent(story: Story, number: int, n: float = 900) -> Story:
    """A silence after one of the facts."""
    named = story.facts[number]
    at = (named.occurred_at - MIDNIGHT).total_seconds() + n
    return story.ours(facts.INTAKE_SILENT, at=at, after=[named.occurred_at.isoformat(), named.id], seconds=n)


def at(seconds: float) -> str:
    return (MIDNIGHT + timedelta(seconds=seconds)).isoformat()


def test_each_run_has_its_failure_and_its_lanes() -> None:
    story = failed_once()
    assert begins(story) == [None, 10]
    assert story.lanes == {A: "undoing", B: "open"}
    assert story.status == "COMPENSATING"
    story.happens("ImageDeletionCompleted", A, at=20)
    assert story.status == "STARTED"
    assert story.error is None
    assert not saga_failed(story.identity, story.folded().saga)
    story.happens("ProcessingCompleted", B, at=21).happens("RetrievalCompleted", at=22, result={"successful_images": 1})
    assert story.status == "COMPLETED"


def test_the_old_version_knows_one_run() -> None:
    story = Story(definition=image_processing_v1.DEFINITION)
    story.facts = failed_once().facts
    assert begins(story) == [None]
    assert story.lanes == {A: "undoing", B: "undoing"}


def test_a_command_of_an_earlier_run_that_needs_a_decision_is_shown() -> None:
    story = failed_once().happens("ProcessingCompleted", B, at=21).announced(1).exhausted(A, DELETE)
    assert story.status == "COMPENSATION_FAILED"


def test_the_counters_of_earlier_runs_do_not_decide_on_the_latest() -> None:
    story = failed_once().decided_on(facts.COMMANDS_SKIPPED, (A, DELETE))
    story.happens("AnonymizationFailed", B, at=12).happens("ImageDeletionCompleted", B, at=13)
    story.happens("RetrievalCompleted", at=14, result={"successful_images": 1})
    assert story.lanes == {A: "settled", B: "undone"}
    assert story.status == "COMPENSATION_SUCCEEDED"
    saga = story.folded().saga
    assert (saga.counts.known, saga.past.known, saga.past.given_up) == (2, 1, 1)


def test_the_steps_of_the_task_are_those_of_its_latest_run() -> None:
    story = failed_once()
    assert story.steps()[CREATE] == "STARTED", "its outcome is one of the run before"
    assert story.steps()[RETRIEVE] == "FAILED"
    story.happens("RetrievalCompleted", at=30, result={"successful_images": 1})
    assert story.steps() == {CREATE: "COMPLETED", RETRIEVE: "COMPLETED"}
    late = Story()
    late.facts = [*reversed(story.facts)]
    assert late.steps() == story.steps()


def test_termination_is_about_its_run() -> None:
    story = failed_once().terminated()
    terminated = story.facts[-1]
    story.facts[-1] = terminated._replace(content={**terminated.content, facts.RUN: at(9)})
    assert story.lanes == {A: "settled", B: "open"}
    story.facts[-1] = terminated._replace(content={**terminated.content, facts.RUN: at(12)})
    assert story.lanes == {A: "undoing", B: "settled"}


def test_a_termination_of_another_run_does_not_withdraw_any_more() -> None:
    story = Story().happens("RetrievalStarted", at=0).happens("ImagesRetrieved", at=12, image_ids=[A]).failed(A)
    story.facts.append(Fact("t", facts.SAGA_TERMINATED, MIDNIGHT + timedelta(seconds=5), facts.OPERATOR))
    assert story.required(A) == {DELETE: "withdrawn"}
    fold = Fold(story.identity, story.folded().saga, story.folded().lanes, story.facts)
    fold.apply(Fact("s", "RetrievalStarted", MIDNIGHT + timedelta(seconds=10)))
    [change] = [lane for lane in fold.change().lanes if lane.entity == A]
    assert [(item.compensation.command, item.state) for item in change.planned] == [(DELETE, CommandState.PENDING)]
    assert change.not_required == ()


def test_an_upload_that_failed_is_of_its_run() -> None:
    story = Story(SAGA_SCOPE).happens("RetrievalStarted", at=0).happens("ImageUploadFailed", at=5, error_message="full")
    story.happens("ImagesRetrieved", at=6, image_ids=[A]).happens("RetrievalStarted", at=10)
    story.happens("ImagesRetrieved", at=11, image_ids=[B])
    assert begins(story) == [None, 10]
    assert story.lanes == {A: "undoing", B: "open"}


def failed_image(scope: str = SAGA_SCOPE) -> Story:
    """An image fails at 5; the task is started again at 10."""
    story = Story(scope).happens("RetrievalStarted", at=0).happens("ImagesRetrieved", at=1, image_ids=[A])
    return story.happens("AnonymizationFailed", A, at=5).happens("RetrievalStarted", at=10)


def test_a_failed_lane_is_a_failure_of_the_saga_in_that_scope_and_opens_a_run() -> None:
    story = failed_image().happens("ImagesRetrieved", at=11, image_ids=[B])
    assert begins(story) == [None, 10]
    assert story.lanes == {A: "undoing", B: "open"}
    in_the_scope_of_lanes = failed_image(LANE_SCOPE).happens("ImagesRetrieved", at=11, image_ids=[B])
    assert begins(in_the_scope_of_lanes) == [None]
    assert in_the_scope_of_lanes.lanes == {A: "undoing", B: "open"}


@pytest.mark.parametrize(
    ("entity", "opened", "failed", "opens"),
    [(B, 9, 9, True), (B, 9, 10, False), (B, 10, 9, False), (B, None, 9, False), (B, 2, 3, True)],
    ids=["before", "at the start", "of the new run", "without an opening", "long before"],
)
def test_a_lane_opens_a_run_if_it_opened_and_failed_before_the_start(
    entity: str, opened: int | None, failed: int, opens: bool
) -> None:
    story = Story(SAGA_SCOPE).happens("RetrievalStarted", at=0).happens("RetrievalStarted", at=10)
    if opened is not None:
        story.happens("ImageReadyForAnonymization", entity, at=opened)
    story.happens("ProcessingFailed", entity, at=failed)
    assert begins(story) == ([None, 10] if opens else [None])


def test_a_lane_of_an_earlier_run_opens_no_third() -> None:
    story = failed_image().happens("AnonymizationFailed", A, at=15).happens("RetrievalStarted", at=20)
    assert begins(story) == [None, 10]


def test_a_forced_compensation_and_an_unasked_undo_open_runs_too() -> None:
    for fact in (
        Fact("x", facts.COMPENSATION_FORCED, MIDNIGHT + timedelta(seconds=5), facts.OPERATOR, A),
        Fact("x", "ImageDeletionCompleted", MIDNIGHT + timedelta(seconds=5), entity=A),
    ):
        story = Story(SAGA_SCOPE).happens("RetrievalStarted", at=0).happens("ImagesRetrieved", at=1, image_ids=[A])
        story.facts.append(fact)
        assert begins(story.happens("RetrievalStarted", at=10)) == [None, 10]


def test_a_lane_whose_opening_was_earlier_moves_with_its_failure() -> None:
    story = Story(SAGA_SCOPE).happens("RetrievalStarted", at=0).happens("RetrievalCompleted", at=5)
    story.happens("RetrievalStarted", at=10).happens("ImagesRetrieved", at=11, image_ids=[A, B]).failed(A)
    assert story.lanes == {A: "undoing", B: "undoing"}
    story.happens("ImageReadyForAnonymization", A, at=3)
    assert story.lanes == {A: "undoing", B: "open"}
    assert [run.lane_failure is not None for run in story.folded().saga.runs] == [True, False]


def test_a_deletion_that_was_confirmed_counts_as_one_of_ours_or_somebody_elses() -> None:
    story = failed_once().happens("ImageDeletionCompleted", B, at=20)
    assert story.lanes == {A: "undoing", B: "undone"}
    assert story.error == (
        "ImageDeletionCompleted arrived without an earlier failure: it was undone by somebody else, or by a command "
        "that was sent before the restart"
    )


def carried_out(story: Story, entity: str = A) -> set[str]:
    return set(story.folded().view(entity).overtaken)


def test_what_was_undone_before_a_late_start_counts_whoever_says_so() -> None:
    sending_is_enough = replace(
        image_processing.DEFINITION,
        compensations=tuple(
            replace(item, confirmation=Confirmation.PUBLISHED) for item in image_processing.DEFINITION.compensations
        ),
    )
    for definition in (image_processing.DEFINITION, sending_is_enough):
        story = Story(definition=definition).happens("RetrievalStarted", at=0).happens("RetrievalFailed", at=5)
        story.happens("ImagesRetrieved", at=12, image_ids=[A])
        if definition is sending_is_enough:
            story.published(A, DELETE)
        else:
            story.decided_on(facts.COMMANDS_MARKED_DONE, (A, DELETE))
        assert (story.lanes, carried_out(story)) == ({A: "undone"}, set())
        story.happens("RetrievalStarted", at=10)
        assert (story.lanes, carried_out(story)) == ({A: "undone"}, {DELETE})
        story.failed(A)
        assert (story.lanes, carried_out(story)) == ({A: "undone"}, set()), "it would have been undone anyway"


def test_a_mark_as_done_fails_no_saga() -> None:
    story = Story(SAGA_SCOPE).happens("RetrievalStarted", at=0).happens("RetrievalFailed", at=5)
    story.happens("ImagesRetrieved", at=12, image_ids=[A, B]).decided_on(facts.COMMANDS_MARKED_DONE, (A, DELETE))
    story.happens("RetrievalStarted", at=10)
    assert story.lanes == {A: "undone", B: "open"}


def test_the_change_says_which_commands_were_overtaken_and_which_are_not_any_more() -> None:
    story = Story().happens("RetrievalStarted", at=0).happens("RetrievalFailed", at=5)
    story.happens("ImagesRetrieved", at=12, image_ids=[A]).happens("ImageDeletionCompleted", A, at=20)
    fold = Fold(story.identity, story.folded().saga, story.folded().lanes, story.facts)
    fold.apply(Fact("s", "RetrievalStarted", MIDNIGHT + timedelta(seconds=10)))
    [change] = [lane for lane in fold.change().lanes if lane.entity == A]
    deletion = command_id(story.identity.saga_id, A, DELETE)
    assert (change.overtaken, change.prompted) == ((deletion,), ())
    fold = Fold(fold.identity, fold.saga, fold.lanes)
    fold.apply(Fact("f", "RetrievalFailed", MIDNIGHT + timedelta(seconds=30)))
    [change] = [lane for lane in fold.change().lanes if lane.entity == A]
    assert (change.overtaken, change.prompted) == ((), (deletion,))


# --- the end of the intake --------------------------------------------------------------------------------------------


def processed() -> Story:
    story = Story().happens("RetrievalStarted", at=0).happens("ImagesRetrieved", at=1, image_ids=[A])
    return story.happens("ProcessingCompleted", A, at=20)


def test_a_person_closes_the_intake_and_the_latest_number_counts() -> None:
    story = processed().ours(facts.INTAKE_CLOSED, at=30, lanes=2)
    assert story.status == "STARTED"
    story.ours(facts.INTAKE_CLOSED, at=31, lanes=1)
    assert story.status == "COMPLETED"
    story.happens("RetrievalCompleted", at=10, result={"successful_images": 3})
    assert story.status == "STARTED", "the number of the service counts"
    assert Story().happens("RetrievalStarted").ours(facts.INTAKE_CLOSED, lanes=-1).status == "COMPLETED"
    assert Story().happens("RetrievalStarted").ours(facts.INTAKE_CLOSED).status == "COMPLETED"


def test_silence_counts_while_its_event_is_the_greatest() -> None:
    story = silent(processed(), 2)
    assert story.status == "COMPLETED"
    story.happens("AnonymizationRequested", A, at=19)
    assert story.status == "COMPLETED"
    story.happens("AnonymizationRequested", A, at=21)
    assert story.status == "STARTED"
    assert silent(story, -1).status == "COMPLETED"


def test_a_start_after_a_silence_opens_a_run_until_a_late_event_breaks_it() -> None:
    story = silent(processed(), 2).happens("RetrievalStarted", at=1000)
    assert begins(story) == [None, 1000]
    story.happens("ImageReadyForAnonymization", A, at=2)
    assert begins(story) == [None, 1000]
    story.happens("ImagesRetrieved", at=21, image_ids=[B])
    assert begins(story) == [None]


def test_silence_of_a_run_that_is_broken_can_still_let_an_earlier_start_open_one() -> None:
    story = silent(processed(), 2).happens("ProcessingStarted", A, at=1100)
    assert story.status == "STARTED"
    assert begins(story.happens("RetrievalStarted", at=1000)) == [None, 1000]


def test_silence_in_a_run_without_events_counts() -> None:
    story = Story().happens("RetrievalStarted", at=0)
    story.ours(facts.INTAKE_SILENT, at=100, after=[at(99), "none"], seconds=1)
    assert begins(story.happens("RetrievalStarted", at=200)) == [None, 200]


# --- which facts need the log -----------------------------------------------------------------------------------------


def stored(story: Story, *, logged: bool = False) -> Fold:
    """The saga as a store reads it, with its log or without."""
    fold = story.folded()
    return Fold(fold.identity, fold.saga, fold.lanes, story.facts if logged else None)


NEED = [
    (failed_once(), Fact("x", "RetrievalStarted", MIDNIGHT + timedelta(seconds=7)), "a start before the latest run"),
    (
        Story().happens("RetrievalStarted").happens("RetrievalFailed"),
        Fact("x", "RetrievalStarted", MIDNIGHT + timedelta(seconds=7)),
        "a start of a run that failed",
    ),
    (
        Story().happens("RetrievalStarted", at=0).happens("RetrievalStarted", at=9),
        Fact("x", "RetrievalFailed", MIDNIGHT + timedelta(seconds=7)),
        "a failure before a start that opened nothing",
    ),
    (
        Story().happens("RetrievalStarted", at=0).happens("RetrievalStarted", at=9),
        Fact("x", facts.INTAKE_CLOSED, MIDNIGHT + timedelta(seconds=7), facts.OPERATOR),
        "a closing before a start that opened nothing",
    ),
    (
        failed_once(),
        Fact("x", "ImagesRetrieved", MIDNIGHT + timedelta(seconds=7), content={"image_ids": [B]}),
        "an opening before the latest run",
    ),
    (
        silent(processed(), 2).happens("RetrievalStarted", at=1000),
        Fact("x", "ProcessingStarted", MIDNIGHT + timedelta(seconds=22), entity=A),
        "an event that breaks the silence of an earlier run",
    ),
    (
        processed(),
        Fact("x", facts.INTAKE_SILENT, MIDNIGHT, facts.SAGAS, content={"after": [at(20), "e0002"]}),
        "a silence",
    ),
]
NEED += [
    (
        failed_image(),
        Fact("x", "RetrievalStarted", MIDNIGHT + timedelta(seconds=7)),
        "in the scope of the saga a start after a lane failed",
    ),
    (
        Story(SAGA_SCOPE).happens("RetrievalStarted", at=0).happens("ImagesRetrieved", at=1, image_ids=[A])
        .happens("RetrievalStarted", at=10),
        Fact("x", "AnonymizationFailed", MIDNIGHT + timedelta(seconds=7), entity=A),
        "in the scope of the saga a lane that failed before a start",
    ),
    (
        Story(SAGA_SCOPE).happens("RetrievalStarted", at=0).happens("RetrievalStarted", at=10)
        .happens("AnonymizationFailed", A, at=7),
        Fact("x", "ImageReadyForAnonymization", MIDNIGHT + timedelta(seconds=2), entity=A),
        "in the scope of the saga the opening of a failed lane",
    ),
]  # fmt: skip
DO_NOT = [
    (
        Story().happens("RetrievalFailed", at=5).happens("RetrievalCompleted", at=6),
        Fact("x", "RetrievalStarted", MIDNIGHT + timedelta(seconds=5)),
        "a start that arrives after what ended its run",
    ),
    (failed_once(), Fact("x", "RetrievalStarted", MIDNIGHT + timedelta(seconds=12)), "a start after nothing ended"),
    (failed_once(), Fact("x", "RetrievalFailed", MIDNIGHT + timedelta(seconds=12)), "a failure after all starts"),
    (failed_once(), Fact("x", "RetrievalFailed", MIDNIGHT + timedelta(seconds=10)), "a failure at the start"),
    (
        failed_once(),
        Fact("x", "AnonymizationFailed", MIDNIGHT + timedelta(seconds=7), entity=B),
        "a failure of a lane, before the latest run",
    ),
    (
        silent(processed(), 2),
        Fact("x", "ProcessingStarted", MIDNIGHT + timedelta(seconds=22), entity=A),
        "an event that breaks the silence of the latest run",
    ),
    (
        Story(SAGA_SCOPE).happens("RetrievalStarted", at=0).happens("RetrievalStarted", at=10),
        Fact("x", "ImagesRetrieved", MIDNIGHT + timedelta(seconds=7), content={"image_ids": [B]}),
        "an opening while no lane failed",
    ),
    (
        Story(SAGA_SCOPE).happens("RetrievalStarted", at=0).happens("RetrievalStarted", at=10),
        Fact("x", "ProcessingStarted", MIDNIGHT + timedelta(seconds=7)),
        "an event that is about no lane",
    ),
]


@pytest.mark.parametrize(("story", "fact", "why"), NEED, ids=[why for *_, why in NEED])
def test_a_fact_that_may_move_a_run_needs_the_log(story: Story, fact: Fact, why: str) -> None:
    with pytest.raises(LogNeeded):
        stored(story).apply(fact)
    fold = stored(story, logged=True)
    fold.apply(fact)
    again = Story(story.identity.scope)
    again.facts = [*story.facts, fact]
    assert (fold.saga, fold.lanes) == (again.folded().saga, again.folded().lanes)


@pytest.mark.parametrize(("story", "fact", "why"), DO_NOT, ids=[why for *_, why in DO_NOT])
def test_another_fact_does_not(story: Story, fact: Fact, why: str) -> None:
    fold = stored(story)
    fold.apply(fact)
    again = Story(story.identity.scope)
    again.facts = [*story.facts, fact]
    assert (fold.saga, fold.lanes) == (again.folded().saga, again.folded().lanes)


def test_of_many_facts_the_log_is_folded_again_once(monkeypatch: pytest.MonkeyPatch) -> None:
    story = failed_once()
    fold = stored(story, logged=True)
    later = Story()
    for second in range(100, 140, 2):
        later.happens("RetrievalFailed", at=second).happens("RetrievalStarted", at=second + 1)
    later.facts = [fact._replace(id=f"late {fact.id}") for fact in later.facts]
    seen: list[int] = []
    begin_again = Fold._begin_again

    def counted(self: Fold, coming: list[Fact], *, whole: bool = False) -> None:
        seen.append(len(coming))
        begin_again(self, coming, whole=whole)

    monkeypatch.setattr(Fold, "_begin_again", counted)
    fold.apply_all([(fact, interpret(fold.identity, fact)) for fact in later.facts])
    assert len(fold.saga.runs) == 22
    assert len(seen) == 1


def test_the_note_of_a_start_says_which_run_it_opens() -> None:
    notes = failed_once().folded().change().notes
    assert [note.get("run") for note in notes] == [None, None, None, 2, None]


# --- sagas of the version before --------------------------------------------------------------------------------------


def test_the_old_version_knows_silence_too() -> None:
    story = Story(definition=image_processing_v1.DEFINITION)
    story.facts = silent(processed(), 2).facts
    assert story.status == "COMPLETED"
    assert begins(story.happens("RetrievalStarted", at=1000)) == [None]
    assert story.status == "STARTED"


def test_a_state_of_the_old_version_is_folded_again_in_the_new_one() -> None:
    old = Story(definition=image_processing_v1.DEFINITION)
    new = Story(definition=image_processing_v1_restarted.DEFINITION)
    old.facts = new.facts = failed_once().facts[:2]
    stored = old.folded()
    fold = Fold(new.identity, stored.saga, stored.lanes, old.facts)
    again = Fact("again", "RetrievalStarted", MIDNIGHT + timedelta(seconds=7))
    fold.apply_all([(again, interpret(new.identity, again))], again=True)
    new.facts = [*new.facts, again]
    assert (fold.saga, fold.lanes) == (new.folded().saga, new.folded().lanes)
    assert fold.lanes[A].opening is not None
