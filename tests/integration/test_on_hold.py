"""What is paused, and which deadlines are on hold: the sweep, every page, the API and the commands say the same."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from bridge import backlog, event_log, heartbeats
from bridge.backlog import Reading
from bridge.models import Heartbeat
from compensation import deadlines, switches
from compensation.models import Attempt, Command, Switch
from sagas import queries
from sagas.models import SagaLog
from sagas.queries import holding, parts
from tests.integration.story import event, new_ids
from tests.integration.test_queries import failed_saga

pytestmark = pytest.mark.django_db(transaction=True)

MINUTES = timedelta(minutes=1)


@pytest.fixture
def staff() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("ana", "ana@example.org", "x"))
    return client


def well_bridge() -> None:
    heartbeats.beat("bridge:here:1", "bridge", connected=True)
    Heartbeat.objects.update(well_since=timezone.now() - 60 * MINUTES)


def overdue() -> tuple[SagaLog, Command]:
    """A saga whose first command was sent and should have been answered five minutes ago, and its command."""
    saga, _ = failed_saga()
    switches.set_switch("*", False, "test", "")
    Switch.objects.update(changed_at=timezone.now() - 60 * MINUTES)
    sent = timezone.now() - 10 * MINUTES
    rollback = Command.objects.filter(saga_id=saga.id, name="RollbackAnonymization")
    rollback.update(
        status="published", attempt=1, published_at=sent, deadline_at=sent + 5 * MINUTES, next_at=None, claimed_at=sent
    )
    command = rollback.get()
    Attempt.objects.create(command=command, round=1, number=1, started_at=sent, outcome="published")
    well_bridge()
    return saga, command


def pause_all() -> None:
    switches.set_switch("*", True, "ana", "stop 100% of it")


def pause_service() -> None:
    switches.set_switch("ANONYMIZATION", True, "ana", "stop 100% of it")


def pause_another() -> None:
    switches.set_switch("DATA_RETRIEVAL", True, "ana", "stop")


def bridge_away() -> None:
    Heartbeat.objects.filter(kind="bridge").delete()


def bridge_behind() -> None:
    heartbeats.beat("bridge:here:1", "bridge", connected=True, well=False)


def unapplied() -> None:
    event_log.append([event("ProcessingCompleted", new_ids(1)[0], seconds=1)])
    minute_ago = timezone.now() - MINUTES
    with connection.cursor() as cursor:  # the model refuses it, and the table's trigger too
        cursor.execute("ALTER TABLE bridge_event DISABLE TRIGGER USER")
        cursor.execute(
            "UPDATE bridge_event SET received_at = %s WHERE id IN (SELECT id FROM bridge_pending)", [minute_ago]
        )
        cursor.execute("ALTER TABLE bridge_event ENABLE TRIGGER USER")


def answers_undelivered() -> None:
    backlog.note([Reading("anonymization-anonymizationrolledback", 202, stalled=True)])


def others_undelivered() -> None:
    backlog.note([Reading("retrieval-started", 202, stalled=True)])


def nothing() -> None:
    """The deadline runs."""


SITUATIONS: list[tuple[Callable[[], None], str | None, str]] = [
    (nothing, None, ""),
    (pause_another, None, ""),
    (pause_all, "paused", "Sending commands to all services has been paused since"),
    (pause_service, "paused", "Sending commands to ANONYMIZATION has been paused since"),
    (bridge_away, "bridge_away", "The bridge is not connected to Pulsar."),
    (bridge_behind, "bridge_behind", "The bridge has not caught up"),
    (unapplied, "backlog", "have not been applied yet"),
    (others_undelivered, None, ""),
    (
        answers_undelivered,
        "undelivered",
        "202 messages on anonymization-anonymization",
    ),
]
HELD = [item for item in SITUATIONS if item[1]]


@pytest.mark.parametrize(("happen", "reason", "words"), SITUATIONS)
def test_a_deadline_is_shown_on_hold_exactly_when_the_sweep_does_not_act_on_it(
    happen: Callable[[], None], reason: str | None, words: str
) -> None:
    _, command = overdue()
    happen()
    hold = holding.on_hold(command)
    assert (hold.reason if hold else None) == reason
    assert words in (hold.sentence if hold else "")
    assert (deadlines.pass_deadlines(timezone.now()) == 0) == (reason is not None)


@pytest.mark.parametrize(("happen", "reason", "words"), SITUATIONS)
def test_the_sentence_the_api_and_the_commands_say_why(
    happen: Callable[[], None], reason: str | None, words: str, client: Client, settings: Any
) -> None:
    saga, command = overdue()
    happen()
    found = queries.waiting(saga)
    assert found is not None
    assert words in found.sentence
    assert (", deadline " in found.sentence) == (reason is None)  # a time that means something, or none
    detail = client.get(f"/api/v1/saga/sagas/{saga.id}").json()["waiting"]
    listed = client.get(f"/api/v1/saga/sagas/{saga.id}/commands?name=RollbackAnonymization").json()["items"][0]
    line = deadline_line(client.get(f"/api/v1/saga/sagas/{saga.id}/timeline").json()["items"])
    out = io.StringIO()
    call_command("show_saga", str(saga.id), "--json", stdout=out)
    shown = json.loads(out.getvalue())
    story = next(item for item in shown["commands"]["items"] if item["id"] == str(command.id))
    told = [detail["on_hold"], listed["on_hold"], line["detail"].get("on_hold"), shown["waiting"]["on_hold"]]
    told.append(story["on_hold"])
    assert [hold and hold["reason"] for hold in told] == [reason] * 5
    assert all(words in hold["sentence"] for hold in told if hold)
    if reason == "paused":
        assert all(hold["by"] == "ana" and hold["since"] for hold in told)
    out = io.StringIO()
    call_command("show_saga", str(saga.id), stdout=out)
    assert ("on hold" in out.getvalue()) == (reason is not None)


def deadline_line(items: list[dict[str, Any]]) -> dict[str, Any]:
    return next(
        item for item in items if item["title"] == "Deadline for ANONYMIZATION to confirm RollbackAnonymization"
    )


@pytest.mark.parametrize(("happen", "reason", "words"), SITUATIONS)
def test_every_page_that_shows_a_deadline_says_that_it_is_on_hold(
    happen: Callable[[], None], reason: str | None, words: str, staff: Client
) -> None:
    saga, command = overdue()
    happen()
    lane = reverse("admin:sagas_sagalog_lane", args=[saga.id]) + "?" + urlencode({"lane": command.entity})
    pages = (
        reverse("admin:sagas_sagalog_change", args=[saga.id]),
        lane,
        reverse("admin:compensation_command_change", args=[command.id]),
        reverse("admin:compensation_command_changelist") + "?status=published",
    )
    for page in pages:
        text = staff.get(page).content.decode()
        assert (">on hold<" in text) == (reason is not None), page


def test_a_command_that_is_not_sent_because_of_a_pause_says_so(staff: Client) -> None:
    saga, _ = failed_saga()
    pause_service()
    found = queries.waiting(saga)
    assert found is not None
    assert found.kind == "paused"
    assert found.sentence.startswith("Sending commands to ANONYMIZATION has been paused since")
    assert "by ana (stop 100% of it). RollbackAnonymization for" in found.sentence
    command = Command.objects.get(name="RollbackAnonymization")
    text = staff.get(reverse("admin:compensation_command_change", args=[command.id])).content.decode()
    assert "It will be sent when sending is resumed." in text
    assert "Will continue automatically." not in text


def test_the_attention_list_says_what_holds_an_overdue_answer() -> None:
    overdue()
    pause_service()
    item = next(item for item in queries.attention().items if item.kind == "overdue")
    assert "The deadline is on hold. Sending commands to ANONYMIZATION has been paused since" in item.advice
    assert "by ana" in item.advice


def test_a_list_of_commands_reads_what_holds_them_once(django_assert_max_num_queries: Any) -> None:
    saga, _ = failed_saga(12)
    now = timezone.now()
    Command.objects.update(status="published", published_at=now, deadline_at=now, claimed_at=now, next_at=None)
    pause_all()
    with django_assert_max_num_queries(3 + 5):
        page = parts.command_page(parts.commands(saga.id), 0, 50)
    assert len(page.items) > 12
    assert all(story.on_hold for story in page.items)


# --- the switch itself


def test_one_paused_service_is_not_shown_as_on(staff: Client) -> None:
    overdue()
    page = reverse("admin:compensation_switch_changelist")
    text = staff.get(page).content.decode()
    assert "Commands are sent to all services." in text
    assert "sg-tone-good" in text
    pause_service()
    text = staff.get(page).content.decode()
    assert "Commands are sent to all services" not in text
    assert "sg-tone-good" not in text
    assert ">partly paused<" in text
    assert "Sending commands to ANONYMIZATION has been paused since" in text
    assert "by ana (stop 100% of it)." in text


def test_the_api_says_which_switch_pauses_whom(client: Client) -> None:
    overdue()
    pause_service()

    def read() -> dict[str, dict[str, Any]]:
        return {item["service"]: item for item in client.get("/api/v1/saga/publishing").json()["items"]}

    found = read()
    assert (found["*"]["paused"], found["*"]["paused_services"]) == (False, ["ANONYMIZATION"])
    assert (found["ANONYMIZATION"]["paused_by"], found["DATA_RETRIEVAL"]["paused_by"]) == ("service", None)
    assert found["ANONYMIZATION"]["deadlines_on_hold"]["by"] == "ana"
    assert found["DATA_RETRIEVAL"]["deadlines_on_hold"] is None
    pause_all()
    found = read()
    assert {item["paused_by"] for item in found.values()} == {"all"}
    assert found["*"]["paused_services"] == ["ANONYMIZATION", "DATA_RETRIEVAL"]
    assert found["DATA_RETRIEVAL"]["deadlines_on_hold"]["service"] == "*"


def every_page(saga: SagaLog, command: Command) -> list[str]:
    lists = [
        reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist") for model in admin.site._registry
    ]
    user, group = User.objects.get(username="ana"), Group.objects.create(name="night shift")
    return [
        reverse("admin:index"),
        *lists,
        reverse("admin:sagas_sagalog_change", args=[saga.id]),
        reverse("admin:sagas_sagalog_lane", args=[saga.id]) + "?" + urlencode({"lane": command.entity}),
        reverse("admin:compensation_command_change", args=[command.id]),
        reverse("admin:sagas_decision_decide", args=["retry"]),
        reverse("admin:auth_user_change", args=[user.pk]),
        reverse("admin:auth_group_change", args=[group.pk]),
        reverse("admin:auth_user_add"),
        reverse("admin:password_change"),
    ]


def test_the_banner_is_on_every_page_and_says_which_service_by_whom_and_since_when(staff: Client) -> None:
    saga, command = overdue()
    pages = every_page(saga, command)
    without = [page for page in pages if "sg-banner" in staff.get(page).content.decode()]
    assert without == []
    pause_service()
    switches.set_switch("DATA_RETRIEVAL", True, "bea", "maintenance")
    since: datetime = Switch.objects.get(service="DATA_RETRIEVAL").changed_at
    for page in pages:
        text = staff.get(page).content.decode()
        assert text.count("sg-banner") == 2, page
        assert "Sending commands to ANONYMIZATION has been paused since" in text, page
        when = f"{since:%Y-%m-%d %H:%M:%S} UTC"
        sentence = f"Sending commands to DATA_RETRIEVAL has been paused since {when} by bea (maintenance)."
        assert sentence in text, page


def test_the_banner_shows_nothing_to_strangers_and_no_reason_to_who_may_not_see_sagas(client: Client) -> None:
    overdue()
    pause_service()
    assert "sg-banner" not in client.get(reverse("admin:login")).content.decode()
    client.force_login(User.objects.create_user("clerk", is_staff=True))
    text = client.get(reverse("admin:index")).content.decode()
    assert "Sending commands to ANONYMIZATION has been paused since" in text
    assert "stop 100%" not in text


def test_a_pause_that_the_settings_began_names_them(staff: Client, settings: Any) -> None:
    settings.SAGA_PUBLISHING = "paused"
    text = staff.get(reverse("admin:index")).content.decode()
    assert "Sending commands to all services has been paused since" in text
    assert "by the setting SAGA_PUBLISHING." in text
