"""Commands leave: what is claimed, counted, sent and recorded, with a publisher that does what it is told."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import orjson
import pytest

from bridge.errors import BrokerUnavailable
from bridge.models import Event, Heartbeat
from compensation import delivery, outbox, statements, switches
from compensation.models import Attempt, Command, CommandStatus, ExhaustedBy
from compensation.outbox import CommandRefusal, NewCommand, Settlement
from tests.integration.commands import NOW, FakePublisher, attempts, error_of, later, new_command, not_taken, row

pytestmark = pytest.mark.django_db


@pytest.fixture
def publisher() -> FakePublisher:
    return FakePublisher()


def at(seconds: float) -> Callable[[], datetime]:
    return lambda: later(seconds)


def deliver(publisher: FakePublisher, seconds: float = 0, **more: Any) -> bool:
    return delivery.publish_due(publisher, "host:1", clock=at(seconds), **more)


def plan(*commands: NewCommand) -> NewCommand:
    outbox.plan(commands)
    return commands[0]


def test_a_due_command_is_sent_and_waits_for_its_confirmation(publisher: FakePublisher) -> None:
    command = plan(new_command())
    assert deliver(publisher) is False
    [message] = publisher.sent
    assert (message.id, message.topic) == (str(command.id), "data-retrieval-commands")
    published = row(command)
    assert (published.status, published.published_at, published.deadline_at) == (
        CommandStatus.PUBLISHED,
        NOW,
        later(300),
    )
    attempt = Attempt.objects.get()
    assert (attempt.started_at, attempt.worker, attempt.message_id) == (NOW, "host:1", "1:0")
    assert attempts(command) == [(1, 1, "published", True, False)]
    assert deliver(publisher) is False
    assert len(publisher.sent) == 1


def test_the_body_is_the_planned_one_in_the_order_of_the_contract_and_the_same_on_every_attempt(
    publisher: FakePublisher,
) -> None:
    command = plan(new_command())
    deliver(publisher)
    outbox.settle([Settlement(command_id=command.id, status="retried", at=NOW, round=2)])
    deliver(publisher, 10)
    first, second = publisher.sent
    assert first.body == second.body
    assert orjson.loads(first.body) == command.body
    assert list(orjson.loads(first.body)) == ["type", "id", "correlation_id", "timestamp", "data"]


def test_nothing_is_sent_before_its_time(publisher: FakePublisher) -> None:
    plan(new_command("unreleased", released=False), new_command("tomorrow", planned_at=later(86_400)))
    assert deliver(publisher) is False
    assert (publisher.sent, publisher.probes) == ([], 0)


def test_page_after_page_until_nothing_is_due(publisher: FakePublisher) -> None:
    plan(*(new_command(str(number)) for number in range(25)))
    assert deliver(publisher, page=10) is False
    assert len({message.id for message in publisher.sent}) == len(publisher.sent) == 25


def test_when_the_time_is_up_it_says_that_there_is_more(publisher: FakePublisher) -> None:
    plan(*(new_command(str(number)) for number in range(25)))
    time = [0.0]

    def slowly(page: Any) -> None:
        time[0] += delivery.RUN_SECONDS

    publisher.meanwhile = slowly
    assert delivery.publish_due(publisher, "host:1", clock=lambda: later(time[0]), page=10) is True
    assert len(publisher.sent) == 10


def test_what_the_broker_refuses_is_tried_again_and_its_neighbours_go_through(publisher: FakePublisher) -> None:
    bad, good = new_command("bad"), new_command("good")
    plan(bad, good)
    publisher.answers[str(bad.id)] = not_taken(bad.id, "ProducerQueueIsFull")
    deliver(publisher)
    assert row(good).status == CommandStatus.PUBLISHED
    assert (row(bad).status, row(bad).next_at) == (CommandStatus.WAITING, later(1))
    assert error_of(bad) == "The command could not be sent: ProducerQueueIsFull"
    assert attempts(bad) == [(1, 1, "failed", True, True)]


def test_what_the_broker_will_never_take_goes_to_a_person(publisher: FakePublisher) -> None:
    command = plan(new_command())
    publisher.answers[str(command.id)] = not_taken(command.id, "MessageTooBig", permanent=True)
    deliver(publisher)
    assert (row(command).status, row(command).exhausted_by) == (CommandStatus.EXHAUSTED, ExhaustedBy.PERMANENT)
    assert [event.type for event in Event.objects.all()] == ["CommandExhausted"]


# --- outages


def test_an_outage_is_noticed_before_anything_is_claimed(publisher: FakePublisher) -> None:
    command = plan(new_command())
    publisher.away = True
    for _ in range(30):
        with pytest.raises(BrokerUnavailable):
            deliver(publisher)
    assert (row(command).status, row(command).attempt) == (CommandStatus.PLANNED, 0)
    assert attempts(command) == []
    assert Heartbeat.objects.get(name="publisher").connected is False
    publisher.away = False
    deliver(publisher)
    assert row(command).status == CommandStatus.PUBLISHED
    assert Heartbeat.objects.get(name="publisher").connected is True


def test_a_publish_that_the_broker_never_saw_does_not_count(publisher: FakePublisher) -> None:
    command = plan(new_command())

    def cut(page: Any) -> None:
        publisher.away = True

    publisher.meanwhile = cut
    with pytest.raises(BrokerUnavailable):
        deliver(publisher)
    assert (row(command).status, row(command).attempt, row(command).next_at) == (CommandStatus.WAITING, 0, later(1))
    assert attempts(command) == [(1, 1, "unreachable", False, True)]

    publisher.away = False
    with pytest.raises(BrokerUnavailable):
        deliver(publisher, 10)
    assert row(command).next_at == later(12)

    publisher.away, publisher.meanwhile = False, lambda page: None
    deliver(publisher, 20)
    assert (row(command).status, row(command).attempt) == (CommandStatus.PUBLISHED, 1)
    unreachable = (1, 1, "unreachable", False, True)
    assert attempts(command) == [unreachable, unreachable, (1, 1, "published", True, False)]


def test_one_topic_that_is_out_of_reach_does_not_hold_up_the_others(publisher: FakePublisher) -> None:
    sick, well = new_command("sick", topic="a"), new_command("well", topic="b")
    plan(sick, well)
    publisher.answers[str(sick.id)] = not_taken(sick.id, "Timeout", reachable=False)
    assert deliver(publisher) is False
    assert (row(sick).status, row(sick).attempt) == (CommandStatus.WAITING, 0)
    assert row(well).status == CommandStatus.PUBLISHED


def test_a_broker_that_goes_away_costs_one_time_out_not_one_for_each_topic(publisher: FakePublisher) -> None:
    commands = [new_command(topic, topic=topic) for topic in "abcde"]
    plan(*commands)
    pages: list[Any] = []

    def cut(page: Any) -> None:
        pages.append(page)
        publisher.away = True

    publisher.meanwhile = cut
    with pytest.raises(BrokerUnavailable):
        deliver(publisher)
    assert len(pages) == 1
    for command in commands:
        assert attempts(command) == [(1, 1, "unreachable", False, True)]


# --- what happens between the claim and the record


def test_a_confirmation_before_the_publish_is_recorded_stays(publisher: FakePublisher) -> None:
    command = plan(new_command())
    publisher.meanwhile = lambda page: outbox.settle(
        [Settlement(command_id=command.id, status="confirmed", at=later(1), event_id="event-7")]
    )
    deliver(publisher, 2)
    assert (row(command).status, row(command).settled_event) == (CommandStatus.CONFIRMED, "event-7")
    assert attempts(command) == [(1, 1, "confirmed", True, True)]
    assert Attempt.objects.get().message_id == "1:0"


def test_a_refusal_before_the_publish_is_recorded_stays(publisher: FakePublisher) -> None:
    command = plan(new_command())
    publisher.meanwhile = lambda page: outbox.refuse([CommandRefusal(command_id=command.id, error="busy", at=later(1))])
    deliver(publisher, 1.5)
    assert (row(command).status, row(command).next_at) == (CommandStatus.PUBLISHED, None)
    assert attempts(command)[0] == (1, 1, "refused", True, True)


@pytest.mark.parametrize("answer", ["taken", "failed", "unreachable"])
def test_what_was_given_up_meanwhile_stays_given_up(publisher: FakePublisher, answer: str) -> None:
    command = plan(new_command())
    if answer != "taken":
        publisher.answers[str(command.id)] = not_taken(command.id, answer, reachable=answer == "failed")
    publisher.meanwhile = lambda page: outbox.settle(
        [Settlement(command_id=command.id, status="withdrawn", at=later(1))]
    )
    deliver(publisher, 2)
    assert row(command).status == CommandStatus.WITHDRAWN
    assert attempts(command) == [(1, 1, "superseded", True, True)]


def test_a_new_round_is_not_moved_by_the_old_rounds_publish(publisher: FakePublisher) -> None:
    command = plan(new_command())
    [claim] = delivery.claim(NOW, "host:1")
    outbox.settle([Settlement(command_id=command.id, status="retried", round=2, at=later(1))])
    [again] = delivery.claim(later(1), "host:2")
    results = {str(command.id): not_taken(command.id, "late", permanent=True)}
    delivery.record([claim], results, later(2))
    assert (row(command).status, row(command).round) == (CommandStatus.PUBLISHING, 2)
    assert attempts(command) == [(1, 1, "superseded", True, True), (2, 1, "open", True, False)]
    assert again.attempt_id != claim.attempt_id


def test_a_result_that_is_missing_leaves_the_claim_to_be_found_as_lost(publisher: FakePublisher) -> None:
    command = plan(new_command())
    claims = delivery.claim(NOW, "host:1")
    delivery.record(claims, {}, NOW)
    assert row(command).status == CommandStatus.PUBLISHING


# --- the other kinds of confirmation


def test_where_sending_is_enough_the_log_gets_a_fact_and_its_saga_settles(publisher: FakePublisher) -> None:
    command = plan(new_command(confirmation="published"))
    deliver(publisher)
    assert (row(command).status, row(command).deadline_at) == (CommandStatus.PUBLISHED, None)
    event = Event.objects.get()
    assert (event.source, event.type) == ("compensation", "CommandPublished")
    assert event.event_id == f"{command.id}:outcome"
    assert event.payload == {"name": "DeleteRetrievedImage", "entity": "image", "round": 1}
    outbox.settle([Settlement(command_id=command.id, status="confirmed", at=later(1), event_id=event.event_id)])
    assert attempts(command) == [(1, 1, "confirmed", True, True)]


def test_a_service_that_does_not_answer_gets_one_send_a_round_and_then_a_person(publisher: FakePublisher) -> None:
    command = plan(new_command(confirmation="manual"))
    deliver(publisher)
    exhausted = row(command)
    assert (exhausted.status, exhausted.exhausted_by) == (CommandStatus.EXHAUSTED, ExhaustedBy.MANUAL)
    assert exhausted.last_error == "no-confirmation"
    assert attempts(command) == [(1, 1, "published", True, True)]
    deliver(publisher, 1000)
    outbox.settle([Settlement(command_id=command.id, status="retried", round=2, at=later(2000))])
    deliver(publisher, 2000)
    assert len(publisher.sent) == 2
    ids = [event.event_id for event in Event.objects.order_by("id")]
    assert ids == [f"{command.id}:exhausted:1", f"{command.id}:exhausted:2"]
    outbox.settle([Settlement(command_id=command.id, status="confirmed", at=later(3000), by_hand=True)])
    assert (row(command).status, row(command).by_hand) == (CommandStatus.CONFIRMED, True)


# --- pauses


def test_while_everything_is_paused_nothing_leaves(publisher: FakePublisher) -> None:
    plan(new_command())
    assert switches.set_switch("*", True, "ana", "look first") is True
    assert switches.set_switch("*", True, "ben", "me too") is False
    assert deliver(publisher) is False
    assert delivery.claim(NOW, "host:1") == []
    assert publisher.probes == 0
    assert switches.paused_services() == ["*"]
    assert switches.is_paused("DATA_RETRIEVAL")
    switches.set_switch("*", False, "ana", "go")
    deliver(publisher)
    assert len(publisher.sent) == 1


def test_a_pause_of_one_service_leaves_the_others_alone(publisher: FakePublisher) -> None:
    stays, goes = new_command("stays"), new_command("goes", service="ANONYMIZATION")
    plan(stays, goes)
    switches.set_switch("DATA_RETRIEVAL", True, "ana", "their disk is full")
    assert (switches.is_paused("DATA_RETRIEVAL"), switches.is_paused("ANONYMIZATION")) == (True, False)
    assert deliver(publisher) is False
    assert [message.id for message in publisher.sent] == [str(goes.id)]
    assert row(stays).status == CommandStatus.PLANNED


def test_a_pause_holds_from_the_next_page_on(publisher: FakePublisher) -> None:
    plan(*(new_command(str(number)) for number in range(30)))
    publisher.meanwhile = lambda page: switches.set_switch("*", True, "ana", "stop")
    assert deliver(publisher, page=10) is False
    assert len(publisher.sent) == 10


@pytest.mark.parametrize(("said", "paused"), [("on", False), ("paused", True), (None, True), ("onn", True)])
def test_the_settings_give_the_first_value_and_only_a_clear_on_lets_commands_leave(
    settings: Any, said: str | None, paused: bool
) -> None:
    settings.SAGA_PUBLISHING = said
    assert switches.is_paused("DATA_RETRIEVAL") is paused
    settings.SAGA_PUBLISHING = "paused" if said == "on" else "on"
    assert switches.is_paused("DATA_RETRIEVAL") is paused


def test_resuming_a_service_that_was_never_paused_changes_nothing() -> None:
    assert switches.set_switch("DATA_RETRIEVAL", False, "ana", "go") is False
    assert switches.paused_services() == []


def test_a_claim_takes_a_page_of_what_is_due_the_oldest_first() -> None:
    plan(*(new_command(str(number), planned_at=later(-number)) for number in range(10)))
    claims = statements.claim(NOW, [], "host:1", 3)
    assert {claim.body["data"]["image_id"] for claim in claims} == {"9", "8", "7"}
    assert Command.objects.filter(status=CommandStatus.PUBLISHING, attempt=1).count() == 3
