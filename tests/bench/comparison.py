"""What runs of two commits say about each other: arithmetic and table of `tests.bench.compare`.

A run of one commit and the run of the other that followed it make a pair, because what else the machine did was most
alike. Every number is turned so that a factor above 1 means: the new commit is worse.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import comb
from statistics import median
from typing import Any

from tests.bench import report

# By how much worse the new commit may be.
LIMIT = 0.03
# How sure the bounds have to be that the true factor lies between them.
_SURE = 0.9
_OURS = ("bridge", "worker", "postgres")

Runs = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Measure:
    """One number of a run. `gain`: more of it is better."""

    words: str
    gain: bool
    of: Callable[[Mapping[str, Any]], float] = field(repr=False)


def _ours(run: Mapping[str, Any]) -> float:
    return float(sum(run["cpu_us_an_event"][part] for part in _OURS))


# The publisher is the same program on both sides: dividing by its time takes out how fast the processor was just then.
_CPU = (
    Measure("CPU µs an event: bridge, worker, PostgreSQL", gain=False, of=_ours),
    Measure(
        "the same by the publisher's CPU", gain=False, of=lambda run: _ours(run) / run["cpu_us_an_event"]["publisher"]
    ),
)
_RATE = (
    Measure("events/s by the raw ceiling", gain=True, of=lambda run: float(run["ratio"])),
    Measure("events/s", gain=True, of=lambda run: float(run["events_per_second"])),
    *_CPU,
)
_LATENCY = (
    Measure("p50 ms", gain=False, of=lambda run: float(run["p50_ms"])),
    Measure("p99 ms", gain=False, of=lambda run: float(run["p99_ms"])),
    *_CPU,
)
MEASURES: Mapping[str, Sequence[Measure]] = {"ordered": _RATE, "in_flight": _RATE, "latency": _LATENCY}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How many times as costly the new commit is: by the medians, and between which bounds by the pairs of runs."""

    by_medians: float
    least: float
    most: float
    is_sure: bool

    @property
    def verdict(self) -> str:
        """Whether the new commit is not worse by more than the limit: yes, no or undecided."""
        if self.is_sure and max(self.most, self.by_medians) <= 1 + LIMIT:
            return "yes"
        if self.is_sure and min(self.least, self.by_medians) > 1 + LIMIT:
            return "no"
        return f"undecided (by the medians {'yes' if self.by_medians <= 1 + LIMIT else 'no'})"


def outcome(base: Sequence[float], new: Sequence[float], *, gain: bool) -> Outcome:
    """Compare the runs of two commits, which are given in the order in which they were made, as many of each."""
    pairs = [_factor(*pair, gain=gain) for pair in zip(base, new, strict=True)]
    least, most, is_sure = bounds(pairs)
    return Outcome(_factor(median(base), median(new), gain=gain), least, most, is_sure)


def bounds(values: Sequence[float]) -> tuple[float, float, bool]:
    """Give the closest two values between which the true median lies with 90 %; whatever the noise is like.

    Each value is as likely above as below the true median, so the outermost of five leave it out once in sixteen times.
    With fewer values even those are not sure: then the third is False.
    """
    count, ordered = len(values), sorted(values)
    outside, left_out = 2 / 2**count, 0
    is_sure = outside <= 1 - _SURE
    while (more := outside + 2 * comb(count, left_out + 1) / 2**count) <= 1 - _SURE:
        outside, left_out = more, left_out + 1
    return ordered[left_out], ordered[-1 - left_out], is_sure


def table(base: Mapping[str, Runs], new: Mapping[str, Runs]) -> str:
    """Give a row for each measure of each scenario that both have runs of."""
    rows: list[tuple[str, ...]] = [
        ("what", "base: min/median/max", "new: min/median/max", "times as costly", "by pairs", "worse by at most 3 %")
    ]
    for name in base:
        for measure in MEASURES[name]:
            before, after = ([measure.of(run) for run in runs[name]] for runs in (base, new))
            found = outcome(before, after, gain=measure.gain)
            rows.append(
                (
                    f"{name}: {measure.words}",
                    report.three(before),
                    report.three(after),
                    f"{found.by_medians:.3f}",
                    f"{found.least:.3f} to {found.most:.3f}",
                    found.verdict,
                )
            )
    return "\n".join(report.aligned(rows))


def instructions(base: Mapping[str, float], new: Mapping[str, float]) -> str:
    """Give a row for each step. These numbers have no spread that matters, so each decides."""
    rows: list[tuple[str, ...]] = [("instructions an event", "base", "new", "times as costly", "worse by at most 3 %")]
    for name, before in base.items():
        factor = new[name] / before
        rows.append(
            (name, f"{before:,.0f}", f"{new[name]:,.0f}", f"{factor:.3f}", "yes" if factor <= 1 + LIMIT else "no")
        )
    return "\n".join(report.aligned(rows))


def _factor(base: float, new: float, *, gain: bool) -> float:
    return base / new if gain else new / base
