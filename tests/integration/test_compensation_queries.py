"""What people are shown of commands."""

from functools import partial
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from compensation import delivery, outbox, queries, switches
from compensation.models import Command, CommandStatus
from compensation.outbox import CommandRefusal, Settlement
from tests.integration.commands import NOW, SAGA, FakePublisher, later, new_command

pytestmark = pytest.mark.django_db


def test_the_load_of_each_service_counts_what_is_not_settled() -> None:
    commands = {
        name: new_command(name, released=name != "held")
        for name in ("sent", "later", "exhausted", "confirmed", "withdrawn")
    }
    outbox.plan(list(commands.values()))
    outbox.settle([Settlement(command_id=commands["withdrawn"].id, status="withdrawn", at=NOW)])
    delivery.publish_due(FakePublisher(), "host:1", clock=lambda: NOW)
    outbox.settle([Settlement(command_id=commands["later"].id, status="retried", at=later(60), round=2)])
    outbox.refuse([CommandRefusal(command_id=commands["exhausted"].id, error="no such image", at=NOW)])
    outbox.settle([Settlement(command_id=commands["confirmed"].id, status="confirmed", at=NOW)])
    outbox.plan([new_command("due"), new_command("held", released=False)])
    outbox.plan([new_command("due", name="RollbackAnonymization", service="ANONYMIZATION")])
    switches.set_switch("ANONYMIZATION", True, "ana", "their release")

    with CaptureQueriesContext(connection) as captured:
        anonymization, retrieval = queries.load_by_service(later(1), switches.read())
    assert len(captured) == 2
    assert (retrieval.service, retrieval.paused, retrieval.oldest_due_at) == ("DATA_RETRIEVAL", False, NOW)
    assert (retrieval.due, retrieval.later, retrieval.held, retrieval.sent, retrieval.exhausted) == (1, 1, 1, 1, 1)
    assert (anonymization.due, anonymization.paused) == (1, True)


def test_how_far_behind_the_publishers_are() -> None:
    outbox.plan([new_command("one", planned_at=later(-5)), new_command("two"), new_command("held", released=False)])
    assert queries.oldest_due_at(NOW, switches.read()) == later(-5)
    assert queries.oldest_due_at(later(-6), switches.read()) is None
    switches.set_switch("DATA_RETRIEVAL", True, "ana", "their release")
    assert queries.oldest_due_at(NOW, switches.read()) is None
    switches.set_switch("*", True, "ana", "look first")
    assert queries.oldest_due_at(NOW, switches.read()) is None


def test_the_attempts_of_commands_are_read_in_one_query() -> None:
    one, two, none = new_command("one"), new_command("two"), new_command("none", released=False)
    outbox.plan([one, two, none])
    for seconds in (0, 10):
        delivery.publish_due(FakePublisher(), "host:1", clock=partial(later, seconds))
        outbox.refuse([CommandRefusal(command_id=one.id, error="busy", at=later(seconds))])
    with CaptureQueriesContext(connection) as captured:
        attempts = queries.attempts_of([one.id, two.id, none.id])
    assert len(captured) == 1
    assert [(attempt.number, attempt.outcome) for attempt in attempts[one.id]] == [(1, "refused"), (2, "refused")]
    assert [attempt.outcome for attempt in attempts[two.id]] == ["published"]
    assert none.id not in attempts
    assert queries.attempts_of_saga(SAGA).count() == 3
    assert queries.attempts_of_saga(uuid4()).count() == 0


def test_what_a_cut_over_would_withdraw_is_what_was_planned_before_it_and_waits() -> None:
    old, older, fresh, sent = (
        new_command(name, planned_at=later(at), released=name == "sent")
        for name, at in (("old", -10), ("older", -20), ("fresh", 0), ("sent", -30))
    )
    outbox.plan([old, older, fresh, sent])
    delivery.publish_due(FakePublisher(), "host:1", clock=lambda: NOW)
    assert [command.pk for command in queries.planned_before(NOW)] == [older.id, old.id]
    assert not queries.planned_before(NOW, services=["ANONYMIZATION"]).exists()


def test_exhausted_commands_the_longest_waiting_first() -> None:
    outbox.plan([new_command("one", invalid="no UUID"), new_command("two", invalid="no UUID", planned_at=later(-1))])
    assert [command.entity for command in queries.exhausted()] == ["two", "one"]
    assert [command.entity for command in queries.commands_of_saga(SAGA)] == ["one", "two"]
    assert Command.objects.filter(status=CommandStatus.EXHAUSTED).count() == 2
