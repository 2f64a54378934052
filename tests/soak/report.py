"""A soak as a table."""

from collections.abc import Mapping
from typing import Any

from tests.soak import judge
from tests.soak.gauges import HOT_TABLES

POINTS = 6


def table(content: Mapping[str, Any]) -> str:
    """Memory, dead rows, sizes and queues by time, as Markdown."""
    samples = content["samples"]
    picked = [samples[round(number * (len(samples) - 1) / POINTS)] for number in range(1, POINTS + 1)]
    minutes = [f"{sample['at'] / 60:.0f} min" for sample in picked]
    middle, end = judge.thirds(samples)[1:]
    told = content["told"]
    lines = [
        f"{told['messages']:,} messages, {told['events']:,} events, {told['sagas']:,} sagas",
        f"in {content['minutes']:g} minutes at {content['rate']:g}/s; behind by {told['behind']} s at most;",
        f"all done {content['drained_after']} s after the last;",
        f"SAGA_BREAKER_COMMANDS is {content['breaker_commands']:,}.",
        "",
        "| largest process, MB | " + " | ".join(minutes) + " | most in the middle third | in the last |",
        "|---" * (len(picked) + 3) + "|",
    ]
    before, after = judge.peaks(middle, judge.resident), judge.peaks(end, judge.resident)
    for role in sorted(after):
        row = [f"{judge.resident(sample).get(role, 0):.0f}" for sample in picked]
        lines.append(_row(role, *row, f"{before.get(role, 0):.0f}", f"{after[role]:.0f}"))
    lines += [
        "",
        "| dead rows | " + " | ".join(minutes) + " | most | vacuum comes at |",
        "|---" * (len(picked) + 3) + "|",
    ]
    most = judge.peaks(samples, judge.dead_rows)
    for name in HOT_TABLES:
        row = [f"{judge.dead_rows(sample).get(name, 0):,.0f}" for sample in picked]
        at = samples[-1]["tables"].get(name, {}).get("vacuum_at", 0)
        lines.append(_row(name, *row, f"{most.get(name, 0):,.0f}", f"{at:,.0f}"))
    lines += ["", "| table, MB | " + " | ".join(minutes) + " |", "|---" * (len(picked) + 1) + "|"]
    sizes = judge.megabytes(samples[-1])
    for name in sorted(sizes, key=sizes.__getitem__, reverse=True):
        if sizes[name] >= 1:
            lines.append(_row(name, *(f"{judge.megabytes(sample).get(name, 0):.1f}" for sample in picked)))
    lines += ["", "| waiting | " + " | ".join(minutes) + " | most | at the end |", "|---" * (len(picked) + 3) + "|"]
    longest = judge.peaks(samples, lambda sample: sample["queues"])
    for name, count in longest.items():
        row = [f"{sample['queues'][name]:,}" for sample in picked]
        lines.append(_row(name, *row, f"{count:,}", f"{content['left'].get(name, 0):,}"))
    web = content["web"]
    lines += ["", f"The web meanwhile: {web['answers']}, the slowest {web['slowest']} s.", ""]
    return "\n".join(lines)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
