"""What people read on pages and on a terminal: titles, nouns and statuses in their language, no names of the code."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import translation

from bridge import event_log
from bridge.models import Event
from sagas import own_facts
from sagas.applying.apply import run_apply
from sagas.definitions import describe, registry
from sagas.engine import facts
from sagas.engine.definition import StepStatus
from sagas.models import SagaLog, SagaStep, StepStatusChoice
from sagas.queries.timeline import timeline
from tests import order_saga
from tests.integration import decided
from tests.integration.decided import request
from tests.integration.deciding import cancel, close_retrieval
from tests.integration.story import event, new_ids
from tests.integration.terminal import run

pytestmark = pytest.mark.django_db(transaction=True)

NOT_TYPES = {"RUN", "WIRE", "OPERATOR", "COMPENSATION", "SAGAS"}


@pytest.fixture
def staff() -> Iterator[Client]:
    client = Client()
    client.force_login(User.objects.create_superuser("ana", "ana@example.org", "x"))
    with translation.override("en"):  # the language of a request stays with its thread
        yield client


def page(staff: Client, name: str, language: str = "en", **query: str) -> str:
    address = reverse(f"admin:{name}_changelist")
    return staff.get(address, query, headers={"accept-language": language}).content.decode()


def closed() -> SagaLog:
    """A running saga whose intake was closed."""
    task, image = new_ids(2)
    started = event("RetrievalStarted", task)
    event_log.append([started, event("ImagesRetrieved", task, seconds=1, image_ids=[image])])
    run_apply()
    saga = SagaLog.objects.get(key=task)
    close_retrieval(saga.id, 2, request=request())
    return saga


def test_every_fact_of_our_own_has_a_title() -> None:
    own = {value for name, value in vars(facts).items() if name.isupper() and isinstance(value, str)}
    own -= {getattr(facts, name) for name in NOT_TYPES}
    assert set(own_facts.TITLES) == own


@pytest.mark.parametrize(("language", "title"), [("en", "Retrieval closed by an operator"), ("es", "Cierre de ")])
def test_the_event_log_shows_facts_of_our_own_by_their_titles(staff: Client, language: str, title: str) -> None:
    closed()
    own = Event.objects.get(type=facts.INTAKE_CLOSED)
    address = reverse("admin:bridge_event_change", args=[own.pk])
    single = staff.get(address, headers={"accept-language": language}).content.decode()
    for text in (page(staff, "bridge_event", language), single):
        assert title in text
        assert "IntakeClosed" not in text
    assert "RetrievalStarted" in page(staff, "bridge_event", language), "events of services keep their names"


def test_the_column_of_a_commands_subject_has_the_noun_of_the_saga_type(staff: Client) -> None:
    decided.failed()
    heads = re.findall(r"<th.*?</th>", page(staff, "compensation_command"), re.DOTALL)
    texts = [" ".join(re.sub(r"<[^>]*>", " ", head).split()).lower() for head in heads]
    assert "image" in texts
    assert "entity" not in texts


def test_the_statuses_of_steps_are_translated(staff: Client) -> None:
    saga, [image, *_] = decided.running()
    assert {status.value for status in StepStatus} == set(StepStatusChoice.values)
    assert SagaStep.objects.filter(saga=saga, entity=image, status="COMPLETED").exists()
    address = reverse("admin:sagas_sagalog_lane", args=[saga.id])
    for language, label in (("en", "completed"), ("es", "completado")):
        text = staff.get(address, {"lane": image}, headers={"accept-language": language}).content.decode()
        assert re.search(rf"sg-badge[^>]*>{label}<", text)
        assert ">COMPLETED<" not in text


def test_an_empty_list_does_not_tell_readers_to_create_an_item(staff: Client) -> None:
    for name in ("bridge_event", "compensation_command", "sagas_sagalog"):
        text = page(staff, name)
        assert "This list is empty." in text
        assert "Create a new item" not in text
        assert "Add " not in text.split("This list is empty.")[1][:300]
    assert "Nothing in this list matches" in page(staff, "sagas_sagalog", q="00000000-0000-0000-0000-000000000000")
    assert "coincide con la búsqueda" in page(staff, "sagas_sagalog", "es", q="x")


def test_the_targets_that_a_decision_leaves_out_are_not_called_skipped_in_a_run(staff: Client) -> None:
    saga = closed()
    cancel(saga.id, request=request())
    other = decided.completed()[0]
    address = reverse("admin:sagas_decision_decide", args=["close_retrieval"])
    text = staff.post(address, {"ids": [saga.id, other.id], "preview": "1"}).content.decode()
    assert "<h2>Left out</h2>" in text
    assert "in this run" not in text


def test_browsers_find_an_icon() -> None:
    found = Client().get("/favicon.ico")
    assert (found.status_code, found.getvalue()[:4]) == (200, b"\0\0\1\0")
    assert found["Content-Type"] in ("image/x-icon", "image/vnd.microsoft.icon")


def test_the_timeline_on_a_terminal_calls_no_entry_news() -> None:
    saga = decided.failed()[0]
    fact = event(facts.COMMAND_EXHAUSTED, saga.key, "x", seconds=50, name="DeleteRetrievedImage", round=1)
    event_log.append([fact._replace(source=facts.COMPENSATION)])
    run_apply()
    assert "news" in {entry.kind for entry in timeline(saga.id).items}
    out = run("show_saga", saga.id).out
    assert "notice" in out
    assert " news " not in out


def test_a_saga_type_is_described_with_its_own_nouns() -> None:
    for definition in (*registry.current_definitions().values(), order_saga.DEFINITION):
        text = describe.table(definition)
        assert "lane" not in text
        if definition.entity_field:
            assert f"with its {definition.noun_of_entity.many}" in text


def test_no_description_of_a_decision_speaks_of_lanes() -> None:
    help_texts = [
        run(name, "--help").out for name in ("close_retrieval", "cancel_saga", "attach", "force_compensation")
    ]
    schema = Client().get("/api/schema/?format=json").content.decode()
    described = re.findall(r'"description":\s*"([^"]*)"', schema)
    assert len(described) > 50
    assert [text for text in (*help_texts, *described) if re.search(r"\blanes?\b", text)] == []
