"""The bridge as a process: it ends in order, and in time, whatever is away."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from devtools.embedded import ports
from sagaproject import env

pytestmark = pytest.mark.acceptance

# The small broker does not list its topics, so the regions are named.
ON_LITE = {"ENVIRONMENT": "dev", "PULSAR_REGIONS": "usa,latam"}
AWAY = "away"
MUTE = "mute"


@contextmanager
def run_bridge(log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, str(env.ROOT / "manage.py"), "run_bridge"]
    with log.open("wb") as file:
        process = subprocess.Popen(command, env={**os.environ, **ON_LITE, **environment}, stdout=file, stderr=file)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def endpoint(how: str) -> Iterator[str]:
    """Give a host and port where nobody listens, or where somebody accepts and never says a word."""
    if how == AWAY:
        yield f"127.0.0.1:{ports.free()}"
        return
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def wait_until_it_ends_in_order(process: subprocess.Popen[bytes]) -> None:
    """Wait until the process has a handler of its own for SIGTERM: on a busy machine it may take many seconds."""
    status = Path(f"/proc/{process.pid}/status")
    deadline = time.monotonic() + 60
    while status.exists() and time.monotonic() < deadline:
        [caught] = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("SigCgt")]
        if int(caught, 16) >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("broker", "database", "number"),
    [
        (AWAY, AWAY, signal.SIGINT),
        (AWAY, AWAY, signal.SIGTERM),
        (MUTE, AWAY, signal.SIGTERM),
        ("there", AWAY, signal.SIGTERM),
        ("there", MUTE, signal.SIGTERM),
    ],
)
def test_it_ends_within_five_seconds(
    broker: str, database: str, number: signal.Signals, pulsar_url: str, tmp_path: Path
) -> None:
    with endpoint(database) as database_place, endpoint(AWAY if broker == "there" else broker) as broker_place:
        environment = {
            "DATABASE_URL": f"postgresql://nobody@{database_place}/none",
            "CELERY_BROKER_URL": "redis://127.0.0.1:1/0",
            "PULSAR_SERVICE_URL": pulsar_url if broker == "there" else f"pulsar://{broker_place}",
            "PULSAR_SUBSCRIPTION": f"{broker}-{database}-{number}",
        }
        with run_bridge(tmp_path / "log", **environment) as process:
            wait_until_it_ends_in_order(process)
            time.sleep(2)  # into the call that hangs
            assert process.poll() is None, (tmp_path / "log").read_text()
            process.send_signal(number)
            asked = time.monotonic()
            assert process.wait(10) == 0, (tmp_path / "log").read_text()
            assert time.monotonic() - asked < 5
