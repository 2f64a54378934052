"""Events that lack the key that their type needs, as earlier releases stored them: they start nothing."""

import pytest

from bridge import event_log
from bridge.event_log import NewFact
from bridge.models import Pending
from compensation.models import Command
from sagas.applying import sweeper
from sagas.applying.apply import run_apply
from sagas.definitions.image_processing import DEFINITION
from sagas.models import Lane, Parked, SagaLog
from tests.integration.story import event, new_ids, retrieval

pytestmark = pytest.mark.django_db

NEED_THEIR_KEY = [kind.type for kind in DEFINITION.events if kind.needs_key]


def happens(*facts: NewFact) -> None:
    event_log.append(facts)
    run_apply()


def test_a_start_without_a_task_makes_no_saga_and_stops_nobody() -> None:
    first, second, task, image = new_ids(4)
    happens(event("RetrievalStarted", image=first), event("ImageReadyForAnonymization", image=first))
    happens(event("RetrievalStarted", image=second), *retrieval(task, [image]))
    assert list(SagaLog.objects.values_list("key", flat=True)) == [task]
    assert not Pending.objects.exists()
    assert Parked.objects.filter(key="", reason="no_saga").count() == 3


@pytest.mark.parametrize("kind", NEED_THEIR_KEY)
def test_what_is_about_a_whole_saga_does_not_find_it_by_an_image(kind: str) -> None:
    task, image = new_ids(2)
    happens(*retrieval(task, [image]), event("AnonymizationCompleted", task, image, seconds=4))
    before = SagaLog.objects.values("state", "events_count", "status").get()
    happens(event(kind, image=image, seconds=9, error_message="broken", image_ids=["other"]))
    sweeper.match_parked()
    run_apply()
    assert SagaLog.objects.values("state", "events_count", "status").get() == before
    assert Lane.objects.filter(known=True).count() == 1
    assert not Command.objects.exists()
    assert list(Parked.objects.values_list("key", "by_entity")) == [("", False)]


def test_what_is_about_one_image_still_finds_its_saga() -> None:
    task, image = new_ids(2)
    happens(*retrieval(task, [image]), event("AnonymizationFailed", image=image, seconds=9, error_message="broken"))
    assert not Parked.objects.exists()
    assert Command.objects.filter(key=task, entity=image).exists()
