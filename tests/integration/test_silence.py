"""The end of the intake without an event: by silence, and what takes it back."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import translation

from bridge import clock, event_log, heartbeats
from bridge.models import Event, Heartbeat
from sagas import queries
from sagas.applying import silence
from sagas.applying.apply import run_apply
from sagas.applying.replay import compare
from sagas.definitions import registry
from sagas.engine import facts
from sagas.models import SagaLog
from tests.integration.api import Api, viewer
from tests.integration.story import START, event, image_through, new_ids
from tests.integration.terminal import run
from tests.order_saga import DEFINITION as ORDERS

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _well(settings: Any) -> None:
    settings.SAGA_INTAKE_SILENCE = 900
    silence._place.after = None
    well_bridge(3600)


def well_bridge(seconds: float) -> None:
    """A bridge that is connected and has been healthy for so long."""
    heartbeats.beat("bridge:here:1", "bridge", connected=True)
    Heartbeat.objects.update(well_since=clock.now() - timedelta(seconds=seconds))


def happens(*found: Any) -> None:
    event_log.append(list(found))
    run_apply()


def processed(task: str, image: str, seconds: int = 0) -> list[Any]:
    return [
        event("RetrievalStarted", task, seconds=seconds),
        event("ImagesRetrieved", task, seconds=seconds + 1, image_ids=[image]),
        *image_through(task, image, seconds + 10),
    ]


def quiet_for(seconds: float) -> None:
    """All sagas have not changed for so long."""
    SagaLog.objects.update(updated_at=clock.now() - timedelta(seconds=seconds))


def status(task: str) -> str:
    row = SagaLog.objects.get(key=task)
    assert compare(row.id) == []
    return row.status


def silences() -> list[Event]:
    return list(Event.objects.filter(type=facts.INTAKE_SILENT).order_by("id"))


def test_a_saga_whose_images_have_ended_is_completed_by_silence() -> None:
    task, image = new_ids(2)
    happens(*processed(task, image))
    quiet_for(899)
    assert silence.sweep() == 0
    quiet_for(901)
    assert silence.sweep() == 1
    run_apply()
    assert status(task) == "COMPLETED"
    [told] = silences()
    last = START + timedelta(seconds=15)
    assert (told.source, told.occurred_at) == ("sagas", last + timedelta(seconds=900))
    assert told.payload["after"][0] == last.isoformat()
    assert SagaLog.objects.get(key=task).end_time == told.occurred_at
    assert silence.sweep() == 0, "it has ended"


def test_the_same_silence_is_written_once() -> None:
    task, image = new_ids(2)
    happens(*processed(task, image))
    quiet_for(901)
    assert silence.sweep() == silence.sweep() == 1, "it was not applied yet"
    assert len(silences()) == 1


def test_an_event_that_comes_later_takes_it_back_until_the_next_silence() -> None:
    task, image, more = new_ids(3)
    happens(*processed(task, image))
    quiet_for(901)
    silence.sweep()
    run_apply()
    happens(event("ImageReadyForAnonymization", task, more, seconds=5))
    assert status(task) == "STARTED", "its image is open"
    happens(*image_through(task, more, 60))
    assert status(task) == "STARTED", "it goes on"
    quiet_for(901)
    assert silence.sweep() == 1
    run_apply()
    assert status(task) == "COMPLETED"
    assert len(silences()) == 2


def test_an_older_event_that_comes_later_takes_nothing_back() -> None:
    task, image = new_ids(2)
    happens(*processed(task, image))
    quiet_for(901)
    silence.sweep()
    run_apply()
    happens(event("AnonymizationRequested", task, image, seconds=3))
    assert status(task) == "COMPLETED"


@pytest.mark.parametrize("well", [None, 600])
def test_time_in_which_no_event_could_arrive_does_not_count(well: int | None) -> None:
    task, image = new_ids(2)
    happens(*processed(task, image))
    quiet_for(3000)
    if well is None:
        Heartbeat.objects.all().delete()
    else:
        well_bridge(well)
    assert silence.sweep() == 0
    well_bridge(901)
    assert silence.sweep() == 1


def test_it_can_be_switched_off(settings: Any) -> None:
    task, image = new_ids(2)
    happens(*processed(task, image))
    quiet_for(3000)
    settings.SAGA_INTAKE_SILENCE = 0
    assert silence.sweep() == 0


def test_only_a_saga_that_waits_for_nothing_else_is_ended() -> None:
    tasks = new_ids(4)
    image, other = new_ids(2)
    happens(event("RetrievalStarted", tasks[0]))
    happens(event("RetrievalStarted", tasks[1]), event("ImagesRetrieved", tasks[1], seconds=1, image_ids=[image]))
    happens(*processed(tasks[2], other), event("RetrievalCompleted", tasks[2], seconds=30, result={"total_images": 2}))
    with registry.also(ORDERS):
        happens(event("OrderPlaced", tasks[3], stream=ORDERS.name))
        quiet_for(3000)
        assert silence.sweep() == 0


def test_all_images_undone_and_no_echo() -> None:
    """The case from the field: a task of two images whose deletions no echo reports."""
    task, *images = new_ids(3)
    happens(event("RetrievalStarted", task), event("ImagesRetrieved", task, seconds=1, image_ids=images))
    for image in images:
        happens(event("AnonymizationFailed", task, image, seconds=5, error_message="no model"))
        happens(event("ImageDeletionCompleted", task, image, seconds=6))
    assert status(task) == "STARTED"
    quiet_for(901)
    assert silence.sweep() == 1
    run_apply()
    assert status(task) == "COMPENSATION_SUCCEEDED"


def test_the_run_that_is_going_on_is_looked_at_alone() -> None:
    task, first, second = new_ids(3)
    happens(event("RetrievalStarted", task), event("ImagesRetrieved", task, seconds=1, image_ids=[first]))
    happens(event("RetrievalCompleted", task, seconds=2, result={"total_images": 1}))
    happens(*processed(task, second, 100))
    assert status(task) == "STARTED", "the first run left an open image"
    quiet_for(901)
    assert silence.sweep() == 1
    run_apply()
    assert status(task) == "COMPLETED"


def test_pages_of_sagas_are_searched_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silence, "PAGE", 1)
    for number in range(2):
        task, image = new_ids(2)
        happens(*processed(task, image, number))
    quiet_for(901)
    assert sum(silence.sweep() for _ in range(3)) == 2
    run_apply()
    assert set(SagaLog.objects.values_list("status", flat=True)) == {"COMPLETED"}


# --- what people are told of it ---------------------------------------------------------------------------------------


def told(task: str) -> str:
    found = queries.waiting(SagaLog.objects.get(key=task))
    assert found is not None
    return found.sentence


def about(moment: datetime) -> str:
    return f"The saga ends automatically at about {moment:%Y-%m-%d %H:%M:%S} UTC if no further event arrives, or close"


def test_a_saga_that_ends_by_silence_says_when() -> None:
    task, image = new_ids(2)
    happens(*processed(task, image))
    quiet_for(600)
    row = SagaLog.objects.get(key=task)
    due = row.updated_at + timedelta(seconds=900)
    assert told(task) == f"All known images have ended; more may follow. {about(due)} the retrieval."
    assert Api(viewer()).get(f"sagas/{row.id}").json()["waiting"]["sentence"] == told(task)
    assert told(task) in run("show_saga", task).out
    with translation.override("es"):
        assert "termina automáticamente hacia" in told(task)


def test_the_time_counts_from_when_the_bridge_is_well_as_in_the_sweep() -> None:
    task, image = new_ids(2)
    happens(*processed(task, image))
    quiet_for(3000)
    well_bridge(600)
    words = told(task)
    [due] = re.findall(r"about (\S+ \S+) UTC", words)
    remaining = datetime.fromisoformat(f"{due}+00:00") - clock.now()
    assert timedelta(seconds=290) < remaining <= timedelta(seconds=300)
    Heartbeat.objects.all().delete()
    assert "when the bridge is connected again and has caught up" in told(task)
    assert "no further event has arrived for 900 s, or close the retrieval." in told(task)


def test_what_does_not_wait_for_silence_alone_says_nothing_of_it(settings: Any) -> None:
    tasks = new_ids(4)
    image, other, third = new_ids(3)
    happens(event("RetrievalStarted", tasks[0]))
    happens(*processed(tasks[1], image), event("ImagesRetrieved", tasks[1], seconds=40, image_ids=[other]))
    happens(*processed(tasks[2], image), event("RetrievalCompleted", tasks[2], seconds=30, result={"total_images": 2}))
    for task in tasks[:3]:
        assert "automatically" not in told(task)
    happens(*processed(tasks[3], third))
    assert "automatically" in told(tasks[3])
    settings.SAGA_INTAKE_SILENCE = 0
    assert told(tasks[3]).endswith("Expected next: RetrievalCompleted.")


def test_the_sentence_looks_at_the_latest_run_alone() -> None:
    task, first, second = new_ids(3)
    happens(event("RetrievalStarted", task), event("ImagesRetrieved", task, seconds=1, image_ids=[first]))
    happens(event("RetrievalCompleted", task, seconds=2, result={"total_images": 1}))
    happens(event("RetrievalStarted", task, seconds=100))
    assert "automatically" not in told(task)
    happens(*processed(task, second, 100))
    assert "automatically" in told(task)
