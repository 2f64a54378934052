"""What is measured. Each scenario gives one run's numbers; `tests.bench` repeats them and writes the table."""

import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from devtools.embedded.process import StackError
from tests.bench import load, parties
from tests.bench.gauges import Gauge
from tests.bench.load import Load
from tests.bench.rig import Passage, Rig

Numbers = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Size:
    """How much of each."""

    sagas: int = 2000
    images: int = 3
    in_flight: int = 10_000
    one_saga: int = 3000
    latency_seconds: int = 15
    latency_rate: int = 500
    undo_images: int = 3000
    undo_sagas: int = 1000


QUICK = Size(
    sagas=100, in_flight=200, one_saga=100, latency_seconds=3, latency_rate=200, undo_images=100, undo_sagas=50
)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One row of the table. `goal`: what the headline number should be, in words; `headline`: which number it is."""

    name: str
    words: str
    headline: str
    goal: str
    run: Callable[[Rig, Size, int], Numbers] = field(repr=False)


def _stored(rig: Rig, size: Size, number: int) -> Numbers:
    told = load.ordered(size.sagas, size.images)
    ceiling = rig.ceiling(told)
    with rig.worker_held_back():
        passage = rig.passes(told, stored_only=True)
    rig.wait(rig.drained)
    return _numbers(ceiling, passage)


def _ordered(rig: Rig, size: Size, number: int) -> Numbers:
    numbers = _end_to_end(rig, load.ordered(size.sagas, size.images))
    return {**numbers, **_weight(rig, numbers)}


def _mixed(rig: Rig, size: Size, number: int) -> Numbers:
    return _end_to_end(rig, load.mixed(size.sagas, size.images, number))


def _one_saga(rig: Rig, size: Size, number: int) -> Numbers:
    return _end_to_end(rig, load.ordered(1, size.one_saga))


def _in_flight(rig: Rig, size: Size, number: int) -> Numbers:
    return _end_to_end(rig, load.in_flight(size.in_flight, size.images))


def _end_to_end(rig: Rig, told: Load) -> Numbers:
    ceiling = rig.ceiling(told)
    passage = rig.passes(told)
    sagas = sum(rig.statuses().values())
    if sagas < told.sagas:
        raise AssertionError(f"{told.sagas} sagas were told, {sagas} are there")
    return _numbers(ceiling, passage)


def _numbers(ceiling: float, passage: Passage) -> Numbers:
    return {
        "events": passage.events,
        "seconds": round(passage.seconds, 3),
        "events_per_second": round(passage.rate),
        "ceiling": round(ceiling),
        "ratio": round(passage.rate / ceiling, 3),
        "cpu_us_an_event": passage.spent.micros(passage.events),
        "foreign_load": round(passage.spent.foreign, 3),
        "standstill_seconds": round(passage.standstill, 2),
        "wal_bytes_an_event": round(passage.wal / passage.events),
    }


def _weight(rig: Rig, numbers: Numbers) -> Numbers:
    """Bytes on disk an event, by table with its indexes; and the queue once it is empty."""
    tables = dict(
        rig.ask(
            "SELECT relname, pg_total_relation_size(oid) FROM pg_class WHERE relkind = 'r' AND relname ~ %s"
            " AND pg_total_relation_size(oid) > 1000000",
            ["^(bridge|sagas|compensation)_"],
        )
    )
    return {
        "disk_bytes_an_event": {name: round(size / numbers["events"]) for name, size in sorted(tables.items())},
        "pending_megabytes": round(rig.one("SELECT pg_total_relation_size('bridge_pending')") / 1e6, 2),
    }


def latency(rig: Rig, size: Size, number: int) -> Numbers:
    """How long events take from being published to being committed, at a steady rate."""
    told = load.ordered(size.latency_rate * size.latency_seconds // 17, 3, stamped=True)
    newest = rig.newest_event()
    passage = rig.passes(told, rate=size.latency_rate)
    percentiles = (0.5, 0.95, 0.99, 1.0)
    # The first two seconds warm up what only a running service has warm.
    milliseconds = rig.one(
        """
        SELECT percentile_cont(%s::float8[]) WITHIN GROUP (ORDER BY ms) FROM (
            SELECT extract(epoch FROM pg_xact_commit_timestamp(s.xmin) - e.occurred_at) * 1000 AS ms
            FROM sagas_saga_event s JOIN bridge_event e ON e.id = s.event
            WHERE s.event > %s AND e.occurred_at > (
                SELECT min(occurred_at) FROM bridge_event WHERE id > %s) + interval '2 seconds'
        ) AS events
        """,
        [list(percentiles), newest, newest],
    )
    deciles = rig.ask(
        """
        SELECT width_bucket(ms, 0, 200, 40) * 5, count(*) FROM (
            SELECT extract(epoch FROM pg_xact_commit_timestamp(s.xmin) - e.occurred_at) * 1000 AS ms
            FROM sagas_saga_event s JOIN bridge_event e ON e.id = s.event WHERE s.event > %s
        ) AS events GROUP BY 1 ORDER BY 1
        """,
        [newest],
    )
    return {
        "rate": size.latency_rate,
        "events": passage.events,
        **{f"p{percent * 100:.0f}_ms": round(ms, 1) for percent, ms in zip(percentiles, milliseconds, strict=True)},
        "histogram_5ms": {int(upper): count for upper, count in deciles},
        "cpu_us_an_event": passage.spent.micros(passage.events),
        "foreign_load": round(passage.spent.foreign, 3),
    }


def _undo_one(rig: Rig, size: Size, number: int) -> Numbers:
    return _undo(rig, *load.undoable(1, size.undo_images), commands=size.undo_images * 2)


def _undo_many(rig: Rig, size: Size, number: int) -> Numbers:
    return _undo(rig, *load.undoable(size.undo_sagas, 1), commands=size.undo_sagas * 2)


def _undo(rig: Rig, before: Load, failures: Load, commands: int) -> Numbers:
    rig.passes(before)
    services = parties.services(rig.broker)
    publisher = parties.publisher(rig.broker, failures.messages)
    services.go()
    confirmed = "SELECT count(*) FROM compensation_command WHERE status = 'confirmed'"
    gauge = Gauge({**rig.pids, "services": services.pid})
    publisher.go()
    first = publisher.result().first
    try:
        rig.wait(lambda: rig.one(confirmed) >= commands, every=0.1)
    finally:
        spent = gauge.read()
        services.end()
    last = rig.one("SELECT extract(epoch FROM max(pg_xact_commit_timestamp(xmin)))::float8 FROM compensation_command")
    attempts = rig.one("SELECT count(*) FROM compensation_attempt")
    rig.wait(rig.drained)
    return {
        "commands": commands,
        "attempts": attempts,
        "seconds": round(last - first, 2),
        "commands_per_second": round(commands / (last - first)),
        "cpu_us_a_command": spent.micros(commands),
        "foreign_load": round(spent.foreign, 3),
    }


def _start(rig: Rig, size: Size, number: int) -> Numbers:
    """The demo's second start, in a folder of its own: from the command to its own end, with a saga in between."""
    environment = {**os.environ, "STACK_DIR": str(rig.stack.folder.parent / "start")}
    command = rig.stack.command("demo", "--sagas", "1", "--images", "1-1", "--rate", "0", "--once", "--json")
    seconds = []
    for _ in range(2 if number == 1 else 1):
        began = time.monotonic()
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180, check=False)
        if ended.returncode:
            raise StackError(f"the demo ended with {ended.returncode}: {ended.stderr[-500:]}")
        seconds.append(time.monotonic() - began)
    return {"seconds": round(seconds[-1], 1), "foreign_load": 0.0}


