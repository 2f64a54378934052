"""Show the progress of a run on stderr: a live table on a terminal, lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from devtools.simulator.report import Report
from devtools.simulator.run import Snapshot
from sagas.management.output import one_line

STATUSES = ("STARTED", "COMPENSATING", "COMPLETED", "COMPENSATION_SUCCEEDED", "COMPENSATION_FAILED", "FAILED")
COLOURS = {
    "STARTED": "cyan",
    "COMPENSATING": "yellow",
    "COMPLETED": "green",
    "COMPENSATION_SUCCEEDED": "blue",
    "COMPENSATION_FAILED": "red",
    "FAILED": "magenta",
}
LINE_EVERY = 2.0  # seconds
LISTED = 20  # unexpected results
LINE_AT_LEAST = 10.0  # seconds, if nothing changes


@contextmanager
def display() -> Iterator[Callable[[Snapshot], None]]:
    """Yield a function for simulate()'s on_progress. The last state of the table stays when the block ends."""
    if sys.stderr.isatty():
        with _live() as show:
            yield show
    else:
        yield _lines()


def line(snapshot: Snapshot) -> str:
    """Return the state of a run in one line."""
    statuses = ", ".join(f"{snapshot.by_status[name]} {name}" for name in STATUSES if snapshot.by_status.get(name))
    parts = [
        f"{snapshot.seconds:.0f} s",
        f"{snapshot.sent}/{snapshot.total} messages sent",
        f"{snapshot.as_expected}/{snapshot.sagas} sagas as expected",
        statuses or "no sagas yet",
        f"{snapshot.commands['confirmed']}/{snapshot.commands['received']} commands confirmed",
    ]
    return one_line("; ".join([*parts, snapshot.trouble] if snapshot.trouble else parts))


def summary(report: Report) -> str:
    """Return the outcome of a run in a few lines."""
    lines = [f"{report.sagas} sagas, {report.events} events, {report.seconds:.1f} s (run {report.run})"]
    lines += [f"  {count:6} {status}" for status, count in sorted(report.by_status.items())]
    counts = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in report.commands.items())
    lines.append(f"  commands: {counts}")
    if report.as_foreseen:
        lines.append("Every saga ended as expected.")
    else:
        lines.append("Stopped before the verdict." if report.interrupted else "NOT as expected:")
        lines += [
            f"  {item.plot or 'all'} {item.saga or item.task}: {item.what}: expected {item.expected}, seen {item.seen}"
            for item in report.unexpected[:LISTED]
        ]
        if len(report.unexpected) > LISTED:
            lines.append(f"  and {len(report.unexpected) - LISTED} more: see --json")
    return "\n".join(map(one_line, lines))


def _lines() -> Callable[[Snapshot], None]:
    last_text, last_at = "", float("-inf")

    def show(snapshot: Snapshot) -> None:
        nonlocal last_text, last_at
        now, text = time.monotonic(), line(snapshot)
        is_changed = text.partition("; ")[2] != last_text.partition("; ")[2]
        if now - last_at >= (LINE_EVERY if is_changed else LINE_AT_LEAST):
            last_text, last_at = text, now
            sys.stderr.write(f"{text}\n")

    return show


@contextmanager
def _live() -> Iterator[Callable[[Snapshot], None]]:
    def coloured(status: str) -> Text:
        return Text(one_line(status), style=COLOURS.get(status, "white"))

    def totals(snapshot: Snapshot) -> Table:
        table = Table(box=None, padding=(0, 2))
        for heading in ("Status", "Now", "Expected"):
            table.add_column(heading, justify="left" if heading == "Status" else "right")
        for status in STATUSES:
            now, end = snapshot.by_status.get(status, 0), snapshot.foreseen.get(status, 0)
            table.add_row(coloured(status), str(now), str(end))
        return table

    def sagas(snapshot: Snapshot) -> Table:
        table = Table(box=None, padding=(0, 2))
        for heading in ("Task", "Scenario", "Images", "Now", "Expected"):
            table.add_column(heading)
        for row in snapshot.rows:
            # As Text, so that rich does not interpret markup.
            task, plot = Text(one_line(row.task_id)), Text(one_line(row.plot.replace("_", " ")))
            table.add_row(task, plot, str(row.images), coloured(row.status), coloured(row.expected))
        return table

    with Live(console=Console(stderr=True), refresh_per_second=4) as live:
        yield lambda snapshot: live.update(
            Group(totals(snapshot), Text(), sagas(snapshot), Text(), Text(line(snapshot), style="dim"))
        )
