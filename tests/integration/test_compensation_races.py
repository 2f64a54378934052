"""Two at once, each with a connection of its own: publishers beside each other, and words that cross a publish."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from threading import Barrier, Event
from typing import Any

import pytest
from celery import current_app
from django.db import connection, transaction

from bridge.models import Event as LoggedEvent
from bridge.publisher import OutgoingMessage, PublishResult
from compensation import deadlines, delivery, facts, outbox, statements
from compensation.models import Attempt, Command, CommandStatus
from compensation.outbox import CommandRefusal, NewCommand, Settlement
from tests.integration.commands import NOW, SAGA, FakePublisher, attempts, later, new_command, not_taken, row

pytestmark = pytest.mark.django_db(transaction=True)

PATIENCE = 20.0


@pytest.fixture(autouse=True)
def _no_celery(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(current_app, "send_task", lambda name, **options: None)


class Elsewhere:
    """Runs functions in threads, each on a database connection of its own."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool

    def start(self, work: Callable[[], Any]) -> "Future[Any]":
        def run() -> Any:
            try:
                return work()
            finally:
                connection.close()

        return self._pool.submit(run)

    def run(self, work: Callable[[], Any]) -> Any:
        return self.start(work).result(PATIENCE)


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    with ThreadPoolExecutor(8) as pool:
        yield Elsewhere(pool)


def plan(*commands: NewCommand) -> NewCommand:
    with transaction.atomic():
        outbox.plan(commands)
    return commands[0]


def say(command: NewCommand, status: Any, round: int = 0) -> None:
    with transaction.atomic():
        outbox.settle([Settlement(command_id=command.id, status=status, at=later(1), round=round, event_id="e")])


def refuse(command: NewCommand) -> None:
    with transaction.atomic():
        outbox.refuse([CommandRefusal(command_id=command.id, error="busy", at=later(1))])


def publish(publisher: FakePublisher, page: int = 500) -> bool:
    return delivery.publish_due(publisher, "host:1", clock=lambda: later(1.5), page=page)


def until_somebody_waits_for_a_lock() -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
            if cursor.fetchone()[0]:
                return
        time.sleep(0.01)
    raise AssertionError("nobody waits")


def test_publishers_beside_each_other_never_send_one_attempt_twice(elsewhere: Elsewhere) -> None:
    commands = [new_command(str(number)) for number in range(1000)]
    plan(*commands)
    publishers = [FakePublisher() for _ in range(4)]
    start = Barrier(len(publishers))

    def one(publisher: FakePublisher) -> None:
        start.wait(PATIENCE)
        publish(publisher, page=20)

    for done in [elsewhere.start(partial(one, publisher)) for publisher in publishers]:
        done.result(PATIENCE)
    sent = [message.id for publisher in publishers for message in publisher.sent]
    assert sorted(sent) == sorted(str(command.id) for command in commands)
    assert Attempt.objects.count() == 1000
    assert Command.objects.filter(status=CommandStatus.PUBLISHED, attempt=1).count() == 1000


@pytest.mark.parametrize("word", ["confirmed", "withdrawn"])
def test_a_settlement_before_the_recording_of_the_publish_stays(elsewhere: Elsewhere, word: str) -> None:
    command = plan(new_command())
    publisher = FakePublisher()
    publisher.meanwhile = lambda page: elsewhere.run(lambda: say(command, word))
    publish(publisher)
    assert row(command).status == word
    assert Attempt.objects.get().message_id == "1:0"


def test_a_settlement_during_the_recording_of_the_publish_stays(elsewhere: Elsewhere) -> None:
    """The record finds the row locked: it waits, and must then see what was said."""
    command = plan(new_command())
    publisher = FakePublisher()
    said, waited_for = Event(), Event()

    def slowly() -> None:
        with transaction.atomic():
            say(command, "confirmed")
            said.set()
            waited_for.wait(PATIENCE)

    words: list[Future[Any]] = []

    def begin(page: Any) -> None:
        words.append(elsewhere.start(slowly))
        said.wait(PATIENCE)

    publisher.meanwhile = begin
    publishing = elsewhere.start(lambda: publish(publisher))
    until_somebody_waits_for_a_lock()
    waited_for.set()
    publishing.result(PATIENCE)
    words[0].result(PATIENCE)
    assert row(command).status == CommandStatus.CONFIRMED
    assert attempts(command) == [(1, 1, "confirmed", True, True)]
    assert Attempt.objects.get().message_id == "1:0"


