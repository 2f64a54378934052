"""One process of the stack: in a separate session, never outliving the stack, stopped with all its children."""

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from devtools.embedded.watcher import Watcher

PARENT_WATCH = Path(__file__).with_name("parent_watch.py")
WATCHER = Watcher()


class StackError(Exception):
    """A part of the stack cannot be started. The text names it, the reason and the solution."""


class DiskFull(StackError):
    """The disk has no room for the stack. The text names it."""


@dataclass(frozen=True, slots=True)
class Account:
    """A user to run as; 0 is the user who starts the stack."""

    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """How a part of the stack is started, and how its readiness is detected.

    upsets: the part that must be restarted when this one was killed.
    """

    name: str
    argv: Sequence[str]
    log: Path
    environment: Mapping[str, str]
    is_ready: Callable[[], bool] = field(default=lambda: True)
    folder: Path | None = None
    account: Account = Account()
    stop_signal: signal.Signals = signal.SIGTERM
    ready_seconds: float = 30.0
    upsets: str = ""


class Process:
    """A part that was started. Not thread-safe; the thread that starts it must live as long (see parent_watch)."""

    def __init__(self, part: ProcessSpec, stdin: str = "") -> None:
        self.part = part
        self.started = time.monotonic()
        with part.log.open("ab") as log:
            self._popen = subprocess.Popen(
                _watched(part.argv, part.stop_signal, part.account),
                stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(part.environment),
                cwd=part.folder,
                start_new_session=True,
            )
        self.pid = self._popen.pid
        WATCHER.add(self.pid, part.stop_signal)
        if self._popen.stdin:
            with contextlib.suppress(BrokenPipeError), self._popen.stdin as pipe:
                pipe.write(stdin.encode())

    def died(self) -> bool:
        """Return whether it ended; remaining children are then killed before its pid can be used again."""
        if self._popen.returncode is not None:
            return True
        if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return False
        self._kill_group()
        return True

    @property
    def exit_code(self) -> int | None:
        """The exit code, minus the signal's number if a signal ended it; None while it runs."""
        return self._popen.returncode

    @property
    def exit_words(self) -> str:
        code = self._popen.returncode
        return f"killed by {signal.Signals(-code).name}" if code and code < 0 else f"exit code {code}"

    def wait_ready(self) -> None:
        """Wait until the part answers; raises StackError with the end of its log if it dies or takes too long."""
        deadline = time.monotonic() + self.part.ready_seconds
        while not self.part.is_ready():
            if self.died():
                raise StackError(self._complaint(f"ended while starting ({self.exit_words})"))
            if time.monotonic() > deadline:
                raise StackError(self._complaint(f"did not answer within {self.part.ready_seconds:.0f} s"))
            time.sleep(0.05)

    def ask_to_stop(self) -> None:
        if not self.died():
            self._popen.send_signal(self.part.stop_signal)

    def stop(self, deadline: float) -> None:
        """Wait for it to end until `deadline` (time.monotonic()), then kill it and all of its session."""
        while not self.died() and time.monotonic() < deadline:
            time.sleep(0.02)
        if not self.died():
            self._kill_group()

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        # Before the pid is free for others.
        WATCHER.remove(self.pid)
        self._popen.wait()

    def _complaint(self, what: str) -> str:
        return f"{self.part.name} {what}. The end of {self.part.log}:\n{log_tail(self.part.log)}"


class ThrowAway(Protocol):
    """A server whose data can be removed: for tests and measurements."""

    def prepare(self) -> ProcessSpec: ...

    def discard(self) -> None: ...


@contextlib.contextmanager
def thrown_away(server: ThrowAway, seconds: float = 5.0) -> Iterator[None]:
    """Run a server inside the context, and remove its data afterwards. seconds: for its end, before it is killed."""
    process = Process(server.prepare())
    try:
        process.wait_ready()
        yield
    finally:
        process.ask_to_stop()
        process.stop(time.monotonic() + seconds)
        server.discard()


def log_tail(log: Path, lines: int = 12) -> str:
    try:
        return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
    except OSError:
        return "(no log)"


def run_once(part: ProcessSpec, seconds: float = 120.0, stdin: str = "") -> None:
    """Run a part that ends on its own, such as initdb or migrate. Raises StackError unless it succeeds."""
    process = Process(part, stdin)
    deadline = time.monotonic() + seconds
    try:
        while not process.died() and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        # However this ends, Ctrl-C among others, its children end with it.
        process.stop(time.monotonic())
    if process.exit_code:
        ended = f"failed ({process.exit_words})" if time.monotonic() < deadline else f"took more than {seconds:.0f} s"
        raise StackError(f"{part.name} {ended}. The end of {part.log}:\n{log_tail(part.log)}")


def wheel_folder(package: str) -> Path | None:
    """Return the folder of an installed package without running any of its code; None if it is not installed."""
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent if spec and spec.origin else None


def executable(path: Path) -> str:
    """Return the path of a program from a wheel; some installers drop the bit that says it may be run."""
    if not os.access(path, os.X_OK):
        path.chmod(0o755)
    return str(path)


def _watched(argv: Sequence[str], stop_signal: signal.Signals, account: Account) -> list[str]:
    """Return the command that sends `argv` the `stop_signal` when this process dies (see parent_watch.py)."""
    return [
        *(sys.executable, "-I", "-S", str(PARENT_WATCH), str(os.getpid()), str(int(stop_signal))),
        *(str(account.uid), str(account.gid)),
        *argv,
    ]
