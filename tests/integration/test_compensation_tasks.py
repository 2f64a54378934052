"""The two Celery tasks: what they find from the database alone, and when they wake each other."""

import socket
from datetime import timedelta
from typing import Any

import pytest
from celery import current_app
from django.utils import timezone

from bridge.models import Heartbeat
from compensation import outbox, statements, switches, tasks
from compensation.models import Command, CommandStatus
from tests.integration.commands import NOW, FakePublisher, new_command

pytestmark = pytest.mark.django_db


@pytest.fixture
def woken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []
    monkeypatch.setattr(current_app, "send_task", lambda name, **options: names.append(name))
    return names


@pytest.fixture
def publisher(monkeypatch: pytest.MonkeyPatch) -> FakePublisher:
    fake = FakePublisher()
    monkeypatch.setattr(tasks, "get_publisher", lambda: fake)
    return fake


def test_publish_sends_what_is_due(publisher: FakePublisher, woken: list[str]) -> None:
    outbox.plan([new_command("one"), new_command("two")])
    tasks.publish.apply().get()
    assert len(publisher.sent) == 2
    assert woken == []


def test_publish_wakes_itself_when_its_time_is_up(
    publisher: FakePublisher, woken: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compensation.delivery.RUN_SECONDS", 0.0)
    outbox.plan([new_command()])
    tasks.publish.apply().get()
    assert woken == ["compensation.publish"]


def test_while_the_broker_is_away_publish_leaves_it_to_the_sweeper(publisher: FakePublisher, woken: list[str]) -> None:
    outbox.plan([new_command()])
    publisher.away = True
    tasks.publish.apply().get()
    assert publisher.probes == 1
    assert Command.objects.get().status == CommandStatus.PLANNED
    publisher.away = False
    Heartbeat.objects.update(beat_at=timezone.now() - tasks.PROBE_AGAIN_AFTER)
    tasks.sweep()
    assert woken == ["compensation.publish"]


def test_sweeps_that_come_while_one_asks_the_broker_do_not_ask_too(
    publisher: FakePublisher, woken: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher.away = True
    tasks.sweep()
    Heartbeat.objects.update(beat_at=timezone.now() - tasks.PROBE_AGAIN_AFTER)
    real = publisher.probe

    def slowly() -> None:
        assert not tasks._broker_is_available()  # another sweep, meanwhile
        real()

    monkeypatch.setattr(publisher, "probe", slowly)
    tasks.sweep()
    assert publisher.probes == 2


def test_the_sweep_shows_that_it_lives_and_how_the_broker_is(publisher: FakePublisher, woken: list[str]) -> None:
    tasks.sweep()
    assert Heartbeat.objects.get(kind="sweeper").name == f"sweeper:{socket.gethostname()}"
    assert Heartbeat.objects.get(name="publisher").connected is True
    assert woken == []


def test_the_sweep_finds_due_commands_whose_nudge_was_lost(publisher: FakePublisher, woken: list[str]) -> None:
    outbox.plan([new_command()])
    tasks.sweep()
    tasks.sweep()
    assert woken == ["compensation.publish"] * 2


def test_the_sweep_brings_back_lost_claims_and_wakes_the_publisher_for_them(
    publisher: FakePublisher, woken: list[str]
) -> None:
    outbox.plan([new_command()])
    statements.claim(NOW, [], "host:1", 10)
    tasks.sweep()
    assert Command.objects.get().status == CommandStatus.WAITING


def test_a_broker_that_is_there_is_asked_at_most_every_fifteen_seconds(
    publisher: FakePublisher, woken: list[str]
) -> None:
    tasks.sweep()
    tasks.sweep()
    assert publisher.probes == 1
    long_ago = timezone.now() - tasks.PROBE_AFTER
    Heartbeat.objects.filter(name="publisher").update(beat_at=long_ago)
    tasks.sweep()
    assert publisher.probes == 2


@pytest.mark.parametrize("reason", ["away", "paused", "not due"])
def test_the_sweep_sends_no_wakeup_without_work(publisher: FakePublisher, woken: list[str], reason: str) -> None:
    later = timezone.now() + timedelta(hours=1)
    outbox.plan([new_command(planned_at=later if reason == "not due" else NOW)])
    publisher.away = reason == "away"
    if reason == "paused":
        switches.set_switch("*", True, "ana", "look first")
    tasks.sweep()
    tasks.sweep()
    assert woken == []
    assert Heartbeat.objects.get(name="publisher").connected is (reason != "away")


def test_the_names_are_those_that_wakeups_and_beat_use(settings: Any) -> None:
    assert tasks.publish.name == settings.WAKEUPS["publish"] == "compensation.publish"
    assert tasks.sweep.name == "compensation.sweep"