def test_a_refusal_while_it_is_being_published_stays(elsewhere: Elsewhere) -> None:
    command = plan(new_command())
    publisher = FakePublisher()
    publisher.meanwhile = lambda page: elsewhere.run(lambda: refuse(command))
    publish(publisher)
    assert (row(command).status, row(command).next_at) == (CommandStatus.PUBLISHED, None)
    assert attempts(command) == [(1, 1, "refused", True, True)]


def test_a_retry_while_a_late_confirmation_arrives(elsewhere: Elsewhere) -> None:
    for number in range(15):
        command = plan(new_command(str(number)))
        publish(FakePublisher())
        with transaction.atomic():
            outbox.refuse([CommandRefusal(command_id=command.id, error="no such image", at=NOW)])
        start = Barrier(2)

        def word(status: str, command: NewCommand = command, start: Barrier = start) -> None:
            start.wait(PATIENCE)
            say(command, status, round=2)

        both = [elsewhere.start(partial(word, status)) for status in ("retried", "confirmed")]
        for done in both:
            done.result(PATIENCE)
        assert row(command).status == CommandStatus.CONFIRMED
        publisher = FakePublisher()
        publish(publisher)
        assert publisher.sent == []


def test_the_applier_and_the_recorder_cannot_be_in_a_deadlock(elsewhere: Elsewhere) -> None:
    """The applier locks the last command first and then wants the first one, which the recorder has as well."""
    commands = sorted((new_command(str(number)) for number in range(3)), key=lambda command: command.id)
    plan(*commands)
    claims = delivery.claim(NOW, "host:1")
    publisher = FakePublisher()
    page = [OutgoingMessage(id=claim.id, topic=claim.topic, body=b"{}") for claim in claims]
    results = {result.id: result for result in publisher.publish(page)}
    holds, waits = Event(), Event()

    def applier() -> None:
        with transaction.atomic():
            say(commands[-1], "confirmed")
            holds.set()
            waits.wait(PATIENCE)
            refuse(commands[0])

    applying = elsewhere.start(applier)
    holds.wait(PATIENCE)
    recording = elsewhere.start(lambda: delivery.record(claims, results, later(1)))
    until_somebody_waits_for_a_lock()
    waits.set()
    applying.result(PATIENCE)
    recording.result(PATIENCE)
    assert [row(command).status for command in commands] == [
        CommandStatus.PUBLISHED,
        CommandStatus.PUBLISHED,
        CommandStatus.CONFIRMED,
    ]


def test_a_claim_does_not_wait_for_who_holds_a_command(elsewhere: Elsewhere) -> None:
    held, free = new_command("held"), new_command("free")
    plan(held, free)
    with transaction.atomic():
        statements.lock([str(held.id)])
        claims = elsewhere.run(lambda: delivery.claim(NOW, "host:1"))
    assert [claim.id for claim in claims] == [str(free.id)]


def test_while_a_saga_is_being_terminated_none_of_its_commands_is_claimed(elsewhere: Elsewhere) -> None:
    command = plan(new_command())
    with transaction.atomic():
        assert outbox.claimed_ids(SAGA) == []
        assert elsewhere.run(lambda: delivery.claim(NOW, "host:1")) == []
        say(command, "withdrawn")
    assert delivery.claim(NOW, "host:1") == []


def test_sweepers_beside_each_other_recover_a_lost_claim_once(elsewhere: Elsewhere) -> None:
    plan(*(new_command(str(number)) for number in range(300)))
    statements.claim(NOW, [], "host:1", 300)
    sweeps = [elsewhere.start(lambda: deadlines.recover_lost(later(61))) for _ in range(4)]
    assert sum(sweep.result(PATIENCE) for sweep in sweeps) == 300
    assert Attempt.objects.filter(outcome="superseded").count() == 300


