"""The second reading of the rules about runs, on the examples that stand in the design."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from sagas.engine import facts
from sagas.engine.decide import LANE_SCOPE, SAGA_SCOPE, command_id
from tests.properties import runs_oracle
from tests.properties.runs_oracle import Told
from tests.stories import DELETE, MIDNIGHT, A, B, Story


def told(story: Story) -> Told:
    """What the oracle makes of a story."""
    identity = story.identity
    return runs_oracle.tell(
        identity.definition, identity.scope, identity.key, identity.saga_id, story.facts, command_id
    )


def seconds(read: Told) -> list[float | None]:
    """When the runs begin."""
    return [None if begin is None else (begin - MIDNIGHT).total_seconds() for begin in read.begins]


def restarted() -> Story:
    return Story().happens("RetrievalStarted", at=0).happens("RetrievalFailed", at=5).happens("RetrievalStarted", at=10)


def test_a_lane_of_the_second_run_is_healthy_though_an_event_of_it_is_older_than_the_start() -> None:
    story = restarted().happens("ImagesRetrieved", at=11, image_ids=[A]).happens("AnonymizationRequested", A, at=9)
    read = told(story)
    assert seconds(read) == [None, 10]
    assert read.run_of == {A: 1}
    assert read.required == {A: {}}
    assert read.outcomes == {A: "open"}
    assert read.status == "STARTED"


def test_a_failure_of_the_second_run_leaves_what_the_first_one_processed() -> None:
    story = Story().happens("RetrievalStarted", at=0).happens("ImagesRetrieved", at=1, image_ids=[A])
    story.happens("ProcessingCompleted", A, at=20)
    story.happens("RetrievalCompleted", at=40, result={"successful_images": 1})
    story.happens("RetrievalStarted", at=100).happens("RetrievalFailed", at=105)
    read = told(story)
    assert seconds(read) == [None, 100]
    assert read.required == {A: {}}
    assert read.outcomes == {A: "processed"}
    assert read.failed_runs == [False, True]
    assert read.status == "FAILED"


def test_a_deletion_is_required_again_by_a_failure_of_the_lane_itself() -> None:
    story = Story().happens("RetrievalStarted", at=0).happens("RetrievalFailed", at=5)
    story.happens("ImagesRetrieved", at=12, image_ids=[A])
    assert told(story).required == {A: {DELETE: "on its way"}}
    story.happens("RetrievalStarted", at=10)
    assert told(story).required == {A: {}}
    story.happens("AnonymizationFailed", A, at=30)
    assert told(story).required == {A: {DELETE: "on its way"}}


def test_a_lane_that_opens_between_a_failure_and_the_next_start_belongs_to_the_failed_run() -> None:
    read = told(restarted().happens("ImagesRetrieved", at=7, image_ids=[A]))
    assert read.run_of == {A: 0}
    assert read.required == {A: {DELETE: "on its way"}}


def test_a_start_without_a_failure_or_an_end_before_it_opens_nothing() -> None:
    story = Story().happens("RetrievalStarted", at=0).happens("RetrievalStarted", at=3)
    story.happens("ImagesRetrieved", at=1, image_ids=[A]).happens("AnonymizationFailed", A, at=2)
    assert seconds(told(story)) == [None]


def test_only_a_failure_between_a_start_and_the_previous_one_counts() -> None:
    story = Story().happens("RetrievalStarted", at=0).happens("RetrievalFailed", at=5)
    story.happens("RetrievalStarted", at=10).happens("RetrievalStarted", at=20)
    assert seconds(told(story)) == [None, 10]


@pytest.mark.parametrize(("at", "begins"), [(9, [None, 10]), (10, [None]), (11, [None])])
def test_a_failure_at_the_instant_of_a_start_does_not_precede_it(at: int, begins: list[float | None]) -> None:
    story = Story().happens("RetrievalStarted", at=0).happens("RetrievalFailed", at=at)
    assert seconds(told(story.happens("RetrievalStarted", at=10))) == begins


def test_a_failure_before_the_first_start_opens_a_run() -> None:
    assert seconds(told(Story().happens("RetrievalFailed", at=5).happens("RetrievalStarted", at=10))) == [None, 10]


def test_a_failed_upload_opens_a_run_in_the_scope_of_the_saga_alone() -> None:
    for scope, begins in ((LANE_SCOPE, [None]), (SAGA_SCOPE, [None, 10])):
        story = Story(scope).happens("RetrievalStarted", at=0).happens("ImageUploadFailed", at=5)
        assert seconds(told(story.happens("RetrievalStarted", at=10))) == begins


def test_a_lane_that_no_opening_event_named_is_in_the_latest_run() -> None:
    assert told(restarted().happens("AnonymizationCompleted", A, at=2)).run_of == {A: 1}


def test_a_decision_is_in_the_run_that_it_names_else_of_its_time() -> None:
    story = restarted().happens("ImagesRetrieved", at=3, image_ids=[A]).happens("ImagesRetrieved", at=13, image_ids=[B])
    story.facts = [fact for fact in story.facts if fact.type != "RetrievalFailed"]
    story.happens("RetrievalCompleted", at=5)
    cancelled = story.decided(facts.SAGA_CANCELLED).facts[-1]
    for at, run, failed in (
        (20, None, [False, True]),
        (2, None, [True, False]),
        (20, 4, [True, False]),
        (2, 15, [False, True]),
    ):
        named = {} if run is None else {facts.RUN: (MIDNIGHT + timedelta(seconds=run)).isoformat()}
        story.facts[-1] = cancelled._replace(
            occurred_at=MIDNIGHT + timedelta(seconds=at), content={**cancelled.content, **named}
        )
        assert told(story).failed_runs == failed


# --- the end of the intake  -----------------------------------------------------------------------------------------


def silence(story: Story, number: int = -1, *, n: float = 900) -> Story:
    """The silence that follows one of the facts, n seconds later."""
    named = story.facts[number]
    after = [named.occurred_at.isoformat(), named.id]
    at = (named.occurred_at - MIDNIGHT).total_seconds() + n
    return story.ours(facts.INTAKE_SILENT, at=at, after=after, seconds=n)


def processed() -> Story:
    story = Story().happens("RetrievalStarted", at=0).happens("ImagesRetrieved", at=1, image_ids=[A])
    return story.happens("ProcessingCompleted", A, at=20)


def test_silence_completes_a_saga_whose_lanes_have_ended() -> None:
    assert told(processed()).status == "STARTED"
    assert told(silence(processed())).status == "COMPLETED"


def test_a_saga_that_goes_on_is_not_over() -> None:
    later: list[tuple[Callable[[Story], Story], str]] = [
        (lambda story: story.happens("ImagesRetrieved", at=21, image_ids=[B]), "STARTED"),
        (lambda story: story.happens("AnonymizationRequested", A, at=19), "COMPLETED"),
        (lambda story: story.decided(facts.COMMANDS_RETRIED, commands=[]), "COMPLETED"),
    ]
    for happens, status in later:
        assert told(happens(silence(processed()))).status == status
    story = silence(processed())
    named = story.facts[-2]
    story.facts.append(named._replace(id=named.id + "x", type="ProcessingStarted"))
    assert told(story).status == "STARTED", "at the same time, but a greater id"


def test_a_start_after_a_silence_opens_a_run_unless_it_breaks_the_silence() -> None:
    assert seconds(told(silence(processed()).happens("RetrievalStarted", at=1000))) == [None, 1000]
    assert seconds(told(silence(processed()).happens("RetrievalStarted", at=900))) == [None], "before it"
    late = silence(processed()).happens("RetrievalStarted", at=1000).happens("ImagesRetrieved", at=30, image_ids=[B])
    assert seconds(told(late)) == [None], "the silence was none"


@pytest.mark.parametrize("at", [5, 30])
def test_a_number_from_pulsar_beats_a_persons_whatever_the_times(at: int) -> None:
    story = processed().ours(facts.INTAKE_CLOSED, at=10, lanes=2)
    assert (told(story).over, told(story).announced, told(story).status) == (True, 2, "STARTED")
    story.happens("RetrievalCompleted", at=at, result={})
    assert told(story).announced == 2, "no number"
    story.happens("RetrievalCompleted", at=at, result={"successful_images": 1})
    assert (told(story).announced, told(story).status) == (1, "COMPLETED")


def test_a_closed_intake_opens_a_run_at_the_next_start() -> None:
    story = processed().ours(facts.INTAKE_CLOSED, at=30, lanes=1).happens("RetrievalStarted", at=40)
    assert seconds(told(story)) == [None, 40]
    assert told(story).status == "STARTED"
