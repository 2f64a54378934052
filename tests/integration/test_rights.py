"""API and admin ask for the same rights: for every address, and every role that holds one right alone, or none."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, NamedTuple

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from bridge import event_log
from bridge.models import Quarantined
from compensation.models import Command, Switch
from sagas import actions, jobs
from sagas.applying.apply import run_apply
from sagas.models import Decision, Job, Parked, SagaEvent, SagaLog
from tests.integration.api import BASE
from tests.integration.decided import failed, incident, quarantined, request
from tests.integration.story import event, new_ids
from tests.integration.test_api_edges import ADDRESSES

pytestmark = pytest.mark.django_db

# Each view permission of a model that the API shows, and of one that it does not; the two rights of our own.
RIGHTS = (
    "sagas.view_sagalog",
    "sagas.view_lane",
    "sagas.view_sagastep",
    "sagas.view_sagaevent",
    "sagas.view_parked",
    "sagas.view_decision",
    "sagas.view_job",
    "sagas.run_job",
    "compensation.view_command",
    "compensation.view_attempt",
    "compensation.view_switch",
    "bridge.view_event",
    "bridge.view_quarantined",
    "auth.view_user",
    "sagas.operate_saga",
    "sagas.view_payload",
)
ROLES = ("none", *RIGHTS, "superuser")


class Pair(NamedTuple):
    """What the API shows or does, and the page of the admin that shows or does the same."""

    api: str
    admin: str
    needs: str


def login(role: str) -> Client:
    """Staff with one right, or none, or all."""
    if role == "superuser":
        user = User.objects.create_superuser("root", "root@example.org", "x")
    else:
        user = User.objects.create_user("somebody", is_staff=True)
    if role in RIGHTS:
        app, codename = role.split(".")
        user.user_permissions.set([Permission.objects.get(codename=codename, content_type__app_label=app)])
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def saga(settings: Any) -> SagaLog:
    """A saga with commands, and something of each other kind."""
    settings.API_OPEN_READS = False
    saga, _images = failed()
    event_log.append([event("ProcessingCompleted", *new_ids(1))])
    run_apply()
    Parked.objects.update(since=timezone.now() - timedelta(hours=1))
    quarantined()
    jobs.of_ids(actions.get("cancel"), [str(saga.id)], request())
    Switch.objects.update_or_create(service="*", defaults={"paused": True, "changed_at": timezone.now()})
    return saga


def page(name: str, *args: Any, query: str = "") -> str:
    return reverse(f"admin:{name}", args=args) + query


def read_pairs(saga: SagaLog) -> list[Pair]:
    one, change = f"{BASE}sagas/{saga.id}", page("sagas_sagalog_change", saga.id)
    sagas, view = page("sagas_sagalog_changelist"), "sagas.view_sagalog"
    return [
        Pair(f"{BASE}sagas", sagas, view),
        Pair(one, change, view),
        Pair(f"{BASE}sagas/by-correlation/{saga.correlation_id}", change, view),
        Pair(f"{BASE}sagas/by-task/{saga.key}", sagas, view),
        *(Pair(f"{one}/{part}", change, view) for part in ("steps", "lanes", "events", "timeline")),
        Pair(
            f"{one}/commands",
            page("compensation_command_changelist", query=f"?saga={saga.id}"),
            "compensation.view_command",
        ),
        Pair(f"{BASE}parked", page("sagas_parked_changelist"), "sagas.view_parked"),
        Pair(f"{BASE}quarantine", page("bridge_quarantined_changelist"), "bridge.view_quarantined"),
        Pair(f"{BASE}publishing", page("compensation_switch_changelist"), "compensation.view_switch"),
        *(
            Pair(f"{BASE}jobs/{job.id}{part}", page("sagas_job_change", job.id), "sagas.view_job")
            for job in Job.objects.all()
            for part in ("", "/items")
        ),
        Pair(f"{BASE}jobs", page("sagas_job_changelist"), "sagas.view_job"),
        Pair(f"{BASE}incidents", page("sagas_incident_changelist"), view),
        Pair(f"{BASE}incidents/{incident().id}", page("sagas_incident_change", incident().id), view),
        # The filter of the list names the types.
        Pair(f"{BASE}definitions", sagas, view),
        Pair(f"{BASE}definitions/image_processing", sagas, view),
    ]


def decision_pairs(saga: SagaLog) -> list[Pair]:
    one, decide = f"{BASE}sagas/{saga.id}", "sagas.operate_saga"
    command, message = Command.objects.first(), Quarantined.objects.first()
    assert command is not None
    assert message is not None
    named = {
        f"{one}/force-compensation": "force_compensation",
        f"{one}/cancel": "cancel",
        f"{one}/terminate": "terminate",
        f"{one}/resume": "resume",
        f"{one}/close-retrieval": "close_retrieval",
        f"{one}/replay": "replay",
        **{
            f"{BASE}commands/{command.id}/{name}": name.replace("-", "_")
            for name in ("retry", "skip", "mark-done", "withdraw", "release")
        },
        f"{BASE}commands/decide": "retry",
        f"{BASE}sagas/decide": "close_retrieval",
        f"{BASE}publishing": "pause_publishing",
        f"{BASE}parked/attach": "attach",
        f"{BASE}parked/adopt": "adopt",
        f"{BASE}parked/dismiss": "dismiss",
        f"{BASE}quarantine/{message.pk}/requeue": "requeue",
        f"{BASE}quarantine/{message.pk}/dismiss": "dismiss_message",
        **{f"{BASE}incidents/{incident().id}/{name}": f"{name}_incident" for name in ("acknowledge", "assign", "note")},
    }
    return [Pair(api, page("sagas_decision_decide", action), decide) for api, action in named.items()]


@pytest.mark.parametrize("role", ROLES)
def test_api_and_admin_agree_on_what_is_read(role: str, saga: SagaLog) -> None:
    client = login(role)
    for pair in read_pairs(saga):
        allowed = role in (pair.needs, "superuser")
        found = client.get(pair.api).status_code, client.get(pair.admin).status_code
        assert found == ((200, 200) if allowed else (403, 403)), pair
        assert client.head(pair.api).status_code == client.options(pair.api).status_code == found[0]


@pytest.mark.parametrize("role", ROLES)
def test_api_and_admin_agree_on_what_is_decided(role: str, saga: SagaLog) -> None:
    client = login(role)
    allowed = role in ("sagas.operate_saga", "superuser")
    for pair in decision_pairs(saga):
        api, admin = client.post(pair.api, {}, "application/json"), client.get(pair.admin)
        assert (api.status_code == 403, admin.status_code == 403) == (not allowed, not allowed), pair
        assert allowed or client.options(pair.api).status_code == 403 or pair.api == f"{BASE}publishing"
    assert allowed or not Decision.objects.exists()


@pytest.mark.parametrize("role", ROLES)
def test_payload_takes_its_own_right_beside_that_of_the_saga(role: str, saga: SagaLog) -> None:
    client = login(role)
    found = client.get(f"{BASE}sagas/{saga.id}/events", {"payload": "true"})
    assert (found.status_code == 200) is (role == "superuser")
    assert (b"disk full" in client.get(page("bridge_event_change", last_event_of(saga)), follow=True).content) is (
        role == "superuser"
    )


@pytest.mark.parametrize("role", ROLES)
def test_attention_shows_what_its_reader_may_see_elsewhere(role: str, saga: SagaLog) -> None:
    client = login(role)
    answer, start = client.get(f"{BASE}attention"), client.get(page("index", query="?kind=all"))
    assert (answer.status_code == 200) is (role in ("sagas.view_sagalog", "superuser"))
    assert ("no_rights" not in start.context) is (answer.status_code == 200)
    if answer.status_code == 200:
        kinds = {item["kind"] for item in answer.json()["items"]}
        assert {line["item"].kind for line in start.context["lines"]} == kinds
        assert kinds == (set() if role != "superuser" else {"parked", "quarantined", "paused"})


def test_each_right_beside_that_of_sagas_adds_its_kind_of_attention(saga: SagaLog) -> None:
    added = {
        "sagas.view_parked": "parked",
        "bridge.view_quarantined": "quarantined",
        "compensation.view_switch": "paused",
    }
    client = login("sagas.view_sagalog")
    user = User.objects.get(username="somebody")
    for number, (right, kind) in enumerate(added.items()):
        user.user_permissions.add(Permission.objects.get(codename=right.split(".")[1]))
        items = client.get(f"{BASE}attention").json()["items"]
        assert kind in {item["kind"] for item in items}
        assert len({item["kind"] for item in items}) == number + 1


@pytest.mark.parametrize("role", ROLES)
def test_the_index_names_what_the_login_may_read(role: str, saga: SagaLog) -> None:
    client = login(role)
    found = client.get(BASE).json()
    assert {"schema", "docs"} <= set(found)
    for name in ("sagas", "attention", "incidents", "parked", "quarantine", "publishing", "definitions", "jobs"):
        assert (client.get(f"{BASE}{name}").status_code == 200) is (name in found), name


def test_the_page_of_a_saga_shows_commands_to_those_who_may_see_them(saga: SagaLog) -> None:
    client = login("sagas.view_sagalog")
    lane = saga.lanes.first()
    assert lane is not None
    pages = (page("sagas_sagalog_change", saga.id), page("sagas_sagalog_lane", saga.id, query=f"?lane={lane.entity}"))
    for address in pages:
        assert 'id="commands"' not in client.get(address).content.decode()
    User.objects.get(username="somebody").user_permissions.add(Permission.objects.get(codename="view_command"))
    for address in pages:
        assert 'id="commands"' in client.get(address).content.decode()


def test_every_address_of_the_api_is_held_against_a_page(saga: SagaLog) -> None:
    """A new address must be put into one of the lists above."""
    seen = {_shape(pair.api, saga) for pair in (*read_pairs(saga), *decision_pairs(saga))}
    others = {"/api/schema", "/api/docs", f"{BASE}health", BASE, f"{BASE}attention"}
    # Each takes two rights: tests/integration/test_job_doors.py.
    others |= {f"{BASE}jobs/7/{name}" for name in ("start", "approve", "pause", "resume", "stop")}
    assert {address.rstrip("/") for address in ADDRESSES} - {other.rstrip("/") for other in others} == seen


def _shape(address: str, saga: SagaLog) -> str:
    """An address with a 7 for each thing that varies, as test_api_edges writes it."""
    parts = address.removeprefix(BASE).split("/")
    known = {"sagas", "by-correlation", "by-task", "commands", "parked", "quarantine", "publishing", "definitions"}
    known |= {"incidents", "jobs"}
    verbs = {"decide", "attach", "adopt", "dismiss"}
    varied = [part if number != 1 or part in known | verbs else "7" for number, part in enumerate(parts)]
    if len(parts) > 2 and parts[1] in ("by-correlation", "by-task"):
        varied[2:] = ["7"]
    return BASE + "/".join(varied)


def last_event_of(saga: SagaLog) -> int:
    last = SagaEvent.objects.filter(saga=saga).order_by("seq").last()
    assert last is not None
    return last.event
