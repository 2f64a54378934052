"""A reason in which nobody can see anything is no reason, at whatever entry point it is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from compensation.models import Command
from sagas.actions import Action, ActionResult, is_blank
from sagas.actions.registry import ACTIONS as ACTION_PAGES
from sagas.errors import Invalid
from sagas.models import Decision
from tests.integration import decided
from tests.integration import deciding as actions
from tests.integration.api import Api, operator
from tests.integration.decided import request
from tests.integration.deciding import CommandSelection
from tests.integration.terminal import run

pytestmark = pytest.mark.django_db(transaction=True)

INVISIBLE = {
    "nothing": "",
    "space": " ",
    "tab and line": "\t\r\n",
    "no-break space": "\u00a0",
    "ideographic space": "\u3000",
    "hair space": "\u200a",
    "line separator": "\u2028",
    "paragraph separator": "\u2029",
    "zero-width space": "\u200b",
    "zero-width non-joiner": "\u200c",
    "zero-width joiner": "\u200d",
    "word joiner": "\u2060",
    "invisible times": "\u2062",
    "byte order mark": "\ufeff",
    "soft hyphen": "\u00ad",
    "left-to-right mark": "\u200e",
    "right-to-left override": "\u202e",
    "Arabic letter mark": "\u061c",
    "Mongolian vowel separator": "\u180e",
    "Hangul filler": "\u3164",
    "half-width Hangul filler": "\uffa0",
    "Hangul choseong filler": "\u115f",
    "Hangul jungseong filler": "\u1160",
    "blank Braille cell": "\u2800",
    "empty note head": "\U0001d159",
    "object replacement": "\ufffc",
    "Khmer inherent vowel": "\u17b4",
    "combining grapheme joiner": "\u034f",
    "accent on nothing": "\u0301",
    "enclosing circle on nothing": "\u20dd",
    "variation selector": "\ufe0f",
    "later variation selector": "\U000e0100",
    "tag": "\U000e0041",
    "private use": "\ue000",
    "control": "\x1b\x85",
    "all together": " \u200b\u3164\u2800\u0301\ufeff\u2028",
}
VISIBLE = ["x", "7", "?", "€", "é", "e\u0301", "\u200bx\u200b", "病", "ñ", "\u1112\u1161\u11ab", "\u2801", "👍"]
EACH = pytest.mark.parametrize("blank", INVISIBLE.values(), ids=INVISIBLE.keys())
NOBODY = "00000000-0000-0000-0000-000000000007"

API = [
    *(f"sagas/{NOBODY}/{name}" for name in ("force-compensation", "cancel", "terminate", "resume")),
    *(f"commands/{NOBODY}/{name}" for name in ("retry", "skip", "mark-done", "withdraw", "release")),
]


@EACH
def test_it_is_blank(blank: str) -> None:
    assert is_blank(blank)


@pytest.mark.parametrize("text", VISIBLE)
def test_what_shows_is_a_reason(text: str) -> None:
    assert not is_blank(text)


def test_every_decision_refuses_it() -> None:
    saga, [image] = decided.failed(1)
    command = Command.objects.filter(saga_id=saga.id)[0]
    row = decided.quarantined()
    key, [parked, _] = decided.parked()
    before = Decision.objects.count()
    calls: dict[str, Callable[[Any], ActionResult]] = {
        "force": lambda ask: actions.force_compensation(saga.id, image, request=ask),
        "cancel": lambda ask: actions.cancel(saga.id, request=ask),
        "terminate": lambda ask: actions.terminate(saga.id, request=ask),
        "resume": lambda ask: actions.resume(saga.id, request=ask),
        "close": lambda ask: actions.close_retrieval(saga.id, 1, request=ask),
        "close many": lambda ask: actions.decide("close_retrieval", ask, ids=[saga.id]),
        "replay": lambda ask: actions.replay(saga.id, apply=True, request=ask),
        "attach key": lambda ask: actions.attach(saga_id=saga.id, key=key, request=ask),
        "attach event": lambda ask: actions.attach(saga_id=saga.id, event=parked, request=ask),
        "adopt": lambda ask: actions.adopt(key, request=ask),
        "dismiss": lambda ask: actions.dismiss(key=key, request=ask),
        "requeue": lambda ask: actions.requeue_message(row.id, request=ask),
        "dismiss message": lambda ask: actions.dismiss_message(row.id, request=ask),
        "pause": lambda ask: actions.set_publishing(True, request=ask),
        "resume publishing": lambda ask: actions.set_publishing(False, request=ask),
    }
    for action in ("retry", "skip", "mark_done", "withdraw", "release"):
        calls |= on_commands(action, command)
    for name, call in calls.items():
        for blank in INVISIBLE.values():
            with pytest.raises(Invalid, match="a reason is required"):
                call(request(blank))
            assert Decision.objects.count() == before, name


def on_commands(action: str, command: Command) -> dict[str, Callable[[Any], ActionResult]]:
    many = CommandSelection(ids=[command.id])
    return {
        action: lambda ask: actions.decide_command(action, command.id, request=ask),
        f"{action} many": lambda ask: actions.decide_commands(action, many, request=ask),
    }


def test_no_one_decides_under_an_invisible_name() -> None:
    for blank in INVISIBLE.values():
        with pytest.raises(Invalid, match="actor"):
            actions.set_publishing(True, request=request(actor=blank))


def test_every_address_of_the_api_refuses_it() -> None:
    api = Api(operator())
    bodies: dict[str, dict[str, Any]] = {path: {} for path in API}
    bodies |= {
        f"sagas/{NOBODY}/replay": {"apply": True},
        f"sagas/{NOBODY}/close-retrieval": {"images": 1},
        "commands/decide": {"action": "skip", "ids": [NOBODY]},
        "sagas/decide": {"action": "close-retrieval", "ids": [NOBODY]},
        "publishing": {"paused": True},
        "parked/attach": {"saga": NOBODY, "key": "k"},
        "parked/adopt": {"key": "k"},
        "parked/dismiss": {"key": "k"},
        "quarantine/7/requeue": {},
        "quarantine/7/dismiss": {},
    }
    for path, body in bodies.items():
        for name, blank in INVISIBLE.items():
            answer = api.post(path, {**body, "reason": blank})
            assert (answer.status_code, "reason" in answer.json()["errors"]) == (400, True), (path, name)
    assert not Decision.objects.exists()


@pytest.mark.parametrize("action", sorted(ACTION_PAGES))
def test_every_form_refuses_it(action: str) -> None:
    client = Client()
    client.force_login(User.objects.create_superuser("ana", "ana@example.org", "x"))
    address = f"{reverse('admin:index')}sagas/decision/decide/{action}/"
    told = {"saga": NOBODY, "ids": NOBODY, "key": "k", "message": "7", "confirm": "1"}
    for name, blank in INVISIBLE.items():
        page = client.post(address, {**told, "reason": blank})
        assert page.status_code == 400, name
        assert "reason" in page.context["form"].errors, name
    assert not Decision.objects.exists()


COMMANDS = {
    "force_compensation": [NOBODY],
    "cancel_saga": [NOBODY],
    "terminate_saga": [NOBODY],
    "resume_saga": [NOBODY],
    "close_retrieval": [NOBODY, "--images", "1"],
    "replay_saga": [NOBODY, "--apply"],
    "retry_command": [NOBODY],
    "skip_command": [NOBODY],
    "mark_done": [NOBODY],
    "withdraw_commands": [NOBODY],
    "release_commands": [NOBODY],
    "attach": ["--saga", NOBODY, "--key", "k"],
    "adopt": ["k"],
    "dismiss": ["--key", "k"],
    "requeue_message": ["7"],
    "dismiss_message": ["7"],
    "pause_publishing": [],
    "resume_publishing": [],
    "acknowledge_incident": [NOBODY, "--until", "2099-01-01"],
    "assign_incident": [NOBODY, "--owner", "ana"],
    "note_incident": [NOBODY],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_refuses_it(command: str) -> None:
    for name, blank in INVISIBLE.items():
        ran = run(command, *COMMANDS[command], "--yes", f"--reason={blank}")
        assert (ran.code, "--reason is required" in ran.err) == (2, True), name
    assert not Decision.objects.exists()


def test_all_decisions_are_tried_here() -> None:
    assert len(COMMANDS) == len(ACTION_PAGES) == len(Action)
