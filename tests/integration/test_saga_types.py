"""The name of a saga type: one in the API, another in the database and in commands; the lists filter by it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from bridge import event_log
from sagas.applying.apply import run_apply
from sagas.definitions import registry
from sagas.models import Parked, SagaLog
from tests import parcel_saga
from tests.integration.api import Api, operator, viewer
from tests.integration.story import event, new_ids, retrieval
from tests.integration.terminal import run

pytestmark = pytest.mark.django_db(transaction=True)

PARCELS = parcel_saga.DEFINITION
PUBLIC = {"image_processing": "IMAGE_PROCESSING", PARCELS.name: "DELIVERY_OF_THE_TESTS"}


@pytest.fixture
def both() -> Iterator[dict[str, SagaLog]]:
    """A saga of each of two types, by the type's name."""
    with registry.also(PARCELS):
        task, image = new_ids(2)
        event_log.append([*retrieval(task, [image]), event("OrderAccepted", "order-1", stream=PARCELS.name)])
        run_apply()
        yield {saga.saga_type: saga for saga in SagaLog.objects.all()}


def test_answers_have_the_public_name(both: dict[str, SagaLog]) -> None:
    api = Api(viewer())
    assert {item["id"]: item["saga_type"] for item in api.get("sagas").json()["items"]} == {
        str(saga.id): PUBLIC[name] for name, saga in both.items()
    }
    for name, saga in both.items():
        assert api.get(f"sagas/{saga.id}").json()["saga_type"] == PUBLIC[name]
        assert api.get(f"sagas/by-correlation/{saga.correlation_id}").json()["saga_type"] == PUBLIC[name]
        assert [item["saga_type"] for item in api.get(f"sagas/by-task/{saga.key}").json()] == [PUBLIC[name]]
        for spelling in (name, PUBLIC[name]):
            definition = api.get(f"definitions/{spelling}").json()
            assert (definition["name"], definition["saga_type"]) == (name, PUBLIC[name])


def test_a_saga_whose_type_is_not_listed_has_a_public_name_too(both: dict[str, SagaLog]) -> None:
    saga = both[PARCELS.name]
    registry._additional.remove(PARCELS)
    try:
        found = Api(viewer()).get("sagas").json()["items"]
    finally:
        registry._additional.append(PARCELS)
    assert PUBLIC[PARCELS.name] in {item["saga_type"] for item in found if item["id"] == str(saga.id)}


def test_the_list_filters_by_either_name(both: dict[str, SagaLog]) -> None:
    api = Api(viewer())
    for name, saga in both.items():
        for spelling in (name, PUBLIC[name]):
            page = api.get("sagas", {"saga_type": spelling}).json()
            assert (page["total"], [item["id"] for item in page["items"]]) == (1, [str(saga.id)])
            assert api.get("sagas", {"saga_type": spelling, "task_id": "order-1"}).json()["total"] == (
                name == PARCELS.name
            )
    for wrong in ("Image_Processing", "unknown", " "):
        refused = api.get("sagas", {"saga_type": wrong})
        assert (refused.status_code, list(refused.json()["errors"])) == (400, ["saga_type"]), wrong


@pytest.mark.parametrize("spelling", ["delivery_of_the_tests", "DELIVERY_OF_THE_TESTS"])
def test_a_decision_takes_either_name(both: dict[str, SagaLog], spelling: str) -> None:
    event_log.append([event("ParcelPacked", "order-2", "p1", stream=PARCELS.name)])
    run_apply()
    assert Parked.objects.get().stream == PARCELS.name
    api = Api(operator())
    unknown = api.post("parked/adopt", {"key": "order-2", "saga_type": "unknown", "reason": "because"})
    assert (unknown.status_code, unknown.json()["detail"]) == (404, "unknown saga type unknown")
    accepted = api.post("parked/adopt", {"key": "order-2", "saga_type": spelling, "reason": "because"})
    assert accepted.status_code == 202
    assert SagaLog.objects.get(key="order-2").saga_type == PARCELS.name


def test_commands_keep_the_name_of_the_definition(both: dict[str, SagaLog]) -> None:
    for name, saga in both.items():
        found = run("list_sagas", "--type", name, "--json").data
        assert [(item["id"], item["saga_type"]) for item in found["items"]] == [(str(saga.id), name)]
        assert str(saga.id) in run("list_sagas", "--type", name).out


def test_the_admin_filters_by_type_where_there_are_several(both: dict[str, SagaLog]) -> None:
    client = Client()
    client.force_login(User.objects.create_superuser("ana"))
    address = reverse("admin:sagas_sagalog_changelist")
    page = client.get(address).content.decode()
    assert f"type={PARCELS.name}" in page
    assert "Delivery" in page
    listed = client.get(address, {"type": PARCELS.name}).content.decode()
    assert str(both[PARCELS.name].id) in listed
    assert str(both["image_processing"].id) not in listed
    registry._additional.remove(PARCELS)
    try:
        assert "type=image_processing" not in client.get(address).content.decode(), "one type needs no filter"
    finally:
        registry._additional.append(PARCELS)


def test_names_in_the_api_are_told_apart() -> None:
    for other, name in (
        (replace(PARCELS, public_name="IMAGE_PROCESSING"), "IMAGE_PROCESSING"),
        (replace(PARCELS, public_name="image_processing"), "image_processing"),
    ):
        with registry.also(other):
            assert f"{PARCELS.name} version 1: {name} is a name of the saga type image_processing too" in (
                registry.problems()
            )
    with registry.also(PARCELS, replace(PARCELS, version=2)):
        assert registry.problems() == []


def test_the_schema_names_what_the_filter_takes(both: dict[str, SagaLog]) -> None:
    schema = json.loads(Client().get("/api/schema?format=json").content)
    parameters = schema["paths"]["/api/v1/saga/sagas"]["get"]["parameters"]
    [found] = [item for item in parameters if item["name"] == "saga_type"]
    assert {"IMAGE_PROCESSING", "image_processing"} <= set(found["schema"]["enum"])


def test_commands_take_both_names(both: dict[str, SagaLog]) -> None:
    for name, saga in both.items():
        for spelling in (name, PUBLIC[name]):
            assert run("list_sagas", "--type", spelling, "--ids").out.split() == [str(saga.id)]
            assert name in run("describe_saga_type", spelling).out
    event_log.append([event("ImagesRetrieved", "task-9", seconds=3, image_ids=new_ids(1))])
    run_apply()
    assert run("adopt", "task-9", "--type", "IMAGE_PROCESSING", "--dry-run").code == 0


@pytest.mark.parametrize("words", [("list_sagas", "--type"), ("describe_saga_type",)])
def test_commands_refuse_an_unknown_type(words: tuple[str, ...], both: dict[str, SagaLog]) -> None:
    ran = run(*words, "Image-Processing")
    assert (ran.code, ran.out, ran.err) == (3, "", "There is no saga type Image-Processing.\n")
