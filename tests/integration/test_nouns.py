"""Another saga type speaks its own words: no page, no text of the API and no command names an image or a task."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import get_commands, load_command_class
from django.test import Client
from django.urls import reverse
from django.utils import translation
from drf_spectacular.generators import SchemaGenerator

from bridge import clock, event_log
from bridge.event_log import NewFact
from bridge.models import Event, Source
from compensation.models import Command
from sagas import nouns
from sagas.actions import ACTIONS, Action
from sagas.admin.formatting import decide_url
from sagas.applying.apply import run_apply
from sagas.definitions import image_processing, registry
from sagas.engine import facts as kinds
from sagas.models import Decision, Parked, SagaLog
from sagas.queries.timeline import _event_title, changes
from tests import parcel_saga
from tests.integration.story import event, image_through, new_ids, retrieval
from tests.integration.terminal import run

pytestmark = pytest.mark.django_db(transaction=True)

PARCELS = parcel_saga.DEFINITION
FOREIGN = re.compile(
    r"\b(images?|tasks?|imaging|retrievals?|retrieved|im[aá]gen(es)?|tareas?|recuperaci(ón|ones))\b",
    re.IGNORECASE,
)
# What is part of an interface and has its names for good: options of commands, and what GET definitions says `of`.
OPTIONS = re.compile(r"--(images?|task)( (IMAGE|TASK))?\b")
NO_TEXT = re.compile(r"<(script|style)\b.*?</\1>|<[^>]*>", re.DOTALL)
ADDRESSES = re.compile(r'href="(/admin/(?:sagas|compensation|bridge)/[^"#]*)"')
# The list of saga types is where the other type may be named.
OTHER_TITLE = "Image processing"
JSON = "application/json"
REASON = {"reason": "because"}


@pytest.fixture(autouse=True)
def english() -> Iterator[None]:
    """A request in another language leaves its language behind in this thread."""
    with translation.override("en"):
        yield


@pytest.fixture(params=["alone", "beside"])
def listed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The saga type alone, as in a product of its own, or beside image_processing."""
    others = () if request.param == "alone" else (image_processing.DEFINITION,)
    monkeypatch.setattr(registry, "DEFINITIONS", (*others, PARCELS))
    assert registry.problems() == []
    return str(request.param)


def fact(kind: str, order: str, parcel: str = "", seconds: int = 0, **body: Any) -> NewFact:
    return event(kind, order, parcel, seconds=seconds, stream=PARCELS.name, **body)


@pytest.fixture
def orders(listed: str) -> dict[str, SagaLog]:
    """Orders in the states that have something to say: failed, held, waiting, complete; and events without an order."""
    story = [
        fact("OrderAccepted", "failed"),
        fact("OrderClosed", "failed", seconds=1, content={"parcels": 3}),
        *(fact("ParcelPacked", "failed", parcel, seconds=2) for parcel in ("p1", "p2")),
        fact("ParcelDelivered", "failed", "p1", seconds=3),
        fact("ParcelLost", "failed", "p2", seconds=4, error_message="fell off the truck"),
        *(fact("OrderAccepted", order) for order in ("held", "twin", "open", "done")),
        *(fact("ParcelPacked", order, "shared", seconds=2) for order in ("held", "twin")),
        fact("ParcelPacked", "open", "p3", seconds=2),
        fact("ParcelPacked", "done", "p4", seconds=2),
        fact("ParcelDelivered", "done", "p4", seconds=3),
        fact("OrderClosed", "done", seconds=4, content={"parcels": 1}),
        fact("ParcelPacked", "unknown", "p5"),
        fact("ParcelPacked", "failed"),
        fact("ParcelLost", "", "p6"),
    ]
    event_log.append(story)
    run_apply()
    event_log.append([fact("ParcelLost", "held", "shared", seconds=9)])
    run_apply()
    found = {saga.key: saga for saga in SagaLog.objects.all()}
    assert set(found) == {"failed", "held", "twin", "open", "done"}
    assert Command.objects.filter(held_since__isnull=False).exists()
    assert Parked.objects.count() == 3
    return found


@pytest.fixture
def staff(orders: dict[str, SagaLog]) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("ana"))
    return client


def foreign(text: str) -> list[str]:
    """The words of the other saga type, with what stands around them."""
    # The name of a decision belongs to the interface, as its address does.
    text = re.sub(r"close[_-]retrieval", "", text.replace(OTHER_TITLE, ""))
    return [text[max(0, found.start() - 60) : found.end() + 40] for found in FOREIGN.finditer(text)]


