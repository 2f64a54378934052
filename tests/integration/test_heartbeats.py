"""Who is alive, and since when all is well."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bridge import heartbeats
from bridge.models import Heartbeat

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def beat(seconds: float, name: str = "bridge:a:1", **changes: Any) -> None:
    heartbeats.beat(name, "bridge", now=at(seconds), **{"connected": True, **changes})


def well_since(seconds: float) -> datetime | None:
    return heartbeats.bridge_state(at(seconds)).well_since


def test_nobody_is_there() -> None:
    state = heartbeats.bridge_state(NOW)
    assert (state.alive, state.connected, state.well_since, state.errors) == (0, False, None, ())


def test_well_for_as_long_as_every_beat_says_so() -> None:
    for second in range(5):
        beat(second)
    assert well_since(5) == at(0)
    beat(5, well=False)
    assert well_since(5) is None
    beat(6)
    assert well_since(6) == at(6)


def test_a_gap_between_beats_ends_what_was_well() -> None:
    beat(0)
    beat(20)
    assert well_since(20) == at(20)
    assert Heartbeat.objects.get().started_at == at(20)


def test_a_row_that_stopped_beating_is_dead() -> None:
    beat(0)
    assert heartbeats.bridge_state(at(14)).alive == 1
    assert heartbeats.bridge_state(at(15)).alive == 0
    assert well_since(15) is None


def test_one_connected_bridge_that_is_behind_is_enough_to_say_no() -> None:
    beat(0, "bridge:a:1")
    beat(1, "bridge:b:2")
    assert well_since(1) == at(1)
    beat(2, "bridge:b:2", well=False)
    assert well_since(2) is None
    beat(3, "bridge:b:2", connected=False)
    assert well_since(3) == at(0)


def test_the_rest_is_told_as_it_is() -> None:
    beat(0, last_message_at=at(-1), detail={"per_second": 2.5, "lag_seconds": 1.0, "error": ""})
    beat(0, "bridge:b:2", connected=False, detail={"per_second": 1.0, "error": "Pulsar is away"})
    beat(0, "bridge:b:2", connected=False, detail={"per_second": 1.0, "error": "Pulsar is away"})
    heartbeats.beat("publisher", "publisher", now=NOW, connected=True)
    state = heartbeats.bridge_state(NOW)
    assert (state.alive, state.connected, state.last_message_at) == (2, True, at(-1))
    assert (state.per_second, state.lag_seconds, state.errors) == (3.5, 1.0, ("Pulsar is away",))


def test_the_last_message_is_not_forgotten() -> None:
    beat(0, last_message_at=at(0))
    beat(1)
    assert heartbeats.bridge_state(at(1)).last_message_at == at(0)


def test_leaving_and_forgetting() -> None:
    beat(0)
    beat(0, "bridge:old:1")
    heartbeats.leave("bridge:a:1")
    heartbeats.leave("bridge:a:1")
    assert Heartbeat.objects.get().name == "bridge:old:1"
    heartbeats.forget_the_dead(at(86_399))
    assert Heartbeat.objects.exists()
    heartbeats.forget_the_dead(at(86_401))
    assert not Heartbeat.objects.exists()
