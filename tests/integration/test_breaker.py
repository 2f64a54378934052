"""The circuit breaker: one message must not order thousands of undos, and what follows when a person resumes it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from threading import Barrier, Event
from typing import Any

import pytest
from celery import current_app
from django.contrib.auth.models import User
from django.db import transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from bridge import clock, event_log, heartbeats
from bridge.models import Heartbeat, Pending
from compensation import breaker, deadlines, delivery, outbox, queries, statements, switches
from compensation.models import Breaker, BreakerState, Command, CommandStatus, PlannedMinute, TripCause
from compensation.outbox import NewCommand
from sagaproject.doctor import service as doctor
from sagas import queries as pages
from sagas.applying import breakers
from sagas.applying.apply import run_apply
from sagas.errors import Invalid
from sagas.models import Decision, SagaLog
from tests.integration import decided
from tests.integration import deciding as actions
from tests.integration.commands import FakePublisher, new_command
from tests.integration.story import event, new_ids, retrieval
from tests.integration.terminal import run
from tests.integration.test_compensation_races import Elsewhere, until_somebody_waits_for_a_lock

pytestmark = pytest.mark.django_db(transaction=True)

SERVICE = "DATA_RETRIEVAL"
LIMIT = 20
PATIENCE = 20.0


@pytest.fixture(autouse=True)
def _limit(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.SAGA_BREAKER_COMMANDS = LIMIT
    monkeypatch.setattr(current_app, "send_task", lambda name, **options: None)


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    with ThreadPoolExecutor(8) as pool:
        yield Elsewhere(pool)


@pytest.fixture
def staff() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("ana", "ana@example.org", "x"))
    return client


def undo(images: int) -> tuple[SagaLog, list[str]]:
    """One message fails a saga of so many images: each has one deletion, which may leave at once."""
    task, *names = new_ids(images + 1)
    event_log.append(retrieval(task, names))
    run_apply()
    event_log.append([event("RetrievalFailed", task, seconds=20, error_message="disk full")])
    run_apply()
    return SagaLog.objects.get(key=task), names


def sent() -> list[str]:
    """What leaves now, as ids of commands."""
    publisher = FakePublisher()
    delivery.publish_due(publisher, "host:1")
    return [message.id for message in publisher.sent]


def resume(**more: Any) -> actions.ActionResult:
    return actions.set_publishing(False, SERVICE, request=decided.request(), **more)


def answer(ids: list[str], kind: str = "ImageDeletionCompleted") -> None:
    """The service's word on commands that were sent."""
    told = Command.objects.filter(id__in=ids).values_list("key", "entity")
    event_log.append([event(kind, key, entity, seconds=40, error_message="locked") for key, entity in told])
    run_apply()


def state() -> str:
    return Breaker.objects.get(service=SERVICE).state


def tripped(images: int = LIMIT + 10) -> SagaLog:
    saga, _ = undo(images)
    assert state() == BreakerState.OPEN
    return saga


def put(command: NewCommand, number: int = 1) -> None:
    """Plan commands that belong to no saga, and count them."""
    with transaction.atomic():
        breakers.count(outbox.plan([command]))


# --- the limit


def test_one_message_that_orders_too_many_undos_sends_none() -> None:
    undo(LIMIT + 1)
    assert Command.objects.filter(status=CommandStatus.PLANNED, released_at__isnull=False).count() == LIMIT + 1
    assert sent() == []
    opened = Breaker.objects.get()
    assert (opened.service, opened.state, opened.cause) == (SERVICE, BreakerState.OPEN, TripCause.PLANNED)
    assert (opened.planned, opened.allowed, opened.changed_by) == (LIMIT + 1, LIMIT, "system")
    audit = Decision.objects.get()
    assert (audit.action, audit.target, audit.actor) == ("pause_publishing", f"publishing to {SERVICE}", "system")
    assert (audit.door, audit.reason_text) == ("system", "21 commands planned in ten minutes, the limit is 20")


def test_as_many_as_the_limit_are_sent() -> None:
    undo(LIMIT)
    assert len(sent()) == LIMIT
    assert not Breaker.objects.exists()


