"""`make bench ARGS="--million"`: what a million stored sagas cost, against an empty database in the same run.

After a checkpoint the first change of each page is logged with the whole page, and random keys fall on many pages: so
each run begins with a checkpoint and lasts for EVENTS, or fewer where fewer sagas are stored.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Any

from tests.bench import load, wal
from tests.bench.report import three
from tests.bench.rig import Passage, Rig
from tests.bench.scenarios import Numbers, Size, latency

EVENTS = 300_000
# Of so many stored sagas and more all EVENTS are sent, of fewer as large a share.
WHOLE = 1_000_000
LATENCY_RUNS, LATENCY_GOAL = 20, 100.0
# So that each run of some seconds is one during a checkpoint, and most are during an autovacuum.
_BUSY = {"checkpoint_timeout": "30s", "autovacuum_naptime": "5s"}
_INTERESTING = 20  # bytes an event


def measure(
    running: Rig, stored: int, size: Size, runs: int, latency_runs: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Measure on an empty database, fill it, and measure again. Returns the numbers of all runs."""
    events = max(size.sagas, min(EVENTS, EVENTS * stored // WHOLE))
    empty = []
    for number in range(runs):
        running.forget()
        empty.append(_after_a_checkpoint(running, events, size))
        say(f"empty {number + 1}/{runs}: {empty[-1]['events_per_second']:,}/s")
    running.forget()
    running.fill(stored, with_ceiling=False)
    full = []
    for number in range(runs):
        full.append(_after_a_checkpoint(running, events, size))
        last = full[-1]
        say(f"on {stored:,} {number + 1}/{runs}: {last['events_per_second']:,}/s, {last['wal_bytes_an_event']:,} B")
    waits = []
    with _busy(running):
        for number in range(latency_runs):
            waits.append(_latency(running, size, number))
            say(f"latency {number + 1}/{latency_runs}: p99 {waits[-1]['p99_ms']} ms")
    return {"stored": stored, "events": events, "empty": empty, "full": full, "latency": waits}


def rows(content: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the table of the measurement as cells: what, ratio or headline, absolute figures, goal."""
    stored, empty, full, waits = (content[name] for name in ("stored", "empty", "full", "latency"))
    on_it = f"on {stored:,} sagas"
    ratio = median(_all(full, "events_per_second")) / median(_all(empty, "events_per_second"))
    rates = f"{_spread(full, 'events_per_second')} against {_spread(empty, 'events_per_second')}"
    events = f"{content['events']:,} events after a checkpoint"
    logged = f"{_spread(full, 'wal_bytes_an_event')} B against {_spread(empty, 'wal_bytes_an_event')} B"
    found: list[tuple[str, ...]] = [
        ("what", "headline", "min / median / max of the runs", "goal"),
        (f"events/s {on_it} against empty, {events}", f"{ratio:.2f}", rates, "≥ 0.85"),
        (f"write-ahead log an event {on_it}, {events}", f"{median(_all(full, 'wal_bytes_an_event')):,.0f} B", logged,
         "≤ 4,000 B"),
    ]  # fmt: skip
    if waits:
        good = sum(run["p99_ms"] < LATENCY_GOAL for run in waits)
        busy = sum(bool(run["checkpoints"] and run["vacuums"]) for run in waits)
        found.append(
            (
                f"p99 at {waits[0]['rate']}/s {on_it} under {LATENCY_GOAL:.0f} ms",
                f"{good} of {len(waits)}",
                f"{_spread(waits, 'p99_ms')} ms; {busy} runs with a checkpoint and an autovacuum",
                "19 of 20",
            )
        )
    return found


def written(content: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return what is logged about each table and index, the most first, as cells: name, bytes and pages an event."""
    found: list[tuple[str, ...]] = [("table or index", "bytes an event, empty", "bytes an event", "pages an event")]
    full, empty = content["full"][-1], content["empty"][-1]
    for name, part in sorted(full["written"].items(), key=lambda item: -item[1]["bytes"]):
        size, pages = part["bytes"] / full["events"], part["whole_pages"] / full["events"]
        before = empty["written"].get(name, {"bytes": 0})["bytes"] / empty["events"]
        if size >= _INTERESTING and name:
            found.append((name, f"{before:,.0f}", f"{size:,.0f}", f"{pages:.3f}"))
    return found


def _after_a_checkpoint(running: Rig, events: int, size: Size) -> Numbers:
    running.ask("CHECKPOINT")
    began, checkpoints = running.one("SELECT pg_current_wal_insert_lsn()"), _checkpoints(running)
    passages: list[Passage] = []
    while sum(passage.events for passage in passages) < events:
        passages.append(running.passes(load.ordered(size.sagas, size.images)))
    sent, seconds = sum(passage.events for passage in passages), sum(passage.seconds for passage in passages)
    ended = running.one("SELECT pg_current_wal_flush_lsn()")
    return {
        "events": sent,
        "events_per_second": round(sent / seconds),
        "wal_bytes_an_event": round(sum(passage.wal for passage in passages) / sent),
        "wal_by_pass": [round(passage.wal / passage.events) for passage in passages],
        "rate_by_pass": [round(passage.rate) for passage in passages],
        "checkpoints": _checkpoints(running) - checkpoints,
        "foreign_load": round(max(passage.spent.foreign for passage in passages), 3),
        "cpu_us_an_event": passages[-1].spent.micros(passages[-1].events),
        "written": wal.by_relation(running, began, ended),
    }


def _latency(running: Rig, size: Size, number: int) -> Numbers:
    checkpoints, vacuums = _checkpoints(running), _vacuums(running)
    numbers = latency(running, size, number)
    return {
        **numbers,
        "checkpoints": _checkpoints(running) - checkpoints,
        "vacuums": _vacuums(running) - vacuums,
    }


@contextmanager
def _busy(running: Rig) -> Iterator[None]:
    """Let the server make its checkpoints and vacuum as often as it can."""
    for name, value in _BUSY.items():
        running.ask(f"ALTER SYSTEM SET {name} = '{value}'")
    running.ask("SELECT pg_reload_conf()")
    try:
        yield
    finally:
        for name in _BUSY:
            running.ask(f"ALTER SYSTEM RESET {name}")
        running.ask("SELECT pg_reload_conf()")


def _checkpoints(running: Rig) -> int:
    if int(running.one("SHOW server_version_num")) >= 170000:
        return int(running.one("SELECT num_timed + num_requested FROM pg_stat_checkpointer"))
    return int(running.one("SELECT checkpoints_timed + checkpoints_req FROM pg_stat_bgwriter"))


def _vacuums(running: Rig) -> int:
    return int(running.one("SELECT sum(autovacuum_count + autoanalyze_count) FROM pg_stat_user_tables"))


def _all(runs: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    return [run[name] for run in runs]


def _spread(runs: Sequence[Mapping[str, Any]], name: str) -> str:
    return three(_all(runs, name), "{:,.0f}")
