"""docs/your-own-saga.md as it stands: its definition, its messages, its commands."""

from __future__ import annotations

import json
import random
import re
import sys
import types
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from bridge import event_log
from bridge.catalog import get_catalog
from bridge.codec import get_codec
from bridge.envelope import Envelope, Message
from bridge.topics import get_topics
from compensation.models import Command
from sagas.applying.apply import run_apply
from sagas.definitions import image_processing, registry
from sagas.models import SagaLog

pytestmark = pytest.mark.django_db(transaction=True)

PAGE = (Path(settings.BASE_DIR) / "docs" / "your-own-saga.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture
def trip_booking(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The tutorial's definition, listed beside the first one: who has done the tutorial has listed it already."""
    monkeypatch.setattr(registry, "DEFINITIONS", (image_processing.DEFINITION,))
    room: dict[str, Any] = {}
    exec(compile(blocks("python")[0], "your-own-saga.md", "exec"), room)
    caches = (get_catalog, get_codec, get_topics)
    with registry.also(room["DEFINITION"]):
        for cached in caches:
            cached.cache_clear()
        assert registry.problems() == []
        yield
    for cached in caches:
        cached.cache_clear()


def receive(lines: str) -> None:
    """The messages through the bridge's own codec and store."""
    codec, names = get_codec(), get_topics()
    decoded = []
    for number, line in enumerate(lines.splitlines()):
        body = json.loads(line)
        topic = names.of_shown(body.pop("topic"))
        message = Message(
            topic=topic.shown,
            short_name=topic.short,
            message_id=f"1:{number}:0:-1",
            published_ms=1_777_800_000_000,
            body=json.dumps(body).encode(),
            properties={},
        )
        envelope = codec.decode(message, datetime(2026, 5, 3, tzinfo=UTC))
        assert isinstance(envelope, Envelope), envelope
        decoded.append(envelope)
    random.Random(5).shuffle(decoded)
    event_log.store_batch(decoded)
    run_apply()


@pytest.mark.usefixtures("trip_booking")
def test_the_second_version_is_the_difference_that_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    first = registry.current("trip_booking")
    module = types.ModuleType("sagas.definitions.trip_booking")
    module.__dict__["DEFINITION"] = first
    monkeypatch.setitem(sys.modules, module.__name__, module)
    room: dict[str, Any] = {}
    exec(compile(blocks("python")[1], "your-own-saga.md", "exec"), room)
    second = room["DEFINITION"]
    with registry.also(second):
        assert registry.problems() == []
        assert registry.current("trip_booking") is second
    assert (first.version, second.version) == (1, 2)
    assert set(second.event_of) - set(first.event_of) == {"ReleaseRefused"}
    assert second.compensation_of["ReleaseNight"].topic == "hotel-releases"


@pytest.mark.usefixtures("trip_booking")
def test_the_tutorial_does_what_it_says() -> None:
    booked, cancelled, commands, released = blocks("json")
    receive(booked)
    saga = SagaLog.objects.get(key="trip-7")
    assert (saga.saga_type, saga.status) == ("trip_booking", "COMPLETED")
    receive(cancelled)
    saga.refresh_from_db()
    assert saga.status == "COMPENSATING"
    rows = Command.objects.filter(saga_id=saga.id).order_by("entity")
    assert [row.topic for row in rows] == ["hotel-commands", "hotel-commands"]
    sent = [{"type": row.body["type"], "data": row.body["data"]} for row in rows]
    assert sent == [json.loads(line) for line in commands.splitlines()]
    assert all({"id", "correlation_id", "timestamp"} <= set(row.body) for row in rows)
    receive(released)
    saga.refresh_from_db()
    assert saga.status == "COMPENSATION_SUCCEEDED"
