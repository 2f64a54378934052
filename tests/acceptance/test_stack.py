"""The development stack as a person meets it: up, a second terminal, killed parts, Ctrl-C, kill -9, up again."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from devtools.embedded import ports
from devtools.simulator.api import opener
from sagaproject import env, stack_file

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(900)]

# A machine that does much else at a time starts a JVM in minutes.
READY_SECONDS = 300

MANAGE = [sys.executable, str(env.ROOT / "manage.py")]
# BROKER and CELERY_ON: on which servers these tests run (docs/testing.md).
BARE = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "BROKER", "CELERY_ON")}
CELERY_BROKER = {"rabbitmq", "epmd"} if BARE.get("CELERY_ON") == "rabbitmq" else {"valkey"}
PARTS = {"postgres", "pulsar", "web", "bridge", "worker", "beat"} | CELERY_BROKER


def eventually(holds: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.2)
    return holds()


def manage(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command as in a second terminal, whose environment says nothing but where the stack is."""
    return subprocess.run(
        [*MANAGE, *words],
        env={**BARE, "STACK_DIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def described(folder: Path) -> dict[str, Any]:
    return stack_file.running(folder) or {}


@contextmanager
def up(folder: Path) -> Iterator[subprocess.Popen[str]]:
    environment = {**BARE, "ENVIRONMENT": "dev", "STACK_DIR": str(folder), "SAGA_FAILURE_SCOPE": "saga"}
    environment["API_PORT"] = str(ports.free())
    with (folder / "screen").open("a") as screen:
        process = subprocess.Popen([*MANAGE, "up"], env=environment, stdout=screen, stderr=screen, text=True)
    try:
        ready = eventually(lambda: bool(described(folder)) or process.poll() is not None, READY_SECONDS)
        assert ready
        assert process.poll() is None, (folder / "screen").read_text(encoding="utf-8")
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=40)


def left(pids: dict[str, int]) -> set[str]:
    return {name for name, pid in pids.items() if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"}


def test_up_second_terminal_kills_and_an_end_without_a_trace(stack_folder: Path) -> None:
    with up(stack_folder) as process:
        stack = described(stack_folder)
        assert set(stack["pids"]) == PARTS
        with opener(stack["api_url"]).open(f"{stack['api_url']}/health", timeout=5) as answer:
            assert json.load(answer)["status"] == "ok"

        doctor = manage(stack_folder, "doctor", "--json")
        assert doctor.returncode == 0, doctor.stdout
        assert "stack.json" in doctor.stderr
        shell = "from django.conf import settings; print(settings.ENVIRONMENT, settings.SAGA_FAILURE_SCOPE)"
        assert manage(stack_folder, "shell", "--verbosity", "0", "-c", shell).stdout.strip() == "dev saga"
        assert manage(stack_folder, "up").returncode != 0

        for name in ("bridge", "worker", "postgres"):
            os.kill(stack["pids"][name], signal.SIGKILL)
        assert eventually(lambda: _all_new(stack_folder, stack["pids"], ("bridge", "worker", "postgres")), 90)
        assert eventually(lambda: manage(stack_folder, "doctor").returncode == 0, 180)
        assert "killed by SIGKILL" in (stack_folder / "screen").read_text(encoding="utf-8")

        pids = described(stack_folder)["pids"]
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=40) == 0

    assert not left(pids)
    assert not stack_file.json_path(stack_folder).exists()
    doctor = manage(stack_folder, "doctor")
    assert doctor.returncode == 2
    assert doctor.stderr.startswith(f"No stack is running in {stack_folder}: `make up` starts one.\n")


def test_after_kill_9_the_same_folder_starts_again(stack_folder: Path) -> None:
    with up(stack_folder) as process:
        first = described(stack_folder)
        process.kill()
        process.wait()
    assert stack_file.running(stack_folder) is None

    with up(stack_folder):
        again = described(stack_folder)
        assert set(again["pids"]) == PARTS
        assert again["login"] == first["login"]
        assert not left(first["pids"])


def _all_new(folder: Path, old: dict[str, int], names: tuple[str, ...]) -> bool:
    new = described(folder).get("pids", {})
    return all(new.get(name, old[name]) != old[name] for name in names)


def test_the_demo_ends_as_foreseen_though_bridge_and_worker_are_killed(stack_folder: Path) -> None:
    words = ["demo", "--sagas", "30", "--rate", "150", "--failure-rate", "0.3", "--duplicate-rate", "0.1", "--shuffle"]
    environment = {**BARE, "ENVIRONMENT": "dev", "STACK_DIR": str(stack_folder), "API_PORT": str(ports.free())}
    demo = subprocess.Popen(
        [*MANAGE, *words, "--garbage-rate", "0.05", "--timeout", "25", "--once", "--json"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert eventually(lambda: bool(described(stack_folder)), READY_SECONDS)
        pids = described(stack_folder)["pids"]
        for name in ("bridge", "worker"):
            os.kill(pids[name], signal.SIGKILL)
        said, screen = demo.communicate(timeout=240)
    except subprocess.TimeoutExpired:
        demo.terminate()  # its parts end with it
        pytest.fail(demo.communicate(timeout=20)[1])

    verdict = json.loads(said.splitlines()[-1])
    assert demo.returncode == 0, screen
    assert (verdict["sagas"], verdict["unexpected"]) == (30, [])
    assert not left(pids)
