"""What all commands have in common: exit codes, ids from stdin, a line each, a look before, consent, JSON."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError

from bridge.models import Event, Pending
from compensation.models import Command
from sagas.applying.verify import all_ids, each
from sagas.errors import Invalid
from sagas.models import Attachment, Decision, Lane, Parked, SagaEvent, SagaLog, SagaStep
from tests.integration import decided
from tests.integration import deciding as actions
from tests.integration.terminal import decide, piped, run, typed

pytestmark = pytest.mark.django_db(transaction=True)

NOBODY = str(uuid.UUID(int=7))
ANSWER = {
    *("id", "exit_code", "error", "decision_id", "action", "target", "actor", "accepted_at", "commands", "effects"),
    *("repeated", "dry_run"),
}
COMMAND = {
    *("id", "name", "entity", "service", "topic", "status_before", "status_after", "body", "leaves", "released"),
    "held_by",
}


@pytest.fixture(autouse=True)
def _every_saga_is_what_its_log_folds_to() -> Any:
    yield
    assert [verdict for verdict in each(all_ids()) if not verdict.well] == []


def rows_of_everything() -> tuple[int, ...]:
    models = (Event, Pending, SagaEvent, SagaLog, Lane, SagaStep, Command, Decision, Parked, Attachment)
    return tuple(model.objects.count() for model in models)


# --- exit codes -------------------------------------------------------------------------------------------------------


def test_what_is_done_exits_with_0_and_says_what() -> None:
    saga, _ = decided.running()
    ran = run("force_compensation", saga.id, "--reason", "wrong patient", "--yes")
    assert ran.code == 0
    assert f"done force_compensation saga {saga.id}" in ran.out
    assert "saga: STARTED → COMPENSATING" in ran.out
    assert ran.err == ""
    row = Decision.objects.get()
    assert (row.door, row.reason) == ("command", "wrong patient")
    assert row.actor.startswith("cli:")


def test_what_is_called_wrongly_exits_with_2_and_does_nothing() -> None:
    saga, _ = decided.running()
    wrong: list[tuple[str, ...]] = [
        ("force_compensation", str(saga.id), "--yes"),  # no reason
        ("force_compensation", str(saga.id), "--yes", "--reason", "  "),
        ("force_compensation", str(saga.id), "--reason", "x"),  # nobody to ask
        ("force_compensation", "--reason", "x", "--yes"),  # no id
        ("force_compensation", str(saga.id), "--image", "", "--reason", "x", "--yes"),  # an empty variable of a script
        ("requeue_message", "seven", "--reason", "x", "--yes"),
        ("withdraw_commands", "--before", "yesterday", "--reason", "x", "--yes"),
        ("withdraw_commands", NOBODY, "--before", "2026-03-01", "--reason", "x", "--yes"),
        ("retry_command", NOBODY, "--saga", str(saga.id), "--reason", "x", "--yes"),
        ("attach", "--key", "", "--saga", str(saga.id), "--reason", "x", "--yes"),
        ("dismiss", "--event", " ", "--reason", "x", "--yes"),
        ("list_sagas", "--limit", "0"),
        ("list_sagas", "--from", "yesterday"),
        ("show_saga", str(saga.id), "--limit", "0"),
        ("verify_sagas", str(saga.id), "--sample", "3"),
        ("verify_sagas", "--sample", "0"),
    ]
    before = rows_of_everything()
    for words in wrong:
        ran = run(*words)
        assert (ran.code, ran.out) == (2, ""), words
        assert ran.err.count("\n") == 1, words
    assert rows_of_everything() == before


@pytest.mark.parametrize(
    "words",
    [
        ("show_saga", NOBODY),
        ("replay_saga", NOBODY),
        ("verify_sagas", NOBODY),
        ("describe_saga_type", "tea_making"),
        ("create_token", "--user", "nobody"),
    ],
)
def test_what_is_not_there_exits_with_3(words: tuple[str, ...]) -> None:
    ran = run(*words)
    assert (ran.code, ran.out) == (3, "")
    assert ran.err.endswith(".\n")


def test_decisions_on_what_is_not_there_exit_with_3() -> None:
    saga, _ = decided.running()
    for words in (
        ("force_compensation", NOBODY),
        ("cancel_saga", "no uuid at all"),
        ("cancel_saga", saga.id, "--image", "an image of another"),
        ("terminate_saga", NOBODY),
        ("resume_saga", NOBODY),
        ("retry_command", NOBODY),
        ("skip_command", "no-uuid"),
        ("mark_done", "--saga", NOBODY),
        ("attach", "--key", "k", "--saga", NOBODY),
        ("adopt", "k"),
        ("dismiss", "--key", "k"),
        ("requeue_message", 77),
        ("dismiss_message", 77),
        ("pause_publishing", "--service", "NOBODY"),
        ("resume_publishing", "--service", ""),
    ):
        ran = decide(*map(str, words))
        assert ran.code == 3, words
        assert set(ran.data) == {"id", "exit_code", "error"}
        assert ran.data["exit_code"] == 3
        assert ran.data["error"] in ran.err
    assert not Decision.objects.exists()


def test_what_the_state_forbids_exits_with_4() -> None:
    saga, _ = decided.completed()
    ran = decide("cancel_saga", saga.id)
    assert ran.code == 4
    assert "force compensation to undo what it did" in ran.data["error"]
    assert decide("terminate_saga", saga.id).code == 4
    assert decide("resume_saga", saga.id).code == 4


def test_a_database_that_is_away_exits_with_1_and_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*args: Any, **more: Any) -> Any:
        raise OperationalError('connection to server at "db" failed: refused\nsecond line with details')

    monkeypatch.setattr("sagas.queries.sagas.list_sagas", away)
    ran = run("list_sagas")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == ('Database error: connection to server at "db" failed: refused. Run manage.py doctor.\n')


def test_a_reader_that_has_read_enough_is_no_error(postgres_url: str) -> None:
    """As `manage.py describe_saga_type image_processing | head -1` in a shell."""
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", "DATABASE_URL": postgres_url}
    with subprocess.Popen(
        [sys.executable, "manage.py", "describe_saga_type", "image_processing"],
        cwd=Path(__file__).parents[2],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        said = process.stderr.read()
        assert process.wait(60) == 0
    assert said == b""


# --- many ids ---------------------------------------------------------------------------------------------------------


def test_many_ids_have_a_line_each_and_the_worst_code() -> None:
    one, _ = decided.running()
    other, _ = decided.running()
    ended, _ = decided.completed()
    ran = decide("cancel_saga", one.id, NOBODY, ended.id, other.key.upper(), one.id)
    told = [(line["id"], line["exit_code"]) for line in ran.lines]
    assert told == [(str(one.id), 0), (NOBODY, 3), (str(ended.id), 4), (other.key.upper(), 0)]
    assert ran.code == 4
    assert Decision.objects.count() == 2


def test_ids_come_from_stdin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sagas = [decided.running()[0] for _ in range(2)]
    listed = run("list_sagas", "--ids").out.split()
    assert sorted(listed) == sorted(str(saga.id) for saga in sagas)
    piped(monkeypatch, tmp_path, *listed)
    ran = decide("force_compensation")
    assert [(line["id"], line["exit_code"]) for line in ran.lines] == [(identity, 0) for identity in listed]
    piped(monkeypatch, tmp_path, *listed, NOBODY)
    again = decide("force_compensation", "-")
    assert [line.get("repeated") for line in again.lines] == [True, True, None]
    assert again.code == 3
    piped(monkeypatch, tmp_path)
    assert decide("force_compensation").code == 2


def test_many_commands_are_one_decision_with_a_line_each(settings: Any) -> None:
    saga, commands = decided.exhausted(settings, 3)
    other, _ = decided.failed(1)
    on_its_way = Command.objects.filter(saga_id=other.id)[0]
    first, *rest = (str(command.id) for command in commands)
    ran = decide("retry_command", first.upper(), *rest, first, on_its_way.id, NOBODY, "no-uuid")
    told = {line["id"]: line["exit_code"] for line in ran.lines}
    assert told == {first: 0, **dict.fromkeys(rest, 0), str(on_its_way.id): 4, NOBODY: 3, "no-uuid": 3}
    assert len(ran.lines) == len(told)
    assert ran.code == 4
    done = {line["id"]: line for line in ran.lines if line["exit_code"] == 0}
    assert set(done[first]) == ANSWER
    assert all([command["id"] for command in line["commands"]] == [identity] for identity, line in done.items())
    assert {(c["status_before"], c["status_after"]) for line in done.values() for c in line["commands"]} == {
        ("exhausted", "waiting")
    }
    assert set(done[first]["commands"][0]) == COMMAND
    assert set(Command.objects.filter(saga_id=saga.id).values_list("status", "round")) == {("waiting", 2)}


def test_a_request_key_makes_a_repeat_answer_what_the_first_did() -> None:
    sagas = [decided.running()[0] for _ in range(2)]
    words = ("cancel_saga", *(saga.id for saga in sagas), "--request-key", "job-1", "--actor", "nightly job")
    first, second = decide(*words), decide(*words)  # type: ignore[arg-type]
    assert [line["decision_id"] for line in first.lines] == [line["decision_id"] for line in second.lines]
    assert [line["repeated"] for line in second.lines] == [True, True]
    assert {line["actor"] for line in first.lines} == {"nightly job"}
    assert set(Decision.objects.values_list("request_key", flat=True)) == {f"job-1:{saga.id}" for saga in sagas}


# --- a look before ----------------------------------------------------------------------------------------------------


def test_a_dry_run_needs_neither_reason_nor_consent_shows_the_bodies_and_leaves_nothing() -> None:
    saga, images = decided.running()
    before = rows_of_everything()
    ran = run("force_compensation", saga.id, "--dry-run", "--json")
    assert ran.code == 0
    assert rows_of_everything() == before
    shown = ran.data
    assert set(shown) == ANSWER
    assert (shown["dry_run"], shown["decision_id"], shown["exit_code"], shown["error"]) == (True, None, 0, None)
    bodies = {command["id"]: command["body"] for command in shown["commands"]}
    words = run("force_compensation", saga.id, "--dry-run").out
    assert words.startswith("would force_compensation")
    assert rows_of_everything() == before
    decide("force_compensation", saga.id)
    sent = {str(command.id): command.body for command in Command.objects.filter(saga_id=saga.id)}
    assert len(sent) == 3
    # What differs is the moment at which it was planned, and nothing else.
    assert {identity: _timeless(body) for identity, body in bodies.items()} == {
        identity: _timeless(body) for identity, body in sent.items()
    }
    assert all(image in words for image in images)
    assert words.count('"data": {') == 3


def _timeless(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name != "timestamp"}


def test_a_person_is_shown_what_would_happen_and_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    saga, _ = decided.running()
    typed(monkeypatch, "no\n")
    ran = run("force_compensation", saga.id, "--reason", "because")
    assert (ran.code, ran.out) == (1, "")
    assert "would force_compensation" in ran.err
    assert f"Do this to {saga.id}? [y/N]" in ran.err
    assert "Nothing was changed." in ran.err
    typed(monkeypatch, "")  # the end of the file
    assert run("force_compensation", saga.id, "--reason", "because").code == 1
    assert not Decision.objects.exists()
    typed(monkeypatch, "yes\n")
    assert run("force_compensation", saga.id, "--reason", "because").code == 0
    assert Decision.objects.count() == 1


def test_a_person_is_not_asked_for_what_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    saga, _ = decided.completed()
    typed(monkeypatch, "y\n")
    ran = run("cancel_saga", saga.id, "--reason", "because")
    assert ran.code == 4
    assert "[y/N]" not in ran.err


def test_of_many_a_person_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sagas = [decided.running(1)[0] for _ in range(3)]
    typed(monkeypatch, "y\n")
    monkeypatch.setattr("sagas.management.decision_command.SHOWN_BEFORE", 2)
    ran = run("cancel_saga", *(saga.id for saga in sagas), "--reason", "because")
    assert ran.code == 0
    assert ran.err == "Do this to 3? [y/N] "
    assert ran.out.count("done cancel") == 3


# --- the same by every door -------------------------------------------------------------------------------------------


def test_an_empty_name_is_refused_at_every_entry_point() -> None:
    saga, _ = decided.running()
    asked = decided.request()
    calls: list[Callable[[], object]] = [
        lambda: actions.attach(saga_id=saga.id, key="", request=asked),
        lambda: actions.dismiss(key="", request=asked),
        lambda: actions.dismiss(event="", request=asked),
    ]
    for call in calls:
        with pytest.raises(Invalid):
            call()
    assert not Attachment.objects.exists()
