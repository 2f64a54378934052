"""A nudge is a word in passing: it may be lost, and it never hurts."""

import threading
import time
from typing import Any

import pytest
from celery import current_app

from bridge import wakeup
from bridge.wakeup import Nudger


def test_a_nudge_carries_nothing_and_does_not_keep(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[Any, ...]] = []
    monkeypatch.setattr(current_app, "send_task", lambda *args, **options: sent.append((args, options)))
    assert wakeup.nudge("apply")
    ((args, options),) = sent
    assert args == ("sagas.apply",)
    assert "expires" not in options, "a worker would compare it with its own clock"
    assert options["expiration"] > 0, "by RabbitMQ's clock"
    assert not options["retry"]


def test_a_broker_that_is_away_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object, **__: object) -> None:
        raise ConnectionError("amqp://user:secret@host")

    monkeypatch.setattr(current_app, "send_task", away)
    assert not wakeup.nudge("publish")


class Celery:
    """Counts nudges; can be told to hang, or to fail."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.works = True
        self.answers = threading.Event()
        self.answers.set()

    def __call__(self, name: str) -> bool:
        self.times.append(time.monotonic())
        self.answers.wait()
        return self.works


def test_nudges_are_rare_under_load_and_one_follows_the_last_event() -> None:
    celery = Celery()
    nudger = Nudger("apply", celery)
    nudger.start()
    for _ in range(40):
        nudger.ask()
        asked = time.monotonic()
        time.sleep(0.005)
    time.sleep(0.2)
    assert 3 <= len(celery.times) <= 8
    assert celery.times[-1] >= asked
    before = len(celery.times)
    time.sleep(0.15)
    assert len(celery.times) == before
    nudger.stop()


def test_a_broker_that_hangs_or_fails_holds_up_no_one() -> None:
    celery = Celery()
    celery.answers.clear()
    celery.works = False
    nudger = Nudger("apply", celery)
    nudger.start()
    started = time.monotonic()
    for _ in range(1000):
        nudger.ask()
    assert time.monotonic() - started < 0.5
    celery.answers.set()
    time.sleep(0.2)
    nudger.ask()
    time.sleep(0.2)
    assert len(celery.times) == 1
    nudger.stop()


def test_one_that_was_never_started_can_be_stopped() -> None:
    Nudger("apply", Celery()).stop()
