"""`make soak`: runs the service for long at a steady rate, and looks whether anything grows that must not.

python -m tests.soak [--minutes N] [--rate R] [--seed S] [--json FILE]

The embedded stack runs in a folder of its own; sagas come through Pulsar, one in ten fails and is undone by services
that confirm, messages are doubled now and then, and somebody looks at API and admin. Every ten seconds memory by
process, tables with their dead rows, and queues are looked at. Prints a table, keeps every sample as JSON, and ends
with 1, in words, if something grew, was left over, or answered with an error.
"""

import argparse
import json
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import redis

from sagaproject import env
from tests.bench.rig import Rig, rig
from tests.soak import gauges, judge, outside, report

PARTS = ("web", "bridge", "worker", "beat")
EVERY = 10.0
LOOK_EVERY = 5.0
TELLING_SECONDS = 900.0
STILL_SECONDS = 120.0


def main(words: Sequence[str]) -> int:
    options = _options(words)
    folder = Path(tempfile.mkdtemp(prefix="saga-soak-", dir="/var/tmp" if Path("/var/tmp").is_dir() else None))
    folder.chmod(0o755)
    try:
        with rig(folder, _say) as running:
            content = _soak(running, options)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(content) + "\n", encoding="utf-8")
    found = judge.problems(content["samples"], content)
    sys.stdout.write(report.table(content))
    if found:
        _say("\n".join(["", "NOT AS IT MUST BE:", *found]))
    _say(f"every sample: {options.json}")
    return 1 if found else 0


def _options(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="Run for long; nothing may grow.")
    parser.add_argument("--minutes", type=float, default=30, help="default %(default)s")
    parser.add_argument("--rate", type=float, default=200, help="messages a second (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="default %(default)s")
    parser.add_argument("--json", type=Path, default=env.ROOT / "var" / "soak.json", help="default var/soak.json")
    return parser.parse_args(words)


def _soak(running: Rig, options: argparse.Namespace) -> dict[str, Any]:
    valkey = redis.Redis.from_url(running.stack.environment["CELERY_BROKER_URL"])
    services = outside.services(running.broker)
    teller = outside.teller(running.broker, rate=options.rate, seconds=options.minutes * 60, seed=options.seed)
    services.go()
    teller.go()
    visitor = gauges.Visitor(running.stack.base_url, running.stack.login)
    over = threading.Event()
    looking = threading.Thread(target=_look, args=(visitor, over), daemon=True)
    looking.start()
    samples: list[dict[str, Any]] = []
    began = time.monotonic()
    try:
        while time.monotonic() < began + options.minutes * 60:
            samples.append(gauges.sample(running, valkey, PARTS, began))
            _say(_line(samples[-1]))
            _watch(running, EVERY)
        told = teller.result(TELLING_SECONDS)
        ended = time.monotonic()
        left = _drain(running, valkey, told)
        drained_after = round(time.monotonic() - ended)
    finally:
        over.set()
        services.end()
        looking.join(60)
    return {
        "minutes": options.minutes,
        "rate": options.rate,
        "breaker_commands": running.breaker_commands,
        "told": told._asdict(),
        "drained_after": drained_after,
        "left": left,
        "web": {"answers": dict(visitor.seen), "slowest": round(visitor.slowest, 2)},
        "samples": samples,
    }


def _drain(running: Rig, valkey: redis.Redis, told: outside.Told) -> dict[str, int]:
    """Wait until all of it is applied and undone; what is left once nothing has moved for long."""
    left = _left(running, valkey, told)
    moved = time.monotonic()
    while any(left.values()) and time.monotonic() < moved + STILL_SECONDS:
        _watch(running, 1)
        before, left = left, _left(running, valkey, told)
        if left != before:
            moved = time.monotonic()
    return left


def _left(running: Rig, valkey: redis.Redis, told: outside.Told) -> dict[str, int]:
    waiting = gauges.queues(running, valkey)
    # Beat puts a sweep there every two seconds: one of them may always be on its way.
    waiting = {name: count if count > 2 or not name.startswith("celery") else 0 for name, count in waiting.items()}
    sagas = running.one("SELECT count(*) FROM sagas_saga WHERE status NOT IN ('STARTED', 'COMPENSATING')")
    answers = running.one("SELECT count(*) FROM compensation_command WHERE status = 'confirmed'")
    events = running.one("SELECT count(*) FROM bridge_event WHERE source = 'pulsar'")
    return {
        **waiting,
        "sagas without an end": told.sagas - sagas,
        "events that did not come": max(0, told.events + answers - events),
        "quarantined messages": running.one("SELECT count(*) FROM bridge_quarantined"),
    }


def _watch(running: Rig, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        running.stack.watch()
        time.sleep(0.2)


def _look(visitor: gauges.Visitor, over: threading.Event) -> None:
    visitor.enter()
    while not over.wait(LOOK_EVERY):
        visitor.look()


def _line(sample: dict[str, Any]) -> str:
    sizes = ", ".join(f"{role} {most:.0f}" for role, most in sorted(judge.resident(sample).items()))
    return f"{sample['at']:6.0f} s  {sample['events']:>9,} events  MB: {sizes}  waiting: {sample['queues']['events']}"


def _say(words: str) -> None:
    sys.stderr.write(f"{words}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