def visible(page: str) -> str:
    return html.unescape(re.sub(r"\s+", " ", NO_TEXT.sub(" ", page)))


def pages(staff: Client) -> Iterator[tuple[str, str]]:
    """Every page of the admin that can be reached from its lists, with what a person reads there."""
    models = ("sagas_sagalog", "compensation_command", "bridge_event", "sagas_parked", "sagas_decision")
    todo = [reverse("admin:index"), *(reverse(f"admin:{model}_changelist") for model in models)]
    seen: set[str] = set()
    while todo:
        address = todo.pop(0)
        shape = re.sub(r"[0-9a-f-]{36}|[0-9]+|=[^&]*", "…", address)
        if shape in seen:
            continue
        seen.add(shape)
        answer = staff.get(address, follow=True)
        assert answer.status_code == 200, address
        page = answer.content.decode()
        yield address, visible(page)
        todo += [html.unescape(link) for link in ADDRESSES.findall(page)]


def test_no_page_speaks_of_images_or_tasks(staff: Client, orders: dict[str, SagaLog], listed: str) -> None:
    read = dict(pages(staff))
    for saga in orders.values():
        address = reverse("admin:sagas_sagalog_change", args=[saga.id])
        read[address] = visible(staff.get(address).content.decode())
    assert len(read) > 30
    assert {address: found for address, text in read.items() if (found := foreign(text))} == {}
    failed = read[reverse("admin:sagas_sagalog_change", args=[orders["failed"].id])]
    for words in ("Order id", "Parcels", "The parcel failed", "1 parcel added", "Delivery (delivery_of_the_tests)"):
        assert words in failed
    held = read[reverse("admin:sagas_sagalog_change", args=[orders["held"].id])]
    assert "because the order twin also has the parcel" in held
    the_list = read[reverse("admin:sagas_sagalog_changelist")]
    assert ("Parcels" in the_list, "Entities" in the_list) == (listed == "alone", listed == "beside")


def texts(value: Any) -> Iterator[str]:
    """Every text in an answer, but for names of fields."""
    if isinstance(value, dict):
        yield from (text for name, part in value.items() if name != "of" for text in texts(part))
    elif isinstance(value, list):
        yield from (text for part in value for text in texts(part))
    elif isinstance(value, str):
        yield value


def test_no_answer_of_the_api_speaks_of_images_or_tasks(staff: Client, orders: dict[str, SagaLog]) -> None:
    sagas = [f"sagas/{saga.id}{part}" for saga in orders.values() for part in ("", "/timeline", "/lanes", "/commands")]
    said: list[str] = []
    for path in [*sagas, "sagas", "parked", "attention", "publishing", f"definitions/{PARCELS.name}"]:
        answer = staff.get(f"/api/v1/saga/{path}", headers={"accept": "application/json"})
        assert answer.status_code == 200, path
        said += texts(answer.json())
    body = {"reason": "because", "dry_run": True, "lane": "p9"}
    refused = staff.post(f"/api/v1/saga/sagas/{orders['open'].id}/cancel", body, "application/json")
    assert (refused.status_code, refused.json()["detail"]) == (404, "the saga has no parcel p9")
    assert [found for text in said for found in foreign(text)] == []
    assert {"The parcel failed", "1 parcel added"} <= set(said)
    assert any("because the order twin also has the parcel" in text for text in said)


def test_no_page_of_a_decision_speaks_of_images_or_tasks(staff: Client, orders: dict[str, SagaLog]) -> None:
    read = {
        (name, language): visible(staff.get(decide_url(name, saga=orders["open"].id), headers=in_(language)).text)
        for name in ACTIONS
        for language in ("en", "es")
    }
    assert {page: found for page, text in read.items() if (found := foreign(text))} == {}
    close, cerrar = read[Action.CLOSE_RETRIEVAL, "en"], read[Action.CLOSE_RETRIEVAL, "es"]
    for words in (
        "Close the dispatch",
        "no further parcels will arrive",
        "Number of parcels",
        "How many parcels the dispatch brought",
    ):
        assert words in close
    for words in ("Cerrar the dispatch", "no llegarán más parcels", "Cantidad de parcels"):
        assert words in cerrar


