"""Whether anything grew that must not: from the samples of a soak, in words."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from tests.soak.gauges import HOT_TABLES

# Before that everything warms up.
LEAST_MINUTES = 6.0
# What may differ between the middle third and the last by chance alone.
MEGABYTES = 5.0
LIMIT_MEGABYTES = 120.0
# Tables whose rows come and go: their files may not grow once they have had their first fill.
PASSING = ("bridge_pending", "bridge_heartbeat", "sagas_parked")
PASSING_MEGABYTES = 8.0
# A row's price in bytes must not rise with the age of its table.
PRICE = 1.25
SMALL_MEGABYTES = 2.0
# Vacuum looks around every naptime and takes its time: peaks differ by chance.
MANY_TIMES = 3.0
# So much may wait at one moment and not at another.
SWING = 1000.0

Sample = Mapping[str, Any]


def problems(samples: Sequence[Sample], content: Mapping[str, Any]) -> list[str]:
    """What is not as it must be; empty if all is well. In a run of minutes nothing can be said of growth."""
    found = [*_limit(samples), *_left_over(content), *_web(content)]
    if content["minutes"] < LEAST_MINUTES:
        return found
    return [
        *found,
        *_memory(samples),
        *_passing_tables(samples),
        *_prices(samples),
        *_dead(samples),
        *_queues(samples),
    ]


def peaks(samples: Iterable[Sample], of: Callable[[Sample], Mapping[str, float]]) -> dict[str, float]:
    """The greatest of each by name."""
    found: dict[str, float] = {}
    for sample in samples:
        for name, value in of(sample).items():
            found[name] = max(value, found.get(name, 0.0))
    return found


def thirds(samples: Sequence[Sample]) -> tuple[Sequence[Sample], Sequence[Sample], Sequence[Sample]]:
    """The beginning, in which everything warms up, the middle, and the end."""
    size = len(samples) // 3
    return samples[:size], samples[size : 2 * size], samples[2 * size :]


def resident(sample: Sample) -> dict[str, float]:
    """The largest process of each role."""
    return {role: max(by_pid.values()) for role, by_pid in sample["memory"].items()}


def dead_rows(sample: Sample) -> dict[str, float]:
    return {name: row["dead"] for name, row in sample["tables"].items() if name in HOT_TABLES}


def megabytes(sample: Sample) -> dict[str, float]:
    return {name: row["megabytes"] for name, row in sample["tables"].items()}


def _limit(samples: Sequence[Sample]) -> Iterable[str]:
    for role, most in peaks(samples, resident).items():
        if most > LIMIT_MEGABYTES:
            yield f"{role} takes {most:.0f} MB, over {LIMIT_MEGABYTES:.0f}"


def _memory(samples: Sequence[Sample]) -> Iterable[str]:
    _, middle, end = thirds(samples)
    before = peaks(middle, resident)
    for role, most in peaks(end, resident).items():
        if role in before and most > before[role] + MEGABYTES:
            yield f"{role} grows: at most {before[role]:.0f} MB in the middle third, {most:.0f} in the last"


def _passing_tables(samples: Sequence[Sample]) -> Iterable[str]:
    _, middle, end = thirds(samples)
    before = peaks(middle, megabytes)
    for table, most in peaks(end, megabytes).items():
        if table in PASSING and most > before.get(table, 0.0) + PASSING_MEGABYTES:
            yield f"{table} grows, whose rows come and go: {before.get(table, 0.0):.0f} MB, then {most:.0f}"


def _prices(samples: Sequence[Sample]) -> Iterable[str]:
    """Tables that keep what happened grow with it, and no faster at the end than in the middle."""
    first, middle, end = thirds(samples)
    if not first:
        return
    marks = [first[-1], middle[-1], end[-1]]
    events = [later["events"] - earlier["events"] for earlier, later in pairwise(marks)]
    if min(events) <= 0:
        return
    sizes = [megabytes(mark) for mark in marks]
    for table in sizes[-1].keys() - set(PASSING):
        grown = [later[table] - earlier.get(table, 0.0) for earlier, later in pairwise(sizes)]
        prices = [size / count for size, count in zip(grown, events, strict=True)]
        if grown[1] > SMALL_MEGABYTES and prices[1] > prices[0] * PRICE:
            before, after = (f"{price * 1e6:.0f}" for price in prices)
            yield f"{table} takes {before} bytes an event in the middle third, {after} in the last"


def _dead(samples: Sequence[Sample]) -> Iterable[str]:
    """Between two visits of vacuum dead rows come as they like; a visit must leave fewer than those that called it."""
    _, middle, end = thirds(samples)
    before, after = peaks(middle, dead_rows), peaks(end, dead_rows)
    marks = peaks(samples, lambda sample: {name: row["vacuum_at"] for name, row in sample["tables"].items()})
    for table, most in after.items():
        least, mark = min(dead_rows(sample).get(table, 0.0) for sample in end), marks[table]
        if least > mark:
            yield f"dead rows stay in {table}: never under {least:,.0f} in the last third; vacuum comes at {mark:,.0f}"
        elif most > before.get(table, 0.0) * MANY_TIMES + mark:
            yield f"dead rows pile up in {table}: at most {before.get(table, 0.0):,.0f}, then {most:,.0f}"


def _queues(samples: Sequence[Sample]) -> Iterable[str]:
    """What waits may swing; what grows never comes back to where it was."""
    _, middle, end = thirds(samples)
    before = peaks(middle, lambda sample: sample["queues"])
    for queue, most in peaks(end, lambda sample: sample["queues"]).items():
        least = min(sample["queues"][queue] for sample in end)
        if least > before[queue] and most > before[queue] + SWING:
            yield f"more and more {queue} wait: at most {before[queue]:,.0f} in the middle third, then {most:,.0f}"


def _left_over(content: Mapping[str, Any]) -> Iterable[str]:
    for what, count in content["left"].items():
        if count:
            yield f"{count} {what} are left at the end"


def _web(content: Mapping[str, Any]) -> Iterable[str]:
    bad = {status: count for status, count in content["web"]["answers"].items() if status not in ("200", "404")}
    if bad:
        yield f"the web answered {bad}"
