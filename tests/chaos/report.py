"""The table of a run, on the screen and as docs/CHAOS.md."""

import json
import platform
import statistics
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from sagaproject import env

PAGE = env.ROOT / "docs" / "CHAOS.md"
HEAD = Path(__file__).with_name("head.md")
TWO = "two acts at once"
BROKERS = {"lite": "pulsar-lite", "apache": "Apache Pulsar"}


def machine() -> dict[str, Any]:
    """Where and on what a run was made."""
    said = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=env.ROOT, capture_output=True, text=True, check=False
    )
    return {
        "cpus": psutil.cpu_count(),
        "memory_gigabytes": round(psutil.virtual_memory().total / 1e9, 1),
        "system": platform.system(),
        "python": platform.python_version(),
        "commit": said.stdout.strip(),
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def write(files: Sequence[Path]) -> None:
    """Write docs/CHAOS.md: what is said in head.md, and the tables from the JSON of runs."""
    runs = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    PAGE.write_text("\n".join([HEAD.read_text(encoding="utf-8"), *map(table, runs)]), encoding="utf-8")


def table(content: Mapping[str, Any]) -> str:
    """The acts and the counts of a run, as Markdown."""
    return "\n".join([*_title(content), "", *_acts(content["acts"]), "", *_counts(content)]) + "\n"


def _title(content: Mapping[str, Any]) -> Iterator[str]:
    where = content["machine"]
    yield f"## {BROKERS[content['broker']]}, {content['seconds'] / 60:.0f} minutes"
    yield ""
    problems = content["problems"]
    result = "Nothing was lost, nothing was stuck." if not problems else f"**{len(problems)} things were off.**"
    yield (
        f"{result} {where['measured_at'][:10]}, commit {where['commit']}, seed {content['seed']}, "
        f"{where['cpus']} CPUs shared with the load, {content['rate']:.0f} messages a second, "
        f"rounds: {len(content['rounds'])}, median load average of the machine: {content['load']}, "
        f"SAGA_BREAKER_COMMANDS: {_limit(content)}."
    )
    if content.get("note"):  # a person's, put into the JSON by hand
        yield ""
        yield content["note"]


def _limit(content: Mapping[str, Any]) -> str:
    limit = content.get("breaker_commands")
    return "there was no circuit breaker" if limit is None else f"{limit:,}"


def _acts(acts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    times: dict[str, list[float | None]] = defaultdict(list)
    for act in acts:
        times[TWO if act["also"] else act["kind"]].append(act["recovered"])
    yield "| act | times | seconds to recover, median | worst |"
    yield "|---|---:|---:|---:|"
    for kind in sorted(times, key=lambda name: (name == TWO, name)):
        found = [seconds for seconds in times[kind] if seconds is not None]
        worst = "never" if len(found) < len(times[kind]) else f"{max(found):.1f}"
        median = f"{statistics.median(found):.1f}" if found else "–"
        yield f"| {kind} | {len(times[kind])} | {median} | {worst} |"
    yield f"| **all** | **{len(acts)}** | | |"


def _counts(content: Mapping[str, Any]) -> Iterator[str]:
    yield "| counted at the end | |"
    yield "|---|---:|"
    for name, count in content["counts"].items():
        yield f"| {name} | {count:,} |"
    statuses: dict[str, int] = defaultdict(int)
    for one in content["rounds"]:
        for status, count in one["by_status"].items():
            statuses[status] += count
    words = "" if content["problems"] else ", as the script says"
    for status, count in sorted(statuses.items()):
        yield f"| sagas that ended {status}{words} | {count:,} |"
