"""The commands that only look, and the one that makes tokens: each once for real, its text and its JSON."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from knox.models import get_token_model

from bridge import event_log
from sagas.applying.apply import run_apply
from sagas.models import Lane, SagaLog
from tests.integration import decided
from tests.integration.api import BASE, operator
from tests.integration.story import START, event, image_through, new_ids, retrieval
from tests.integration.terminal import Ran, decide, run

pytestmark = pytest.mark.django_db(transaction=True)

SUMMARY = {
    *("id", "correlation_id", "saga_type", "status", "steps_count", "failed_steps_count", "start_time", "end_time"),
    *("error_message", "task_id"),
}


def born(seconds: int) -> SagaLog:
    task, image = new_ids(2)
    event_log.append(retrieval(task, [image], seconds))
    run_apply()
    return SagaLog.objects.get(key=task)


def ids(ran: Ran) -> list[str]:
    assert ran.code == 0, ran.err
    return ran.out.split()


# --- list_sagas -------------------------------------------------------------------------------------------------------


def test_list_sagas_is_a_table_ids_or_json() -> None:
    assert run("list_sagas").out.splitlines()[-1] == "0 of 0"
    sagas = [born(seconds) for seconds in (0, 10, 20)]
    newest = [str(saga.id) for saga in reversed(sagas)]
    assert ids(run("list_sagas", "--ids")) == newest
    assert ids(run("list_sagas", "--ids", "--limit", 1, "--offset", 1)) == newest[1:2]
    table = run("list_sagas", "--limit", 2).out.splitlines()
    assert table[0].split() == ["saga", "status", "started", "task", "error"]
    assert [line.split()[0] for line in table[1:-1]] == newest[:2]
    assert table[-1] == "2 of 3"
    told = run("list_sagas", "--json", "--limit", 2).data
    assert {name: told[name] for name in ("total", "offset", "limit")} == {"total": 3, "offset": 0, "limit": 2}
    assert [item["id"] for item in told["items"]] == newest[:2]
    assert set(told["items"][0]) == SUMMARY
    assert told["items"][0]["start_time"] == "2026-03-01T12:00:20Z"


def test_list_sagas_filters() -> None:
    first, second = born(0), born(100)
    ended, image = decided.completed()
    at = START.isoformat()
    for words, expected in (
        (("--task", second.key.upper()), [second]),
        (("--image", image.upper()), [ended]),
        (("--status", "COMPLETED"), [ended]),
        (("--type", "IMAGE_PROCESSING"), [second, ended, first]),
        (("--task", ""), [second, ended, first]),
        (("--from", (START + timedelta(seconds=50)).isoformat()), [second]),
        (("--to", "2026-03-01T12:00:00"), [ended, first]),
        (("--from", at, "--to", at, "--status", "STARTED"), [first]),
        (("--to", "2026-03-01"), [second, ended, first]),  # the end of that day
        (("--to", "2026-02-28"), []),
        (("--from", "2026-03-01"), [second, ended, first]),
        (("--from", "2026-03-02"), []),
    ):
        assert set(ids(run("list_sagas", "--ids", *words))) == {str(saga.id) for saga in expected}, words


def test_a_program_that_misspells_an_option_exits_with_2() -> None:
    for words in (["list_sagas", "--status", "NO_SUCH"], ["cancel_saga", "--because", "x"], ["attach", "--saga", "x"]):
        ended = subprocess.run(
            [sys.executable, "manage.py", *words, "--settings", "tests.settings"],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            check=False,
        )
        assert (ended.returncode, ended.stdout) == (2, b""), words


# --- show_saga --------------------------------------------------------------------------------------------------------


def test_show_saga_shows_the_whole_story() -> None:
    saga, images = decided.failed()
    decide("cancel_saga", saga.id)  # refused: nothing of it is in the story
    decided.published()
    ran = run("show_saga", saga.key.upper(), "--payload")
    assert ran.code == 0
    for words in (
        f"saga {saga.id}",
        f"task {saga.key}",
        "COMPENSATING",
        "error: disk full",
        "images: 2",
        "commands: 3",
        "timeline: ",
        "RetrievalFailed",
        "Attempt 1 at RollbackAnonymization",
        *images,
    ):
        assert words in ran.out
    assert run("show_saga", saga.id, "--json", "--payload").data["waiting"]["sentence"] in ran.out
    assert "error: [text, 9 characters]" in run("show_saga", saga.id).out
    assert run("show_saga", saga.id, "--limit", 1).out.count("first 1 shown") == 3


def test_show_saga_as_json() -> None:
    saga, _ = decided.failed()
    told = run("show_saga", saga.id, "--json").data
    assert set(told) == SUMMARY | {"metadata", "waiting", "lanes", "commands", "timeline"}
    assert [told[name]["total"] for name in ("lanes", "commands")] == [2, 3]
    assert told["timeline"]["total"] == len(told["timeline"]["items"])
    assert set(told["waiting"]) >= {"sentence", "command", "topic", "since"}
    assert told["metadata"]["duplicates"] == 0
    assert "payload" not in json.dumps(told)


def test_a_task_that_several_sagas_know_is_its_own_sagas() -> None:
    saga, images = decided.running()
    key, _ = decided.parked()
    decide("attach", "--key", key, "--saga", saga.id, "--image", images[0])
    other, _ = decided.running()
    lone, _ = decided.parked(["ProcessingStarted"])
    decide("attach", "--key", lone, "--saga", other.id)
    assert str(other.id) in run("show_saga", lone).out
    assert str(saga.id) in run("show_saga", key).out


# --- verify_sagas -----------------------------------------------------------------------------------------------------


def test_verify_sagas_reports_a_tampered_row_and_replay_repairs_it() -> None:
    saga, images = decided.failed()
    well, _ = decided.completed()
    ran = run("verify_sagas")
    assert ran.code == 0
    assert "2 sagas verified" in ran.out
    assert ran.out.endswith("all match\n")
    Lane.objects.filter(saga=saga, entity=images[1]).update(outcome="undone")
    SagaLog.objects.filter(id=saga.id).update(status="COMPENSATION_SUCCEEDED")
    ran = run("verify_sagas")
    assert ran.code == 1
    assert f"saga {saga.id}: stored state does not match the log" in ran.out
    assert 'saga status: stored "COMPENSATION_SUCCEEDED", rebuilt from log "COMPENSATING"' in ran.out
    assert ran.out.endswith("1 differ\n")
    found, total = run("verify_sagas", "--json").lines
    assert set(found) == {"id", "differences", "error"}
    assert (found["id"], found["error"]) == (str(saga.id), "")
    assert {item["what"] for item in found["differences"]} == {"saga status", f"lane {images[1]} outcome"}
    assert {name: total[name] for name in ("verified", "different")} == {"verified": 2, "different": 1}
    assert run("verify_sagas", well.id).code == 0
    assert run("verify_sagas", well.key, saga.key).code == 1
    assert run("verify_sagas", "--sample", 5).code == 1
    assert decide("replay_saga", saga.id, "--apply").code == 0
    assert run("verify_sagas").code == 0


def test_verify_sagas_shows_a_log_that_cannot_be_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    saga, _ = decided.running(1)

    def broken(*args: Any) -> Any:
        raise KeyError("a fault")

    with monkeypatch.context() as patch:
        patch.setattr("sagas.applying.replay.replay", broken)
        ran = run("verify_sagas")
    assert ran.code == 1
    assert f"saga {saga.id}: its log cannot be folded" in ran.out


# --- describe_saga_type -----------------------------------------------------------------------------------------------


def test_describe_saga_type() -> None:
    assert "image_processing version 2" in run("describe_saga_type").out
    assert run("describe_saga_type", "--json").data["definitions"][0]["name"] == "image_processing"
    assert "RetrievalStarted" in run("describe_saga_type", "image_processing").out
    assert run("describe_saga_type", "image_processing", "--mermaid").out.startswith("flowchart")
    told = json.loads(run("describe_saga_type", "image_processing", "--json").out)
    assert set(told) == {"name", "title", "version", "key_field", "entity_field", "restarts", "events", "commands"}
    assert run("describe_saga_type", "image_processing", "--definition-version", 99).code == 3


# --- create_token -----------------------------------------------------------------------------------------------------


def test_a_token_opens_the_api_until_it_expires(settings: Any) -> None:
    settings.API_OPEN_READS = False
    user = operator()
    ran = run("create_token", "--user", user.username)
    token = ran.out.strip()
    assert ran.code == 0
    assert "not shown again" in ran.err
    assert token not in ran.err
    assert _asked(token) == 200
    assert _asked(token[:-1] + "x") == 401
    assert _asked("") == 401
    row = get_token_model().objects.get()
    assert token not in str(vars(row))
    assert timedelta(days=89) < row.expiry - timezone.now() <= timedelta(days=90)
    get_token_model().objects.update(expiry=timezone.now() - timedelta(seconds=1))
    assert _asked(token) == 401


def test_create_token_as_json_and_what_it_refuses() -> None:
    user = operator()
    told = run("create_token", "--user", user.username, "--expires", "12h", "--json").data
    assert (set(told), told["user"]) == ({"user", "token", "expires_at"}, user.username)
    for wrong in ("0d", "90", "12w", "1000000d", ""):
        assert run("create_token", "--user", user.username, "--expires", wrong).code == 2
    User.objects.update(is_active=False)
    assert run("create_token", "--user", user.username).code == 4
    assert get_token_model().objects.count() == 1


def _asked(token: str) -> int:
    headers = {"Authorization": f"Token {token}"} if token else {}
    return Client().get(f"{BASE}sagas", headers=headers).status_code


# --- a saga of many images --------------------------------------------------------------------------------------------


def test_a_large_saga_is_shown_within_its_limit() -> None:
    task, *images = new_ids(301)
    facts = [*retrieval(task, images), *(fact for image in images[:20] for fact in image_through(task, image))]
    event_log.append([*facts, event("RetrievalFailed", task, seconds=90, error_message="disk full")])
    run_apply()
    told = run("show_saga", task, "--json", "--limit", 50).data
    assert [len(told[part]["items"]) for part in ("lanes", "commands", "timeline")] == [50, 50, 50]
    assert told["lanes"]["total"] == 300
    assert uuid.UUID(told["id"]) == SagaLog.objects.get(key=task).id
