"""`make chaos`: breaks the running system in every way that the field breaks it, and looks whether anything is lost.

python -m tests.chaos [--seconds N] [--seed S] [--rate R] [--broker lite|apache] [--only WORD…] [--short]
    [--json FILE]
python -m tests.chaos --report FILE…

The embedded stack runs as processes in a folder of its own, with a proxy before each server. The simulator plays the
services in rounds, with duplicates, in any order, and with garbage; meanwhile the saboteur acts. When a round's events
are sent it waits until every saga is where the script says. At the end everything is held against everything: the
broker's messages, the tables, what the services received. Exit code 1, with words, if anything is off. --report writes
docs/CHAOS.md from the JSON of runs.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

from devtools.simulator.options import Options, fresh_run
from devtools.simulator.run import Snapshot, simulate
from devtools.simulator.transport import Broker
from sagaproject import env
from tests.chaos import report, verdict
from tests.chaos.acts import Act, repertoire
from tests.chaos.canary import Canaries
from tests.chaos.saboteur import Saboteur
from tests.chaos.stage import Stage, stage
from tests.chaos.verdict import Verdict
from tests.chaos.witness import Witness

TICK = 0.1
# How many processes wanted a processor, at each tick: what a time to recover is worth.
LOADS: list[float] = []
# Services that keep silent or refuse are known as such within a minute; every message is looked for by its bytes; and
# all undos are to arrive, however many a round orders: the circuit breaker's limit is never reached.
SHORT_WAITS = {
    "BRIDGE_QUARANTINE_PER_HOUR": "1000000",
    "SAGA_BREAKER_COMMANDS": "1000000000",
    "SAGA_CONFIRMATION_TIMEOUT": "5",
    "SAGA_INTAKE_SILENCE": "5",
    "SAGA_RETRY_INITIAL_INTERVAL": "0.3",
    "SAGA_RETRY_BACKOFF_COEFFICIENT": "1.5",
    "SAGA_RETRY_MAXIMUM_INTERVAL": "2",
    "SAGA_RETRY_MAXIMUM_ATTEMPTS": "5",
}
ROUND_SECONDS = 180.0
MESSAGES_A_SAGA = 20
# What CI tries on every change: each kind of act, on the part where it hurts most.
SHORT = (
    "kill -9 bridge",
    "kill -9 worker",
    "kill -9 a worker's child",
    "kill -9 beat",
    "kill -9 valkey, wipe it",
    "kill -9 pulsar",
    "kill -9 postgres",
    "freeze bridge",
    "freeze postgres",
    "cut pulsar",
    "reset postgres",
    "refuse valkey",
    "black hole before postgres",
    "half-open postgres",
)


def main(words: Sequence[str]) -> int:
    options = _options(words)
    if options.report:
        report.write(options.report)
        return 0
    os.environ["BROKER"] = options.broker
    folder = Path(tempfile.mkdtemp(prefix="saga-chaos-", dir=_roomy()))
    folder.chmod(0o755)
    content = _run(folder, options)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    sys.stdout.write(report.table(content))
    problems = content["problems"]
    if problems:
        _say("\n".join(["", "NOT AS IT MUST BE:", *problems, f"logs and data stay in {folder}"]))
    else:
        shutil.rmtree(folder, ignore_errors=True)
    _say(f"everything: {options.json}")
    return 1 if problems else 0


def _options(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Break everything, lose nothing.")
    parser.add_argument("--seconds", type=float, default=0, help="how long to sabotage (default 600, with --short 90)")
    parser.add_argument(
        "--seed", type=int, default=0, help="the same seed, the same acts and stories (default: the day's)"
    )
    parser.add_argument("--rate", type=float, default=40.0, help="messages a second (%(default)s)")
    broker = os.environ.get("BROKER") or "lite"
    parser.add_argument("--broker", choices=("lite", "apache"), default=broker, help=f"which Pulsar (default {broker})")
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="only acts whose name has one of these")
    parser.add_argument("--short", action="store_true", help="ninety seconds, the acts that hurt most, for CI")
    parser.add_argument("--json", type=Path, default=env.ROOT / "var" / "chaos.json", help="default var/chaos.json")
    parser.add_argument("--report", type=Path, nargs="+", metavar="FILE", help="write docs/CHAOS.md from runs' JSON")
    options = parser.parse_args(words)
    options.seconds = options.seconds or (90.0 if options.short else 600.0)
    options.seed = options.seed or int(datetime.now(UTC).strftime("%Y%m%d"))
    return options


def _run(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    began = time.monotonic()
    _say(f"seed {options.seed}, {options.seconds:.0f} s of sabotage, {options.rate:.0f} messages a second")
    with stage(folder, _say, SHORT_WAITS) as stack:
        broker = Broker(stack.direct["pulsar"])
        witness = Witness(broker, Options().regions)
        canaries = Canaries(broker, stack.direct["postgres"])
        saboteur = _saboteur(stack, canaries, options)
        try:
            reports = _rounds(stack, broker, saboteur, options)
        finally:
            saboteur.close()
        _say("reading what the broker was given, and every table …")
        found = _beside(stack, lambda: verdict.judge(stack, witness.testify(), canaries))
    limit = int(stack.environment["SAGA_BREAKER_COMMANDS"])
    return _content(options, saboteur, reports, found, time.monotonic() - began, limit)


def _saboteur(stack: Stage, canaries: Canaries, options: argparse.Namespace) -> Saboteur:
    rng = Random(options.seed)
    acts: list[Act] = repertoire(stack, rng)
    if options.only:
        acts = [act for act in acts if any(word in act.kind for word in options.only)]
    if not options.short:
        return Saboteur(acts, canaries, rng, _say)
    chosen = [act for act in acts if act.kind in SHORT]
    assert len(chosen) == len(SHORT)
    return Saboteur(chosen, canaries, rng, _say, short=4.0, two_at_once=0.0)


def _rounds(stack: Stage, broker: Broker, saboteur: Saboteur, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Tell stories until the time is over; each round is judged before the next begins."""
    reports: list[dict[str, Any]] = []
    end = time.monotonic() + options.seconds
    while (left := end - time.monotonic()) > ROUND_SECONDS / 4 or not reports:
        seconds = min(left, ROUND_SECONDS)
        told = _story(options, len(reports), seconds)
        _say(f"round {len(reports) + 1}: {told.sagas} sagas, seed {told.seed}")
        reports.append(_round(stack, broker, saboteur, told))
        last = reports[-1]
        _say(f"round {len(reports)}: {last['by_status']}, unexpected: {len(last['unexpected'])}, {last['seconds']} s")
        if last["unexpected"]:
            break
    return reports


