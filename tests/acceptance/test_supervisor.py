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

from devtools.embedded import leftovers
from devtools.embedded.postgres import PostgresServer
from devtools.embedded.process import Process, ProcessSpec, StackError, run_once
from devtools.embedded.pulsar import PulsarLiteServer
from devtools.embedded.supervisor import Supervisor
from devtools.embedded.valkey import ValkeyServer
from devtools.embedded.watcher import GRACE_SECONDS, Watcher
from sagaproject import env

pytestmark = pytest.mark.acceptance


def eventually(holds: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.05)
    return holds()


def sleeper(folder: Path, name: str = "sleeper") -> ProcessSpec:
    """A part with a child of its own, as Celery's worker has."""
    code = "import subprocess, sys; subprocess.run(['sleep', '300'])"
    return ProcessSpec(name, [sys.executable, "-c", code], folder / f"{name}.log", dict(os.environ))


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
    process = Process(ProcessSpec("deaf", [sys.executable, "-c", deaf], log, dict(os.environ)))
    assert eventually(lambda: "deaf" in log.read_text(encoding="utf-8"))

    process.ask_to_stop()
    process.stop(time.monotonic() + 0.3)

    assert process.exit_words == "killed by SIGKILL"


def test_a_part_that_cannot_start_says_why(supervisor: Supervisor, tmp_path: Path) -> None:
    broken = ProcessSpec(
        "broken", [sys.executable, "-c", "raise SystemExit('no such file')"], tmp_path / "log", {}, lambda: False
    )

    with pytest.raises(StackError, match=r"broken ended while starting \(exit code 1\)(.|\n)*no such file"):
        supervisor.start(broken)


STARTER = """
import os, sys, time
from pathlib import Path
from devtools.embedded.process import WATCHER, Process, ProcessSpec
process = Process(ProcessSpec("part", [sys.executable, "-c", sys.argv[1]], Path(sys.argv[2]), dict(os.environ)))
print(process.pid, WATCHER.pid, flush=True)
while True:
    WATCHER.keep()
    time.sleep(0.05)
"""
# A part with a child, whose pid it writes to its log.
WITH_CHILD = """
import os, signal, time
{before_fork}
if os.fork() == 0:
    print("child", os.getpid(), flush=True)
else:
    {in_parent}
while True:
    time.sleep(1)
"""
OBEDIENT = {"before_fork": "", "in_parent": "pass"}
DEAF = {"before_fork": "signal.signal(signal.SIGTERM, signal.SIG_IGN)", "in_parent": "pass"}
# As in a system call that never returns: every signal but SIGKILL has to wait.
FROZEN = {"before_fork": "", "in_parent": "os.kill(os.getpid(), signal.SIGSTOP)"}


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie"


def child_in(log: Path) -> int:
    """Give the pid that a part of WITH_CHILD wrote, once it is there."""
    assert eventually(lambda: log.exists() and log.read_text(encoding="utf-8").endswith("\n"))
    return int(log.read_text(encoding="utf-8").split()[1])


@contextlib.contextmanager
def starter_of(manner: dict[str, str], log: Path) -> Iterator[tuple["subprocess.Popen[str]", list[int], int]]:
    """Give a process that started a part, the pids of that part and its child, and that of the watcher."""
    words = [sys.executable, "-c", STARTER, WITH_CHILD.format(**manner), str(log)]
    with subprocess.Popen(words, cwd=env.ROOT, stdout=subprocess.PIPE, text=True) as starter:
        try:
            assert starter.stdout
            part, watcher = (int(word) for word in starter.stdout.readline().split())
            yield starter, [part, child_in(log)], watcher
        finally:
            starter.kill()


@pytest.mark.parametrize("manner", [OBEDIENT, DEAF, FROZEN], ids=["obedient", "deaf", "frozen"])
def test_nothing_outlives_a_starter_that_is_killed(tmp_path: Path, manner: dict[str, str]) -> None:
    with starter_of(manner, tmp_path / "log") as (starter, pids, watcher):
        starter.kill()
        starter.wait()

        assert eventually(lambda: all(gone(pid) for pid in pids), GRACE_SECONDS + 10)
        assert eventually(lambda: gone(watcher))


