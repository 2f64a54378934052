"""Whoever may write to one topic speaks for that topic alone: the field trial's attack, from the wire to the pages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from bridge import event_log
from bridge.catalog import get_catalog
from bridge.codec import get_codec
from bridge.envelope import Envelope, Message, Rejected
from bridge.models import Event, Quarantined
from bridge.topics import get_topics
from compensation.models import Command
from sagaproject.doctor import service
from sagas import queries
from sagas.applying.apply import run_apply
from sagas.models import SagaLog
from tests.integration import decided
from tests.integration.api import Api
from tests.integration.story import new_ids

pytestmark = pytest.mark.django_db(transaction=True)

TOPICS = ("processing-started", "usa-processing-completed", "processing.latam.failed", "image-processed")
GATEWAY = "gateway-3"


def own_types(topic: str) -> set[str]:
    return {kind.name for kind in get_catalog().on_topic(topic).types}


def lies(topic: str, task: str, image: str) -> Iterator[Message]:
    """Every type that the topic does not carry, by its name and by the name of its topic, for one task and image."""
    texts: dict[str, str] = {}
    for kind in get_catalog().event_types:
        if kind.name not in own_types(topic):
            texts |= dict.fromkeys((kind.name, *(name.replace("{region}", "usa") for name in kind.topics)), kind.name)
    for number, text in enumerate(texts):
        said: dict[str, Any] = {
            "id": new_ids(1)[0], "type": text, "task_id": task, "image_id": image, "image_ids": [image],
            "timestamp": "2026-03-01T13:00:00", "error_message": ("Anonimización revertida", "failed")[number % 2],
        }  # fmt: skip
        names = get_topics().names(get_topics().full(topic))
        place = f"9:{said['id']}:-1:0"
        yield Message(names.shown, names.short, place, 1, json.dumps(said).encode(), {}, producer=GATEWAY)


def receive(messages: Iterator[Message]) -> list[Envelope | Rejected]:
    found = [get_codec().decode(message, timezone.now()) for message in messages]
    event_log.store_batch(
        [one for one in found if isinstance(one, Envelope)], [one for one in found if isinstance(one, Rejected)]
    )
    run_apply()
    return found


def everything() -> dict[str, list[tuple[Any, ...]]]:
    tables = ("sagas_saga", "sagas_lane", "sagas_step", "sagas_saga_event", "sagas_parked", "compensation_command",
              "bridge_event", "bridge_pending")  # fmt: skip
    with connection.cursor() as cursor:
        found = {}
        for table in tables:
            cursor.execute(f"SELECT t::text FROM {table} t ORDER BY 1")
            found[table] = cursor.fetchall()
        return found


@pytest.mark.parametrize("topic", TOPICS)
def test_access_to_one_processing_topic_fails_nothing_confirms_nothing_and_deletes_nothing(topic: str) -> None:
    done, image = decided.completed()
    undoing, images = decided.failed()
    running, [other, _] = decided.running()
    before = everything()

    sent = [*lies(topic, done.key, image), *lies(topic, undoing.key, images[0]), *lies(topic, running.key, other)]
    found = receive(iter(sent))

    assert everything() == before, "not one row of a saga, of an event or of a command"
    assert SagaLog.objects.get(pk=done.pk).status == "COMPLETED"
    assert not Command.objects.filter(saga_id=done.pk).exists()
    assert len(found) == Quarantined.objects.count() == len(sent) > 60
    assert set(Quarantined.objects.values_list("code", "producer")) == {
        (code, GATEWAY) for code in ("wrong-topic", "unknown-type")
    }
    told = {item.link["code"]: item for item in queries.attention(kind="quarantined").items}
    count = Quarantined.objects.filter(code="wrong-topic").count()
    assert told["wrong-topic"].count == count
    assert told["wrong-topic"].sentence == (
        f"{count} messages have types that their topics do not accept, by producer: {GATEWAY} to {topic} ({count})."
    )
    assert f"{topic}, from {GATEWAY}" in service.check_event_topics().says
    for row in Quarantined.objects.all():
        assert event_log.unreadable(row), "an operator cannot let it in either"


def test_an_alias_of_another_topic_is_a_wrong_topic_too(monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = get_catalog()
    monkeypatch.setattr(catalog, "_by_text", {**catalog._by_text, "imagen-borrada": "ImageDeletionCompleted"})
    said = {"id": "e-1", "type": "imagen-borrada", "task_id": "t-1", "image_id": "i-1"}
    message = Message("image-processed", "image-processed", "9:9:-1:0", 1, json.dumps(said).encode(), {})
    [found] = receive(iter([message]))
    assert isinstance(found, Rejected)
    assert found.code == "wrong-topic"


def test_pages_and_api_say_who_called_himself_what_and_that_it_proves_nothing() -> None:
    task = new_ids(1)[0]
    good = {"id": new_ids(1)[0], "task_id": task, "timestamp": "2026-03-01T12:00:00", "type": "retrieval-started"}
    name = "<b>pacs</b>"
    topic = "retrieval-started"
    receive(iter([Message(topic, topic, "9:1:-1:0", 1, json.dumps(good).encode(), {}, producer=name)]))
    receive(iter([next(lies("image-processed", task, "i-1"))]))
    person = User.objects.create_superuser("ana", "ana@example.org", "x")
    staff, api = Client(), Api(person)
    staff.force_login(person)
    row, kept = Event.objects.get(), Quarantined.objects.get()
    for address, shown in (
        (reverse("admin:bridge_event_change", args=[row.pk]), "&lt;b&gt;pacs&lt;/b&gt;"),
        (reverse("admin:bridge_quarantined_change", args=[kept.pk]), GATEWAY),
    ):
        text = staff.get(address).content.decode()
        assert shown in text
        assert "proves nothing" in text
    saga = SagaLog.objects.get()
    assert api.get(f"sagas/{saga.id}/events").json()["items"][0]["producer"] == name
    assert api.get(f"sagas/{saga.id}/timeline").json()["items"][0]["detail"]["producer"] == name
    assert api.get("quarantine").json()["items"][0]["producer"] == GATEWAY
    assert api.get("quarantine", {"code": "wrong-topic"}).json()["total"] == 1


def test_a_forged_confirmation_on_its_own_topic_is_marked_everywhere() -> None:
    """What no topic can tell: the anonymizer says that it rolled back what nobody asked it to."""
    saga, [image, _] = decided.failed()
    said = {"id": new_ids(1)[0], "task_id": saga.key, "image_id": image, "timestamp": "2026-03-01T12:01:00"}
    topic = "anonymization-anonymizationrolledback"
    receive(iter([Message(topic, topic, "9:1:-1:0", 1, json.dumps(said).encode(), {}, producer=GATEWAY)]))
    command = Command.objects.get(saga_id=saga.id, confirmed_unsent_at__isnull=False)
    assert (command.name, command.entity, command.status) == ("RollbackAnonymization", image, "confirmed")

    person = User.objects.create_superuser("ana", "ana@example.org", "x")
    staff, api = Client(), Api(person)
    staff.force_login(person)
    page = staff.get(reverse("admin:compensation_command_change", args=[command.pk])).content.decode()
    assert "the command was never sent" in page
    assert GATEWAY in page
    listed = staff.get(reverse("admin:compensation_command_changelist") + "?confirmed_unsent=yes").content.decode()
    assert str(command.pk) in listed
    assert listed.count("never sent") >= 2
    assert "never sent" in staff.get(reverse("admin:sagas_sagalog_change", args=[saga.id])).content.decode()
    start = staff.get(reverse("admin:index"), {"kind": "all"}).content.decode()
    assert "confirmed by an event although it was never sent" in start
    assert "confirmed_unsent=yes" in start
    answer = api.get(f"sagas/{saga.id}/commands", {"confirmed_unsent": "true"}).json()
    assert [one["id"] for one in answer["items"]] == [str(command.pk)]
    assert answer["items"][0]["confirmed_unsent_at"]
    others = api.get(f"sagas/{saga.id}/commands", {"confirmed_unsent": "false"}).json()
    assert str(command.pk) not in [one["id"] for one in others["items"]]
    assert {one["confirmed_unsent_at"] for one in others["items"]} == {None}
    [item] = [one for one in api.get("attention").json()["items"] if one["kind"] == "confirmed_unsent"]
    assert (item["count"], item["saga_id"]) == (1, str(saga.id))
