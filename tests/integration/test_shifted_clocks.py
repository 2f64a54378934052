"""Hosts whose clocks are wrong, each an hour ahead or behind: what they write and read decides as if all were right."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args
from unittest.mock import patch

import pytest
from celery.beat import Scheduler
from django.conf import settings
from django.db import OperationalError
from django.utils import timezone
from kombu import Connection

from bridge import clock, event_log, heartbeats, wakeup
from bridge.models import Event, Heartbeat, Quarantined
from compensation import deadlines, delivery, outbox, switches, tasks
from compensation.models import Command, CommandStatus
from compensation.outbox import Settlement
from sagaproject import valkey_transport
from sagaproject.celery import app
from sagas.applying import sweeper
from tests.integration.bridge_messages import body, message
from tests.integration.commands import FakePublisher, new_command
from tests.integration.connections import InThread
from tests.integration.test_consumer import Bridge

HOUR = timedelta(hours=1)
SHIFTS = [-HOUR, HOUR]
FAKETIME = next(
    (
        path
        for place in ("/usr/lib", "/usr/local/lib", os.environ.get("FAKETIME_DIR", "/nowhere"))
        for path in Path(place).glob("**/faketime/libfaketime.so.1")
    ),
    None,
)
needs_faketime = pytest.mark.skipif(FAKETIME is None, reason="libfaketime is not installed")


@contextmanager
def on_host(shift: timedelta) -> Iterator[None]:
    """Within the block the wall clock of this host is off by so much. The database's is right."""
    with patch.object(timezone, "now", lambda: datetime.now(UTC) + shift):
        yield


def well_bridge() -> None:
    heartbeats.beat("bridge:here:1", "bridge", connected=True)
    Heartbeat.objects.update(well_since=timezone.now() - timedelta(days=1))


def planned(**changes: Any) -> Command:
    new = new_command(planned_at=clock.now(), **changes)
    outbox.plan([new])
    return Command.objects.get(id=new.id)


# --- what one host writes and another compares


@pytest.mark.django_db
@pytest.mark.parametrize("shift", SHIFTS)
def test_what_a_host_has_just_claimed_is_lost_for_none(shift: timedelta, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "get_publisher", FakePublisher)
    command = planned()

    class Sending(FakePublisher):
        def publish(self, page: Any) -> Any:
            with on_host(-shift):
                tasks.sweep()
            command.refresh_from_db()
            assert command.status == CommandStatus.PUBLISHING
            return super().publish(page)

    with on_host(shift):
        delivery.publish_due(Sending(), "host:1")
    command.refresh_from_db()
    assert (command.status, command.attempt) == (CommandStatus.PUBLISHED, 1)


@pytest.mark.django_db
@pytest.mark.parametrize("shift", SHIFTS)
def test_a_deadline_is_as_long_as_it_is_meant(shift: timedelta) -> None:
    well_bridge()
    with on_host(shift):
        switches.set_switch("*", True, "ana", "")
        switches.set_switch("*", False, "ana", "")
        command = planned(confirmation_timeout=300.0)
        delivery.publish_due(FakePublisher(), "host:1")
    with on_host(-shift):
        assert deadlines.pass_deadlines(clock.now() + timedelta(seconds=299)) == 0
        assert deadlines.pass_deadlines(clock.now() + timedelta(seconds=301)) == 1
    command.refresh_from_db()
    assert command.status == CommandStatus.WAITING


@pytest.mark.django_db
@pytest.mark.parametrize("shift", SHIFTS)
def test_what_a_host_has_tried_again_is_due_at_once_for_all(shift: timedelta) -> None:
    command = planned(invalid="")
    delivery.publish_due(FakePublisher(), "host:1")
    with on_host(shift):
        outbox.settle([Settlement(command_id=command.id, status="retried", at=clock.now(), round=2)])
    publisher = FakePublisher()
    with on_host(-shift):
        delivery.publish_due(publisher, "host:2")
    assert len(publisher.sent) == 1


