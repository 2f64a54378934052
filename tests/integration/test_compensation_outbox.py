"""The outbox on a real database: what the commands' owner says of them, in bulk, twice, and in any order."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4, uuid5

import pytest
from celery import current_app
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from bridge.models import Event, Pending
from compensation import deadlines, outbox, statements
from compensation.models import Command, CommandStatus, ExhaustedBy
from compensation.outbox import CommandRefusal, NewCommand, Settlement
from compensation.retry import RetryPolicy
from compensation.statements import Claim
from tests.integration.commands import NOW, SAGA, attempts, error_of, later, new_command, row

pytestmark = pytest.mark.django_db


def claim(limit: int = 500, at: Any = NOW) -> list[Claim]:
    return statements.claim(at, [], "worker", limit)


def settle(command: NewCommand, status: Any, seconds: float = 1, **more: Any) -> None:
    outbox.settle([Settlement(command_id=command.id, status=status, at=later(seconds), **more)])


def refuse(command: NewCommand, error: str = "busy", seconds: float = 1) -> None:
    outbox.refuse([CommandRefusal(command_id=command.id, error=error, at=later(seconds))])


def facts() -> list[tuple[str, str, dict[str, Any]]]:
    found = Event.objects.order_by("id")
    return [(event.type, event.event_id, event.payload) for event in found]


@pytest.fixture
def nudges(
    monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Callable[..., Any]
) -> Callable[[Callable[[], None]], list[str]]:
    """Give a function that runs another one, lets its commit happen, and tells which tasks were woken."""

    def run(work: Callable[[], None]) -> list[str]:
        woken: list[str] = []
        monkeypatch.setattr(current_app, "send_task", lambda name, **options: woken.append(name))
        with django_capture_on_commit_callbacks(execute=True):
            work()
        return woken

    return run


# --- plan


def test_a_released_command_is_due_at_once(nudges: Any) -> None:
    command = new_command()
    assert nudges(lambda: outbox.plan([command])) == ["compensation.publish"]
    planned = row(command)
    assert (planned.status, planned.released_at, planned.next_at) == (CommandStatus.PLANNED, NOW, NOW)
    assert planned.body == command.body
    assert [found.id for found in claim()] == [str(command.id)]


def test_an_unreleased_command_waits_for_its_release(nudges: Any) -> None:
    command = new_command(released=False)
    assert nudges(lambda: outbox.plan([command])) == []
    assert claim() == []
    assert nudges(lambda: outbox.release([command.id], later(5))) == ["compensation.publish"]
    assert nudges(lambda: outbox.release([command.id], later(9))) == []
    assert (row(command).released_at, row(command).next_at) == (later(5), later(5))
    assert claim(at=later(4)) == []
    assert len(claim(at=later(5))) == 1


def test_planning_twice_changes_nothing(nudges: Any) -> None:
    command = new_command()
    outbox.plan([command])
    claim()
    assert nudges(lambda: outbox.plan([new_command(body={"other": "body"})])) == []
    assert (row(command).status, row(command).body) == (CommandStatus.PUBLISHING, command.body)


def test_the_same_undo_under_two_ids_is_an_error() -> None:
    outbox.plan([new_command()])
    with pytest.raises(IntegrityError), transaction.atomic():
        outbox.plan([new_command(id=uuid4())])


def test_what_is_already_confirmed_is_never_sent(nudges: Any) -> None:
    command = new_command(confirmed=(later(-60), "event-7"), invalid="no UUID", withdrawn=True)
    assert nudges(lambda: outbox.plan([command])) == []
    planned = row(command)
    assert (planned.status, planned.settled_at, planned.settled_event) == (
        CommandStatus.CONFIRMED,
        later(-60),
        "event-7",
    )
    assert claim() == []
    assert facts() == []


@pytest.mark.parametrize("by_service", [True, False])
def test_what_a_service_had_confirmed_before_it_was_required_is_marked(by_service: bool) -> None:
    command = new_command(confirmed=(later(-60), "event-7"), confirmed_by_service=by_service)
    outbox.plan([command])
    assert row(command).confirmed_unsent_at == (NOW if by_service else None), "by our clock"


def test_what_is_withdrawn_at_birth_is_never_sent() -> None:
    command = new_command(withdrawn=True)
    outbox.plan([command])
    assert (row(command).status, row(command).settled_at) == (CommandStatus.WITHDRAWN, NOW)
    assert claim() == []


def test_what_the_service_would_refuse_is_exhausted_at_once_with_a_fact(nudges: Any) -> None:
    command = new_command(invalid="not-a-uuid:image_id")
    assert nudges(lambda: outbox.plan([command])) == ["sagas.apply"]
    planned = row(command)
    assert (planned.status, planned.exhausted_by) == (CommandStatus.EXHAUSTED, ExhaustedBy.INVALID)
    assert planned.last_error == "not-a-uuid:image_id"
    assert attempts(command) == []
    payload = {"name": "DeleteRetrievedImage", "entity": "image", "round": 1}
    assert facts() == [("CommandExhausted", f"{command.id}:exhausted:1", payload)]
    event = Event.objects.get()
    assert (event.source, event.stream, event.key, event.entity) == (
        "compensation",
        "image_processing",
        "task",
        "image",
    )
    assert Pending.objects.get().key == "image_processing:task"
    outbox.plan([command])
    assert len(facts()) == 1

    settle(command, "retried", round=2)
    assert row(command).status == CommandStatus.EXHAUSTED
    assert [id_ for _, id_, _ in facts()] == [f"{command.id}:exhausted:1", f"{command.id}:exhausted:2"]
    assert claim() == []


# --- settle


def test_a_confirmation_ends_the_attempt() -> None:
    command = new_command()
    outbox.plan([command])
    claim()
    settle(command, "confirmed", event_id="event-7")
    confirmed = row(command)
    assert (confirmed.status, confirmed.settled_at, confirmed.settled_event) == (
        CommandStatus.CONFIRMED,
        later(1),
        "event-7",
    )
    assert not confirmed.by_hand
    assert attempts(command) == [(1, 1, "confirmed", True, True)]
    settle(command, "confirmed", seconds=9, event_id="event-8", by_hand=True)
    assert row(command).settled_event == "event-7"


@pytest.mark.parametrize("status", ["skipped", "withdrawn"])
def test_given_up_commands_do_not_leave_and_may_still_be_confirmed(status: Any) -> None:
    command = new_command()
    outbox.plan([command])
    settle(command, status, by_hand=True)
    assert (row(command).status, row(command).by_hand) == (status, True)
    assert claim() == []
    settle(command, "retried", round=2)
    assert row(command).status == status
    settle(command, "confirmed", event_id="event-7")
    assert (row(command).status, row(command).by_hand) == (CommandStatus.CONFIRMED, False)


def test_settlements_of_one_call_apply_by_rank_in_any_order() -> None:
    one, two = new_command("one"), new_command("two")
    outbox.plan([one, two])
    words: list[tuple[Any, int]] = [("retried", 2), ("withdrawn", 0), ("retried", 3), ("confirmed", 0)]
    for command, order in ((one, words), (two, words[::-1])):
        outbox.settle([Settlement(command_id=command.id, status=word, at=NOW, round=round) for word, round in order])
    assert {row(one).status, row(two).status} == {CommandStatus.CONFIRMED}


def test_a_retry_opens_a_new_round(nudges: Any) -> None:
    command = new_command()
    outbox.plan([command])
    claim()
    refuse(command, "no such image")
    assert row(command).status == CommandStatus.EXHAUSTED
    assert nudges(lambda: settle(command, "retried", seconds=60, round=2)) == ["compensation.publish"]
    settle(command, "retried", seconds=70, round=2)
    retried = row(command)
    assert (retried.round, retried.attempt, retried.next_at) == (2, 0, later(60))
    [again] = claim(at=later(60))
    assert (again.round, again.attempt, again.body) == (2, 1, command.body)
    assert attempts(command) == [(1, 1, "refused", True, True), (2, 1, "open", True, False)]


def test_a_retry_while_it_is_being_published_ends_that_attempt() -> None:
    command = new_command()
    outbox.plan([command])
    claim()
    settle(command, "retried", round=2)
    assert attempts(command) == [(1, 1, "superseded", True, True)]
    assert len(claim(at=later(1))) == 1


# --- refuse


def test_each_refusal_is_an_attempt_and_sends_nothing(nudges: Any) -> None:
    """The service tries a copy that it refused again by itself: another one would be refused beside it, for ever."""
    command = new_command(policy=RetryPolicy(maximum_attempts=4))
    outbox.plan([command])
    refuse(command)
    assert row(command).status == CommandStatus.PLANNED, "no copy has left: it answers somebody else's"
    claim()
    before = timezone.now()
    refuse(command, "busy \x00", seconds=1)
    assert (row(command).status, row(command).next_at) == (CommandStatus.PUBLISHED, None)
    deadline = row(command).deadline_at
    assert deadline is not None
    assert deadline >= before + timedelta(seconds=command.confirmation_timeout)
    assert nudges(lambda: refuse(command, "busy again", seconds=90)) == []
    later_deadline = row(command).deadline_at
    assert later_deadline is not None
    assert later_deadline > deadline, "while it refuses, no copy leaves"
    assert claim(at=later(1_000_000)) == []
    assert attempts(command) == [(1, number, "refused", True, True) for number in (1, 2)]
    assert list(row(command).attempts.order_by("id").values_list("error", flat=True)) == ["busy ", "busy again"]


def test_several_refusals_in_one_call_are_as_many_attempts_in_their_order() -> None:
    command = new_command(policy=RetryPolicy(maximum_attempts=4))
    outbox.plan([command])
    claim()
    outbox.refuse([CommandRefusal(command_id=command.id, error=str(second), at=later(second)) for second in (3, 1, 2)])
    assert error_of(command).endswith(": 3")
    assert row(command).attempt == 3
    assert list(row(command).attempts.order_by("id").values_list("number", "error")) == [(1, "1"), (2, "2"), (3, "3")]
    outbox.refuse([CommandRefusal(command_id=command.id, error=str(second), at=later(second)) for second in (4, 5)])
    assert (row(command).status, row(command).attempt) == (CommandStatus.EXHAUSTED, 4), "the fifth changes nothing"
    assert row(command).attempts.count() == 4


def test_a_refusal_after_an_operators_retry_does_not_stop_the_new_copy() -> None:
    command = new_command()
    outbox.plan([command])
    claim()
    refuse(command)
    settle(command, "retried", round=2)
    refuse(command, seconds=2)
    assert (row(command).status, row(command).attempt) == (CommandStatus.WAITING, 0)
    assert len(claim(at=later(100))) == 1


def test_a_refusal_of_an_earlier_copy_stops_the_next_one() -> None:
    """After a deadline the next copy is due, and the service refuses the earlier one once more before it leaves."""
    command = new_command()
    outbox.plan([command])
    claim()
    lost = later(1_000)
    assert deadlines.recover_lost(lost) == 1
    refuse(command)
    assert (row(command).status, row(command).next_at) == (CommandStatus.PUBLISHED, None)
    assert attempts(command) == [(1, 1, "superseded", True, True), (1, 2, "refused", True, True)]


def test_the_last_refusal_exhausts_and_the_log_gets_one_fact_a_round(nudges: Any) -> None:
    command = new_command()
    outbox.plan([command])
    for attempt in (1, 2):
        claim(at=later(attempt * 100))
        refuse(command, seconds=attempt * 100)
    claim(at=later(300))
    assert nudges(lambda: refuse(command, seconds=300)) == ["sagas.apply"]
    assert row(command).exhausted_by == ExhaustedBy.ATTEMPTS
    assert error_of(command) == "Failed after 3 attempts. The service refused it: busy"
    assert [id_ for _, id_, _ in facts()] == [f"{command.id}:exhausted:1"]
    settle(command, "confirmed", event_id="late")
    assert row(command).status == CommandStatus.CONFIRMED


@pytest.mark.parametrize("said", [-7200, 0.5, 10**9])
def test_the_clock_of_the_service_does_not_move_the_deadline(said: float) -> None:
    command = new_command()
    outbox.plan([command])
    claim()
    before = timezone.now()
    refuse(command, seconds=said)
    deadline = row(command).deadline_at
    assert deadline is not None
    assert before <= deadline - timedelta(seconds=command.confirmation_timeout) <= timezone.now()
    attempt = row(command).attempts.get()
    assert attempt.ended_at is not None
    assert attempt.started_at <= attempt.ended_at <= timezone.now()


def test_a_fast_clock_does_not_lengthen_the_wait_after_a_retry() -> None:
    command = new_command()
    outbox.plan([command])
    claim()
    settle(command, "retried", seconds=(timezone.now() - NOW).total_seconds() + 86_400, round=2)
    next_at = row(command).next_at
    assert next_at is not None
    assert next_at <= timezone.now() + timedelta(seconds=2)


# --- terminate


def test_claimed_are_those_that_may_have_been_sent_and_are_not_settled() -> None:
    names = ("planned", "publishing", "waiting", "confirmed", "skipped", "exhausted", "unreleased")
    commands = {name: new_command(name, released=name != "unreleased") for name in names}
    outbox.plan(list(commands.values())[1:])
    claim()
    outbox.plan([commands["planned"], new_command("of another saga", saga_id=uuid4())])
    refuse(commands["waiting"])
    refuse(commands["exhausted"], "no such image")
    settle(commands["confirmed"], "confirmed")
    settle(commands["skipped"], "skipped")
    found = outbox.claimed_ids(SAGA)
    assert found == sorted(commands[name].id for name in ("publishing", "waiting"))


# --- in bulk


def count_queries(work: Callable[[], object]) -> int:
    with CaptureQueriesContext(connection) as queries:
        work()
    return len(queries)


def test_the_number_of_statements_does_not_grow_with_the_commands() -> None:
    def life(count: int) -> list[int]:
        saga_id: UUID = uuid5(SAGA, str(count))
        commands = [new_command(f"{n}", saga_id=saga_id, released=n % 2 == 0) for n in range(count)]
        ids = [command.id for command in commands]
        return [
            count_queries(lambda: outbox.plan(commands)),
            count_queries(lambda: outbox.release(ids, NOW)),
            count_queries(lambda: len(claim(1000))),
            count_queries(
                lambda: outbox.refuse([CommandRefusal(command_id=i, error="no such image", at=NOW) for i in ids])
            ),
            count_queries(
                lambda: outbox.settle(
                    [Settlement(command_id=i, status="retried", round=2, at=NOW) for i in ids]
                    + [Settlement(command_id=i, status="confirmed", at=NOW) for i in ids[::2]]
                )
            ),
        ]

    few, many = life(4), life(400)
    assert few == many
    assert max(many) <= 7
    assert Command.objects.filter(status=CommandStatus.CONFIRMED).count() == 202


def test_no_changes_need_no_statement() -> None:
    def silence() -> None:
        outbox.plan([])
        outbox.release([], NOW)
        outbox.settle([])
        outbox.refuse([])

    assert count_queries(silence) == 0


def test_the_columns_written_are_those_of_the_model() -> None:
    """A column that is added to the model must be added to the SQL as well, or have a reason not to be."""
    written = {
        *statements._NEW,
        *statements._SET_ONCE,
        "hold_released_at",  # only a person's release writes it, which is in held
        "kind",  # the database's default: only messages are planned
        "lease_until",  # of a row that is claimed for long; `write` ends it with the claim
        "result",  # of an outcome that returns something
    }
    assert written == {field.attname for field in Command._meta.concrete_fields}


# --- confirmed though never sent


def never_planned() -> NewCommand:
    command = new_command(released=False)
    outbox.plan([command])
    return command


def never_claimed() -> NewCommand:
    command = new_command()
    outbox.plan([command])
    return command


def never_fit() -> NewCommand:
    command = new_command(invalid="not-a-uuid:image_id")
    outbox.plan([command])
    return command


def fit_in_no_round() -> NewCommand:
    command = never_fit()
    settle(command, "retried", round=2)
    return command


def retried_before_it_left() -> NewCommand:
    command = never_planned()
    settle(command, "retried", round=2)
    return command


def given_up_before_it_left() -> NewCommand:
    command = never_claimed()
    settle(command, "withdrawn", by_hand=True)
    return command


def sent() -> NewCommand:
    command = never_claimed()
    assert claim()
    return command


def refused() -> NewCommand:
    command = sent()
    refuse(command)
    return command


def used_up() -> NewCommand:
    command = sent()
    refuse(command, "no such image")
    assert row(command).status == CommandStatus.EXHAUSTED
    return command


def sent_in_the_first_round() -> NewCommand:
    command = used_up()
    settle(command, "retried", round=2)
    return command


def given_up_after_it_left() -> NewCommand:
    command = used_up()
    settle(command, "skipped", by_hand=True)
    return command


UNSENT = (never_planned, never_claimed, never_fit, fit_in_no_round, retried_before_it_left, given_up_before_it_left)
SENT = (sent, refused, used_up, sent_in_the_first_round, given_up_after_it_left)


@pytest.mark.parametrize("before", [*UNSENT, *SENT])
def test_what_an_event_confirms_though_it_was_never_sent_is_marked(before: Callable[[], NewCommand]) -> None:
    command = before()
    began = timezone.now()
    settle(command, "confirmed", event_id="event-7")
    settle(command, "confirmed", event_id="event-8")
    found = row(command)
    assert (found.status, found.settled_event) == (CommandStatus.CONFIRMED, "event-7")
    if before in UNSENT:
        assert found.confirmed_unsent_at is not None
        assert began <= found.confirmed_unsent_at <= timezone.now(), "by our clock, not by the event's"
    else:
        assert found.confirmed_unsent_at is None


@pytest.mark.parametrize("before", [*UNSENT, *SENT])
def test_what_a_person_confirms_is_not_marked(before: Callable[[], NewCommand]) -> None:
    command = before()
    settle(command, "confirmed", by_hand=True)
    settle(command, "confirmed", seconds=2, event_id="event-7")
    assert (row(command).by_hand, row(command).confirmed_unsent_at) == (True, None)


def test_looking_for_what_was_never_sent_asks_once_and_only_for_what_rests() -> None:
    def asked(commands: list[NewCommand]) -> int:
        with CaptureQueriesContext(connection) as queries:
            outbox.settle(
                [Settlement(command_id=each.id, status="confirmed", at=later(1), event_id="e") for each in commands]
            )
        return sum('"compensation_attempt" WHERE' in query["sql"] for query in queries)

    under_way, resting = (
        [new_command(f"{name}-{number}", **more) for number in range(5)]
        for name, more in (("under way", {}), ("resting", {"invalid": "no UUID"}))
    )
    outbox.plan([*under_way, *resting])
    assert (asked(under_way), asked(resting)) == (0, 1)
    assert Command.objects.filter(confirmed_unsent_at__isnull=False).count() == 10
