"""A person closes a retrieval with a number of images: what is refused, what is shown before, and what remains."""

from __future__ import annotations

import json
import re

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import translation

from bridge import event_log
from bridge.models import Event
from sagas import queries
from sagas.applying.apply import run_apply
from sagas.engine import facts
from sagas.errors import Refused
from sagas.models import Decision, SagaLog
from tests.integration.api import Api, operator
from tests.integration.decided import request
from tests.integration.deciding import close_retrieval
from tests.integration.story import event, image_through, new_ids
from tests.integration.terminal import run

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def staff() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("ana", "ana@example.org", "x"))
    return client


def retrieving(images: int) -> SagaLog:
    """A saga of which some images are known and no end is reported; the first image has failed."""
    task, *names = new_ids(images + 1)
    event_log.append(
        [
            event("RetrievalStarted", task, seconds=0),
            event("ImagesRetrieved", task, seconds=2, image_ids=names),
            event("AnonymizationFailed", task, names[0], seconds=9, error_message="no"),
        ]
    )
    run_apply()
    return SagaLog.objects.get(key=task)


def page_of(staff: Client, saga: SagaLog) -> str:
    address = reverse("admin:sagas_decision_decide", args=["close_retrieval"])
    return staff.get(address, {"saga": str(saga.id)}).content.decode()


def preview_of(staff: Client, saga: SagaLog, images: int) -> str:
    address = reverse("admin:sagas_decision_decide", args=["close_retrieval"])
    return staff.post(address, {"saga": saga.id, "images": images, "preview": "1"}).content.decode()


def test_fewer_images_than_are_known_are_refused_at_every_entry_point(staff: Client) -> None:
    saga = retrieving(4)
    why = "4 images already known: enter at least this number"
    with pytest.raises(Refused, match=why):
        close_retrieval(saga.id, 3, request=request())
    refused = Api(operator()).post(f"sagas/{saga.id}/close-retrieval", {"images": 3, "reason": "because"})
    assert refused.status_code == 409
    assert why in refused.content.decode()
    ran = run("close_retrieval", saga.id, "--images", "3", "--reason", "because", "--yes")
    assert ran.code == 4
    assert why in ran.err
    assert why in preview_of(staff, saga, 3)
    assert not Decision.objects.exists()
    assert close_retrieval(saga.id, 4, request=request()).effects["images_awaited"] == 0


def test_the_singular_is_one_too() -> None:
    saga = retrieving(1)
    with pytest.raises(Refused, match="1 image already known: enter at least this number"):
        close_retrieval(saga.id, 0, request=request())


def test_only_images_of_the_latest_run_are_known() -> None:
    task, *images = new_ids(4)
    for fact in (
        event("RetrievalStarted", task, seconds=0),
        event("ImagesRetrieved", task, seconds=1, image_ids=images[:2]),
        event("RetrievalFailed", task, seconds=5, error_message="no network"),
        event("RetrievalStarted", task, seconds=10),
        event("ImagesRetrieved", task, seconds=11, image_ids=images[2:3]),
    ):
        event_log.append([fact])
        run_apply()
    saga = SagaLog.objects.get(key=task)
    assert saga.lanes_known == 3
    assert close_retrieval(saga.id, 1, request=request()).effects["images_known"] == 1


def test_the_page_shows_the_task_and_what_is_known(staff: Client) -> None:
    saga = retrieving(3)
    page = " ".join(page_of(staff, saga).split())
    assert saga.key in page
    assert re.search(r"<dt>Known images</dt> <dd[^>]*> 3 </dd>", page)
    assert "Until the saga has ended, you can close it again" in page


def test_the_preview_says_how_many_would_be_awaited(staff: Client) -> None:
    saga = retrieving(3)
    told = "Number: 5. Known: 3. Still awaited: 2."
    assert told in preview_of(staff, saga, 5)
    assert told in run("close_retrieval", saga.id, "--images", "5", "--dry-run").out
    asked = {"images": 5, "dry_run": True}
    effects = Api(operator()).post(f"sagas/{saga.id}/close-retrieval", asked).json()["effects"]
    assert (effects["images"], effects["images_known"], effects["images_awaited"]) == (5, 3, 2)
    assert not Decision.objects.exists()