@pytest.mark.django_db
@pytest.mark.parametrize("shift", SHIFTS)
def test_an_event_has_waited_as_long_as_it_has(shift: timedelta) -> None:
    well_bridge()
    bridge = Bridge()
    with on_host(shift):
        bridge.source.give(message(body("e-1")))
        bridge.consumer.step()
    well_bridge()
    assert abs(Event.objects.get().received_at - clock.now()) < timedelta(minutes=1)
    with on_host(-shift):
        assert deadlines.deadline_holds().general is None
        assert not sweeper.pending_too_long()


@pytest.mark.django_db
def test_a_database_that_does_not_tell_its_clock_gets_the_batch_again(monkeypatch: pytest.MonkeyPatch) -> None:
    bridge = Bridge()
    bridge.consumer.step()
    real, tries = clock.now, []

    def away_at_first() -> datetime:
        tries.append(1)
        if len(tries) < 3:
            raise OperationalError("away")
        return real()

    monkeypatch.setattr(clock, "now", away_at_first)
    monkeypatch.setattr("bridge.consumer.connection.close", lambda: None)
    batch = bridge.source.give(message(body("e-1")), message(b"garbage"))
    assert bridge.consumer.step()
    assert bridge.source.acknowledged == [batch]
    assert (Event.objects.count(), Quarantined.objects.count()) == (1, 1)


@pytest.mark.django_db
def test_facts_of_our_own_are_received_by_the_database_s_clock() -> None:
    with on_host(HOUR):
        fact = event_log.NewFact("pulsar", "e1", "image_processing", "RetrievalFailed", "t", "", clock.now(), {}, "k")
        event_log.append([fact])
    assert Event.objects.get().received_at <= clock.now()


# --- tasks


def messages() -> list[dict[str, Any]]:
    """What the broker gets of each kind of task that we send."""
    sent: list[dict[str, Any]] = []
    send = app.send_task
    with (
        Connection("memory://") as connection,
        connection.Producer(auto_declare=False) as producer,
        patch("kombu.transport.memory.Channel.basic_publish", lambda self, message, *a, **k: sent.append(message)),
        patch.object(app, "send_task", lambda name, **options: send(name, producer=producer, **options)),
    ):
        for name in get_args(wakeup.Wakeup):
            assert wakeup.nudge(name)
        scheduler = Scheduler(app, lazy=True, schedule={})
        scheduler.setup_schedule()
        for entry in scheduler.schedule.values():
            app.send_task(str(entry.task), **(entry.options or {}))
    return sent


def test_no_task_is_thrown_away_by_a_worker_whose_clock_is_ahead() -> None:
    found = messages()
    assert {m["headers"]["task"] for m in found} == {
        *settings.WAKEUPS.values(),
        *(entry["task"] for entry in app.conf.beat_schedule.values()),
    }
    for sent in found:
        assert sent["headers"]["expires"] is None
        assert sent["headers"]["eta"] is None
        assert 0 < int(sent["properties"]["expiration"]) <= 15_000, "RabbitMQ drops what nobody takes, by its own clock"


def test_our_tasks_carry_nothing_so_that_one_of_a_kind_is_worth_as_much_as_many() -> None:
    app.loader.import_default_modules()
    ours = {*settings.WAKEUPS.values(), *(entry["task"] for entry in app.conf.beat_schedule.values())}
    for name in ours:
        assert not inspect.signature(app.tasks[name].run).parameters