def test_the_intake_is_closed_in_the_words_of_the_type(staff: Client, orders: dict[str, SagaLog]) -> None:
    saga = orders["open"]
    page = reverse("admin:sagas_sagalog_change", args=[saga.id])
    assert "Close dispatch…" in visible(staff.get(page).text)
    address = f"/api/v1/saga/sagas/{saga.id}/close-retrieval"
    refused = staff.post(address, {"images": 10**7, "reason": "because"}, "application/json")
    assert refused.json()["detail"] == "the number of parcels must be from 0 to 1000000"
    answer = staff.post(
        decide_url(Action.CLOSE_RETRIEVAL, saga=saga.id), {"saga": saga.id, "images": 2, "confirm": "1"} | REASON
    )
    assert answer.status_code == 302
    told = visible(staff.get(page).text)
    assert "Accepted: Close the dispatch." in told
    assert "Dispatch closed by ana, number of parcels 2: because" in told
    decision = Decision.objects.get()
    audit = visible(staff.get(reverse("admin:sagas_decision_change", args=[decision.id])).text)
    assert "close dispatch" in audit
    ended = staff.post(f"/api/v1/saga/sagas/{orders['done'].id}/close-retrieval", {"images": 1} | REASON, JSON)
    assert ended.json()["detail"] == "the saga is COMPLETED: its dispatch is over"
    event_log.append([fact("OrderClosed", "open", seconds=9, content={"parcels": 3})])
    run_apply()
    known = staff.post(address, {"images": 1} | REASON, JSON)
    assert known.json()["detail"] == "the service reported that the dispatch is over and brought 3: its number counts"
    assert foreign(told + audit) == []


def test_no_item_that_needs_attention_speaks_of_images_or_tasks(staff: Client, orders: dict[str, SagaLog]) -> None:
    of_failed = Command.objects.filter(saga_id=orders["failed"].id)
    command = of_failed.earliest("name")
    old, now = clock.now() - timedelta(days=1), clock.now()
    answered = {"settled_at": now, "next_at": None, "deadline_at": None}
    states: dict[str, dict[str, Any]] = {
        "exhausted": {"status": "exhausted", "exhausted_by": "deadline", "attempt": 1, **answered},
        "overdue": {"status": "published", "attempt": 1, **answered, "settled_at": None, "deadline_at": old},
        "confirmed_unsent": {"status": "confirmed", **answered, "confirmed_unsent_at": now},
        "overtaken": {"status": "confirmed", **answered, "overtaken_at": now, "confirmed_unsent_at": None},
        "": {"status": "not_required", **answered, "overtaken_at": None},
    }
    said: dict[str, str] = {}
    for kind, state in states.items():
        of_failed.filter(id=command.id).update(**state)
        said |= told_of(staff, kind, reverse("admin:compensation_command_change", args=[command.id]))
    SagaLog.objects.update(start_time=old, last_event_at=old, updated_at=old)
    Parked.objects.update(since=old)
    SagaLog.objects.filter(key="done").update(set_aside_at=now, set_aside_error="KeyError")
    for kind in ("stalled", "held", "parked", "set_aside"):
        said |= told_of(staff, kind, reverse("admin:sagas_sagalog_change", args=[orders["open"].id]))
    assert {kind: found for kind, text in said.items() if (found := foreign(text))} == {}
    assert "although its order was started again" in said["overtaken en"]
    assert "although the order was started again" in said["overtaken en"]
    assert "if no further parcels will arrive, close the dispatch" in said["stalled en"]
    assert "because the order was started again: nothing is sent" in said[" en"]


def told_of(staff: Client, kind: str, address: str) -> dict[str, str]:
    """What the API, the start page and a page of its own say of a kind of item, in both languages."""
    items = staff.get("/api/v1/saga/attention", headers={"accept": "application/json"}).json()["items"]
    assert not kind or kind in {item["kind"] for item in items}
    return {
        f"{kind} {language}": visible(
            staff.get(reverse("admin:index"), headers=in_(language)).text
            + staff.get(address, headers=in_(language)).text
            + " ".join(texts(items))
        )
        for language in ("en", "es")
    }


def in_(language: str) -> dict[str, str]:
    return {"accept-language": language}


def test_a_new_run_and_silence_speak_of_what_the_saga_is_about() -> None:
    assert nouns.of(PARCELS.name).intake_noun == "intake", "it is not listed"
    with registry.also(PARCELS):
        assert changes({"run": 2}, nouns.of(PARCELS.name)) == ["Run 2 of the order began"]
        silent = Event(source=Source.SAGAS, type=kinds.INTAKE_SILENT, stream=PARCELS.name)
        told = _event_title(silent, {"seconds": 900}, {}, nouns.of(PARCELS.name))
        assert told == ("news", "No event for 900 seconds: no further parcels are expected")


