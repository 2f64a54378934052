"""The supervisor: what dies comes back, what is stopped leaves nothing, and nothing outlives a killed supervisor."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from sagaproject import env
from sagaproject.embedded import leftovers, postgres, pulsar, valkey
from sagaproject.embedded.process import Part, Process, StackError
from sagaproject.embedded.supervisor import Supervisor

pytestmark = pytest.mark.acceptance


def eventually(holds: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.05)
    return holds()


def sleeper(folder: Path, name: str = "sleeper") -> Part:
    """A part with a child of its own, as Celery's worker has."""
    code = "import subprocess, sys; subprocess.run(['sleep', '300'])"
    return Part(name, [sys.executable, "-c", code], folder / f"{name}.log", dict(os.environ))


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def supervisor(said: list[str]) -> Iterator[Supervisor]:
    supervisor = Supervisor(said.append, lambda: None)
    yield supervisor
    supervisor.stop()


def test_a_part_that_is_killed_comes_back_and_its_children_are_gone(
    supervisor: Supervisor, said: list[str], tmp_path: Path
) -> None:
    supervisor.start(sleeper(tmp_path))
    first = supervisor.pids["sleeper"]
    assert eventually(lambda: bool(psutil.Process(first).children()))
    child = psutil.Process(first).children()[0].pid

    os.kill(first, signal.SIGKILL)

    def is_back() -> bool:
        supervisor.watch()
        return supervisor.pids.get("sleeper", first) != first

    assert eventually(is_back)
    assert eventually(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == "zombie")
    assert any("killed by SIGKILL" in words for words in said)


def test_stop_leaves_nothing(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start_together([sleeper(tmp_path, "one"), sleeper(tmp_path, "two")])
    pids = list(supervisor.pids.values())
    assert eventually(lambda: all(psutil.Process(pid).children() for pid in pids))
    children = [child for pid in pids for child in psutil.Process(pid).children()]

    began = time.monotonic()
    supervisor.stop()

    assert time.monotonic() - began < 10
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert eventually(lambda: not any(child.is_running() and child.status() != "zombie" for child in children))


def test_a_part_that_ignores_the_request_is_killed(tmp_path: Path) -> None:
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(300)"
    )
    log = tmp_path / "deaf.log"
    process = Process(Part("deaf", [sys.executable, "-c", deaf], log, dict(os.environ)))
    assert eventually(lambda: "deaf" in log.read_text(encoding="utf-8"))

    process.ask_to_stop()
    process.stop(time.monotonic() + 0.3)

    assert process.exit_words == "killed by SIGKILL"


def test_a_part_that_cannot_start_says_why(supervisor: Supervisor, tmp_path: Path) -> None:
    broken = Part(
        "broken", [sys.executable, "-c", "raise SystemExit('no such file')"], tmp_path / "log", {}, lambda: False
    )

    with pytest.raises(StackError, match=r"broken ended while starting \(exit code 1\)(.|\n)*no such file"):
        supervisor.start(broken)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the next start cleans up")
def test_nothing_outlives_a_starter_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import os, sys, time; from pathlib import Path\n"
        "from sagaproject.embedded.process import Part, Process\n"
        f"p = Process(Part('sleeper', ['sleep', '300'], Path({str(tmp_path / 'log')!r}), dict(os.environ)))\n"
        "print(p.pid, flush=True); time.sleep(300)"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=env.ROOT, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout
        pid = int(starter.stdout.readline())
        assert eventually(lambda: "sleep" in psutil.Process(pid).name())
        starter.kill()

    assert eventually(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie")


def test_leftovers_are_ended_but_never_a_stranger_with_an_old_pid(tmp_path: Path) -> None:
    file = tmp_path / "processes.json"
    with subprocess.Popen(["sleep", "300"], start_new_session=True) as ours:
        leftovers.note(file, [ours.pid, 2**22 + 1])
        assert leftovers.end(file) == 1
        assert not psutil.pid_exists(ours.pid)

    with subprocess.Popen(["sleep", "300"], start_new_session=True) as stranger:
        file.write_text(f'{{"{stranger.pid}": 12345.0}}', encoding="utf-8")
        assert leftovers.end(file) == 0
        assert stranger.poll() is None
        stranger.kill()


def listening(pid: int) -> set[str]:
    return {
        connection.laddr.ip
        for connection in psutil.Process(pid).net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    }


@pytest.mark.parametrize("kind", [postgres, valkey, pulsar])
def test_embedded_servers_listen_on_loopback_alone_and_come_back_with_their_data_folder(
    kind: object, tmp_path: Path
) -> None:
    server = kind.Server(tmp_path / "server", tmp_path / "log")  # type: ignore[attr-defined]
    for end in (signal.SIGKILL, signal.SIGTERM):
        process = Process(server.prepare())
        try:
            process.wait_ready()
            assert listening(process.pid) == {"127.0.0.1"}
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, end)
            process.ask_to_stop()
            process.stop(time.monotonic() + 5)
    server.discard()
