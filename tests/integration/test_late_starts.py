"""A start that arrives after commands were planned, decided on or confirmed: in which run each belongs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest

from bridge import event_log
from compensation import delivery
from compensation.models import Command
from sagas import queries
from sagas.applying import replay
from sagas.applying.apply import run_apply
from sagas.models import Lane
from tests.integration.commands import FakePublisher
from tests.integration.deciding import cancel, close_retrieval, decide_command, set_publishing, terminate
from tests.integration.story import event, image_through, new_ids
from tests.integration.test_runs import command, failed, happens, request, retrieved, saga, started

pytestmark = pytest.mark.django_db(transaction=True)


def sent() -> list[str]:
    """Publish what is due; return the topics."""
    publisher = FakePublisher()
    delivery.publish_due(publisher, "t")
    return [message.topic for message in publisher.sent]


def test_a_deletion_that_is_required_again_waits_for_its_rollback() -> None:
    task, image = new_ids(2)
    set_publishing(True, request=request())
    for fact in (started(task, 0), failed(task, 5), retrieved(task, image, 12), started(task, 10)):
        happens(fact)
    happens(event("AnonymizationCompleted", task, image, seconds=15))
    happens(event("ProcessingFailed", task, image, seconds=20, error_message="no model"))
    set_publishing(False, request=request())

    assert sent() == ["anonymization-commands"]


def test_a_command_that_was_never_claimed_is_held_however_often_it_was_required() -> None:
    task, other, image = new_ids(3)
    half = started(task, 11)
    half = half._replace(occurred_at=half.occurred_at.replace(microsecond=500_000))
    set_publishing(True, request=request())
    happens(started(other, 0), retrieved(other, image, 1), *image_through(other, image, 10))
    happens(started(task, 0), failed(task, 5), retrieved(task, image, 12))
    for fact in (started(task, 10), failed(task, 11), half):
        happens(fact)
    happens(event("AnonymizationFailed", task, image, seconds=30, error_message="blurred"))
    set_publishing(False, request=request())

    assert sent() == []
    assert (command(task).status, command(task).round) == ("planned", 1)


def test_a_cancellation_stays_with_the_run_that_its_operator_saw() -> None:
    task, first, second = new_ids(3)
    happens(started(task, 0), retrieved(task, first, 2))
    happens(event("RetrievalCompleted", task, seconds=3, result={"total_images": 1}))
    cancel(saga(task).id, request=request())
    sent()
    happens(started(task, 10), retrieved(task, second, 11))

    outcomes = dict(Lane.objects.values_list("entity", "outcome"))
    assert outcomes == {first: "undoing", second: "open"}


def test_a_termination_stays_with_the_run_that_its_operator_saw() -> None:
    task, first, second = new_ids(3)
    set_publishing(True, request=request())
    happens(started(task, 0), retrieved(task, first, 2), failed(task, 5))
    terminate(saga(task).id, request=request())
    happens(started(task, 10), retrieved(task, second, 11))
    set_publishing(False, request=request())

    assert sent() == []
    assert not Command.objects.filter(entity=second).exists()


def test_a_closing_stays_with_the_run_that_its_operator_saw() -> None:
    task, first, second = new_ids(3)
    happens(started(task, 0), retrieved(task, first, 1))
    happens(event("RetrievalCompleted", task, seconds=3, result={}))
    happens(event("AnonymizationCompleted", task, first, seconds=5))
    close_retrieval(saga(task).id, 1, request=request())
    happens(started(task, 50), retrieved(task, second, 51), *image_through(task, second, 60))

    assert saga(task).status == "STARTED"


# --- what was carried out before the start was known ------------------------------------------------------------------


def _deletion_was_sent(task: str, image: str) -> None:
    happens(started(task, 0), failed(task, 5), retrieved(task, image, 12))
    assert sent() == ["data-retrieval-commands"]


def _shown(task: str) -> tuple[str, str, bool, bool]:
    """The lane's outcome, the deletion's status, whether it counts as overtaken, and whether people are told."""
    row = saga(task)
    told = any(item.kind == "overtaken" and item.saga_id == row.id for item in queries.attention().items)
    return Lane.objects.get(saga=row).outcome, command(task).status, command(task).overtaken_at is not None, told


@pytest.mark.parametrize("failing", [False, True], ids=["healthy", "failed in its own run"])
@pytest.mark.parametrize("together", [False, True], ids=["one by one", "in one batch"])
def test_a_confirmation_and_a_late_start_say_the_same_in_any_order(failing: bool, together: bool) -> None:
    seen = set()
    for order in itertools.permutations(range(2 + failing)):
        task, image = new_ids(2)
        _deletion_was_sent(task, image)
        facts = (
            started(task, 10),
            event("ImageDeletionCompleted", task, image, seconds=20),
            event("AnonymizationFailed", task, image, seconds=30, error_message="broken"),
        )
        arrive([facts[number] for number in order], together=together)
        seen.add(_shown(task))
        assert command(task).confirmed_unsent_at is None
        assert saga(task).status == "STARTED"
    assert seen == {("undone", "confirmed", not failing, not failing)}


def arrive(facts: Sequence[Any], *, together: bool) -> None:
    """Let facts arrive one after another, or in one batch."""
    if not together:
        happens(*facts)
        return
    event_log.append(list(facts))
    run_apply()


@pytest.mark.parametrize("was_sent", [True, False])
def test_what_a_person_marked_as_done_before_a_late_start_is_undone_and_shown(was_sent: bool) -> None:
    task, image = new_ids(2)
    happens(started(task, 0), failed(task, 5), retrieved(task, image, 12))
    if was_sent:
        sent()
    decide_command("mark_done", command(task).id, request=request())
    assert _shown(task) == ("undone", "confirmed", False, False)

    happens(started(task, 10))

    assert _shown(task) == ("undone", "confirmed", True, True)
    told = [entry.title for entry in queries.timeline(saga(task).id).items]
    sentence = (
        "DeleteRetrievedImage was carried out although the task was started again: it had been sent, or marked as "
        "done, before"
    )
    assert sentence in told


def test_one_mark_of_a_lane_does_not_depend_on_the_others() -> None:
    """Rollback and deletion are both confirmed before the start is known."""
    task, image = new_ids(2)
    happens(started(task, 0), failed(task, 5), retrieved(task, image, 12))
    happens(event("AnonymizationCompleted", task, image, seconds=13))
    sent()
    happens(event("AnonymizationRolledBack", task, image, seconds=15))
    sent()
    happens(event("ImageDeletionCompleted", task, image, seconds=20))
    assert not Command.objects.filter(key=task, overtaken_at__isnull=False).exists()
    happens(started(task, 10))
    assert Command.objects.filter(key=task, status="confirmed", overtaken_at__isnull=False).count() == 2


def test_a_skipped_deletion_that_the_service_carried_out_counts_in_any_order() -> None:
    seen = set()
    for start_first in (True, False):
        task, image = new_ids(2)
        _deletion_was_sent(task, image)
        decide_command("skip", command(task).id, request=request())
        facts = [started(task, 10), event("ImageDeletionCompleted", task, image, seconds=20)]
        happens(*(facts if start_first else reversed(facts)))
        seen.add(_shown(task))
    assert seen == {("undone", "confirmed", True, True)}


def test_a_repair_marks_what_an_earlier_release_did_not() -> None:
    task, image = new_ids(2)
    _deletion_was_sent(task, image)
    happens(event("ImageDeletionCompleted", task, image, seconds=20), started(task, 10))
    Command.objects.filter(key=task).update(overtaken_at=None)
    replay.repair(saga(task).id)
    assert command(task).overtaken_at is not None
    happens(event("AnonymizationFailed", task, image, seconds=30, error_message="broken"))
    Command.objects.filter(key=task).update(overtaken_at=command(task).settled_at)
    replay.repair(saga(task).id)
    assert command(task).overtaken_at is None


# --- an image of two sagas --------------------------------------------------------------------------------------------


def test_a_deletion_that_is_required_again_is_shown_as_held_at_once() -> None:
    task, other, image = new_ids(3)
    happens(started(task, 0), failed(task, 5), retrieved(task, image, 12), started(task, 10))
    assert command(task).status == "not_required"
    happens(started(other, 0), retrieved(other, image, 1))
    assert command(task).held_since is None

    happens(event("AnonymizationFailed", task, image, seconds=30, error_message="blurred"))

    assert (command(task).status, command(task).held_by) == ("planned", saga(other).id)
    assert [item.saga_id for item in queries.attention(kind="held").items] == [saga(task).id]
    assert sent() == []
