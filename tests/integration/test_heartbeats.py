"""Who is alive, and since when all is well: by the database's clock, whatever the clocks of the hosts say."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db.models import F
from django.utils import timezone

from bridge import heartbeats
from bridge.models import Heartbeat

pytestmark = pytest.mark.django_db


def beat(name: str = "bridge:a:1", **changes: Any) -> None:
    heartbeats.beat(name, "bridge", **{"connected": True, **changes})


def pass_time(seconds: float) -> None:
    """Let all rows become so much older, as they do while nobody writes them."""
    span = timedelta(seconds=seconds)
    moments = ("beat_at", "started_at", "well_since", "last_message_at")
    Heartbeat.objects.update(**{name: F(name) - span for name in moments})


def well_for() -> float | None:
    """Give for how many seconds the bridges have been well."""
    found = heartbeats.bridge_state().well_for
    return None if found is None else round(found.total_seconds())


def test_no_server_is_there() -> None:
    state = heartbeats.bridge_state()
    assert (state.alive, state.connected, state.well_for, state.errors) == (0, False, None, ())


def test_well_for_as_long_as_every_beat_says_so() -> None:
    for _ in range(5):
        beat()
        pass_time(1)
    assert well_for() == 5
    beat(well=False)
    assert well_for() is None
    beat()
    pass_time(1)
    assert well_for() == 1


def test_a_gap_between_beats_ends_what_was_well() -> None:
    beat()
    pass_time(20)
    beat()
    assert well_for() == 0
    [row] = heartbeats.read("bridge")
    assert row.up_for < timedelta(seconds=5)


def test_a_row_that_stopped_beating_is_dead() -> None:
    beat()
    pass_time(14)
    assert heartbeats.bridge_state().alive == 1
    pass_time(1)
    assert heartbeats.bridge_state().alive == 0
    assert well_for() is None


def test_one_connected_bridge_that_is_behind_is_enough_to_say_no() -> None:
    beat("bridge:a:1")
    pass_time(1)
    beat("bridge:b:2")
    assert well_for() == 0
    beat("bridge:b:2", well=False)
    assert well_for() is None
    beat("bridge:b:2", connected=False)
    assert well_for() == 1


def test_the_rest_is_reported_as_it_is() -> None:
    ago = timedelta(seconds=1)
    beat(last_message_age=ago, detail={"per_second": 2.5, "behind_topics": ["orders"], "error": ""})
    for _ in range(2):
        beat("bridge:b:2", connected=False, detail={"per_second": 1.0, "error": "Pulsar is away"})
    heartbeats.beat("publisher", "publisher", connected=True)
    state = heartbeats.bridge_state()
    assert (state.alive, state.connected) == (2, True)
    assert state.last_message_age is not None
    assert ago <= state.last_message_age < timedelta(seconds=60)
    assert (state.per_second, state.behind_topics, state.errors) == (3.5, ("orders",), ("Pulsar is away",))


def test_the_last_message_is_not_forgotten() -> None:
    beat(last_message_age=timedelta())
    pass_time(5)
    beat()
    age = heartbeats.bridge_state().last_message_age
    assert age is not None
    assert round(age.total_seconds()) == 5


def test_leaving_and_forgetting() -> None:
    beat()
    beat("bridge:old:1")
    heartbeats.leave("bridge:a:1")
    heartbeats.leave("bridge:a:1")
    assert Heartbeat.objects.get().name == "bridge:old:1"
    pass_time(86_390)
    heartbeats.delete_stale()
    assert Heartbeat.objects.exists()
    pass_time(11)
    heartbeats.delete_stale()
    assert not Heartbeat.objects.exists()


# --- hosts whose clock is wrong


@pytest.mark.parametrize("hours", [-3, 3])
def test_a_wrong_clock_neither_kills_nor_keeps_alive(hours: int, monkeypatch: pytest.MonkeyPatch) -> None:
    there = datetime.now(UTC) + timedelta(hours=hours)
    monkeypatch.setattr(timezone, "now", lambda: there)
    beat(last_message_age=timedelta())
    pass_time(14)
    assert heartbeats.bridge_state().alive == 1
    assert well_for() == 14
    pass_time(1)
    assert heartbeats.bridge_state().alive == 0
    [row] = heartbeats.read()
    assert row.clock_ahead == pytest.approx(hours * 3600, abs=60 + 15)


def test_a_right_clock_is_not_ahead() -> None:
    beat()
    [row] = heartbeats.read()
    assert row.clock_ahead == pytest.approx(0, abs=5)


def test_the_host_of_a_name() -> None:
    for name in ("bridge:a.example:1", "sweeper:b"):
        heartbeats.beat(name, name.partition(":")[0], connected=True)
    assert {row.host for row in heartbeats.read()} == {"a.example", "b"}