def test_many_messages_pass_the_limit_together() -> None:
    for images in (8, 8):
        undo(images)
        assert len(sent()) == images
    undo(8)
    assert sent() == []
    assert Breaker.objects.get().planned == 24


def test_a_limit_of_zero_is_none(settings: Any) -> None:
    settings.SAGA_BREAKER_COMMANDS = 0
    undo(LIMIT + 10)
    assert len(sent()) == LIMIT + 10
    assert not PlannedMinute.objects.exists()


def test_another_service_goes_on() -> None:
    tripped()
    put(new_command("other", service="ANONYMIZATION", planned_at=timezone.now()))
    assert len(sent()) == 1


@pytest.mark.parametrize(("minutes", "counts"), [(1, True), (8, True), (10, False), (11, False), (600, False)])
def test_the_window_is_ten_minutes_of_the_databases_clock(minutes: int, counts: bool) -> None:
    """The running minute and the nine before; a minute may begin while this test runs, so nine is not asked for."""
    minute = clock.now().replace(second=0, microsecond=0) - timedelta(minutes=minutes)
    PlannedMinute.objects.create(service=SERVICE, minute=minute, commands=LIMIT)
    put(new_command(planned_at=timezone.now()))
    assert Breaker.objects.exists() is counts
    assert PlannedMinute.objects.filter(minute=minute).exists() is counts


def test_planning_the_same_again_does_not_count() -> None:
    for _ in range(LIMIT + 5):
        put(new_command(planned_at=timezone.now()))
    assert sum(PlannedMinute.objects.values_list("commands", flat=True)) == 1
    put(new_command("bad", invalid="no UUID", planned_at=timezone.now()))
    put(new_command("done", confirmed=(timezone.now(), "e"), planned_at=timezone.now()))
    put(new_command("not wanted", withdrawn=True, planned_at=timezone.now()))
    assert sum(PlannedMinute.objects.values_list("commands", flat=True)) == 1


@pytest.mark.parametrize("edge", [False, True], ids=["in one minute", "across a minute"])
def test_of_two_planners_at_once_the_second_sees_what_the_first_counted(
    elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch, edge: bool
) -> None:
    counted, go_on = Event(), Event()
    half = LIMIT // 2 + 1

    def plan(name: str) -> dict[str, int]:
        return outbox.plan([new_command(f"{name}{n}", planned_at=timezone.now()) for n in range(half)])

    def first() -> list[Breaker]:
        with transaction.atomic():
            opened = breaker.count(plan("a"))
            counted.set()
            go_on.wait(PATIENCE)
        return opened

    def second() -> list[Breaker]:
        with transaction.atomic():
            return breaker.count(plan("b"))

    with monkeypatch.context() as patch:
        if edge:
            earlier = statements.COUNT_PLANNED.text.replace(
                "clock_timestamp()", "clock_timestamp() - interval '1 minute'"
            )
            patch.setattr(statements.COUNT_PLANNED, "text", earlier)
        one = elsewhere.start(first)
        counted.wait(PATIENCE)
    two = elsewhere.start(second)
    until_somebody_waits_for_a_lock()
    go_on.set()
    assert one.result(PATIENCE) == []
    assert [opened.planned for opened in two.result(PATIENCE)] == [2 * half]
    assert sent() == []


def test_planners_for_two_services_in_any_order_do_not_block_each_other_permanently(elsewhere: Elsewhere) -> None:
    start = Barrier(6)

    def work(number: int) -> None:
        start.wait(PATIENCE)
        services = {"A": 1, "B": 1} if number % 2 else {"B": 1, "A": 1}
        for _ in range(20):
            with transaction.atomic():
                breaker.count(services)

    for done in [elsewhere.start(partial(work, number)) for number in range(6)]:
        done.result(PATIENCE)
    assert sorted(PlannedMinute.objects.values_list("service").distinct()) == [("A",), ("B",)]
    assert set(Breaker.objects.values_list("service", "state")) == {("A", "open"), ("B", "open")}
    assert Breaker.objects.get(service="A").planned == LIMIT + 1


