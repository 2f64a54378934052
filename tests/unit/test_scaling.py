"""The model behind docs/scaling.md: its queues give what theory knows, its installation what arithmetic demands."""

import json
import math
import random
from pathlib import Path

import pytest

from tests.bench.queues import Clock, Pool
from tests.bench.scaling import Costs, Installation, Setup, Traffic, breaking_point, measured, needs


def mean_time_in_system(*, load: float, processors: int = 1, fixed: bool = False, quantum: float = math.inf) -> float:
    """Of jobs that come by chance and take one second each (by chance, unless they are `fixed`)."""
    clock, chance = Clock(), random.Random(7)
    pool = Pool(clock, processors, quantum)
    times: list[float] = []

    def comes() -> None:
        came = clock.now
        pool.serve(1.0 if fixed else chance.expovariate(1.0), lambda: times.append(clock.now - came))
        clock.after(chance.expovariate(load * processors), comes)

    comes()
    clock.run(80_000 / processors)
    assert pool.share(clock.now) == pytest.approx(load, rel=0.04)
    return sum(times) / len(times)


@pytest.mark.parametrize("load", [0.3, 0.5, 0.8])
def test_one_queue_with_one_processor_is_m_m_1(load: float) -> None:
    assert mean_time_in_system(load=load) == pytest.approx(1 / (1 - load), rel=0.08)


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_jobs_of_fixed_length_wait_half_as_long(load: float) -> None:
    assert mean_time_in_system(load=load, fixed=True) == pytest.approx(1 + load / (2 * (1 - load)), rel=0.06)


@pytest.mark.parametrize(("load", "processors"), [(0.5, 2), (0.8, 4)])
def test_several_processors_are_erlang_c(load: float, processors: int) -> None:
    offered = load * processors
    tail = offered**processors / math.factorial(processors) / (1 - load)
    waits = tail / (sum(offered**k / math.factorial(k) for k in range(processors)) + tail)
    expected = 1 + waits / (processors * (1 - load))
    assert mean_time_in_system(load=load, processors=processors) == pytest.approx(expected, rel=0.06)


def test_sharing_out_in_turns_leaves_the_mean_of_m_m_1() -> None:
    assert mean_time_in_system(load=0.5, quantum=0.2) == pytest.approx(2, rel=0.08)


FREE = Costs(0, 0, 0, 0, 0, 0.5, 0, 0, 0, 0)


def test_where_nothing_costs_anything_an_event_waits_for_its_batch_and_its_nudge() -> None:
    seen = Installation(FREE, Setup(wait=0.02, wakeup=0.003, commit=0.001), Traffic(500)).run(5)
    assert seen.applied == pytest.approx(500, rel=0.05)
    assert 10 < seen.p50 < 20  # half of the batch's time, two commits, a nudge
    assert 20 < seen.p99 < 30


def test_it_keeps_up_with_what_its_processors_can_do_and_no_more() -> None:
    costs = Costs(20, 20, 40, 20, 0, 0.5, 0, 0, 0, 0)  # 100 µs an event, nothing a transaction: 20,000/s on 2 cores
    assert breaking_point(costs, Setup(cores=2), seconds=2) == pytest.approx(20_000, rel=0.06)


def test_a_bridge_stores_batch_after_batch() -> None:
    """On a machine of its own: 500 × 50 µs to read a batch, 500 × 10 µs to store it, a commit, and the next."""
    costs = Costs(1, 50, 20, 10, 0, 0.5, 0, 0, 0, 0)
    setup = Setup(0, bridges=1, workers=4, postgres_cores=4, commit=0.001, publishes=False)
    assert breaking_point(costs, setup, seconds=2) == pytest.approx(500 / (0.025 + 0.005 + 0.001), rel=0.06)
    busy = Installation(costs, setup, Traffic(15_000)).run(2).busy
    assert max(busy, key=lambda part: busy[part]) == "bridges"


def test_one_saga_is_applied_by_one_worker_at_a_time() -> None:
    costs = Costs(1, 1, 50, 50, 0, 0.0, 0, 0, 0, 0)  # applying an event: 50 µs of a worker, then 50 of PostgreSQL
    setup = Setup(0, bridges=2, workers=8, postgres_cores=8, publishes=False)
    alone = Installation(costs, setup, Traffic(15_000, hot=1.0)).run(1)
    assert alone.applied == pytest.approx(10_000, rel=0.1)
    assert not alone.holds
    assert Installation(costs, setup, Traffic(15_000)).run(1).holds


def test_the_same_seed_plays_the_same() -> None:
    runs = [Installation(Costs(), Setup(), Traffic(2000), seed=3).run(1) for _ in range(2)]
    assert runs[0] == runs[1]


def test_the_arithmetic() -> None:
    need = needs(Costs(postgres=70, wal_bytes=2700, disk_bytes=2000), 10_000, load=0.7)
    assert need["postgres"] == pytest.approx(1.0)
    assert need["wal_megabytes"] == pytest.approx(27)
    assert need["disk_terabytes_a_day"] == pytest.approx(1.728)


def test_costs_are_those_that_were_measured(tmp_path: Path) -> None:
    assert measured(tmp_path / "none.json") == Costs()
    run = {"cpu_us_an_event": {"pulsar": 40, "bridge": 30, "postgres": 80, "worker": 50}, "wal_bytes_an_event": 2500}
    slow = {"rate": 400, "cpu_us_an_event": {"pulsar": 99, "bridge": 130, "postgres": 280, "worker": 250}}
    stored = {"cpu_us_an_event": {"postgres": 20}}
    file = tmp_path / "bench.json"
    results = {"ordered": [run, run, {**run, "wal_bytes_an_event": 9}], "latency": [slow], "stored": [stored]}
    file.write_text(json.dumps({"results": results}), encoding="utf-8")
    costs = measured(file)
    assert (costs.bridge, costs.postgres, costs.wal_bytes, costs.stored_share) == (30, 80, 2500, 0.25)
    # Ten events share a turn at that rate: what each costs more is a tenth of the turn.
    assert (costs.bridge_turn, costs.worker_turn) == (1000, 2000)
    assert (costs.stored_turn, costs.applied_turn) == (500, 1500)
