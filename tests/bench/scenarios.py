"""What is measured. Each scenario gives one run's numbers; `tests.bench` repeats them and writes the table."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

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


def _latency(rig: Rig, size: Size, number: int) -> Numbers:
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


SCENARIOS = (
    Scenario("stored", "stored only, nothing applied: {sagas} sagas × {images} images", "ratio", "", _stored),
    Scenario("ordered", "end to end: {sagas} sagas × {images} images", "ratio", "≥ 0.40, aim at 0.50", _ordered),
    Scenario("mixed", "the same shuffled, one in ten doubled, half parked first", "ratio", "≥ 0.8 of ordered", _mixed),
    Scenario("one_saga", "1 saga × {one_saga} images", "ratio", "within 20 % of ordered", _one_saga),
    Scenario("in_flight", "{in_flight} sagas all in flight", "ratio", "within 20 % of ordered", _in_flight),
    Scenario("latency", "published → committed at {latency_rate}/s", "p99_ms", "p50 < 45, p99 < 100 ms", _latency),
    Scenario("undo_one", "undo of 1 saga × {undo_images} images", "seconds", "< 20 s", _undo_one),
    Scenario("undo_many", "undo of {undo_sagas} sagas × 2 commands", "commands_per_second", "≥ 1,000/s", _undo_many),
)
