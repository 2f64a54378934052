"""Where a microsecond goes in one process: `python -m tests.bench.profiles [--json FILE]`.

The bridge's decoding and storing, the apply turn and the delivery of commands run here, one after the other, against a
PostgreSQL of their own and without Pulsar. A stopwatch around named functions takes what each spends on the CPU and
what it waits for the server, what its inner ones took left out.
"""

import argparse
import functools
import importlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import django
import orjson

from devtools.embedded import postgres
from sagaproject import env
from tests.bench import load, parties
from tests.bench.load import Load

WATCHED = {
    "bridge": (
        "bridge.codec.Codec.decode",
        "bridge.event_log._row_of_envelope",
        "bridge.event_log._insert",
        "bridge.retention.remembered",
        "bridge.event_log.store_batch",
    ),
    "apply": (
        "sagas.applying.statements.claim",
        "sagas.applying.statements.try_lock",
        "sagas.applying.statements.read_events",
        "sagas.applying.statements.load_sagas",
        "sagas.applying.statements.take_parked",
        "sagas.applying.route.route",
        "sagas.applying.statements.load_lanes",
        "sagas.applying.fold._load",
        "sagas.engine.fold.Fold.apply",
        "sagas.applying.fold.fold",
        "sagas.applying.statements.insert_sagas",
        "sagas.applying.statements.update_sagas",
        "sagas.applying.statements.update_counts",
        "sagas.applying.statements.insert_lanes",
        "sagas.applying.statements.update_lanes",
        "sagas.applying.statements.insert_steps",
        "sagas.applying.statements.update_steps",
        "sagas.applying.statements.log_applied",
        "sagas.applying.store.store_lanes",
        "sagas.applying.store._store_commands",
        "sagas.applying.store.store",
        "sagas.applying.apply.apply_page",
        "sagas.applying.apply.run_apply",
    ),
    "delivery": (
        "compensation.delivery.claim",
        "compensation.delivery._publish",
        "compensation.statements.unreachable_before",
        "compensation.statements.lock_available",
        "compensation.statements.write",
        "compensation.statements.record_attempts",
        "compensation.delivery.record",
        "compensation.delivery.publish_due",
    ),
    "outbox": (
        "compensation.outbox.plan",
        "compensation.outbox.settle",
        "compensation.outbox.release",
        "compensation.statements.insert",
        "compensation.statements.lock",
        "compensation.statements.end_attempts",
    ),
}
BATCH = 500


class Stopwatch:
    """Spent by name: (calls, CPU seconds, seconds waited), each without what inner watched functions took."""

    def __init__(self) -> None:
        self.spent: dict[str, list[float]] = {}
        self._inner: list[list[float]] = [[0.0, 0.0]]

    def watch(self, path: str) -> None:
        """Replace a function by one that is timed."""
        owner, name = _owner(path)
        function = getattr(owner, name)
        label = path.removeprefix("sagas.").removeprefix("bridge.").removeprefix("compensation.")
        setattr(owner, name, self._timed(label, function))

    def _timed(self, label: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*arguments: Any, **named: Any) -> Any:
            self._inner.append([0.0, 0.0])
            cpu, wall = time.process_time(), time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
                inner_cpu, inner_wall = self._inner.pop()
                self._inner[-1][0] += cpu
                self._inner[-1][1] += wall
                entry = self.spent.setdefault(label, [0, 0.0, 0.0])
                entry[0] += 1
                entry[1] += cpu - inner_cpu
                entry[2] += (wall - cpu) - (inner_wall - inner_cpu)

        return timed

    def read(self, count: int) -> list[dict[str, Any]]:
        """What was spent since the last reading, in µs by each of `count`; dearest first."""
        rows = [
            {"where": label, "calls": calls, "cpu_us": cpu / count * 1e6, "wait_us": wait / count * 1e6}
            for label, (calls, cpu, wait) in self.spent.items()
        ]
        self.spent = {}
        return sorted(rows, key=lambda row: -(row["cpu_us"] + row["wait_us"]))


