"""A stack in the foreground: whatever ends it, everything stops in order, and the screen says why."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from devtools.embedded import disk
from devtools.embedded.process import DiskFull, StackError
from devtools.embedded.stack import Stack
from devtools.management.commands import demo
from devtools.screen import Screen
from devtools.simulator.options import Options
from sagaproject import env

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]

MANAGE = [sys.executable, str(env.ROOT / "manage.py")]
BARE = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
# A stack that starts one part, so that the ways to end it can be told apart in a second.
SMALL = """
import os, sys, time
from pathlib import Path
from devtools.embedded.foreground import running
from devtools.embedded.process import ProcessSpec
from devtools.embedded.supervisor import Supervisor
from devtools.screen import Screen

class Small:
    folder = Path(sys.argv[1])
    def start(self):
        self.supervisor = Supervisor(screen.say, lambda: None)
        for number in range(int(sys.argv[2])):
            screen.say(f"line {number}")
            time.sleep(0.01)
        self.supervisor.start(ProcessSpec("sleeper", ["sleep", "300"], self.folder / "log", dict(os.environ)))
    def stop(self):
        self.supervisor.stop()
        (self.folder / "stopped").touch()

screen = Screen()
with running(Small(), screen) as asked_to_stop:
    (Small.folder / "runs").touch()
    while not asked_to_stop():
        screen.say("runs")
        time.sleep(0.05)