def test_the_number_can_be_found_afterwards(staff: Client) -> None:
    saga = retrieving(3)
    ran = run("close_retrieval", saga.id, "--images", "36", "--reason", "PACS said so", "--yes")
    assert "Number: 36. Known: 3. Still awaited: 33." in ran.out
    decision = Decision.objects.get()
    assert decision.answer["effects"]["images"] == 36
    page = staff.get(reverse("admin:sagas_decision_change", args=[decision.id])).content.decode()
    assert "Number: 36. Known: 3. Still awaited: 33." in page
    titles = [entry.title for entry in queries.timeline(saga.id).items]
    assert any("number of images 36: PACS said so" in title for title in titles)
    with translation.override("es"):
        titles = [entry.title for entry in queries.timeline(saga.id).items]
    assert any("cantidad de imágenes 36: PACS said so" in title for title in titles)


def test_it_can_be_closed_again_until_the_saga_has_ended() -> None:
    task, image = new_ids(2)
    event_log.append(
        [
            event("RetrievalStarted", task, seconds=0),
            event("ImagesRetrieved", task, seconds=2, image_ids=[image]),
            *image_through(task, image, 10),
        ]
    )
    run_apply()
    saga = SagaLog.objects.get(key=task)
    for images, status in ((3, "STARTED"), (2, "STARTED"), (1, "COMPLETED")):
        assert close_retrieval(saga.id, images, request=request()).effects["status_after"] == status
    with pytest.raises(Refused, match="its retrieval is over"):
        close_retrieval(saga.id, 1, request=request())


def test_the_example_of_the_schema_is_a_preview_with_a_number() -> None:
    schemas = json.loads(Client().get("/api/schema?format=json").content)["components"]["schemas"]
    bodies = [one for one in schemas.values() if {"images", "reason"} <= set(one.get("properties", {}))]
    [body] = [one for one in bodies if "images" in one["required"]]
    assert body["properties"]["images"]["example"] > 0
    assert body["properties"]["images"]["minimum"] == 0
    decisions = [one for one in schemas.values() if {"dry_run", "reason"} <= set(one.get("properties", {}))]
    assert len(decisions) > 5
    for one in decisions:
        assert one["properties"]["dry_run"]["example"] is True
        assert one["properties"]["dry_run"]["default"] is False


def test_each_saga_is_closed_with_its_own_number_on_the_command_line() -> None:
    one, two = retrieving(2), retrieving(3)
    ran = run("close_retrieval", f"{one.id}=7", f"{two.key}=9", "--reason", "because", "--yes")
    assert ran.code == 0, ran.err
    lanes = Event.objects.filter(type=facts.INTAKE_CLOSED).values_list("key", "payload__lanes")
    assert dict(lanes) == {one.key: 7, two.key: 9}


def test_one_number_for_several_sagas_must_be_asked_for() -> None:
    ids = [str(retrieving(2).id), str(retrieving(2).id)]
    decide = ("--reason", "because", "--yes")
    refused = run("close_retrieval", *ids, "--images", "7", *decide)
    assert refused.code == 2
    assert "--for-all" in refused.err
    assert not Decision.objects.exists()
    assert run("close_retrieval", *ids, "--images", "7", "--for-all", *decide).code == 0
    assert Decision.objects.count() == 2


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["a=1", "b"], "b has no number"),
        (["a"], "a has no number"),
        (["=3"], "=3 has no number"),
        (["a=1", "a=2"], "a has two numbers"),
        (["a=x"], "'x' is not a number"),
        (["a=1", "--for-all"], "--for-all needs --images"),
    ],
)
def test_a_saga_without_a_number_of_its_own_is_refused_on_the_command_line(given: list[str], says: str) -> None:
    refused = run("close_retrieval", *given, "--reason", "because", "--yes")
    assert (refused.code, says in refused.err) == (2, True), refused.err