def test_a_publisher_that_dies_with_its_claim_loses_nothing(elsewhere: Elsewhere) -> None:
    command = plan(new_command())

    class Killed(BaseException):
        pass

    def die(page: Any) -> None:
        raise Killed

    publisher = FakePublisher()
    publisher.meanwhile = die
    with pytest.raises(Killed):
        publish(publisher)
    assert row(command).status == CommandStatus.PUBLISHING
    elsewhere.run(lambda: deadlines.recover_lost(later(70)))
    survivor = FakePublisher()
    delivery.publish_due(survivor, "host:2", clock=lambda: later(80))
    assert [message.id for message in survivor.sent] == [str(command.id)]
    assert [attempt[:3] for attempt in attempts(command)] == [(1, 1, "superseded"), (1, 2, "published")]


# --- a lease, and one outcome


def lose(command: NewCommand) -> None:
    deadlines.recover_lost(later(61))


def retry(command: NewCommand) -> None:
    say(command, "retried", round=2)


def end_requirement(command: NewCommand) -> None:
    with transaction.atomic():
        outbox.end_requirements([command.id])


@pytest.mark.parametrize("again", [True, False], ids=["claimed again", "not claimed again"])
@pytest.mark.parametrize("end", [lose, retry, refuse, end_requirement])
@pytest.mark.parametrize("result", ["sent", "failed", "permanent", "away"])
def test_a_late_attempt_whose_lease_ended_writes_nothing(
    elsewhere: Elsewhere, result: str, end: Callable[[NewCommand], None], again: bool
) -> None:
    """Its process was frozen while it published: meanwhile the command went on, and may be claimed by another."""
    command = plan(new_command())
    [late] = delivery.claim(NOW, "frozen")
    elsewhere.run(partial(end, command))
    others = elsewhere.run(lambda: delivery.claim(later(90), "host:2")) if again else []
    assert len(others) == (again and end in (lose, retry)), "nobody claims what is refused or not required"
    before, ended = Command.objects.values().get(), attempts(command)
    delivery.record([late], {late.id: _late(command, result)}, later(91))
    assert Command.objects.values().get() == before
    assert attempts(command) == ended
    assert (late.attempt_id, "1:7" if result == "sent" else "") in Attempt.objects.values_list("id", "message_id")
    if others:
        delivery.record(others, {late.id: _late(command, "sent")}, later(92))
        assert (row(command).status, row(command).published_at) == (CommandStatus.PUBLISHED, later(92))


def _late(command: NewCommand, result: str) -> PublishResult:
    if result == "sent":
        return PublishResult(id=str(command.id), message_id="1:7", error=None, reachable=True, permanent=False)
    return not_taken(command.id, "pulsar:Timeout", reachable=result != "away", permanent=result == "permanent")


def test_two_outcomes_at_once_are_one(elsewhere: Elsewhere) -> None:
    """Of two transactions that append an outcome, the second waits for the first, and appends nothing."""
    command = plan(new_command(confirmation="published"))
    [planned] = statements.lock([str(command.id)])

    appended, waited_for = Event(), Event()

    def append(round: int, seconds: float) -> None:
        with transaction.atomic():
            facts.append_facts([(replace(planned, round=round).sent(later(seconds)), later(seconds))])
            if round == 1:
                appended.set()
                waited_for.wait(PATIENCE)

    first = elsewhere.start(partial(append, 1, 5))
    appended.wait(PATIENCE)
    second = elsewhere.start(partial(append, 2, 4))
    until_somebody_waits_for_a_lock()
    waited_for.set()
    first.result(PATIENCE)
    second.result(PATIENCE)
    [outcome] = LoggedEvent.objects.all()
    assert (outcome.event_id, outcome.occurred_at) == (f"{command.id}:outcome", later(5))
