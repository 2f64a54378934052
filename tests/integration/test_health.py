"""GET /health says what is so, and nothing that is not; and nobody else says anything different at that moment."""

import io
import json
import socket
from datetime import timedelta
from typing import Any, NamedTuple

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.utils import timezone

from bridge import clock
from bridge.models import Heartbeat
from compensation import health, switches
from compensation.health import HealthLevel, Name, State
from sagaproject.doctor.celery import check_beat
from sagaproject.doctor.service import check_bridge, check_publisher
from sagas.admin import health as tiles


@pytest.mark.django_db
@pytest.mark.parametrize("address", ["/health", "/health/", "/api/v1/saga/health"])
def test_without_heartbeats_the_service_is_degraded(client: Client, address: str) -> None:
    answer = client.get(address)

    assert answer.status_code == 200
    assert answer.json() == {
        "status": "degraded",
        "version": "0.1.0",
        "database_status": "ready",
        "pulsar_publisher_status": "error",
        "pulsar_consumer_status": "error",
    }


class Beats(NamedTuple):
    """How old each heartbeat is, in seconds; None where there is none."""

    bridge: float | None = 0
    sweeper: float | None = 0
    publisher: float | None = 0


def write(beats: Beats, **of_bridge: Any) -> None:
    here = socket.gethostname()
    names = {"bridge": f"bridge:{here}:1", "sweeper": f"sweeper:{here}", "publisher": "publisher"}
    for kind, age in beats._asdict().items():
        if age is not None:
            at = clock.now() - timedelta(seconds=age)
            more = {"connected": True, "well_since": at, **(of_bridge if kind == "bridge" else {})}
            Heartbeat.objects.create(name=names[kind], kind=kind, started_at=at, beat_at=at, detail={}, **more)


@pytest.mark.django_db
def test_fresh_heartbeats_make_it_ok(client: Client) -> None:
    write(Beats())

    assert client.get("/health").json() == {
        "status": "ok",
        "version": "0.1.0",
        "database_status": "ready",
        "pulsar_publisher_status": "ready",
        "pulsar_consumer_status": "ready",
    }


def probe(part: str) -> bool:
    try:
        call_command("probe", part)
    except SystemExit as ended:
        return ended.code == 0
    return True


def verdicts(client: Client) -> dict[str, list[Any]]:
    """What admin, doctor and probe say of each part, as ok, warning or error; and whether health is degraded."""
    tones = {"good": "ok", "warn": "warning", "bad": "error"}
    shown = {part.name: tones[part.tone] for part in tiles.parts()}
    probed = {name: "ok" if probe(name) else "error" for name in ("bridge", "beat")}
    return {
        "bridge": [shown["Bridge"], check_bridge().level.value, probed["bridge"]],
        "worker": [shown["Background worker"], check_beat().level.value, probed["beat"]],
        "publisher": [shown["Publisher"], check_publisher().level.value],
        "degraded": [client.get("/health").json()["status"] == "degraded"],
    }


# Just below and just above each limit that the admin, health and the doctor ever had for it.
AGES = (0, 14, 16, 29, 31, 44, 46, 59, 61, 300, None)
ONE_SILENT = [Beats(**{kind: age}) for kind in Beats._fields for age in AGES]


@pytest.mark.django_db
@pytest.mark.parametrize("beats", ONE_SILENT, ids=str)
def test_at_one_moment_there_is_one_verdict(client: Client, beats: Beats) -> None:
    write(beats)
    found = verdicts(client)
    for part in ("bridge", "worker", "publisher"):
        assert len(set(found[part])) == 1, found
    assert found["degraded"] == [any("error" in found[part] for part in ("bridge", "worker", "publisher"))]


@pytest.mark.django_db
@pytest.mark.parametrize("beats", [Beats(sweeper=60), Beats(sweeper=None)])
def test_a_dead_worker_or_beat_degrades_the_service(client: Client, beats: Beats) -> None:
    write(beats)
    answer = client.get("/health").json()
    assert answer["status"] == "degraded"
    assert (answer["pulsar_publisher_status"], answer["pulsar_consumer_status"]) == ("ready", "ready")


@pytest.mark.django_db
def test_a_bridge_that_is_not_connected_is_an_error_for_all(client: Client) -> None:
    write(Beats(), connected=False, well_since=None)
    found = verdicts(client)
    assert found["bridge"] == ["error"] * 3
    assert client.get("/health").json()["pulsar_consumer_status"] == "error"