@pytest.mark.parametrize("back", [timedelta(seconds=30), HOUR, timedelta(days=365)])
def test_a_beat_whose_clock_is_set_back_goes_on(back: timedelta, monkeypatch: pytest.MonkeyPatch) -> None:
    shift = timedelta()
    monkeypatch.setattr(app, "now", lambda: datetime.now(UTC) + shift)
    sent: list[str] = []
    monkeypatch.setattr(Scheduler, "apply_entry", lambda self, entry, producer=None: sent.append(entry.task))
    monkeypatch.setattr(Scheduler, "producer", None)
    steady = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: steady)
    scheduler = Scheduler(app)

    def run(seconds: float) -> list[str]:
        nonlocal steady
        sent.clear()
        end = steady + seconds
        while steady < end:
            steady += max(0.01, scheduler.tick())
        return sent

    assert {"sagas.sweep", "compensation.sweep"} <= set(run(5))
    shift = -back
    for _ in range(3):
        assert {"sagas.sweep", "compensation.sweep"} <= set(run(5))
    shift = back
    most = sum(5 // entry["schedule"].seconds + 1 for entry in app.conf.beat_schedule.values())
    assert 4 <= len(run(5)) <= most, "nothing is made up for"


def test_beat_has_nothing_else_to_do() -> None:
    scheduler = Scheduler(app, lazy=True, schedule={})
    scheduler.setup_schedule()
    assert set(scheduler.schedule) == set(app.conf.beat_schedule)
    for entry in scheduler.schedule.values():
        schedule: Any = entry.schedule
        assert schedule.nowfun is not None, "a wall clock and a steady one in one schedule cannot be compared"


def test_a_queue_in_valkey_that_no_one_takes_stays_short(valkey_url: str) -> None:
    options = {"global_keyprefix": "saga:"}
    with Connection(valkey_url, transport_options=options) as connection, connection.Producer() as producer:
        channel: Any = producer.channel
        for number in range(valkey_transport.QUEUE_LENGTH + 50):
            producer.publish({"n": number}, routing_key="applying", headers={"task": "sagas.apply"})
            producer.publish({"n": number}, routing_key="replies")
        with channel.conn_or_acquire() as client:
            waiting = client.execute_command("LRANGE", "saga:applying", 0, -1)
            assert len(waiting) == valkey_transport.QUEUE_LENGTH
            assert client.execute_command("LLEN", "replies") == valkey_transport.QUEUE_LENGTH + 50, "no task of ours"
        queue = connection.SimpleQueue("applying")
        assert queue.get(timeout=5).payload["n"] == 50, "what has waited longest goes"
        queue.close()


# --- the same with the clocks of real processes


def process(code: str, *, file: Path) -> subprocess.Popen[str]:
    """Run Python whose wall clock is shifted by what the file says; its monotonic clock is left alone."""
    environment = {
        **os.environ,
        "ENVIRONMENT": "dev",
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }
    return subprocess.Popen(
        [sys.executable, "-u", "-c", code],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


# Python's sleep fails where libfaketime moves the clock meanwhile; waiting for nothing does not.
_BEAT = """
import select, time
time.sleep = lambda seconds: select.select([], [], [], seconds)
from celery.beat import Scheduler, Service
from sagaproject.celery import app
Scheduler.apply_entry = lambda self, entry, producer=None: print(entry.task, int(time.time()), flush=True)
Scheduler.producer = None
Service(app, scheduler_cls=Scheduler).start()
"""

_WORKER = """
import json, sys
from types import SimpleNamespace
from celery.worker.request import Request
from sagaproject.celery import app
app.loader.import_default_modules()
for headers in json.loads(sys.stdin.read()):
    message = SimpleNamespace(
        headers=headers, properties={}, delivery_info={}, body=[[], {}, {}], content_type="", content_encoding="",
    )
    print(bool(Request(message, app=app, headers=headers, decoded=True).maybe_expire()), flush=True)
"""


@needs_faketime
def test_a_real_beat_whose_clock_is_set_back_an_hour_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "shift"
    file.write_text("+0")
    beat = process(_BEAT, file=file)

    def told() -> int:
        """When beat sent the next task, by its clock."""
        assert beat.stdout is not None
        return int(InThread(beat.stdout.readline).result(20).split()[1])

    try:
        before = told()
        file.write_text("-3600")
        deadline, after = time.monotonic() + 20, before
        while after > before - 1800 and time.monotonic() < deadline:
            after = told()
        assert after < before - 1800, "sent by the clock that was set back"
        assert told() < before, "and again"
    finally:
        beat.terminate()
        beat.wait(10)


@needs_faketime
def test_a_real_worker_whose_clock_is_ahead_throws_no_task_away(tmp_path: Path) -> None:
    file = tmp_path / "shift"
    file.write_text("+120")
    headers = [sent["headers"] for sent in messages()]
    # What Celery makes of a task that says when it expires: the test would see it.
    expiring = {**headers[0], "expires": (datetime.now(UTC) + timedelta(seconds=30)).isoformat()}
    worker = process(_WORKER, file=file)
    told, _ = worker.communicate(json.dumps([*headers, expiring]), timeout=60)
    assert told.split() == ["False"] * len(headers) + ["True"]