def _story(options: argparse.Namespace, number: int, seconds: float) -> Options:
    return Options(
        sagas=max(10, round(seconds * options.rate / MESSAGES_A_SAGA)),
        images=(1, 4),
        rate=options.rate,
        failure_rate=0.4,
        duplicate_rate=0.1,
        shuffle=True,
        delay_rate=0.05,
        garbage_rate=0.05,
        refuse_rate=0.1,
        silence_rate=0.02,
        stubborn_rate=0.02,
        own_task_rate=0.1,
        complete_rate=0.5,
        restart_rate=0.1,
        none_rate=0.1,
        status_rate=0.3,
        redeliver=10,
        intake_silence=float(SHORT_WAITS["SAGA_INTAKE_SILENCE"]),
        orphans=3,
        seed=options.seed + number,
        run=fresh_run(),
        timeout=240,
        details=100,  # more cost more of the API than of anything else; verify_sagas looks into all
        once=True,
        unsteady=True,
    )


def _round(stack: Stage, broker: Broker, saboteur: Saboteur, told: Options) -> dict[str, Any]:
    seen: list[Snapshot] = []
    stop = threading.Event()

    def look(snapshot: Snapshot) -> None:
        seen[:] = [snapshot]

    with ThreadPoolExecutor(1, thread_name_prefix="simulator") as pool:
        run = pool.submit(simulate, told, broker, stack.api_url, on_progress=look, stop=stop)
        try:
            while not (run.done() and saboteur.is_idle):
                stack.watch()
                sending = bool(seen) and 0 < seen[0].sent < seen[0].total
                saboteur.tick(may_begin=sending and not run.done())
                LOADS.append(os.getloadavg()[0])
                time.sleep(TICK)
        finally:
            stop.set()
        return run.result().as_json()


def _beside(stack: Stage, work: Callable[[], Verdict]) -> Verdict:
    """Do it while this thread looks after the processes."""
    with ThreadPoolExecutor(1, thread_name_prefix="verdict") as pool:
        done = pool.submit(work)
        while not done.done():
            stack.watch()
            time.sleep(TICK)
        return done.result()


def _content(
    options: argparse.Namespace,
    saboteur: Saboteur,
    reports: list[dict[str, Any]],
    found: Verdict,
    seconds: float,
    breaker_commands: int,
) -> dict[str, Any]:
    acts = [done.as_json() for done in saboteur.done]
    stuck = [
        f"{act['kind']} at {act['at']} s: not all worked again in time" for act in acts if act["recovered"] is None
    ]
    return {
        "broker": options.broker,
        "seed": options.seed,
        "rate": options.rate,
        "breaker_commands": breaker_commands,
        "short": options.short,
        "seconds": round(seconds),
        "machine": report.machine(),
        "load": round(statistics.median(LOADS), 1) if LOADS else 0,
        "acts": acts,
        "rounds": reports,
        "counts": found.counts,
        "problems": [*verdict.unexpected(reports), *stuck, *found.problems],
    }


def _roomy() -> Path:
    """A disk for data, reachable for the account that PostgreSQL runs as."""
    return Path("/var/tmp") if Path("/var/tmp").is_dir() else Path(tempfile.gettempdir())


def _say(words: str) -> None:
    sys.stderr.write(f"{words}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
