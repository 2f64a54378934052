"""Commands that were sent and never answered: when they are told, how often, and what counts as an answer."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import translation

from bridge.sql import Statement
from compensation import delivery, outbox, statements
from compensation.models import AttemptOutcome, Command
from compensation.never_answered import NeverAnswered, never_answered
from sagaproject.doctor import FindingLevel, service
from sagas import queries
from tests.integration.api import Api
from tests.integration.commands import NOW, FakePublisher, later, new_command

pytestmark = pytest.mark.django_db

ROLLBACK = ("ANONYMIZATION", "RollbackAnonymization")
DELETION = ("DATA_RETRIEVAL", "DeleteRetrievedImage")


def sent(at: float = 0, *, name: str = ROLLBACK[1], **changes: Any) -> Command:
    """A command that was sent, at so many seconds after NOW."""
    where = {"service": ROLLBACK[0], "topic": "anonymization-commands"} if name == ROLLBACK[1] else {}
    command = new_command(str(uuid4()), name, **{**where, "planned_at": later(at), **changes})
    outbox.plan([command])
    delivery.publish_due(FakePublisher(), "host:1", clock=lambda: later(at))
    return Command.objects.get(id=command.id)


def end(command: Command, outcome: AttemptOutcome) -> Command:
    statements.end_attempts([{"command_id": str(command.id), "outcome": outcome, "ended_at": later(400), "error": ""}])
    return change(command, status="waiting", next_at=later(401), deadline_at=None)


def missed(at: float = 0, **changes: Any) -> Command:
    return end(sent(at, **changes), AttemptOutcome.DEADLINE)


def change(command: Command, **values: Any) -> Command:
    Command.objects.filter(id=command.id).update(**values)
    return command


def confirmed(command: Command, **values: Any) -> Command:
    return change(command, **{"status": "confirmed", "settled_at": NOW, "deadline_at": None, "next_at": None, **values})


def items() -> list[queries.AttentionItem]:
    return list(queries.attention(kind="never_answered").items)


def test_one_item_for_each_service_and_command_with_their_exact_number() -> None:
    for second in range(12):
        missed(second)
    sent(20)
    missed(30, name=DELETION[1])
    rollback, deletion = sorted(items(), key=lambda item: item.count, reverse=True)
    assert (rollback.count, rollback.since, rollback.latest) == (13, NOW, later(20))
    assert rollback.sentence == (
        "13 RollbackAnonymization commands were sent to ANONYMIZATION, and none was ever answered."
    )
    assert "ANONYMIZATION subscribes to topic anonymization-commands" in rollback.advice
    assert "set RollbackAnonymization to manual in SAGA_CONFIRMATIONS" in rollback.advice
    assert rollback.link == {"service": "ANONYMIZATION", "command": "RollbackAnonymization"}
    assert deletion.sentence == (
        "1 DeleteRetrievedImage command was sent to DATA_RETRIEVAL, and it was never answered."
    )
    assert [item.latest for item in items()] == [later(30), later(20)], "the newest first"
    assert queries.attention().by_kind["never_answered"] == 2
    found = service.check_answers()
    assert found.level == FindingLevel.WARNING
    assert "RollbackAnonymization (topic anonymization-commands): 13 sent, none ever confirmed or refused" in found.says


def test_what_waits_for_its_first_answer_is_not_told() -> None:
    sent()
    assert items() == []


def unanswered(_: Command) -> None:
    """The service stays silent."""


def refuse(command: Command) -> None:
    end(command, AttemptOutcome.REFUSED)


def by_hand(command: Command) -> None:
    confirmed(command, by_hand=True)


def skip(command: Command) -> None:
    change(command, status="skipped", settled_at=NOW, deadline_at=None)


def without_being_sent(command: Command) -> None:
    confirmed(command, confirmed_unsent_at=NOW)


def by_being_sent(command: Command) -> None:
    confirmed(command, confirmation="published")


def though_manual(command: Command) -> None:
    confirmed(command, confirmation="manual")


def as_another_service(_: Command) -> None:
    """Two saga types may send commands of one name to different services."""
    confirmed(sent(2, service="ELSEWHERE"))


@pytest.mark.parametrize("answer", [confirmed, though_manual, refuse])
def test_one_answer_ends_it(answer: Callable[[Command], Any]) -> None:
    missed()
    other = sent(1)
    assert len(items()) == 1
    answer(other)
    assert items() == []
    assert service.check_answers().well


@pytest.mark.parametrize("answer", [unanswered, by_hand, skip, without_being_sent, by_being_sent, as_another_service])
def test_what_is_no_answer_of_the_service_to_us_does_not_end_it(answer: Callable[[Command], Any]) -> None:
    missed()
    answer(sent(1))
    assert len(items()) == 1
    assert not service.check_answers().well


@pytest.mark.parametrize("kind", ["manual", "published"])
def test_commands_that_no_event_confirms_do_not_count(kind: str) -> None:
    missed(1)
    sent(0, confirmation=kind)
    [item] = items()
    assert (item.count, item.since) == (1, later(1))
    Command.objects.update(confirmation=kind)
    assert items() == []


def test_what_was_never_sent_does_not_count() -> None:
    missed()
    outbox.plan([new_command(str(uuid4()), ROLLBACK[1], service=ROLLBACK[0])])
    assert [item.count for item in items()] == [1]


def test_a_command_that_people_retry_was_sent_nevertheless() -> None:
    """A retry begins a new round, in which nothing was sent yet."""
    command = change(missed(), status="waiting", round=2, attempt=0)
    assert [item.count for item in items()] == [1]
    assert "1 sent" in service.check_answers().says
    change(command, status="exhausted", settled_at=NOW, next_at=None, exhausted_by="attempts")
    assert [item.count for item in items()] == [1]


def test_an_answer_is_found_among_however_many_of_other_commands() -> None:
    """One rollback was confirmed, after thousands of deletions in the order of the ids."""
    missed()
    like = confirmed(sent(1, name=DELETION[1]))
    fields = {field.attname: getattr(Command.objects.get(id=like.id), field.attname) for field in Command._meta.fields}
    Command.objects.bulk_create(
        [Command(**{**fields, "id": UUID(int=number + 1), "entity": str(number)}) for number in range(5001)]
    )
    assert len(items()) == 1
    confirmed(sent(2))
    assert service.check_answers().well
    assert items() == []


def test_a_refusal_is_found_among_the_first_and_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compensation.never_answered.SAMPLE", 2)
    for second in range(9):
        missed(second)
    refuse(sent(9))
    assert items() == []


def test_it_takes_one_query_or_two_however_many_kinds_there_are() -> None:
    kinds = [("SERVICE", f"Command{number}") for number in range(9)]
    for service_name, name in kinds:
        confirmed(sent(name=name, service=service_name))
    with CaptureQueriesContext(connection) as asked:
        assert never_answered(kinds) == []
    assert len(asked) == 1
    missed(5, name="Command9", service="SERVICE")
    with CaptureQueriesContext(connection) as asked:
        [found] = never_answered([*kinds, ("SERVICE", "Command9"), ROLLBACK, DELETION])
    assert len(asked) == 2
    assert found == NeverAnswered("SERVICE", "Command9", "data-retrieval-commands", 1, later(5), later(5))


def test_the_plans_use_the_indexes() -> None:
    """Neither reads a table as a whole, if there is more than a handful of rows."""
    confirmed(sent())
    parameters = {"services": ["ANONYMIZATION"], "names": ["RollbackAnonymization"], "sample": 1000}
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("SET LOCAL enable_bitmapscan = off")
        plans = []
        both: list[tuple[Statement, Any]] = [
            (statements.CONFIRMED_KINDS, ()),
            (statements.SENT_WITHOUT_ANSWER, parameters),
        ]
        for statement, values in both:
            cursor.execute(f"EXPLAIN {statement.text}", values)
            plans.append("\n".join(line for (line,) in cursor.fetchall()))
    assert plans[0].count("command_answered") == 2
    assert plans[0].count("Only Scan") == 2
    assert "Sort" not in plans[0]
    assert plans[1].count("using command_open") == 3
    assert "Seq Scan" not in "".join(plans)


# --- where people and machines read it --------------------------------------------------------------------------------


def test_start_page_and_api_show_it() -> None:
    missed()
    person = User.objects.create_superuser("ana", "ana@example.org", "x")
    staff = Client()
    staff.force_login(person)
    text = staff.get(reverse("admin:index"), {"kind": "all"}).content.decode()
    assert "1 RollbackAnonymization command was sent to ANONYMIZATION" in text
    assert "never answered" in text
    assert f"{reverse('admin:compensation_command_changelist')}?service=ANONYMIZATION" in text
    assert "?kind=never_answered" in text
    [item] = [one for one in Api(person).get("attention").json()["items"] if one["kind"] == "never_answered"]
    assert item["count"] == 1
    with translation.override("es"):
        [spoken] = items()
    assert spoken.sentence == "Se envió 1 comando RollbackAnonymization a ANONYMIZATION y nunca recibió respuesta."
    assert "SAGA_CONFIRMATIONS" in spoken.advice


def test_it_is_above_what_may_end_by_itself_and_below_what_is_decided_one_by_one() -> None:
    names = queries.attention().by_kind
    assert list(names).index("held") < list(names).index("never_answered") < list(names).index("unread")


def test_a_young_item_is_as_old_as_its_first_command() -> None:
    missed()
    [item] = items()
    assert item.age(NOW + timedelta(hours=1)) == timedelta(hours=1)
