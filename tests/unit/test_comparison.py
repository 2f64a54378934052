"""The arithmetic that says whether a commit is slower than another."""

from typing import Any

import pytest

from tests.bench.comparison import MEASURES, bounds, instructions, outcome, table
from tests.bench.instructions import by_step


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0], (1.0, 1.0, False)),
        ([3.0, 1.0, 2.0, 4.0], (1.0, 4.0, False)),  # 2 in 16 cases lie outside: not sure enough
        ([3.0, 1.0, 2.0, 5.0, 4.0], (1.0, 5.0, True)),
        ([float(n) for n in range(7)], (0.0, 6.0, True)),
        ([float(n) for n in range(8)], (1.0, 6.0, True)),  # 18 in 256 cases lie outside
    ],
)
def test_bounds_hold_the_true_median_nine_times_of_ten(
    values: list[float], expected: tuple[float, float, bool]
) -> None:
    assert bounds(values) == expected


@pytest.mark.parametrize(
    ("base", "new", "gain", "by_medians", "verdict"),
    [
        ([100.0] * 5, [102.0] * 5, False, 1.02, "yes"),
        ([100.0] * 5, [104.0] * 5, False, 1.04, "no"),
        ([100.0] * 5, [104.0] * 5, True, 1 / 1.04, "yes"),
        ([100.0] * 5, [96.0] * 5, True, 1 / 0.96, "no"),
        ([100.0] * 5, [90.0, 99.0, 100.0, 101.0, 120.0], False, 1.0, "undecided (by the medians yes)"),
        ([100.0] * 5, [90.0, 99.0, 105.0, 106.0, 120.0], False, 1.05, "undecided (by the medians no)"),
        ([100.0] * 4, [90.0] * 4, False, 0.9, "undecided (by the medians yes)"),
        # The machine became twice as slow in the third pair: the pairs see through it.
        ([100.0, 100.0, 200.0, 100.0, 100.0], [101.0, 101.0, 202.0, 101.0, 101.0], False, 1.01, "yes"),
    ],
)
def test_a_commit_is_judged_only_where_all_bounds_agree(
    base: list[float], new: list[float], gain: bool, by_medians: float, verdict: str
) -> None:
    found = outcome(base, new, gain=gain)

    assert found.by_medians == pytest.approx(by_medians)
    assert found.verdict == verdict


def run(slower: float = 1.0) -> dict[str, Any]:
    """One run's numbers, as each scenario of the comparison writes some of them."""
    return {
        "ratio": 0.4 / slower,
        "events_per_second": round(8000 / slower),
        "p50_ms": 44.0 * slower,
        "p99_ms": 80.0 * slower,
        "cpu_us_an_event": {"bridge": 38 * slower, "worker": 57 * slower, "postgres": 60 * slower, "publisher": 25},
    }


def test_the_table_has_a_row_for_each_measure_and_separates_slower_from_faster() -> None:
    base = {name: [run()] * 5 for name in MEASURES}

    slower = table(base, {name: [run(1.1)] * 5 for name in MEASURES}).splitlines()
    faster = table(base, {name: [run(0.9)] * 5 for name in MEASURES}).splitlines()

    assert len(slower) == len(faster) == 1 + sum(map(len, MEASURES.values()))
    assert all(line.endswith(" no") and "1.100" in line for line in slower[1:])
    assert all(line.endswith(" yes") and "0.900" in line for line in faster[1:])


def test_instructions_are_judged_by_themselves() -> None:
    lines = instructions({"decode": 1000.0, "apply": 2000.0}, {"decode": 1030.0, "apply": 2070.0}).splitlines()

    assert [line.split()[-1] for line in lines[1:]] == ["yes", "no"]


def test_instructions_come_from_the_dumps_less_what_a_dump_takes_itself() -> None:
    counts = {"before": 5, "nothing": 10, "decode": 1010, "store": 510, "apply": 2010}
    dumps = [f"version: 1\ndesc: Trigger: dump {name}\n\nfn=(1)\n\ntotals: {count}\n" for name, count in counts.items()]
    at_the_end = "version: 1\ndesc: Trigger: Program termination\n\ntotals: 7\n"

    assert by_step([*dumps, at_the_end], 10) == {"decode": 100.0, "store": 50.0, "apply": 200.0}
