"""python -m tests.bench.scaling: what a given rate needs, how long an event takes there, and where it breaks.

Costs come from `make bench` (var/bench.json; without it from COSTS below). The arithmetic divides them out; the
simulation plays bridges that collect batches, workers that apply pages under the locks of their sagas, and processors
that all of it queues for. See docs/scaling.md for what it leaves out.
"""

import argparse
import json
import math
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from sagaproject import env
from tests.bench.queues import Clock, Pool

PARTS = ("pulsar", "bridge", "postgres", "worker")


@dataclass(frozen=True, slots=True)
class Costs:
    """What an event costs: CPU µs by part, bytes of WAL and of disk; and what each transaction costs beside, in µs.

    stored_share: of PostgreSQL's µs, those of storing; the others are of applying. publisher: of who publishes, which
    counts only where it shares the machine.
    """

    pulsar: float = 40.0
    bridge: float = 37.0
    postgres: float = 75.0
    worker: float = 53.0
    publisher: float = 14.0
    stored_share: float = 0.35
    bridge_turn: float = 700.0
    worker_turn: float = 2500.0
    stored_turn: float = 400.0
    applied_turn: float = 2000.0
    wal_bytes: float = 2700.0
    disk_bytes: float = 2000.0


@dataclass(frozen=True, slots=True)
class Setup:
    """One installation: its processes, and the processors that they run on. `cores` of 0: each part has its own.

    batch, wait: of the bridge, messages and seconds; page: of applying, events; commit, wakeup: seconds of a commit's
    flush and of a nudge's way through Celery; claimed_row: µs to claim a row that another worker holds.
    """

    cores: int = 2
    bridges: int = 1
    workers: int = 2
    postgres_cores: int = 2
    batch: int = 500
    wait: float = 0.020
    page: int = 2000
    commit: float = 0.001
    wakeup: float = 0.003
    claimed_row: float = 0.5
    publishes: bool = True


