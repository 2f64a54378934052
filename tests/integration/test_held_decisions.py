"""Held commands as people see them and decide on them, by every door."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from bridge import event_log
from compensation import queries as outbox_queries
from compensation.models import Command, CommandStatus
from sagas import queries
from sagas.actions import Action, sentences
from sagas.applying.apply import run_apply
from sagas.errors import Refused
from sagas.models import Decision, SagaLog
from sagas.queries.waiting import waiting
from tests.integration import decided
from tests.integration import deciding as actions
from tests.integration.api import Api, operator
from tests.integration.connections import InThread, second_connection
from tests.integration.decided import request
from tests.integration.deciding import CommandSelection
from tests.integration.story import event, new_ids, retrieval
from tests.integration.terminal import decide, run
from tests.integration.test_compensation_races import until_somebody_waits_for_a_lock

pytestmark = pytest.mark.django_db(transaction=True)

REMOVE, ROLLBACK = "DeleteRetrievedImage", "RollbackAnonymization"


def commands(saga: SagaLog) -> list[Command]:
    return list(Command.objects.filter(saga_id=saga.id).order_by("entity", "name"))


def held(saga: SagaLog) -> int:
    return Command.objects.filter(saga_id=saga.id, held_since__isnull=False).count()


@pytest.fixture
def staff() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root", password="x"))
    return client


# --- what is shown ----------------------------------------------------------------------------------------------------


def test_the_saga_says_that_a_person_must_decide_and_names_the_other_task() -> None:
    saga, other, _ = decided.shared(2)
    told = waiting(saga)
    assert told is not None
    assert (told.kind, told.count, told.held_by) == ("held", 2, str(other.id))
    assert other.key in told.sentence
    assert "Release them, or withdraw them." in told.sentence
    shown = Api(operator()).get(f"sagas/{saga.id}").json()["waiting"]
    assert (shown["kind"], shown["held_by"]) == ("held", str(other.id))


def test_what_is_held_needs_attention_once_a_saga() -> None:
    saga, _, _ = decided.shared(3)
    page = queries.attention(kind="held")
    [item] = page.items
    assert (page.by_kind["held"], item.saga_id, item.count) == (1, saga.id, 6)
    assert saga.key in item.sentence
    assert [line["kind"] for line in Api(operator()).get("attention").json()["items"]] == ["held"]


def test_what_is_held_counts_as_neither_due_nor_waiting_for_publishing() -> None:
    saga, _, _ = decided.shared()
    now = max(command.planned_at for command in commands(saga))
    assert not outbox_queries.due(now).exists()
    [load] = [load for load in queries.publishing() if load.service == "DATA_RETRIEVAL"]
    assert load.waiting == 0
    actions.set_publishing(True, request=request())
    assert queries.attention(kind="paused").total == 0
    assert actions.set_publishing(False, request=request(dry_run=True)).commands == []


def test_the_api_shows_and_filters_what_is_held() -> None:
    saga, other, _ = decided.shared()
    api = Api(operator())
    found = api.get(f"sagas/{saga.id}/commands", {"held": "true"}).json()
    assert [(line["held_by"], line["status"]) for line in found["items"]] == [(str(other.id), "planned")] * 2
    assert all(line["held_since"] for line in found["items"])
    assert api.get(f"sagas/{saga.id}/commands", {"held": "false"}).json()["total"] == 0


def test_show_saga_shows_what_is_held() -> None:
    saga, other, _ = decided.shared()
    ran = run("show_saga", str(saga.id))
    assert f"planned, held because of saga {other.id}" in ran.out
    assert "command needs a decision" in ran.out
    assert [line["held_by"] for line in run("show_saga", str(saga.id), "--json").data["commands"]["items"]]


def test_the_pages_show_what_is_held_and_offer_to_release_it(staff: Client) -> None:
    saga, other, _ = decided.shared()
    command = commands(saga)[0]
    page = staff.get(reverse("admin:compensation_command_change", args=[command.id])).content.decode()
    assert "Held for a decision" in page
    assert other.key in page
    assert f"/{Action.RELEASE.value}/" in page
    assert (
        "Release all held commands" in staff.get(reverse("admin:sagas_sagalog_change", args=[saga.id])).content.decode()
    )
    address = reverse("admin:compensation_command_changelist")
    shown = staff.get(address, {"held": "yes"})
    assert [str(one.id) for one in shown.context["cl"].result_list] == sorted(str(c.id) for c in commands(saga))
    assert "release_chosen" in shown.content.decode()
    assert "release_chosen" not in staff.get(address, {"status": "published"}).content.decode()
    assert (
        reverse("admin:compensation_command_changelist") + f"?saga={saga.id}&amp;held=yes"
        in staff.get(reverse("admin:index"), {"kind": "all"}).content.decode()
    )


# --- decisions --------------------------------------------------------------------------------------------------------


def test_a_release_lets_one_command_go_permanently() -> None:
    saga, other, [image] = decided.shared()
    command = Command.objects.get(saga_id=saga.id, name=ROLLBACK)
    preview = actions.decide_command("release", command.id, request=request(dry_run=True, reason=""))
    assert held(saga) == 2
    [shown] = preview.commands
    assert (shown.entity, shown.leaves, shown.held_by, shown.body is not None) == (image, True, None, True)
    assert preview.effects["also_known_to"] == {
        str(other.id): {"task_id": other.key, "status": "COMPLETED", "count": 1}
    }
    assert any(other.key in line for line in sentences(preview))

    outcome = actions.decide_command("release", command.id, request=request())
    assert outcome.commands == preview.commands
    assert held(saga) == 1
    decided.published()
    command.refresh_from_db()
    assert (command.status, command.held_by) == (CommandStatus.PUBLISHED, None)
    assert command.hold_released_at is not None
    again = actions.decide_command("release", command.id, request=request())
    assert (again.repeated, again.decision_id) == (True, outcome.decision_id)
    row = Decision.objects.get(action="release")
    assert (row.actor, row.reason, row.saga) == ("ana", "because", saga.id)
    lines = queries.timeline(saga.id).items
    assert [line.detail["action"] for line in lines if line.kind == "decision"] == ["release"]


def test_only_what_is_held_can_be_released() -> None:
    saga, _ = decided.failed()
    with pytest.raises(Refused, match="not held"):
        actions.decide_command("release", commands(saga)[0].id, request=request())


@pytest.mark.parametrize(("action", "status"), [("release", "planned"), ("withdraw", "withdrawn"), ("skip", "skipped")])
def test_one_decision_ends_many_holds_of_many_sagas(action: str, status: str) -> None:
    sagas = [decided.shared(2) for _ in range(2)]
    ids = [command.id for saga, _, _ in sagas for command in commands(saga)]
    outcome = actions.decide_commands(action, CommandSelection(ids=ids), request=request())
    assert (outcome.effects["eligible"], outcome.effects["not_eligible"]) == (8, [])
    for saga, other, _ in sagas:
        assert {command.status for command in commands(saga)} == {status}
        assert held(saga) == 0
        if action == "release":
            assert outcome.effects["also_known_to"][str(other.id)]["count"] == 2
    kept = Decision.objects.get(saga=None)
    assert kept.answer["commands_total"] == 8
    decided.published()
    sent = Command.objects.filter(status=CommandStatus.PUBLISHED)
    assert sent.count() == (4 if action == "release" else 0)  # the rollbacks; deletions wait for them


def test_the_api_releases_one_and_many() -> None:
    saga, _, _ = decided.shared(2)
    api = Api(operator())
    first = commands(saga)[0]
    shown = api.post(f"commands/{first.id}/release", {"dry_run": True})
    assert (shown.status_code, shown.json()["commands"][0]["held_by"]) == (200, None)
    assert api.post(f"commands/{first.id}/release", {}).status_code == 400  # no reason
    assert api.post(f"commands/{first.id}/release", {"reason": "both are wrong"}).status_code == 202
    many = api.post("commands/decide", {"action": "release", "saga": str(saga.id), "reason": "both are wrong"})
    assert (many.status_code, many.json()["effects"]["eligible"]) == (202, 3)
    assert held(saga) == 0
    assert api.post(f"commands/{first.id}/release", {"reason": "again"}).json()["repeated"] is True


def test_the_command_line_releases_all_of_a_saga() -> None:
    saga, other, _ = decided.shared(2)
    told = run("release_commands", "--saga", saga.key, "--dry-run", "--reason", "look")
    assert other.key in told.out
    assert held(saga) == 4
    assert decide("release_commands", "--saga", saga.key).code == 0
    assert held(saga) == 0


def test_the_admin_releases_many(staff: Client) -> None:
    saga, other, _ = decided.shared(2)
    address = reverse("admin:sagas_decision_decide", args=["release"])
    form = {"ids": " ".join(str(command.id) for command in commands(saga)), "reason": "both are wrong"}
    shown = staff.post(address, {**form, "preview": "1"}).content.decode()
    assert other.key in shown
    assert held(saga) == 4
    assert staff.post(address, {**form, "confirm": "1"}).status_code == 302
    assert held(saga) == 0


def test_the_preview_of_a_forced_compensation_says_what_would_be_held() -> None:
    [image, first, second] = new_ids(3)
    event_log.append([*retrieval(first, [image]), *retrieval(second, [image], seconds=10)])
    run_apply()
    saga, other = SagaLog.objects.get(key=first), SagaLog.objects.get(key=second)
    preview = actions.force_compensation(saga.id, request=request(dry_run=True, reason=""))
    [command] = preview.commands
    assert (command.held_by, command.leaves) == (other.id, False)
    assert preview.effects["held"] == {str(other.id): {"task_id": second, "status": "STARTED", "count": 1}}
    [line] = list(sentences(preview))
    assert "held for a decision" in line
    assert second in line
    outcome = actions.force_compensation(saga.id, request=request())
    assert [command.held_by for command in outcome.commands] == [other.id]
    again = actions.force_compensation(saga.id, request=request())
    assert [command.held_by for command in again.commands] == [other.id]  # as the audit kept it


def test_what_goes_on_by_other_decisions_stays_held() -> None:
    """A rollback that is given up lets its deletion go on, but not past the hold; nor does a replay or a pause."""
    saga, _, _ = decided.shared()
    actions.decide_command("skip", Command.objects.get(saga_id=saga.id, name=ROLLBACK).id, request=request())
    actions.set_publishing(True, request=request())
    actions.set_publishing(False, request=request())
    deletion = Command.objects.get(saga_id=saga.id, name=REMOVE)
    assert deletion.released_at is not None
    decided.published()
    deletion.refresh_from_db()
    assert (deletion.status, deletion.held_since is not None) == (CommandStatus.PLANNED, True)


def test_a_confirmation_ends_the_hold_of_its_command() -> None:
    saga, _, [image] = decided.shared()
    event_log.append([event("ImageDeletionCompleted", saga.key, image, seconds=60)])
    run_apply()
    deletion = Command.objects.get(saga_id=saga.id, name=REMOVE)
    assert (deletion.status, deletion.held_since, deletion.held_by) == (CommandStatus.CONFIRMED, None, None)


@pytest.fixture(autouse=True)
def _no_celery(monkeypatch: pytest.MonkeyPatch) -> Any:
    from celery import current_app

    monkeypatch.setattr(current_app, "send_task", lambda name, **options: None)


def test_a_decision_that_waits_for_a_key_keeps_no_commands_of_others() -> None:
    """Whoever has the key may wait for these commands: both would wait for ever."""
    [shared, alone, stranger] = new_ids(3)
    other, task = new_ids(2)
    event_log.append([*retrieval(other, [shared]), event("RetrievalFailed", other, seconds=9, error_message="full")])
    run_apply()
    [command] = Command.objects.all()
    event_log.append([event("ProcessingCompleted", stranger, alone, seconds=20), retrieval(task, [])[0]])
    run_apply()
    saga = SagaLog.objects.get(key=task)
    event_log.append(retrieval(task, [shared, alone], seconds=30)[1:])
    with second_connection() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"image_processing:{stranger}"])
        decision = InThread(lambda: actions.cancel(saga.id, request=request()))
        until_somebody_waits_for_a_lock()
        cursor.execute("SELECT id FROM compensation_command WHERE id = %s FOR NO KEY UPDATE NOWAIT", [command.id])
    decision.result()
    assert set(Command.objects.filter(entity=shared).values_list("saga_id", "held_by")) == {
        (command.saga_id, saga.id),
        (saga.id, command.saga_id),
    }
