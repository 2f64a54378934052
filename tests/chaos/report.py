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
TWO = "two acts at once"
BROKERS = {"lite": "pulsar-lite", "apache": "Apache Pulsar"}

_HEAD = """# What the running system survives

`make chaos` starts the whole stack as processes, with a TCP proxy before PostgreSQL, Valkey and Pulsar. The simulator
plays the three services, with repeated messages, in any order, and with garbage among them; it knows where every saga
must end. Meanwhile a saboteur kills, freezes, wipes, and spoils connections, each time when all works again, sometimes
two things at once. At the end, when it is quiet, everything is held against everything:

- every message that the broker was given is in the event log exactly once, or in quarantine with its bytes, and nothing
  is there that the broker was not given (read from the broker itself, by a subscription of its own);
- every saga, lane, command and history is what the simulator's script says, and `manage.py verify_sagas` folds every
  log to the stored state;
- each undo left under one id and with one body, however often it was sent, and every attempt is recorded, without gaps;
- no row is stuck: nothing pending, claimed, half sent, set aside, or parked beside its saga; `manage.py doctor` is
  content.

*Seconds to recover* runs from the end of the act until a new saga that fails had its undo sent, and a sweep had begun:
then the way from a message to a command works from end to end, and beat does. It includes the supervisor's wait before
it starts a dead process again (0.5 s, longer when one dies again soon).

What the acts are:

- *kill -9* also of a worker's child, and of one session's process of PostgreSQL, which then restarts all its sessions;
- *wipe* removes Valkey's data, *freeze* is SIGSTOP for 2 to 20 s;
- *delay* holds every piece of data back for up to a second each way, *cut* closes all connections, *reset* resets them,
  *refuse* does so for up to 15 s to new ones too, *black hole* lets nothing pass for up to 20 s;
- *half-open* lets nothing pass any more on the connections that are open, though both ends are; new ones work.
  A proxy cannot keep the kernel from acknowledging, so to PostgreSQL's clients such a connection is reset after 20 s,
  as TCP_USER_TIMEOUT does on a real network; the clients of the others notice by themselves.

Made by `make chaos ARGS="--seconds 1800"` and `python -m tests.chaos --report FILE…`.
"""


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
    """Write docs/CHAOS.md from the JSON of runs."""
    runs = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    PAGE.write_text("\n".join([_HEAD, *(table(run) for run in runs)]), encoding="utf-8")


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
        f"{len(content['rounds'])} rounds; median load average of the machine {content['load']}."
    )


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
    for status, count in sorted(statuses.items()):
        yield f"| sagas that ended {status}, as the script says | {count:,} |"
