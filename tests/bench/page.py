"""docs/performance.md from the measurements' JSON: `make performance`.

Reads var/bench.json, and beside it bench-curves.json, bench-million.json, bench-flat.json, bench-pages.json,
bench-apache.json and bench-profiles.json where they are; a part that was not measured says so. The words around the
figures are in performance.md beside this.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from string import Template
from typing import Any

from matplotlib import rcParams
from matplotlib.figure import Figure

from sagaproject import env
from tests.bench import million, profiles, report
from tests.bench.scenarios import SCENARIOS

Content = Mapping[str, Any]
VAR, DOCS = env.ROOT / "var", env.ROOT / "docs"
NOT_MEASURED = "(not measured in this edition)"
# What the headline number of a scenario should be, and whether it is.
GOALS: dict[str, Callable[[float, float], bool]] = {
    "ordered": lambda value, _: value >= 0.50,
    "mixed": lambda value, ordered: value >= 0.8 * ordered,
    "one_saga": lambda value, ordered: value >= 0.8 * ordered,
    "in_flight": lambda value, ordered: value >= 0.9 * ordered,
    "latency": lambda value, _: value < 100,
    "undo_one": lambda value, _: value < 20,
    "undo_many": lambda value, _: value >= 2000,
    "start": lambda value, _: value < 15,
}


def main() -> None:
    bench = _read("bench.json")
    if bench is None:
        sys.exit("There is no var/bench.json: run `make bench` first.")
    curves, stored = _read("bench-curves.json"), _read("bench-million.json")
    apache = _read("bench-apache.json")
    _plot(bench, curves)
    template = Template((Path(__file__).parent / "performance.md").read_text(encoding="utf-8"))
    page = template.substitute(
        machine=_machine(bench),
        table=_table(bench),
        missed=_missed(bench),
        cpu=_cpu(bench),
        disk=_disk(bench),
        curves=_curves(curves),
        million=_table(stored) if stored else NOT_MEASURED,
        flat=_flat(_read("bench-flat.json")),
        apache=_table(apache) if apache else NOT_MEASURED,
        pages=_pages(_read("bench-pages.json")),
        profiles=_profiles(_read("bench-profiles.json")),
    )
    (DOCS / "performance.md").write_text(page, encoding="utf-8")
    sys.stdout.write("docs/performance.md is written\n")


def _read(name: str) -> Content | None:
    path = VAR / name
    if not path.exists():
        return None
    content: Content = json.loads(path.read_text(encoding="utf-8"))
    return content


def _machine(bench: Content) -> str:
    machine = bench["machine"]
    settings = ", ".join(f"{name} {value}" for name, value in sorted(machine["postgresql_settings"].items()))
    return (
        f"Measured {machine['measured_at'][:10]}: {machine['cpus']} cores, {machine['memory_gigabytes']} GB, "
        f"Python {machine['python']}, PostgreSQL {machine['postgresql'].split()[0]} ({settings}), "
        f"{machine['pulsar']}. {report.breaker(machine)}"
    )


def _table(content: Content) -> str:
    rows = [["what", "events/s", "headline", "goal", "foreign load"]]
    for scenario in SCENARIOS:
        runs = content["results"].get(scenario.name)
        if runs:
            rows.append(list(report.row(scenario, runs, content["size"])))
    return _markdown(rows) + "\n\n(min / median / max of the runs)"


def _flat(content: Content | None) -> str:
    if content is None:
        return NOT_MEASURED
    return f"{_markdown(million.rows(content['million']))}\n\n{_markdown(million.written(content['million']))}"


def _missed(bench: Content) -> str:
    runs = bench["results"]
    ordered = median(run["ratio"] for run in runs["ordered"]) if "ordered" in runs else 0.0
    missed = []
    for scenario in SCENARIOS:
        if scenario.name in runs and scenario.name in GOALS:
            value = median(run[scenario.headline] for run in runs[scenario.name])
            if not GOALS[scenario.name](value, ordered):
                missed.append(f"«{report.words(scenario, bench['size'])}» ({value:,.3g}; {scenario.goal})")
    return f"Goals missed, by the median: {'; '.join(missed)}." if missed else "Every goal is met, by the median."


def _cpu(bench: Content) -> str:
    names = ("ordered", "in_flight", "mixed", "one_saga")
    chosen = [name for name in names if name in bench["results"]]
    costs = {name: bench["results"][name] for name in chosen}
    parts = sorted({part for runs in costs.values() for part in runs[0]["cpu_us_an_event"]})
    rows = [["µs an event (median)", *chosen]]
    rows += [[part, *(f"{_middle(costs[name], part):.0f}" for name in chosen)] for part in parts]
    rows.append(["**all**", *(f"**{sum(_middle(costs[name], part) for part in parts):.0f}**" for name in chosen)])
    return _markdown(rows)


def _middle(runs: Sequence[Content], part: str) -> float:
    return float(median(run["cpu_us_an_event"][part] for run in runs))


def _disk(bench: Content) -> str:
    runs = bench["results"].get("ordered")
    if not runs:
        return NOT_MEASURED
    last = runs[-1]
    tables = ", ".join(f"{name} {size:,}" for name, size in last["disk_bytes_an_event"].items())
    return (
        f"Write-ahead log: {last['wal_bytes_an_event']:,} bytes an event in order, "
        f"{_of(bench, 'in_flight', 'wal_bytes_an_event')} with all sagas in flight. "
        f"Tables with their indexes, bytes an event: {tables}. "
        f"The queue, once drained: {last['pending_megabytes']} MB."
    )


def _of(bench: Content, scenario: str, name: str) -> str:
    runs = bench["results"].get(scenario)
    return f"{median(run[name] for run in runs):,.0f}" if runs else "(not measured)"


def _curves(content: Content | None) -> str:
    if content is None:
        return NOT_MEASURED
    parts = []
    for name, points in content["curves"].items():
        parts.append(f"![events/s against the number of {name}](img/performance-{name}.svg)")
        rows = [[name, "events/s", "raw ceiling", "ratio"]]
        rows += [
            [f"{point[name]:,}", f"{point['events_per_second']:,}", f"{point['ceiling']:,}", f"{point['ratio']:.2f}"]
            for point in points
        ]
        parts.append(_markdown(rows))
    return "\n\n".join(parts)


def _pages(content: Content | None) -> str:
    if content is None:
        return NOT_MEASURED
    rows = [["page", "median ms", "p95 ms", "goal for the p95", "queries"]]
    rows += [
        [page["name"], *(f"{page[key]:.1f}" for key in ("median", "p95")), f"{page['goal']:.0f}", str(page["queries"])]
        for page in content["pages"]
    ]
    over = [page["name"] for page in content["pages"] if page["p95"] > page["goal"]]
    told = f"Over their goal: {', '.join(over)}." if over else "Every page is within its goal."
    return f"{told}\n\n{_markdown(rows)}"


def _profiles(content: Content | None) -> str:
    if content is None:
        return NOT_MEASURED
    return "\n\n".join(f"{name}\n\n```\n{profiles.text(rows)}\n```" for name, rows in content.items())


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    head, *rest = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([head, "|" + "---|" * len(rows[0]), *rest])


# --- plots ------------------------------------------------------------------------------------------------------------


def _plot(bench: Content, curves: Content | None) -> None:
    for name, points in curves["curves"].items() if curves else ():
        figure, axes = _figure(f"{name} (logarithmic)", "events/s")
        x = [point[name] for point in points]
        axes.plot(x, [point["ceiling"] for point in points], "o--", color="#888888", label="raw ceiling")
        axes.plot(x, [point["events_per_second"] for point in points], "o-", color="#2563eb", label="end to end")
        axes.set_xscale("log")
        axes.legend()
        _save(figure, name)
    runs = bench["results"].get("latency")
    if runs:
        figure, axes = _figure("ms from published to committed", f"events, of {len(runs)} runs")
        summed: dict[int, int] = {}
        for run in runs:
            for upper, count in run["histogram_5ms"].items():
                summed[int(upper)] = summed.get(int(upper), 0) + count
        axes.bar([upper - 5 for upper in sorted(summed)], [summed[upper] for upper in sorted(summed)], 5, align="edge")
        _save(figure, "latency")


def _figure(x: str, y: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=(7, 3.2))
    axes = figure.subplots()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    return figure, axes


def _save(figure: Figure, name: str) -> None:
    for axes in figure.axes:
        axes.set_ylim(bottom=0)  # not before all is plotted: the axis would keep the scale that it has by then
    figure.tight_layout()
    # Without a date and with a fixed salt the same measurements give the same file.
    rcParams["svg.hashsalt"] = "performance"
    figure.savefig(DOCS / "img" / f"performance-{name}.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
