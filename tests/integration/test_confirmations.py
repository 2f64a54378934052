"""SAGA_CONFIRMATIONS: which commands an event confirms and which a person, from their planning to what people read."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import SystemCheckError

from compensation import delivery
from compensation.models import Command
from sagaproject.doctor import FindingLevel, service
from sagas.applying.apply import run_apply
from tests.integration.api import Api
from tests.integration.commands import FakePublisher
from tests.integration.story import event
from tests.integration.test_queries import failed_saga, saga, tell

MANUAL = {"RollbackAnonymization": "manual"}


def kinds() -> dict[str, str]:
    return dict(Command.objects.order_by("planned_at").values_list("name", "confirmation"))


@pytest.mark.django_db(transaction=True)
def test_the_kind_is_copied_when_a_command_is_planned_and_stays(settings: Any) -> None:
    settings.SAGA_CONFIRMATIONS = MANUAL
    row, [image] = failed_saga()
    assert kinds() == {"RollbackAnonymization": "manual", "DeleteRetrievedImage": "event"}

    settings.SAGA_CONFIRMATIONS = {"DeleteRetrievedImage": "manual"}
    tell(event("ProcessingFailed", row.key, image, seconds=61, error_message="again"))
    assert kinds() == {"RollbackAnonymization": "manual", "DeleteRetrievedImage": "event"}, "planned already"
    Command.objects.filter(name="RollbackAnonymization").update(confirmation="event")
    failed_saga()
    assert sorted(Command.objects.values_list("name", "confirmation")) == [
        ("DeleteRetrievedImage", "event"),
        ("DeleteRetrievedImage", "manual"),
        ("RollbackAnonymization", "event"),
        ("RollbackAnonymization", "event"),
    ]


@pytest.mark.django_db(transaction=True)
def test_a_manual_command_needs_a_decision_once_it_is_sent_and_an_event_still_confirms_it(settings: Any) -> None:
    settings.SAGA_CONFIRMATIONS = MANUAL
    row, [image] = failed_saga()
    delivery.publish_due(FakePublisher(), "host:1")
    tell()
    command = Command.objects.get(name="RollbackAnonymization")
    assert (command.status, command.exhausted_by, command.attempt) == ("exhausted", "manual", 1)
    assert saga(row.key).status == "COMPENSATION_FAILED"

    tell(event("AnonymizationRolledBack", row.key, image, seconds=70))
    command.refresh_from_db()
    assert (command.status, command.by_hand, command.confirmed_unsent_at) == ("confirmed", False, None)
    delivery.publish_due(FakePublisher(), "host:1")
    tell(event("ImageDeletionCompleted", row.key, image, seconds=80))
    assert saga(row.key).status == "COMPENSATION_SUCCEEDED"


@pytest.mark.django_db(transaction=True)
def test_one_decision_on_the_rollbacks_of_many_sagas_sends_their_deletions(settings: Any) -> None:
    """As docs/operations.md says: by their ids."""
    settings.SAGA_CONFIRMATIONS = MANUAL
    for _ in range(2):
        failed_saga(2)
    delivery.publish_due(FakePublisher(), "host:1")
    tell()
    waiting = Command.objects.filter(status="exhausted", exhausted_by="manual")
    ids = [str(identity) for identity in waiting.values_list("id", flat=True)]
    assert len(ids) == 4
    call_command("mark_done", *ids, "--reason", "seen in the anonymizer", "--yes", stdout=io.StringIO())
    run_apply()
    publisher = FakePublisher()
    delivery.publish_due(publisher, "host:1")
    assert [json.loads(message.body)["type"] for message in publisher.sent] == ["DeleteRetrievedImage"] * 4
    assert set(Command.objects.filter(id__in=ids).values_list("status", "by_hand")) == {("confirmed", True)}


def told(*arguments: str) -> str:
    out = io.StringIO()
    call_command("describe_saga_type", "image_processing", *arguments, stdout=out)
    return out.getvalue()


@pytest.mark.django_db
def test_command_line_api_and_doctor_show_the_kind_in_force(settings: Any) -> None:
    api = Api(User.objects.create_superuser("ana", "ana@example.org", "x"))

    def shown() -> list[dict[str, str]]:
        answers = [json.loads(told("--json")), api.get("definitions/image_processing").json()]
        return [{one["command"]: one["confirmation"] for one in answer["commands"]} for answer in answers]

    assert shown() == [{"RollbackAnonymization": "event", "DeleteRetrievedImage": "event"}] * 2
    assert "a person" not in told().replace("by a person", "")
    assert service.check_confirmations().says == "Every command is confirmed as its definition says."

    settings.SAGA_CONFIRMATIONS = {**MANUAL, "DeleteRetrievedImage": "event"}
    assert shown() == [{"RollbackAnonymization": "manual", "DeleteRetrievedImage": "event"}] * 2
    [line] = [line for line in told().split("\n") if line.startswith("RollbackAnonymization")]
    assert "a person, AnonymizationFailed (by its text), AnonymizationRolledBack" in line
    assert "a person<br/>AnonymizationFailed (by its text)<br/>AnonymizationRolledBack" in told("--mermaid")
    found = service.check_confirmations()
    assert found.level == FindingLevel.OK
    assert "RollbackAnonymization: manual instead of event" in found.says
    assert "DeleteRetrievedImage" not in found.says

    settings.SAGA_CONFIRMATIONS = {"Rollback": "manual"}
    found = service.check_confirmations()
    assert found.level == FindingLevel.ERROR
    assert "names Rollback, which is a command of no saga type" in found.says


@pytest.mark.django_db
def test_a_command_of_ours_does_not_run_with_a_setting_that_cannot_be(settings: Any) -> None:
    settings.SAGA_CONFIRMATIONS = {"Rollback": "manual"}
    with pytest.raises(SystemCheckError, match=r"sagas\.E002.*SAGA_CONFIRMATIONS names Rollback"):
        call_command("check")