@dataclass(frozen=True, slots=True)
class Traffic:
    """Events a second; of how many sagas they speak at any time; which share of them is of one single saga."""

    rate: float
    sagas: int = 10_000
    hot: float = 0.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of it: events that came and that were applied, a second; latencies in ms; how busy the parts were."""

    came: float
    applied: float
    p50: float
    p99: float
    busy: Mapping[str, float]

    @property
    def holds(self) -> bool:
        """Whether it keeps up with what comes in."""
        return self.applied >= 0.97 * self.came


TICK = 0.001
_QUANTUM = 0.004
_OWN_BROKER = 64  # where it is not on the same processors, the broker is not what is looked at


class Installation:
    """One database with its bridges and workers, at work."""

    def __init__(self, costs: Costs, setup: Setup, traffic: Traffic, seed: int = 1) -> None:
        self.costs, self.setup, self.traffic = costs, setup, traffic
        self.clock = Clock()
        self.chance = random.Random(seed)
        shared = Pool(self.clock, setup.cores, _QUANTUM) if setup.cores else None
        own = {"broker": _OWN_BROKER, "bridges": setup.bridges, "postgres": setup.postgres_cores}
        own["workers"] = setup.workers
        self.pools = {name: shared or Pool(self.clock, count, _QUANTUM) for name, count in own.items()}
        self.on_topics: list[float] = []  # arrival times, the oldest first
        self.keys: list[int] = []  # of the queue, by position; gone ones are -1
        self.arrived: list[float] = []
        self.first = 0
        self.held: set[int] = set()
        self.idle_workers = setup.workers
        self.latencies: list[tuple[float, float]] = []
        self.came = 0

    def run(self, seconds: float, warm_up: float = 1.0) -> Outcome:
        """Play so many seconds after a warm-up."""
        self._arrivals()
        for _ in range(self.setup.bridges):
            self._collect()
        until = warm_up + seconds
        self.clock.run(warm_up)
        self.came = 0
        self.clock.run(until)
        found = sorted(latency for at, latency in self.latencies if at > warm_up)
        busy = {name: round(pool.share(until), 2) for name, pool in self.pools.items()}
        middle, late = (found[int(len(found) * share)] if found else math.inf for share in (0.5, 0.99))
        return Outcome(self.came / seconds, len(found) / seconds, middle * 1000, late * 1000, busy)

    # --- Pulsar ---

    def _arrivals(self) -> None:
        count = _poisson(self.chance, self.traffic.rate * TICK)
        self.came += count
        if count:
            at = self.clock.now
            cost = count * (self.costs.pulsar + (self.costs.publisher if self.setup.publishes else 0)) / 1e6
            self.pools["broker"].serve(cost, lambda: self.on_topics.extend([at] * count))
        self.clock.after(TICK, self._arrivals)

    # --- a bridge ---

    def _collect(self) -> None:
        """Wait for a batch: so long, or until it is full."""
        started = self.clock.now

        def look() -> None:
            if len(self.on_topics) < self.setup.batch and self.clock.now - started < self.setup.wait:
                self.clock.after(TICK, look)
                return
            batch, self.on_topics[: self.setup.batch] = self.on_topics[: self.setup.batch], []
            if not batch:
                self._collect()
                return
            cost = (self.costs.bridge_turn + len(batch) * self.costs.bridge) / 1e6
            self.pools["bridges"].serve(cost, lambda: self._store(batch))

        look()

    def _store(self, batch: list[float]) -> None:
        cost = self.costs.stored_turn + len(batch) * self.costs.postgres * self.costs.stored_share
        self.pools["postgres"].serve(
            cost / 1e6, lambda: self.clock.after(self.setup.commit, lambda: self._stored(batch))
        )

    def _stored(self, batch: list[float]) -> None:
        hot, sagas = self.traffic.hot, self.traffic.sagas
        self.keys += [0 if self.chance.random() < hot else self.chance.randrange(1, sagas + 1) for _ in batch]
        self.arrived += batch
        self.clock.after(self.setup.wakeup, self._wake)
        self._collect()

    # --- a worker ---

    def _wake(self) -> None:
        if self.idle_workers:
            self.idle_workers -= 1
            self._claim(self.first, moved=False)

    def _claim(self, position: int, *, moved: bool) -> None:
        """The next page after a position; what others hold of it was claimed for nothing."""
        page, end = self._page(position)
        if not page and end == position:
            if moved:
                self._claim(self.first, moved=False)
            else:
                self.idle_workers += 1
            return
        mine = [row for row in page if self.keys[row] not in self.held]
        keys = {self.keys[row] for row in mine}
        self.held |= keys
        lost = (len(page) - len(mine)) * self.setup.claimed_row
        own = lost + (self.costs.worker_turn + len(mine) * self.costs.worker if mine else 0)
        theirs = self.costs.postgres * (1 - self.costs.stored_share)
        served = lost + (self.costs.applied_turn + len(mine) * theirs if mine else 0)

        def commit() -> None:
            self.clock.after(self.setup.commit, lambda: self._applied(mine, keys, end, moved=moved or bool(mine)))

        self.pools["workers"].serve(own / 1e6, lambda: self.pools["postgres"].serve(served / 1e6, commit))

    def _page(self, position: int) -> tuple[list[int], int]:
        page: list[int] = []
        while position < len(self.keys) and len(page) < self.setup.page:
            if self.keys[position] >= 0:
                page.append(position)
            position += 1
        return page, position

    def _applied(self, mine: list[int], keys: set[int], end: int, *, moved: bool) -> None:
        now = self.clock.now
        for row in mine:
            self.keys[row] = -1
            self.latencies.append((now, now - self.arrived[row]))
        self.held -= keys
        while self.first < len(self.keys) and self.keys[self.first] < 0:
            self.first += 1
        self._claim(end, moved=moved)


def _poisson(chance: random.Random, mean: float) -> int:
    if mean > 50:
        return max(0, round(chance.gauss(mean, math.sqrt(mean))))
    limit, product, count = math.exp(-mean), chance.random(), 0
    while product > limit:
        product *= chance.random()
        count += 1
    return count


# --- costs ------------------------------------------------------------------------------------------------------------


def measured(file: Path) -> Costs:
    """The costs that `make bench` measured; those of COSTS where it has not, or there is no file."""
    if not file.exists():
        return Costs()
    results: Mapping[str, list[dict[str, Any]]] = json.loads(file.read_text(encoding="utf-8"))["results"]
    full, stored, slow = (results.get(name, []) for name in ("ordered", "stored", "latency"))
    costs = Costs()
    if not full:
        return costs
    costs = replace(costs, **{part: _cpu(full, part) for part in (*PARTS, "publisher")})
    costs = replace(costs, wal_bytes=median(run["wal_bytes_an_event"] for run in full))
    if "disk_bytes_an_event" in full[0]:
        costs = replace(costs, disk_bytes=median(sum(run["disk_bytes_an_event"].values()) for run in full))
    if stored:
        costs = replace(costs, stored_share=min(0.9, _cpu(stored, "postgres") / costs.postgres))
    return _with_turns(costs, slow) if slow else costs


def _with_turns(costs: Costs, slow: Sequence[Mapping[str, Any]]) -> Costs:
    """What a transaction costs beside its events: what an event costs more where few share one."""
    shared = slow[0]["rate"] * 0.025
    more = {
        part: max(0.0, _cpu(slow, part) - getattr(costs, part)) * shared for part in ("bridge", "worker", "postgres")
    }
    stored = more["postgres"] * costs.stored_share
    return replace(
        costs,
        bridge_turn=more["bridge"],
        worker_turn=more["worker"],
        stored_turn=stored,
        applied_turn=more["postgres"] - stored,
    )


def _cpu(runs: Sequence[Mapping[str, Any]], part: str) -> float:
    return float(median(run["cpu_us_an_event"].get(part, 0.0) for run in runs))


# --- what is printed --------------------------------------------------------------------------------------------------


def needs(costs: Costs, rate: float, load: float = 0.7) -> dict[str, float]:
    """The arithmetic: cores of each part where they are `load` busy, MB/s of WAL, TB of disk a day."""
    cores = {part: rate * getattr(costs, part) / 1e6 / load for part in PARTS}
    return {
        **cores,
        "wal_megabytes": rate * costs.wal_bytes / 1e6,
        "disk_terabytes_a_day": rate * costs.disk_bytes * 86_400 / 1e12,
    }


def breaking_point(costs: Costs, setup: Setup, *, hot: float = 0.0, seconds: float = 2.0) -> float:
    """The greatest rate that it keeps up with, within 3 %."""

    def holds(rate: float) -> bool:
        return Installation(costs, setup, Traffic(rate, hot=hot)).run(seconds).holds

    low, high = 500.0, 8000.0
    while holds(high):
        low, high = high, high * 2
    while high / low > 1.03:
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


SETUPS: Mapping[str, Setup] = {
    "1×: all on 2 cores": Setup(),
    "all on 4 cores": Setup(cores=4, bridges=2, workers=3),
    "all on 8 cores": Setup(cores=8, bridges=3, workers=5),
    "own machines: 4 bridges, 6 workers, PostgreSQL 6 cores": Setup(0, 4, 6, 6, publishes=False),
    "own machines: 8 bridges, 12 workers, PostgreSQL 12 cores": Setup(0, 8, 12, 12, publishes=False),
    "own machines: 16 bridges, 24 workers, PostgreSQL 24 cores": Setup(0, 16, 24, 24, publishes=False),
    "own machines: 32 bridges, 48 workers, PostgreSQL 48 cores": Setup(0, 32, 48, 48, publishes=False),
}


def report(costs: Costs, rates: Sequence[float], names: Sequence[str]) -> Iterator[str]:
    """The tables, line by line."""
    yield "costs: " + ", ".join(f"{name} {getattr(costs, name):.0f}" for name in (*PARTS, "publisher")) + " µs an event"
    yield ""
    yield "rate/s        Pulsar  bridge  PostgreSQL  worker cores   WAL MB/s   disk TB/day"
    for rate in rates:
        need = needs(costs, rate)
        parts = "  ".join(f"{need[part]:8,.1f}" for part in ("pulsar", "bridge", "postgres", "worker"))
        yield f"{rate:12,.0f}  {parts}  {need['wal_megabytes']:14,.0f}  {need['disk_terabytes_a_day']:12,.2f}"
    yield ""
    yield "setup · rate/s: applied/s, p50 ms, p99 ms, busy"
    for name in names:
        setup = SETUPS[name]
        most = breaking_point(costs, setup)
        yield f"{name}: keeps up to {most:,.0f}/s"
        for rate in (500.0, most * 0.5, most * 0.8, most * 1.1):
            seen = Installation(costs, setup, Traffic(rate)).run(3.0)
            busy = ", ".join(f"{part} {share:.0%}" for part, share in seen.busy.items())
            yield f"  {rate:10,.0f}: {seen.applied:10,.0f}  {seen.p50:7.0f}  {seen.p99:7.0f}  {busy}"
    setup = SETUPS[names[-1]]
    yield f"{names[-1]}, with a share of all events in one saga:"
    for hot in (0.1, 0.3, 0.6, 0.9):
        yield f"  {hot:.0%}: keeps up to {breaking_point(costs, setup, hot=hot):,.0f}/s"


def main(words: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.scaling", description=__doc__)
    parser.add_argument("--json", type=Path, default=env.ROOT / "var" / "bench.json", help="of make bench")
    parser.add_argument("--rates", type=float, nargs="+", default=[7_500, 75_000, 750_000, 75_000_000])
    parser.add_argument("--setups", nargs="+", choices=list(SETUPS), default=list(SETUPS), metavar="NAME")
    options = parser.parse_args(words)
    costs = measured(options.json)
    for line in report(costs, options.rates, options.setups):
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
