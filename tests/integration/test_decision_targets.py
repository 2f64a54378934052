"""What a decision was about: one name for programs, and a text in the reader's language."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone, translation

from sagas import actions, targets
from sagas.actions import on_commands
from sagas.models import Decision
from tests.integration import decided
from tests.integration.decided import request
from tests.integration.deciding import CommandSelection, cancel, decide_commands, set_publishing
from tests.integration.terminal import run

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def staff() -> Iterator[Client]:
    client = Client(headers={"accept-language": "es"})
    client.force_login(User.objects.create_superuser("ana", "ana@example.org", "x"))
    with translation.override("en"):  # the language of a request stays with its thread
        yield client


def row() -> Decision:
    return Decision.objects.latest("decided_at")


def shown(decision: Decision, language: str) -> str:
    with translation.override(language):
        return targets.text(decision.target, decision.target_data)


def test_a_target_is_read_in_the_readers_language_and_keeps_its_name_for_programs(staff: Client) -> None:
    set_publishing(True, "ANONYMIZATION", request=request())
    assert row().target == "publishing to ANONYMIZATION"
    assert shown(row(), "en") == "sending commands to ANONYMIZATION"
    assert shown(row(), "es") == "envío de comandos a ANONYMIZATION"
    for page in (reverse("admin:sagas_decision_changelist"), reverse("admin:sagas_decision_change", args=[row().id])):
        text = staff.get(page).content.decode()
        assert "envío de comandos a ANONYMIZATION" in text
        assert "publishing to ANONYMIZATION" not in text


def test_an_image_as_a_target_is_called_by_its_noun(staff: Client) -> None:
    saga, images = decided.running()
    outcome = cancel(saga.id, images[0], request=request())
    assert outcome.as_json()["target"] == row().target == f"saga {saga.id} lane {images[0]}"
    assert shown(row(), "en") == f"image {images[0]} of saga {saga.id}"
    assert shown(row(), "es") == f"imagen {images[0]} de la saga {saga.id}"
    said = run("cancel_saga", saga.id, "--image", images[1], "--reason", "because", "--yes").out
    assert f"image {images[1]} of saga {saga.id}" in said
    assert " lane " not in said


def test_the_target_of_an_earlier_release_is_shown_as_it_is(staff: Client) -> None:
    old = Decision.objects.create(
        id=uuid.uuid4(), action="pause_publishing", target="publishing to X", actor="ana", door="api", reason="r",
        decided_at=timezone.now(), request_key="k",
    )  # fmt: skip
    assert shown(old, "es") == "publishing to X"
    assert targets.stored(old.target, old.target_data).name == "publishing to X"
    assert "publishing to X" in staff.get(reverse("admin:sagas_decision_change", args=[old.id])).content.decode()


def test_a_request_of_an_earlier_release_is_recognized_by_the_name_of_its_target() -> None:
    keyed = request(idempotency_key="k")
    Decision.objects.create(
        id=uuid.uuid4(), action="pause_publishing", target="publishing to ANONYMIZATION", actor=keyed.actor, door="api",
        reason="r", decided_at=timezone.now(), request_key="k",
    )  # fmt: skip
    again = set_publishing(True, "ANONYMIZATION", request=keyed)
    assert (again.repeated, again.as_json()["target"]) == (True, "publishing to ANONYMIZATION")


@pytest.mark.parametrize("code", sorted(targets.TEXTS))
def test_every_code_has_a_name_and_a_text_in_each_language(code: str) -> None:
    data = {
        **dict.fromkeys(("saga", "lane", "command", "key", "event", "service", "time", "mark", "job", "incident"), "x"),
        "count": 2,
        "message": 7,
        "saga_type": "image_processing",
    }
    target = targets.DecisionTarget(code, data)
    texts = []
    for language in ("en", "es"):
        with translation.override(language):
            texts.append(str(target))
    assert target.name
    assert texts[0] != texts[1] or code in ("saga", "sagas"), "the noun is the same in both"


@pytest.mark.parametrize("data", [{"code": "of a later release"}, {"code": "lane", "image": "x"}, {}, None])
def test_a_target_of_a_later_release_is_shown_by_its_name(data: Any) -> None:
    assert targets.text("saga 1 lane 2", data) == "saga 1 lane 2"


# --- which commands of a saga a decision is about ---------------------------------------------------------------------


def test_the_rule_alone_says_which_commands_are_left_out_of_a_whole_saga() -> None:
    saga, _images = decided.failed()
    decided.published()
    spec = actions.get("mark_done")
    assert spec.effect is actions.get("skip").effect, "its effect knows no command that the rule leaves out"
    left_out = replace(
        spec, allowed=lambda view: "only by its own id" if view.of_many and view.command.attempt is not None else None
    )
    selection = CommandSelection(saga=saga.id)
    of_saga = on_commands.ANSWER.of_saga
    assert on_commands.CommandSelection(saga=saga.id).find(left_out, of_saga) == []
    before = len(selection.find("mark_done"))
    outcome = decide_commands("mark_done", selection, request=request(dry_run=True))
    assert (outcome.effects["eligible"], outcome.effects["not_eligible"]) == (before, [])