def main(words: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.profiles")
    parser.add_argument("--sagas", type=int, default=2000)
    parser.add_argument("--json", type=Path, default=env.ROOT / "var" / "bench-profiles.json")
    options = parser.parse_args(words)
    folder = Path(tempfile.mkdtemp(prefix="saga-profile-", dir="/var/tmp" if Path("/var/tmp").is_dir() else None))
    folder.chmod(0o755)
    try:
        with postgres.temporary(folder, settings=()) as url:
            found = _profile(url, options.sagas)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    for name, rows in found.items():
        sys.stdout.write(f"\n{name}\n{text(rows)}\n")


def text(rows: Sequence[Mapping[str, Any]], least: float = 0.2) -> str:
    """A profile as lines; what costs less than `least` µs is left out."""
    head = f"{'µs CPU':>8} {'µs waited':>10} {'calls':>7}  where"
    lines = [
        f"{row['cpu_us']:8.1f} {row['wait_us']:10.1f} {row['calls']:7,.0f}  {row['where']}"
        for row in rows
        if row["cpu_us"] + row["wait_us"] >= least
    ]
    return "\n".join([head, *lines])


def _profile(database_url: str, sagas: int) -> dict[str, list[dict[str, Any]]]:
    os.environ.update(DATABASE_URL=database_url, DJANGO_SETTINGS_MODULE="tests.settings")
    os.environ.pop("CELERY_BROKER_URL", None)
    django.setup()
    # Django's modules may be imported only from here on.
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    watch = Stopwatch()
    for names in WATCHED.values():
        for name in names:
            watch.watch(name)
    found: dict[str, list[dict[str, Any]]] = {}
    for title, told in (
        ("saga after saga", load.ordered(sagas, 3)),
        ("all in flight at once", load.in_flight(sagas, 3)),
    ):
        found[f"bridge, an event: {title}"] = _store(watch, told)
        found[f"apply, an event: {title}"] = _apply(watch, told.events)
    before, failures = load.undoable(sagas, 1)
    for told in (before, failures):
        _store(watch, told)
        found["apply, a failure that owes two commands"] = _apply(watch, told.events)
    published = Published()
    found["delivery, a command"] = _deliver(watch, published)
    answers = [parties.confirmation(orjson.loads(message.body)) for message in published.messages]
    _store(watch, Load(answers, len(answers)))
    found["apply, a confirmation"] = _apply(watch, len(answers))
    return found


def _store(watch: Stopwatch, told: Load) -> list[dict[str, Any]]:
    from django.utils import timezone

    from bridge import event_log
    from bridge.codec import get_codec
    from bridge.envelope import Envelope, Message

    codec, now = get_codec(), timezone.now()
    for start in range(0, len(told.messages), BATCH):
        messages = [
            Message(topic, topic, f"{start}:{number}", int(time.time() * 1000), body, {})
            for number, (topic, body) in enumerate(told.messages[start : start + BATCH])
        ]
        decoded = [codec.decode(message, now) for message in messages]
        event_log.store_batch([one for one in decoded if isinstance(one, Envelope)])
    return watch.read(told.events)


def _apply(watch: Stopwatch, events: int) -> list[dict[str, Any]]:
    from sagas.applying import apply, claim

    with mock.patch.object(claim, "WINDOW", 1):  # page by page as it came, as where the worker keeps up
        apply.run_apply(600)
    return watch.read(events)


class Published:
    """A publisher that takes everything at once, so that what is seen is our own, and keeps it."""

    def __init__(self) -> None:
        self.messages: list[Any] = []

    def probe(self) -> None:
        return

    def publish(self, page: Sequence[Any]) -> list[Any]:
        from bridge.publisher import PublishResult

        self.messages += page
        return [PublishResult(one.id, "0:0:-1:-1", None, reachable=True, permanent=False) for one in page]


def _deliver(watch: Stopwatch, publisher: Published) -> list[dict[str, Any]]:
    from compensation import delivery

    while delivery.publish_due(publisher, "profile"):
        continue
    return watch.read(len(publisher.messages))


def _owner(path: str) -> tuple[Any, str]:
    parts = path.split(".")
    for split in range(len(parts) - 1, 0, -1):
        try:
            owner: Any = importlib.import_module(".".join(parts[:split]))
        except ModuleNotFoundError:
            continue
        for name in parts[split:-1]:
            owner = getattr(owner, name)
        return owner, parts[-1]
    raise ValueError(path)


if __name__ == "__main__":
    main(sys.argv[1:])