@dataclass(frozen=True, slots=True)
class Curve:
    """How the rate goes with one number. Each point is about as many events as the others."""

    name: str
    words: str
    points: tuple[int, ...]
    load: Callable[[int, Size], Load] = field(repr=False)


def points(rig: Rig, curve: Curve, size: Size) -> list[dict[str, Any]]:
    """The end to end numbers at each point of a curve, each against a raw ceiling of its own."""
    found = []
    for point in curve.points:
        rig.forget()
        found.append({curve.name: point, **_end_to_end(rig, curve.load(point, size))})
    return found


CURVES = (
    Curve(
        "sagas",
        "sagas under way at once, 3 images each",
        (1, 10, 100, 1000, 10_000),
        lambda at_once, size: load.at_once(at_once, 3, size.sagas),
    ),
    Curve(
        "images",
        "images of a saga, one saga after the other",
        (1, 10, 100, 1000, 3000),
        lambda images, size: load.ordered(max(1, size.sagas * 3 // images), images),
    ),
)

SCENARIOS = (
    Scenario("stored", "stored only, nothing applied: {sagas} sagas × {images} images", "ratio", "", _stored),
    Scenario("ordered", "end to end: {sagas} sagas × {images} images", "ratio", "≥ 0.50", _ordered),
    Scenario("mixed", "the same shuffled, one in ten doubled, half parked first", "ratio", "≥ 0.8 of ordered", _mixed),
    Scenario("one_saga", "1 saga × {one_saga} images", "ratio", "within 20 % of ordered", _one_saga),
    Scenario("in_flight", "{in_flight} sagas all in flight", "ratio", "≥ 0.9 of ordered", _in_flight),
    Scenario("latency", "published → committed at {latency_rate}/s", "p99_ms", "p50 < 45, p99 < 100 ms", latency),
    Scenario("undo_one", "undo of 1 saga × {undo_images} images", "seconds", "< 20 s", _undo_one),
    Scenario("undo_many", "undo of {undo_sagas} sagas × 2 commands", "commands_per_second", "≥ 2,000/s", _undo_many),
    Scenario("start", "the demo's second start, one saga, its end", "seconds", "< 15 s to the saga", _start),
)
