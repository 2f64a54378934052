"""A nudge is a word in passing: it may be lost, and it never hurts."""

from typing import Any

import pytest
from celery import current_app

from bridge import wakeup


def test_a_nudge_carries_nothing_and_does_not_keep(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[Any, ...]] = []
    monkeypatch.setattr(current_app, "send_task", lambda *args, **options: sent.append((args, options)))
    assert wakeup.nudge("apply")
    ((args, options),) = sent
    assert args == ("sagas.apply",)
    assert options["expires"] > 0
    assert not options["retry"]


def test_a_broker_that_is_away_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object, **__: object) -> None:
        raise ConnectionError("amqp://user:secret@host")

    monkeypatch.setattr(current_app, "send_task", away)
    assert not wakeup.nudge("publish")