def test_a_watcher_that_is_killed_is_replaced_and_knows_all_parts(tmp_path: Path) -> None:
    with starter_of(DEAF, tmp_path / "log") as (starter, pids, watcher):
        os.kill(watcher, signal.SIGKILL)
        children = psutil.Process(starter.pid).children

        def replaced() -> bool:
            others = [child for child in children() if child.pid != watcher]
            return any(word.endswith("watcher.py") for child in others for word in child.cmdline())

        assert eventually(replaced)
        starter.kill()
        starter.wait()

        assert eventually(lambda: all(gone(pid) for pid in pids), GRACE_SECONDS + 10)


def test_the_watcher_ends_with_its_starter_and_keeps_no_pipe_open(tmp_path: Path) -> None:
    code = (
        "import os, sys, time; from pathlib import Path\n"
        "from devtools.embedded.process import WATCHER, Process, ProcessSpec\n"
        "process = Process(ProcessSpec('part', ['sleep', '300'], Path(sys.argv[1]), dict(os.environ)))\n"
        "print(WATCHER.pid); process.stop(time.monotonic())"
    )
    # This reads until nobody holds the other end of the pipe.
    words = [sys.executable, "-c", code, str(tmp_path / "log")]
    ended = subprocess.run(words, cwd=env.ROOT, capture_output=True, timeout=20, check=True)

    assert gone(int(ended.stdout))


def test_a_group_that_ended_before_its_starter_is_not_touched_any_more() -> None:
    watcher = Watcher(grace_seconds=1)
    with (
        subprocess.Popen(["sleep", "300"], start_new_session=True) as watched,
        subprocess.Popen(["sleep", "300"], start_new_session=True) as forgotten,
    ):
        watcher.add(watched.pid, signal.SIGTERM)
        watcher.add(forgotten.pid, signal.SIGTERM)
        watcher.remove(forgotten.pid)
        watcher.close()

        assert watched.wait(10) == -signal.SIGTERM
        assert forgotten.poll() is None
        forgotten.kill()


def test_a_command_that_takes_too_long_is_ended_with_its_children(tmp_path: Path) -> None:
    log = tmp_path / "log"
    part = ProcessSpec("slow", [sys.executable, "-c", WITH_CHILD.format(**DEAF)], log, dict(os.environ))

    with pytest.raises(StackError, match="slow took more than 3 s"):
        run_once(part, seconds=3.0)

    assert eventually(lambda: gone(child_in(log)))


def test_a_command_gets_its_input_and_its_failure_comes_with_the_log(tmp_path: Path) -> None:
    code = "import sys; sys.stderr.write(sys.stdin.read().upper()); sys.exit(3)"
    part = ProcessSpec("loud", [sys.executable, "-c", code], tmp_path / "log", dict(os.environ))

    with pytest.raises(StackError, match=r"loud failed \(exit code 3\)(.|\n)*WORDS"):
        run_once(part, stdin="words")


@pytest.mark.parametrize("file", ["docker-compose.yml", "devtools/embedded/stack.py"])
def test_no_worker_is_started_with_the_thread_that_may_hang_at_its_end(file: str) -> None:
    text = (env.ROOT / file).read_text(encoding="utf-8")
    assert text.count('"worker", "-') == text.count('"--without-heartbeat"') == 1


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


@pytest.mark.parametrize("kind", [PostgresServer, ValkeyServer, PulsarLiteServer])
def test_embedded_servers_listen_on_loopback_alone_and_come_back_with_their_data_folder(
    kind: type[PostgresServer | ValkeyServer | PulsarLiteServer], tmp_path: Path
) -> None:
    server = kind(tmp_path / "server", tmp_path / "log")
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
