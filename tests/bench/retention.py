"""python -m tests.bench.retention: prunes a large database while events come in, and tells what either costs the other.

Fills an embedded stack with old sagas (`manage.py fill`), then publishes 500 events a second: beside nothing,
beside `manage.py prune` at full speed, beside short turns with rests as the beat task takes them, and beside nothing
again, which tells how much is noise.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil

from sagaproject import env
from tests.bench import scenarios
from tests.bench.rig import Rig, rig
from tests.bench.scenarios import Numbers, Size

DAYS = 30


@dataclass
class Pruning:
    """`manage.py prune`, again and again until it is told to stop: so many sagas, then `rest` seconds of peace."""

    rig: Rig
    sagas_a_turn: int
    rest: float
    told: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> "Pruning":
        self._thread.start()
        return self

    def stop(self) -> Numbers:
        """What was pruned, in all and in a second of pruning."""
        self._stopping.set()
        self._thread.join()
        sagas, events = (sum(turn[name] for turn in self.told) for name in ("sagas", "events"))
        seconds = sum(turn["seconds"] for turn in self.told) or 1.0
        return {
            "sagas": sagas,
            "events": events,
            "sagas_a_second": sagas / seconds,
            "events_a_second": events / seconds,
        }

    def _run(self) -> None:
        while not self._stopping.is_set():
            said = manage(self.rig, "prune", "--days", DAYS, "--limit", self.sagas_a_turn, "--json")
            self.told.append(json.loads(said.splitlines()[-1]))
            self._stopping.wait(self.rest)


def main(words: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.retention", description=__doc__)
    parser.add_argument("--sagas", type=int, default=200_000, help="old sagas to fill in (default %(default)s)")
    parser.add_argument("--seconds", type=int, default=30, help="of each run (default %(default)s)")
    options = parser.parse_args(words)
    folder = Path(tempfile.mkdtemp(prefix="saga-retention-", dir="/var/tmp"))
    folder.chmod(0o755)
    try:
        with rig(folder, say) as running:
            fill(running, options.sagas)
            size = Size(latency_seconds=options.seconds)
            measured = {
                "beside nothing": beside(running, size, None),
                "beside manage.py prune": beside(running, size, lambda: Pruning(running, 4000, 0.0)),
                "beside short turns": beside(running, size, lambda: Pruning(running, 2000, 8.0)),
                "beside nothing again": beside(running, size, None),
            }
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    sys.stdout.write(json.dumps(measured, indent=1, default=str) + "\n")


def fill(running: Rig, sagas: int) -> None:
    now = datetime.now(UTC)
    since, until = (str((now - timedelta(days=days)).date()) for days in (400, DAYS + 30))
    manage(running, "fill", "--sagas", sagas, "--since", since, "--until", until, "--in-flight", 0, "--yes")
    say(f"filled: {running.standing()}")


def beside(running: Rig, size: Size, pruning: Callable[[], Pruning] | None) -> Numbers:
    """Latency of what comes in meanwhile, what was pruned, and the share of the machine that others took."""
    busy, began = pruning().start() if pruning else None, time.monotonic()
    idle = psutil.cpu_times_percent(interval=None)
    numbers = scenarios.latency(running, size, 1)
    idle = psutil.cpu_times_percent(interval=None)
    kept: Numbers = {
        name: numbers[name] for name in ("p50_ms", "p95_ms", "p99_ms", "p100_ms", "cpu_us_an_event") if name in numbers
    }
    found: Numbers = {**kept, "idle_percent": idle.idle, "seconds": round(time.monotonic() - began, 1)}
    found |= {"pruned": busy.stop()} if busy else {}
    say(f"{found}")
    return found


def manage(running: Rig, *words: object) -> str:
    """Run a manage.py command on the stack; returns what it says."""
    command = running.stack.command(*map(str, words))
    environment = {**env.snapshot(), **running.stack.environment, "DATABASE_STATEMENT_TIMEOUT": "0"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout


def say(words: str) -> None:
    with suppress(OSError):
        sys.stderr.write(f"{words}\n")
        sys.stderr.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