@pytest.mark.django_db
def test_a_bridge_that_catches_up_is_a_warning_and_nothing_stands_still(client: Client) -> None:
    write(Beats(), well_since=None)
    assert verdicts(client)["bridge"] == ["warning", "warning", "ok"]
    assert client.get("/health").json()["status"] == "ok"


@pytest.mark.django_db
@pytest.mark.parametrize(("service", "status"), [("*", "disabled"), ("ANONYMIZATION", "ready")])
def test_a_pause_is_a_warning_for_people_and_degrades_nothing(client: Client, service: str, status: str) -> None:
    write(Beats())
    switches.set_switch(service, True, "ana", "look first")
    found = verdicts(client)
    assert found["publisher"] == ["warning"] * 2
    answer = client.get("/health").json()
    assert (answer["status"], answer["pulsar_publisher_status"]) == ("ok", status)


@pytest.mark.django_db
def test_a_host_whose_clock_is_hours_wrong_changes_no_verdict(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    write(Beats())
    now = timezone.now()
    for hours in (-3, 3):
        monkeypatch.setattr(timezone, "now", lambda hours=hours: now + timedelta(hours=hours))
        found = verdicts(client)
        assert found["degraded"] == [False]
        assert [found[part] for part in ("bridge", "worker", "publisher")] == [["ok"] * 3, ["ok"] * 3, ["ok"] * 2]


@pytest.mark.django_db
@pytest.mark.parametrize(("first", "status"), [("on", "ready"), ("paused", "disabled")])
def test_to_ask_for_health_writes_nothing(client: Client, settings: Any, first: str, status: str) -> None:
    settings.SAGA_PUBLISHING = first
    write(Beats())
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL transaction_read_only = on")
    assert client.get("/health").json()["pulsar_publisher_status"] == status


# --- several bridges


def bridge_row(name: str, age: float, up_for: float) -> None:
    now = clock.now()
    at = now - timedelta(seconds=age)
    started = now - timedelta(seconds=up_for)
    Heartbeat.objects.create(
        name=name, kind="bridge", started_at=started, beat_at=at, connected=True, well_since=at, detail={}
    )


@pytest.mark.django_db
def test_one_of_two_bridges_that_is_silent_is_named_by_all(client: Client) -> None:
    bridge_row("bridge:a:1", 0, 100)
    bridge_row("bridge:b:1", 90, 500)
    part = health.measure().part(Name.BRIDGE)
    assert (part.state, part.level, part.away) == (State.PARTLY_AWAY, HealthLevel.WARNING, ("bridge:b:1",))
    assert "bridge:b:1" in check_bridge().says
    tile = next(tile for tile in tiles.parts() if tile.name == "Bridge")
    assert (tile.tone, "bridge:b:1" in tile.text) == ("warn", True)


@pytest.mark.django_db
def test_a_bridge_that_was_killed_and_started_again_on_its_host_is_no_trouble() -> None:
    bridge_row("bridge:a:1", 90, 500)
    bridge_row("bridge:a:2", 0, 60)
    assert health.measure().part(Name.BRIDGE).state == State.HEALTHY


@pytest.mark.django_db
def test_a_second_bridge_of_the_same_host_that_ran_before_does_not_replace_it() -> None:
    bridge_row("bridge:a:1", 90, 500)
    bridge_row("bridge:a:2", 0, 400)
    assert health.measure().part(Name.BRIDGE).state == State.PARTLY_AWAY


@pytest.mark.django_db
def test_a_bridge_of_long_ago_is_no_trouble() -> None:
    bridge_row("bridge:a:1", 90_000, 100_000)
    bridge_row("bridge:b:1", 0, 60)
    assert health.measure().part(Name.BRIDGE).state == State.HEALTHY


@pytest.mark.django_db
def test_the_probe_of_a_bridge_is_not_satisfied_by_another_hosts() -> None:
    bridge_row("bridge:elsewhere:1", 0, 60)
    assert not probe("bridge")
    bridge_row(f"bridge:{socket.gethostname()}:1", 0, 60)
    assert probe("bridge")


@pytest.mark.django_db
def test_doctor_and_health_read_the_same_in_json(client: Client) -> None:
    """The whole command, over its threads, agrees that something stands still."""
    out = io.StringIO()
    with pytest.raises(SystemExit):
        call_command("doctor", "--json", stdout=out)
    findings = {finding["name"]: finding["level"] for finding in json.loads(out.getvalue())["findings"]}
    assert (findings["beat"], findings["bridge"], findings["publishing"]) == ("error",) * 3
    assert client.get("/health").json()["status"] == "degraded"