def test_a_publisher_that_asked_for_pauses_just_before_takes_none(
    monkeypatch: pytest.MonkeyPatch, elsewhere: Elsewhere
) -> None:
    """Between the question what is paused and the claim, a page is planned that opens the breaker."""
    read, asked = switches.read, False

    def read_too_early() -> switches.Switches:
        nonlocal asked
        found = read()
        if not asked:
            asked = True
            elsewhere.run(lambda: undo(LIMIT + 5))
        return found

    monkeypatch.setattr(switches, "read", read_too_early)
    assert delivery.claim(timezone.now() + timedelta(minutes=1), "host:1") == []
    assert asked
    assert state() == BreakerState.OPEN


@pytest.mark.parametrize("place", ["_open", "_add"])
def test_where_the_planner_dies_neither_plan_nor_pause_is_there(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    class Killed(BaseException):
        pass

    def die(*args: Any, **kwargs: Any) -> Any:
        raise Killed

    task, *names = new_ids(LIMIT + 2)
    event_log.append(retrieval(task, names))
    run_apply()
    event_log.append([event("RetrievalFailed", task, seconds=20)])
    with monkeypatch.context() as patch:
        patch.setattr(breaker, place, die)
        with pytest.raises(Killed):
            run_apply()
    assert (Command.objects.count(), Breaker.objects.count(), PlannedMinute.objects.count()) == (0, 0, 0)
    assert Pending.objects.count() == 1
    run_apply()
    assert Command.objects.count() == LIMIT + 1
    assert state() == BreakerState.OPEN
    assert Decision.objects.count() == 1


def test_what_a_person_orders_does_not_count() -> None:
    task, *names = new_ids(LIMIT + 11)
    event_log.append(retrieval(task, names))
    run_apply()
    saga = SagaLog.objects.get(key=task)
    actions.force_compensation(saga.id, request=decided.request())
    assert Command.objects.count() == LIMIT + 10
    assert len(sent()) == LIMIT + 10
    assert not PlannedMinute.objects.exists()


def test_what_waited_already_when_a_person_decided_counts() -> None:
    """It is no part of the decision: the preview, made before the message came, could not show it."""
    task, *names = new_ids(LIMIT + 12)
    failed, bad = names[0], names[1:]
    event_log.append(retrieval(task, names))
    run_apply()
    event_log.append([event("AnonymizationFailed", task, failed, seconds=15, error_message="locked")])
    run_apply()
    [command] = Command.objects.all()
    preview = actions.decide_command("skip", command.id, request=decided.request(dry_run=True))
    assert [shown.id for shown in preview.commands] == [command.id]
    event_log.append([event("RetrievalFailed", task, seconds=20, error_message="disk full")])
    actions.decide_command("skip", command.id, request=decided.request())
    assert Command.objects.filter(status=CommandStatus.PLANNED).count() == len(bad)
    assert sent() == []
    assert (state(), Breaker.objects.get().planned) == (BreakerState.OPEN, len(bad) + 1)
    assert Decision.objects.filter(actor="system").count() == 1


def test_while_it_is_open_the_services_deadlines_are_on_hold() -> None:
    undo(5)
    assert len(sent()) == 5
    tripped()
    heartbeats.beat("bridge:here:1", "bridge", connected=True)
    Heartbeat.objects.update(well_since=timezone.now() - timedelta(hours=9))
    hour = timezone.now() + timedelta(hours=1)
    assert deadlines.pass_deadlines(hour) == 0
    assert Command.objects.filter(status=CommandStatus.PUBLISHED).count() == 5


def test_switches_and_breakers_are_read_in_one_query(django_assert_num_queries: Any) -> None:
    tripped()
    switches.read()
    with django_assert_num_queries(1):
        standing = switches.read()
    assert standing.paused == [SERVICE]
    assert not queries.is_anything_due(timezone.now(), standing)


# --- the canary


def test_resuming_sends_ten_and_the_others_when_these_are_confirmed() -> None:
    tripped(LIMIT + 15)
    preview = resume()
    assert preview.effects["resumed"] == ["breaker"]
    assert preview.effects["breaker"] == {"service": SERVICE, "state": "canary", "waiting": 35, "first": 10}
    assert "of 35 waiting commands the first 10 are sent now" in " ".join(actions.sentences(preview))
    assert {str(command.id) for command in preview.commands} == {str(id_) for id_ in Breaker.objects.get().canary}
    first = sent()
    assert len(first) == 10
    answer(first[:9])
    breakers.judge_canaries()
    assert (state(), sent()) == (BreakerState.CANARY, [])
    answer(first[9:])
    assert sent() == []
    breakers.judge_canaries()
    assert state() == BreakerState.CLOSED
    assert len(sent()) == 25


def test_a_dry_run_shows_the_ten_and_changes_nothing() -> None:
    tripped()
    shown = actions.set_publishing(False, SERVICE, request=decided.request(dry_run=True))
    assert (shown.effects["breaker"]["first"], len(shown.commands)) == (10, 10)
    assert state() == BreakerState.OPEN
    assert PlannedMinute.objects.exists()
    assert sent() == []


def test_resuming_begins_a_new_window() -> None:
    tripped()
    resume()
    assert not PlannedMinute.objects.exists()
    undo(LIMIT)
    assert state() == BreakerState.CANARY
    undo(1)
    opened = Breaker.objects.get()
    assert (opened.state, opened.cause, opened.planned, opened.canary) == ("open", "planned", LIMIT + 1, [])
    assert sent() == []


def test_any_number_of_workers_sends_the_canary_and_no_more(elsewhere: Elsewhere) -> None:
    tripped()
    resume()
    publishers = [FakePublisher() for _ in range(4)]
    start = Barrier(len(publishers))

    def work(publisher: FakePublisher) -> None:
        start.wait(PATIENCE)
        delivery.publish_due(publisher, "host:1", page=3)

    for done in [elsewhere.start(partial(work, publisher)) for publisher in publishers]:
        done.result(PATIENCE)
    assert sum(len(publisher.sent) for publisher in publishers) == 10


def test_one_refusal_pauses_again_before_anybody_judges() -> None:
    tripped()
    resume()
    first = sent()
    answer(first[:1], "ImageDeletionFailed")
    answer(first[1:])
    publisher = FakePublisher()
    delivery.publish_due(publisher, "host:1", clock=lambda: timezone.now() + timedelta(hours=1))
    assert publisher.sent == []
    breakers.judge_canaries()
    opened = Breaker.objects.get()
    assert (opened.state, opened.cause, opened.changed_by) == (BreakerState.OPEN, TripCause.REFUSED, "system")
    audit = Decision.objects.order_by("-decided_at").first()
    assert audit is not None
    assert (audit.actor, audit.reason_text) == (
        "system",
        "the service refused one of the first commands after sending was resumed",
    )
    breakers.judge_canaries()
    assert Decision.objects.filter(actor="system").count() == 2
    resume()
    assert set(sent()) & set(first) == set()  # the refused one waits for its next attempt
    assert state() == BreakerState.CANARY


def test_one_missed_deadline_pauses_again() -> None:
    tripped()
    resume()
    first = sent()
    answer(first[1:])
    heartbeats.beat("bridge:here:1", "bridge", connected=True)
    Heartbeat.objects.update(well_since=timezone.now() - timedelta(hours=9))
    assert deadlines.pass_deadlines(timezone.now() + timedelta(hours=1)) == 1
    breakers.judge_canaries()
    assert (state(), Breaker.objects.get().cause) == (BreakerState.OPEN, TripCause.DEADLINE)
    assert sent() == []


def test_a_command_that_is_given_up_pauses_again() -> None:
    tripped()
    resume()
    first = sent()
    Command.objects.filter(id=first[0]).update(
        status=CommandStatus.EXHAUSTED, settled_at=timezone.now(), deadline_at=None, exhausted_by="permanent"
    )
    breakers.judge_canaries()
    assert (state(), Breaker.objects.get().cause) == (BreakerState.OPEN, TripCause.EXHAUSTED)


def test_a_refusal_of_long_ago_is_not_the_canarys() -> None:
    undo(3)
    early = sent()
    answer(early, "ImageDeletionFailed")
    # No answer came for a whole deadline: the next copy is due.
    due = {"status": CommandStatus.WAITING, "next_at": timezone.now() - timedelta(hours=1), "deadline_at": None}
    Command.objects.filter(id__in=early).update(**due)
    tripped()
    resume()
    assert set(early) < {str(id_) for id_ in Breaker.objects.get().canary}
    first = sent()
    breakers.judge_canaries()
    assert state() == BreakerState.CANARY
    answer(first)
    breakers.judge_canaries()
    assert state() == BreakerState.CLOSED


def test_fewer_than_ten_are_a_canary_too() -> None:
    tripped()
    kept = list(Command.objects.order_by("id").values_list("id", flat=True)[:3])
    others = Command.objects.exclude(id__in=kept)
    selection = actions.CommandSelection(ids=list(others.values_list("id", flat=True)))
    actions.decide_commands("withdraw", selection, request=decided.request())
    assert resume().effects["breaker"]["first"] == 3
    answer(sent())
    breakers.judge_canaries()
    assert state() == BreakerState.CLOSED


def test_where_none_is_released_no_canary_is_sent() -> None:
    tripped()
    selection = actions.CommandSelection(ids=list(Command.objects.values_list("id", flat=True)))
    actions.decide_commands("withdraw", selection, request=decided.request())
    put(new_command("by hand", confirmation="manual", planned_at=timezone.now()))
    assert sent() == []
    outcome = resume()
    assert (state(), outcome.effects["breaker"]["state"]) == (BreakerState.CLOSED, "closed")
    assert "none is tried first" in " ".join(actions.sentences(outcome))
    assert len(sent()) == 1


def test_what_is_not_due_yet_is_waited_for() -> None:
    tripped()
    Command.objects.update(next_at=timezone.now() + timedelta(hours=1))
    assert resume().effects["breaker"]["state"] == "chosen_later"
    breakers.judge_canaries()
    assert state() == BreakerState.CANARY
    Command.objects.update(next_at=timezone.now() - timedelta(seconds=1))
    assert sent() == []
    breakers.judge_canaries()
    assert len(sent()) == 10


@pytest.mark.parametrize("action", ["skip", "mark_done", "withdraw"])
def test_what_people_settle_leaves_the_canary(action: str) -> None:
    """It says nothing of the service: where nobody else is in it, the next ten are sent."""
    tripped()
    resume()
    first = [str(id_) for id_ in Breaker.objects.get().canary] if action == "withdraw" else sent()
    some, rest = first[:4], first[4:]
    for id_ in some:
        actions.decide_command(action, id_, request=decided.request())
    breakers.judge_canaries()
    assert state() == BreakerState.CANARY
    for id_ in rest:
        actions.decide_command(action, id_, request=decided.request())
    breakers.judge_canaries()
    assert state() == BreakerState.CANARY
    second = sent()
    assert len(second) == 10
    assert not set(second) & set(first)
    actions.decide_command("skip", second[0], request=decided.request())
    answer(second[1:])
    breakers.judge_canaries()
    assert state() == BreakerState.CLOSED


def test_a_confirmation_of_what_was_never_sent_says_nothing_of_the_service() -> None:
    """Whoever ordered the undos may write it as well."""
    tripped()
    resume()
    forged = [str(id_) for id_ in Breaker.objects.get().canary]
    answer(forged)
    assert Command.objects.filter(id__in=forged, status=CommandStatus.CONFIRMED).count() == 10
    breakers.judge_canaries()
    assert state() == BreakerState.CANARY
    second = sent()
    assert len(second) == 10
    assert not set(second) & set(forged)
    answer(second)
    breakers.judge_canaries()
    assert state() == BreakerState.CLOSED


def test_where_another_task_has_the_images_of_the_canary_the_next_ten_go() -> None:
    """They are held when they are claimed; a release lets them go with the others, and not before."""
    saga = tripped()
    resume()
    chosen = list(Breaker.objects.get().canary)
    [other] = new_ids(1)
    images = list(Command.objects.filter(id__in=chosen).order_by("entity").values_list("entity", flat=True))
    event_log.append(retrieval(other, images))
    run_apply()
    assert Command.objects.filter(id__in=chosen, held_since=None).count() == 0
    assert sent() == []
    assert not queries.is_anything_due(timezone.now(), switches.read())
    breakers.judge_canaries()
    second = sent()
    assert len(second) == 10
    assert not set(second) & set(map(str, chosen))
    selection = actions.CommandSelection(saga=saga.id)
    actions.decide_commands("release", selection, request=decided.request())
    assert sent() == []
    answer(second)
    breakers.judge_canaries()
    assert state() == BreakerState.CLOSED
    assert set(sent()) >= set(map(str, chosen))


def test_a_decision_says_that_its_commands_wait_for_the_canary() -> None:
    task, image = new_ids(2)
    event_log.append(retrieval(task, [image]))
    run_apply()
    saga = SagaLog.objects.get(key=task)
    tripped()
    resume()
    outcome = actions.force_compensation(saga.id, request=decided.request())
    assert outcome.effects["after_canary"] == [SERVICE]
    assert f"only the first commands are sent to {SERVICE} for now" in " ".join(actions.sentences(outcome))
    answer(sent())
    breakers.judge_canaries()
    assert str(outcome.commands[0].id) in sent()


def test_a_worker_that_dies_with_the_canary_blocks_nothing() -> None:
    tripped()
    resume()
    assert len(delivery.claim(timezone.now(), "host:1")) == 10
    breakers.judge_canaries()
    assert (state(), sent()) == (BreakerState.CANARY, [])
    soon = timezone.now() + timedelta(seconds=deadlines.LEASE_SECONDS + 5)
    assert deadlines.recover_lost(soon) == 10
    publisher = FakePublisher()
    delivery.publish_due(publisher, "host:1", clock=lambda: soon + timedelta(seconds=10))
    assert len(publisher.sent) == 10


# --- beside the switch


def test_switch_and_breaker_are_resumed_one_by_one() -> None:
    tripped()
    actions.set_publishing(True, SERVICE, request=decided.request())
    assert state() == BreakerState.OPEN
    only_breaker = resume(only="breaker")
    assert (only_breaker.effects["resumed"], only_breaker.effects["stays_paused_by"]) == (["breaker"], "service")
    assert only_breaker.effects["breaker"]["state"] == "chosen_later"
    breakers.judge_canaries()
    assert (state(), sent()) == (BreakerState.CANARY, [])
    assert resume(only="switch").effects["resumed"] == ["switch"]
    breakers.judge_canaries()
    assert len(sent()) == 10


def test_resuming_the_switch_alone_leaves_the_breaker_open() -> None:
    tripped()
    actions.set_publishing(True, SERVICE, request=decided.request())
    outcome = resume(only="switch")
    assert (outcome.effects["resumed"], outcome.effects["stays_paused_by"]) == (["switch"], "breaker")
    assert (state(), sent()) == (BreakerState.OPEN, [])
    assert actions.set_publishing(False, request=decided.request()).effects["changed"] is False
    assert (state(), sent()) == (BreakerState.OPEN, [])


def test_resuming_a_service_resumes_whatever_pauses_it() -> None:
    tripped()
    actions.set_publishing(True, SERVICE, request=decided.request())
    ran = run("resume_publishing", "--service", SERVICE, "--reason", "looked", "--yes")
    assert ran.code == 0
    assert 'resumed: ["switch", "breaker"]' in ran.out
    assert "the first 10 are sent now" in ran.out
    assert len(sent()) == 10
    again = resume()
    assert (again.effects["changed"], again.effects["resumed"]) == (False, [])


def test_while_all_is_paused_the_canary_waits() -> None:
    tripped()
    actions.set_publishing(True, request=decided.request())
    assert resume().effects["stays_paused_by"] == "all"
    assert sent() == []
    actions.set_publishing(False, request=decided.request())
    assert sent() == []
    breakers.judge_canaries()
    assert len(sent()) == 10


def test_only_an_open_breaker_can_be_resumed_and_of_one_service() -> None:
    tripped()
    with pytest.raises(Invalid):
        actions.set_publishing(False, request=decided.request(), only="breaker")
    with pytest.raises(Invalid):
        actions.set_publishing(True, SERVICE, request=decided.request(), only="breaker")
    assert state() == BreakerState.OPEN


# --- where it is shown


def test_every_page_shows_an_open_breaker(staff: Client) -> None:
    saga = tripped()
    words = f"The circuit breaker paused {SERVICE} at "
    numbers = "30 commands planned in ten minutes, the limit is 20. Check them, then resume."
    first = pages.attention().items[0]
    assert (first.kind, first.count) == ("breaker", 30)
    assert first.sentence.startswith(words)
    assert numbers in first.sentence
    assert first.sentence.endswith("30 commands are waiting.")
    found = pages.waiting(saga)
    assert found is not None
    assert (found.kind, found.sentence.startswith(words)) == ("paused", True)
    page = staff.get(reverse("admin:compensation_switch_changelist")).content.decode()
    assert f"{SERVICE}: circuit breaker" in page
    assert "only=breaker" in page
    for url in (
        reverse("admin:index"),
        reverse("admin:compensation_switch_changelist"),
        reverse("admin:sagas_sagalog_change", args=[saga.id]),
        reverse("admin:compensation_command_change", args=[Command.objects.values_list("id", flat=True)[0]]),
    ):
        assert numbers in staff.get(url).content.decode(), url
    saga_page = staff.get(reverse("admin:sagas_sagalog_change", args=[saga.id])).content.decode()
    assert "only=breaker" in saga_page
    assert numbers.split(".", maxsplit=1)[0] in run("show_saga", str(saga.id)).out
    heartbeats.beat("publisher", "publisher", connected=True)
    assert f"The circuit breaker paused {SERVICE}" in doctor.check_publisher().says


def test_every_page_shows_a_running_canary(staff: Client) -> None:
    saga = tripped()
    resume()
    words = "the first 10 commands are sent, the others when the service has confirmed these"
    [item] = [item for item in pages.attention().items if item.kind == "breaker"]
    assert words in item.sentence
    assert words in staff.get(reverse("admin:compensation_switch_changelist")).content.decode()
    sent()
    Command.objects.filter(status=CommandStatus.PUBLISHED).update(
        status=CommandStatus.SKIPPED, settled_at=timezone.now(), deadline_at=None
    )
    found = pages.waiting(saga)
    assert found is not None
    assert (found.kind, words in found.sentence) == ("canary", True)
    heartbeats.beat("publisher", "publisher", connected=True)
    assert "only the first commands are sent to DATA_RETRIEVAL" in doctor.check_publisher().says


def test_the_api_shows_both_and_resumes_either(staff: Client) -> None:
    tripped()

    def read() -> dict[str, Any]:
        found = staff.get("/api/v1/saga/publishing").json()["items"]
        return next(item for item in found if item["service"] == SERVICE)

    told = read()
    assert (told["paused"], told["paused_by"], told["by"]) == (True, "breaker", None)
    assert {**told["breaker"], "since": ""} == {
        "state": "open",
        "since": "",
        "by": "system",
        "reason": None,
        "cause": "planned",
        "planned": 30,
        "limit": 20,
        "canary": [],
    }
    assert told["deadlines_on_hold"]["by"] == "system"
    asked = {"service": SERVICE, "paused": False, "reason": "looked"}
    answered = staff.post("/api/v1/saga/publishing", {**asked, "only": "switch"}, "application/json")
    assert (answered.status_code, answered.json()["effects"]["stays_paused_by"]) == (202, "breaker")
    answered = staff.post("/api/v1/saga/publishing", {**asked, "only": "breaker"}, "application/json")
    assert (answered.status_code, answered.json()["effects"]["resumed"]) == (202, ["breaker"])
    told = read()
    assert (told["paused"], told["breaker"]["state"], len(told["breaker"]["canary"])) == (False, "canary", 10)


def test_the_admin_resumes_the_breaker_alone(staff: Client) -> None:
    tripped()
    actions.set_publishing(True, SERVICE, request=decided.request())
    url = reverse("admin:sagas_decision_decide", args=["resume_publishing"]) + f"?service={SERVICE}&only=breaker"
    assert staff.get(url).status_code == 200
    form = {"service": SERVICE, "only": "breaker", "reason": "looked"}
    assert staff.post(url, {**form, "preview": "1"}).status_code == 200
    assert state() == BreakerState.OPEN
