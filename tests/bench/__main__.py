"""`make bench`: measures the service on a stack of its own, prints a table, and keeps every number as JSON.

python -m tests.bench [--quick] [--only NAME…] [--runs N] [--stored N] [--million [N]] [--curves] [--json FILE]

The stack is the embedded one, in a folder of its own; DATABASE_URL, CELERY_BROKER_URL and PULSAR_SERVICE_URL put real
servers in the place of its parts. Whatever runs beside it on the machine shows as foreign load, and spoils numbers.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from sagaproject import env
from tests.bench import million, report
from tests.bench.rig import Rig, rig, roomy
from tests.bench.scenarios import CURVES, QUICK, SCENARIOS, Numbers, Scenario, Size, points

RUNS = 3
# What is measured on top of stored sagas: the others count all rows of a table.
ON_TOP = ("ordered", "latency")


def main(words: Sequence[str]) -> None:
    options = _options(words)
    size = QUICK if options.quick else Size()
    chosen = [scenario for scenario in SCENARIOS if scenario.name in _names(options)]
    folder = Path(tempfile.mkdtemp(prefix="saga-bench-", dir=roomy()))
    folder.chmod(0o755)
    results: dict[str, list[Numbers]] = {}
    curves: dict[str, list[Numbers]] = {}
    on_top: dict[str, Any] | None = None
    try:
        with rig(folder, _say) as running:
            if options.million:
                on_top = million.measure(running, options.million, size, options.runs, options.latency_runs, _say)
            if options.stored:
                running.fill(options.stored)
            for curve in CURVES if options.curves else ():
                curves[curve.name] = points(running, curve, size)
                _say(f"{curve.words}: {[(point[curve.name], point['ratio']) for point in curves[curve.name]]}")
            for scenario in chosen:
                results[scenario.name] = _repeat(running, scenario, size, options.runs)
            machine = _machine(running)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    content = {
        "machine": machine,
        "size": asdict(size),
        "stored_before": options.stored,
        "quick": options.quick,
        "results": results,
        "curves": curves,
        "million": on_top,
    }
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    if on_top:
        for rows in (million.rows(on_top), million.written(on_top)):
            sys.stdout.write("\n".join([*report.aligned(rows), "", ""]))
    sys.stdout.write(report.table(content))
    _say(f"every number: {options.json}")


def _options(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure the service.")
    parser.add_argument("--quick", action="store_true", help="little of each, once: does it run at all?")
    names = [scenario.name for scenario in SCENARIOS]
    parser.add_argument("--only", nargs="+", choices=names, default=[], metavar="NAME", help=", ".join(names))
    parser.add_argument("--runs", type=int, default=0, help=f"runs of each (default {RUNS}, with --quick 1)")
    parser.add_argument("--json", type=Path, default=env.ROOT / "var" / "bench.json", help="default var/bench.json")
    parser.add_argument(
        "--stored", type=int, default=0, metavar="N", help=f"store N ended sagas first; measures {', '.join(ON_TOP)}"
    )
    parser.add_argument("--curves", action="store_true", help="the rate against numbers of sagas and images, no table")
    parser.add_argument(
        "--million", type=int, nargs="?", const=million.WHOLE, default=0, metavar="N",
        help="what N stored sagas (a million) cost against an empty database, no table",
    )  # fmt: skip
    parser.add_argument(
        "--latency-runs", type=int, default=million.LATENCY_RUNS, metavar="N", help="with --million (default 20)"
    )
    options = parser.parse_args(words)
    options.runs = options.runs or (1 if options.quick else RUNS)
    return options


def _names(options: argparse.Namespace) -> Sequence[str]:
    """The scenarios that are asked for."""
    if options.only:
        names: list[str] = options.only
        return names
    if options.curves or options.million:
        return ()
    return ON_TOP if options.stored else [scenario.name for scenario in SCENARIOS]


def _repeat(running: Rig, scenario: Scenario, size: Size, runs: int) -> list[Numbers]:
    found = []
    for number in range(1, runs + 1):
        running.forget()
        numbers = scenario.run(running, size, number)
        found.append(numbers)
        _say(f"{scenario.name} {number}/{runs}: {scenario.headline} {numbers[scenario.headline]}")
    return found


def _machine(running: Rig) -> dict[str, Any]:
    names = ("fsync", "synchronous_commit", "shared_buffers", "max_wal_size", "random_page_cost", "wal_compression")
    return {
        "cpus": psutil.cpu_count(),
        "memory_gigabytes": round(psutil.virtual_memory().total / 1e9, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "postgresql": running.one("SHOW server_version"),
        "postgresql_settings": {name: running.one(f"SHOW {name}") for name in names},
        "breaker_commands": running.breaker_commands,
        "pulsar": _pulsar(),
        "commit": _commit(),
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _pulsar() -> str:
    if os.environ.get("PULSAR_SERVICE_URL"):
        return "PULSAR_SERVICE_URL"
    return "Apache Pulsar" if os.environ.get("BROKER") == "apache" else "pulsar-lite"


def _commit() -> str:
    said = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=env.ROOT, capture_output=True, text=True, check=False
    )
    return said.stdout.strip()


def _say(words: str) -> None:
    sys.stderr.write(f"{words}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
