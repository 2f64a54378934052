"""A topic that takes no commands is no outage: no attempt is lost, it is named, and after minutes a person sees it."""

from datetime import timedelta

import pulsar
import pytest
from django.utils import timezone

from bridge import blocked, reasons
from bridge.errors import BrokerUnavailable
from bridge.models import BlockedTopic, Heartbeat
from bridge.publisher import PublishResult
from bridge.pulsar.client import describe
from bridge.pulsar.outlet import refusal
from compensation import delivery, outbox
from compensation.models import CommandStatus
from compensation.outbox import NewCommand, Settlement
from sagas import queries
from tests.integration.commands import FakePublisher, attempts, error_of, later, new_command, not_taken, row

BUSY = "another producer holds the topic exclusively: ProducerBusy"

needs_database = pytest.mark.django_db


def deliver(publisher: FakePublisher, seconds: float = 0) -> None:
    delivery.publish_due(publisher, "host:1", clock=lambda: later(seconds))


def refused(command: NewCommand) -> PublishResult:
    return not_taken(command.id, BUSY)._replace(blocked=True)


@pytest.fixture
def publisher() -> FakePublisher:
    return FakePublisher()


@pytest.mark.parametrize(
    "answer",
    [
        pulsar.IncompatibleSchema,
        pulsar.ProducerBusy,
        pulsar.ProducerFenced,
        pulsar.AuthorizationError,
        pulsar.TopicNotFound,
        pulsar.TopicTerminated,
        pulsar.NotAllowedError,
        pulsar.InvalidTopicName,
        pulsar.ProducerBlockedQuotaExceededError,
        pulsar.ProducerBlockedQuotaExceededException,
    ],
)
def test_what_pulsar_refuses_for_the_topic_is_distinguished_and_in_plain_text(answer: type[Exception]) -> None:
    name = answer.__name__
    sent = refusal(BrokerUnavailable(describe(name), name))
    assert (sent.blocked, sent.reachable, sent.permanent) == (True, True, False)
    assert sent.error is not None
    assert "Pulsar could not carry out the request" not in reasons.text(sent.error)


@pytest.mark.parametrize(("name", "reachable", "permanent"), [("Timeout", False, False), ("MessageTooBig", True, True)])
def test_what_is_not_the_topics(name: str, reachable: bool, permanent: bool) -> None:
    sent = refusal(BrokerUnavailable(describe(name), name))
    assert (sent.blocked, sent.reachable, sent.permanent) == (False, reachable, permanent)


@needs_database
def test_a_refusal_of_the_topic_uses_up_no_attempt_however_long_it_lasts(publisher: FakePublisher) -> None:
    command, other = new_command(), new_command("other", topic="other")
    outbox.plan([command, other])
    publisher.answers[str(command.id)] = refused(command)
    for minute in range(20):
        deliver(publisher, minute * 60)
    assert row(other).status == CommandStatus.PUBLISHED
    assert (row(command).status, row(command).attempt) == (CommandStatus.WAITING, 0)
    assert error_of(command) == f"The topic accepts no commands: {BUSY}"
    assert set(attempts(command)) == {(1, 1, "blocked", False, True)}
    assert row(command).next_at == later(19 * 60 + 60)
    assert Heartbeat.objects.get(name="publisher").connected

    publisher.answers.clear()
    deliver(publisher, 20 * 60)
    assert (row(command).status, row(command).attempt) == (CommandStatus.PUBLISHED, 1)


@needs_database
def test_the_refusal_is_written_down_with_its_beginning_until_the_topic_takes_a_message(
    publisher: FakePublisher,
) -> None:
    command = new_command()
    outbox.plan([command])
    publisher.answers[str(command.id)] = refused(command)
    for seconds in (0, 10, 100):
        deliver(publisher, seconds)
    found = BlockedTopic.objects.get()
    assert (found.topic, found.since, found.last_at, found.reason) == (command.topic, later(0), later(100), BUSY)
    publisher.answers.clear()
    deliver(publisher, 200)
    assert not BlockedTopic.objects.exists()


@needs_database
def test_a_refusal_long_after_the_last_is_a_new_one() -> None:
    blocked.note({"commands": "busy"}, (), later(0))
    blocked.note({"commands": "busy"}, (), later(3000))
    assert BlockedTopic.objects.get().since == later(0)
    blocked.note({"commands": "fenced"}, (), later(10_000))
    found = BlockedTopic.objects.get()
    assert (found.since, found.reason) == (later(10_000), "fenced")


@needs_database
def test_after_minutes_it_needs_a_person_for_as_long_as_commands_wait_for_it(publisher: FakePublisher) -> None:
    commands = [new_command(str(number)) for number in range(3)]
    outbox.plan(commands)
    publisher.answers = {str(command.id): refused(command) for command in commands}
    deliver(publisher)

    def shown() -> list[queries.AttentionItem]:
        return [item for item in queries.attention().items if item.kind == "blocked"]

    now = timezone.now()
    BlockedTopic.objects.update(since=now - timedelta(minutes=4))
    assert shown() == []
    BlockedTopic.objects.update(since=now - timedelta(minutes=6))
    [item] = shown()
    assert item.count == 3
    assert "topic data-retrieval-commands has refused commands since" in item.sentence
    assert BUSY in item.sentence

    outbox.settle([Settlement(command_id=command.id, status="withdrawn", at=later(1)) for command in commands])
    assert shown() == []