"""


def eventually(holds: Callable[[], bool], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.02)
    return holds()


def small(folder: Path, lines: int = 0, before: str = "") -> "subprocess.Popen[str]":
    """Run the small stack. before: code that runs in its process first, as nohup or a shell would do it."""
    return subprocess.Popen(
        [sys.executable, "-c", f"{before}\n{SMALL}", str(folder), str(lines)],
        cwd=env.ROOT,
        text=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


@pytest.mark.parametrize("lines", [0, 100], ids=["while it runs", "while it starts"])
def test_a_screen_that_no_one_reads_any_more_ends_the_stack_in_order(tmp_path: Path, lines: int) -> None:
    with small(tmp_path, lines) as process:
        assert process.stderr
        process.stderr.readline()
        if not lines:
            assert eventually((tmp_path / "runs").exists)
        process.stderr.close()
        assert process.wait(30) == 141

    assert (tmp_path / "stopped").exists()
    assert (tmp_path / "runs").exists() is not bool(lines)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_stack_in_order(tmp_path: Path, number: signal.Signals) -> None:
    with small(tmp_path, before=f"import signal; signal.signal({int(number)}, signal.SIG_DFL)") as process:
        assert eventually((tmp_path / "runs").exists)
        process.send_signal(number)
        said = process.communicate(timeout=30)[1]

    assert process.returncode == 0, said
    assert (tmp_path / "stopped").exists()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_a_signal_that_was_ignored_before_stays_ignored(tmp_path: Path, number: signal.Signals) -> None:
    with small(tmp_path, before=f"import signal; signal.signal({int(number)}, signal.SIG_IGN)") as process:
        assert process.stderr
        assert eventually((tmp_path / "runs").exists)
        process.send_signal(number)
        for _ in range(20):
            assert "runs" in process.stderr.readline() + process.stderr.readline() + process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=30)[1]

    assert process.returncode == 0, said
    assert (tmp_path / "stopped").exists()


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("command", ["up", "list_sagas"])
def test_ctrl_c_in_the_first_moments_prints_no_traceback(tmp_path: Path, command: str, delay: float) -> None:
    code = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
    environment = {**BARE, "ENVIRONMENT": "dev", "STACK_DIR": str(tmp_path / "var"), "PYTHONUNBUFFERED": "1"}
    # With this option Python says what it imports, so that one sees when manage.py has begun.
    words = [sys.executable, "-c", code, sys.executable, "-X", "importtime", *MANAGE[1:], command]
    with subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as run:
        assert run.stderr
        assert any("django" in line for line in run.stderr)
        timer = threading.Timer(delay, run.send_signal, [signal.SIGINT])
        timer.start()
        said = [line for line in run.stderr if not line.startswith("import time:")]
        timer.join()

    # Without a stack list_sagas ends soon by itself, with words of its own.
    assert "KeyboardInterrupt" not in "".join(said)
    assert run.returncode == 130 or command == "list_sagas", said


def test_a_disk_with_less_than_a_stack_needs_is_named_before_anything_starts(
    stack_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "TO_START", 2**62)
    stack = Stack(stack_folder, print)
    try:
        with pytest.raises(DiskFull, match=f"The disk of {stack_folder} is full"):
            stack.start()
    finally:
        stack.stop()
    assert not (stack_folder / "log").exists()


def test_a_folder_that_is_not_there_yet_is_judged_by_the_disk_that_it_will_be_on(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "there"
    assert f"The disk of {folder} is full" in disk.shortage([folder], 2**62)
    assert disk.shortage([folder], 1) == ""


def test_a_disk_that_takes_no_more_is_named_although_it_says_that_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert disk.refusal(tmp_path) == ""
    assert list(tmp_path.iterdir()) == []
    # Every write to this device fails as on a full disk.
    (tmp_path / "full").symlink_to("/dev/full")
    monkeypatch.setattr(disk, "_PROBE", "full")
    assert f"The disk of {tmp_path} is full (No space left on device)" in disk.refusal(tmp_path)


class Watched:
    """A stack whose watch() fails, as on a full disk."""

    environment = {"PULSAR_SERVICE_URL": "pulsar://127.0.0.1:1"}
    folder = Path("/nowhere")

    def watch(self) -> None:
        raise DiskFull("The disk of /nowhere is full")


def test_the_demo_lets_go_of_its_simulator_when_the_stack_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = threading.Event()

    def simulate(stack: object, told: object, screen: object, stop: threading.Event) -> None:
        if stop.wait(30):
            asked.set()

    monkeypatch.setattr(demo, "_simulate", simulate)
    began = time.monotonic()
    with pytest.raises(StackError, match="is full"):
        demo._play(Watched(), Options(), Screen(), lambda: False)  # type: ignore[arg-type]

    assert time.monotonic() - began < 10
    assert asked.wait(10)


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """Give a disk of its own with 480 MB, where PostgreSQL's account reaches it: tmp_path is private."""
    if os.getuid() != 0 or sys.platform != "linux":
        pytest.skip("mounting needs root, and Linux")
    folder = Path(f"/var/tmp/saga-small-disk-{os.getpid()}")
    folder.mkdir(mode=0o755)
    try:
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=480m,mode=755", "none", folder], check=False).returncode:
            pytest.skip("this root may not mount")
        try:
            yield folder
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)
    finally:
        folder.rmdir()


def fill(file: Path) -> None:
    with file.open("wb", buffering=0) as filler:
        while True:
            filler.write(bytes(1 << 16))


@pytest.mark.timeout(600)
def test_a_disk_that_fills_up_ends_the_demo_in_order_and_is_named(small_disk: Path) -> None:
    folder, screen = small_disk / "var", Path(f"{small_disk}.screen")
    environment = {**BARE, "ENVIRONMENT": "dev", "STACK_DIR": str(folder)}
    try:
        with screen.open("w") as output:
            words = [*MANAGE, "demo", "--sagas", "2000", "--rate", "20"]
            process = subprocess.Popen(words, env=environment, stdout=output, stderr=output)
        begun = eventually(lambda: "messages sent" in screen.read_text() or process.poll() is not None, 300)
        assert begun
        assert process.poll() is None, screen.read_text()
        parts = psutil.Process(process.pid).children(recursive=True)
        with pytest.raises(OSError, match="No space left"):
            fill(small_disk / "filler")
        try:
            assert process.wait(90) == 1, screen.read_text()
        finally:
            process.kill()
        said = screen.read_text()
        assert f"The disk of {folder} is full" in said.splitlines()[-1]
        assert "stopped; data and logs stay" in said
        assert "Traceback" not in said
        assert psutil.wait_procs(parts, timeout=15)[1] == []
    finally:
        screen.unlink()
