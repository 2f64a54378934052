"""The message stories of the field trial, from a broker through a real bridge into sagas.

tests/corpus/field.jsonl holds one case a line: what is sent, in order, and what must come of it (`expected`):
`sagas` by key (status, outcome by lane, statuses of steps by type), the commands that were planned, `parked` events as
[type, reason], codes of what is `quarantined`, and texts that the notes of events contain.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pulsar
import pytest
from django.conf import settings

from bridge.catalog import get_catalog
from bridge.codec import get_codec
from bridge.consumer import Consumer
from bridge.models import Event, Pending, Quarantined
from bridge.pulsar.inlet import Flow, Inlet
from bridge.reasons import notes_text
from bridge.topics import Topics
from compensation.models import Command
from devtools.embedded import pulsar as embedded
from sagas import actions
from sagas.actions import Action, ActionRequest
from sagas.applying import silence
from sagas.applying.apply import run_apply
from sagas.models import Parked, SagaLog

pytestmark = [pytest.mark.acceptance, pytest.mark.django_db(transaction=True), pytest.mark.timeout(300)]

CASES = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "corpus" / "field.jsonl").read_text(encoding="utf-8").splitlines()
]
FLOW = Flow(batch_size=500, wait_ms=20, window=200, silence_seconds=4)
# The small broker cannot list its topics, so the regions of the cases are named; tests/apache has the pattern.
REGIONS = ("usa", "us east", "sudamérica")
NOTHING: dict[str, Any] = {"sagas": {}, "commands": [], "parked": [], "quarantined": []}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give the URL of a broker of its own: the topics are the real ones."""
    with embedded.temporary(tmp_path_factory.mktemp("field")) as url:
        yield url


@pytest.fixture(scope="module")
def bridge(broker: str) -> Iterator[Consumer]:
    """Give the bridge's loop, subscribed to every topic; it writes to the database only in `step`."""
    topics = Topics("public", "default", {}, REGIONS)
    options = {**settings.PULSAR, "service_url": broker, "subscription": "field", "operation_timeout_seconds": 5}
    inlet = Inlet(options, topics, topics.subscriptions(get_catalog().topics), FLOW)
    yield Consumer(inlet, get_codec(), wake=lambda: None)
    inlet.close()


def publish(url: str, messages: list[tuple[str, Any]]) -> None:
    client = pulsar.Client(url, operation_timeout_seconds=5, logger=pulsar.ConsoleLogger(pulsar.LoggerLevel.Error))
    for topic, body in messages:
        raw = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
        producer = client.create_producer(f"persistent://public/default/{topic}", batching_enabled=False)
        producer.send(raw.encode())
        producer.close()
    client.close()


def take_in(bridge: Consumer, count: int) -> None:
    deadline = time.monotonic() + 60
    while Event.objects.filter(source="pulsar").count() + Quarantined.objects.count() < count:
        assert time.monotonic() < deadline
        bridge.step()


def happened() -> dict[str, Any]:
    """What came of it, in the words of the cases."""
    types = dict(Event.objects.values_list("pk", "type"))
    return {
        "sagas": {saga.key: _saga(saga) for saga in SagaLog.objects.all()},
        "commands": sorted(Command.objects.values_list("name", flat=True)),
        "parked": sorted([types[row.event], row.reason] for row in Parked.objects.all()),
        "quarantined": sorted(Quarantined.objects.values_list("code", flat=True)),
    }


def _saga(saga: SagaLog) -> dict[str, Any]:
    return {
        "status": saga.status,
        "lanes": dict(saga.lanes.filter(known=True).values_list("entity", "outcome")),
        "steps": dict(saga.steps.values_list("step_type", "status")),
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["case"]))
def test_a_story_of_the_field_ends_as_it_must(case: dict[str, Any], broker: str, bridge: Consumer) -> None:
    publish(broker, case["send"])
    take_in(bridge, len(case["send"]))
    run_apply()
    assert not Pending.objects.exists()
    expected, found = {**NOTHING, **case["expected"]}, happened()
    assert set(found["sagas"]) == set(expected["sagas"])
    for key, saga in expected["sagas"].items():
        said = {
            **found["sagas"][key],
            "steps": dict(found["sagas"][key]["steps"].items() & saga.get("steps", {}).items()),
        }
        assert said == {"steps": {}, **saga}
    assert {name: found[name] for name in ("commands", "parked", "quarantined")} == {
        name: expected[name] for name in ("commands", "parked", "quarantined")
    }
    notes = "; ".join(map(notes_text, Event.objects.values_list("note", flat=True)))
    assert all(text in notes for text in expected.get("notes", []))


@pytest.fixture
def all_undone(broker: str, bridge: Consumer) -> SagaLog:
    """Give the saga of the story in which all images are undone, and which no RetrievalCompleted ends."""
    [case] = [each for each in CASES if each["case"] == "all-undone-no-retrieval-completed"]
    publish(broker, case["send"])
    take_in(bridge, len(case["send"]))
    run_apply()
    return SagaLog.objects.get(status="STARTED")


def test_what_no_event_ends_is_ended_by_silence(all_undone: SagaLog, bridge: Consumer, settings: Any) -> None:
    settings.SAGA_INTAKE_SILENCE = 1
    silence._place.after = None
    deadline = time.monotonic() + 60
    while not silence.sweep():
        assert time.monotonic() < deadline
        bridge.step()
    run_apply()
    all_undone.refresh_from_db()
    assert all_undone.status == "COMPENSATION_SUCCEEDED"


def test_what_no_event_ends_is_ended_by_a_person(all_undone: SagaLog) -> None:
    request = ActionRequest(actor="ana", door="admin", reason="the clinic says that these were all")
    actions.get(Action.CLOSE_RETRIEVAL).decide({"saga": all_undone.id, "images": 2}, request)
    all_undone.refresh_from_db()
    assert all_undone.status == "COMPENSATION_SUCCEEDED"