def described(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, part in value.items():
            yield from [part] if name in ("description", "summary") and isinstance(part, str) else described(part)
    elif isinstance(value, list):
        yield from (text for part in value for text in described(part))


def test_no_description_of_the_api_speaks_of_images_or_tasks(listed: str) -> None:
    schema = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    said = list(described(schema))
    assert len(said) > 100
    assert [found for text in said for found in foreign(text)] == []
    assert ("parcel id" in said, "entity id" in said) == (listed == "alone", listed == "beside")


def test_no_command_speaks_of_images_or_tasks(orders: dict[str, SagaLog], listed: str) -> None:
    decide = ("--reason", "because", "--dry-run")
    said = [
        *(run("show_saga", key) for key in orders),
        run("list_sagas"),
        run("list_sagas", "--type", PARCELS.name),
        run("describe_saga_type"),
        run("describe_saga_type", PARCELS.name),
        run("describe_saga_type", PARCELS.name, "--mermaid"),
        run("cancel_saga", "open", *decide),
        run("close_retrieval", "open", "--images", "2", *decide),
        run("close_retrieval", "done", "--images", "2", *decide),
        run("close_retrieval", "open", "--images", "10000000", *decide),
        run("cancel_saga", "open", "--image", "p9", *decide),
        run("force_compensation", "done", *decide),
        run("terminate_saga", "held", *decide),
        run("release_commands", "--saga", "held", *decide),
        run("attach", "--key", "unknown", "--saga", "open", *decide),
        run("adopt", "unknown", *decide),
        run("dismiss", "--key", "unknown", *decide),
        run("show_saga", "nothing"),
        run("verify_sagas"),
    ]
    texts_ = [done.out + done.err for done in said]
    assert all(texts_)
    assert [found for text in texts_ for found in foreign(text)] == []
    shown = run("show_saga", "failed").out
    assert f"{PARCELS.name} version 1, order failed" in shown
    assert "parcels: 2" in shown
    assert "saga has no parcel p9" in "".join(texts_)
    assert "1 parcel collection" in "".join(texts_)


@pytest.mark.usefixtures("listed")
def test_no_help_of_a_command_speaks_of_images_or_tasks() -> None:
    ours = [name for name, app in get_commands().items() if app == "sagas"]
    assert len(ours) > 15
    for name in ours:
        out = io.StringIO()
        load_command_class("sagas", name).create_parser("manage.py", name).print_help(out)
        assert foreign(OPTIONS.sub("", out.getvalue())) == [], name


def test_image_processing_keeps_its_words() -> None:
    task, image = new_ids(2)
    event_log.append([*retrieval(task, [image]), *image_through(task, image)[:3]])
    run_apply()
    client = Client()
    client.force_login(User.objects.create_superuser("ana"))
    address = reverse("admin:sagas_sagalog_change", args=[SagaLog.objects.get().id])
    page = visible(client.get(address).content.decode())
    for words in ("Task id", "Images", "Image ", "1 image added", "Image processing (image_processing)"):
        assert words in page
    spanish = visible(client.get(address, headers={"accept-language": "es"}).content.decode())
    for words in ("Id de tarea", "Imágenes", "Imagen ", "se agregó 1 imagen", "Procesamiento de imágenes"):
        assert words in spanish
    assert re.search(r"\b(images?|tasks?|retrieval)\b", spanish, re.IGNORECASE) is None


def test_nouns_follow_the_reader_and_the_registry() -> None:
    with translation.override("en"):
        assert nouns.shared() == nouns.of("image_processing")
        assert nouns.shared().key_id == "task id"
        assert nouns.command("DeleteRetrievedImage", 1) == "1 image deletion"
        assert nouns.command("DeleteRetrievedImage", 2) == "2 image deletions"
        assert nouns.command("Unknown", 2) == "2 commands Unknown"
        assert nouns.of("of_a_newer_release").entity_noun == "entity"
    with translation.override("es"):
        assert nouns.shared().the_entity == "la imagen"
        assert nouns.shared().the_intake == "la recuperación"
        assert nouns.command("RollbackAnonymization", 1) == "1 reversión de anonimización"
    with registry.also(PARCELS), translation.override("en"):
        assert nouns.shared().key_id == "saga key"
        assert nouns.of(PARCELS.name).the_key == "the order"
        assert (nouns.shared().intake_noun, nouns.of(PARCELS.name).the_intake) == ("intake", "the dispatch")
        assert nouns.titles() == {"image_processing": "Image processing", PARCELS.name: "Delivery"}
