"""A start that arrives after commands were planned, decided on or confirmed: in which run each belongs."""

from __future__ import annotations

import pytest

from compensation import delivery
from compensation.models import Command
from sagas.models import Lane
from tests.integration.commands import FakePublisher
from tests.integration.deciding import cancel, close_retrieval, set_publishing, terminate
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
