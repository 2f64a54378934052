"""The numbers of a measurement as text."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from tests.bench.scenarios import SCENARIOS, Scenario

_UNITS = {"ratio": "of the raw ceiling", "p99_ms": "ms p99", "seconds": "s", "commands_per_second": "commands/s"}


def table(content: Mapping[str, Any]) -> str:
    """What was measured, a row a scenario, each with min/median/max of its runs and the goal beside."""
    rows: list[tuple[str, ...]] = [
        ("what", "events/s or as named: min/median/max", "headline: min/median/max", "goal", "foreign load")
    ]
    for scenario in SCENARIOS:
        runs = content["results"].get(scenario.name)
        if runs:
            rows.append(row(scenario, runs, content["size"]))
    return "\n".join([*aligned(rows), "", breaker(content["machine"]), *_costs(content), ""])


def aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows of cells as lines, each column as wide as its widest cell."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def breaker(machine: Mapping[str, Any]) -> str:
    """The circuit breaker's limit of a run; runs of before there was one do not have it."""
    limit = machine.get("breaker_commands")
    if limit is None:
        return "Measured before there was a circuit breaker."
    return f"SAGA_BREAKER_COMMANDS is {limit:,}: commands are counted, and the limit is not reached."


def spread(runs: list[dict[str, Any]], name: str) -> str:
    """Min/median/max of a number over runs."""
    values = [run[name] for run in runs]
    shape = "{:,.3f}" if name == "ratio" else "{:,.1f}" if any(isinstance(value, float) for value in values) else "{:,}"
    return three(values, shape)


def three(values: Sequence[float], shape: str = "{:,.4g}") -> str:
    """Min/median/max of numbers."""
    return " / ".join(shape.format(value) for value in (min(values), median(values), max(values)))


def words(scenario: Scenario, size: Mapping[str, Any]) -> str:
    """What a scenario measures, with its sizes."""
    return scenario.words.format(**size)


def row(scenario: Scenario, runs: list[dict[str, Any]], size: Mapping[str, Any]) -> tuple[str, ...]:
    """A scenario's cells: what, events/s, headline, goal, foreign load."""
    rate = spread(runs, "events_per_second") if "events_per_second" in runs[0] else ""
    if scenario.name == "latency":
        rate = f"p50 {spread(runs, 'p50_ms')} ms"
    headline = f"{spread(runs, scenario.headline)} {_UNITS[scenario.headline]}"
    foreign = f"{max(run['foreign_load'] for run in runs):.0%}"
    return words(scenario, size), rate, headline, scenario.goal, foreign


def _costs(content: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, unit in (("ordered", "event"), ("undo_one", "command")):
        runs = content["results"].get(name)
        if runs:
            costs = runs[-1][f"cpu_us_a{'n' if unit == 'event' else ''}_{unit}"]
            parts = ", ".join(f"{part} {value:.0f}" for part, value in sorted(costs.items(), key=_dearest))
            lines.append(f"CPU µs {'an' if unit == 'event' else 'a'} {unit} ({name}): {parts}")
    return lines


def _dearest(item: tuple[str, float]) -> float:
    return -item[1]
