"""Kills what outlives the process that started it: the second line behind the kernel's signal (parent_watch.py).

A part that got its stop signal may still hang, as a Celery worker does whose heartbeat thread reconnects while it holds
a lock. So each process that starts parts also starts one watcher: this file, run as a script. The watcher
reads a pipe whose other end only that process holds, and learns there which process groups belong to it. When the pipe
closes, the starter is gone, however it ended. The watcher then sends the leader of every group its stop signal, kills
what a leader leaves behind and, after GRACE_SECONDS, all that is left, and ends. It cannot be left behind itself: it
waits for nothing but the pipe, its parent and that time.

A process that left its group is not found here. PostgreSQL's sessions do that; they end when their postmaster does.
"""

import atexit
import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable

# As long as an orderly stop may take (supervisor.STOP_SECONDS), and a little more.
GRACE_SECONDS = 10.0
_POLL_SECONDS = 0.1


class Watcher:
    """The watcher of this process. It is started with the first group, and again if it is killed."""

    def __init__(self, grace_seconds: float = GRACE_SECONDS) -> None:
        self._grace_seconds = grace_seconds
        self._groups: dict[int, int] = {}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def add(self, group: int, stop_signal: int) -> None:
        """Have the process group ended when this process dies."""
        self._groups[group] = stop_signal
        if not self._is_running():
            self._start()
        else:
            self._tell(f"{group} {stop_signal}\n")

    def remove(self, group: int) -> None:
        """Forget a group that has ended; repeatable."""
        if self._groups.pop(group, None) is not None:
            self._tell(f"{group} gone\n")

    def keep(self) -> None:
        """Start the watcher again if it died while there is something to watch; call it from time to time."""
        if self._groups and not self._is_running():
            self._start()

    def close(self) -> None:
        """Let the watcher end, which kills what is still registered."""
        if self._process is None:
            return
        assert self._process.stdin
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(self._grace_seconds + 1)
        self._process = None

    def _is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _start(self) -> None:
        if self._process is None:
            atexit.register(self.close)
        elif self._process.stdin:
            self._process.stdin.close()
        # A session of its own, so that Ctrl-C and the end of the terminal do not reach it. No output: it must not keep
        # the reader of a pipe waiting.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(self._grace_seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
            bufsize=0,
        )
        self._tell("".join(f"{group} {number}\n" for group, number in self._groups.items()))

    def _tell(self, lines: str) -> None:
        if self._process is not None and self._process.stdin is not None:
            # A watcher that was killed is replaced by keep(), and then gets the whole list.
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(lines.encode())


def main(arguments: list[str]) -> None:
    starter, grace_seconds = int(arguments[0]), float(arguments[1])
    groups = _until_the_end_of(starter)
    for leader, number in groups.items():
        _send(os.kill, leader, number)
    deadline = time.monotonic() + grace_seconds
    left = set(groups)
    while left and time.monotonic() < deadline:
        # As process.py does: a leader takes the rest of its group along. A group that ended is dropped for good, since
        # its number may belong to another process a moment later.
        for leader in [leader for leader in left if not _send(os.kill, leader, 0)]:
            _send(os.killpg, leader, signal.SIGKILL)
            left.remove(leader)
        time.sleep(_POLL_SECONDS)
    for leader in left:
        _send(os.killpg, leader, signal.SIGKILL)


def _until_the_end_of(starter: int) -> dict[int, int]:
    """Read the pipe until the starter is gone; give its groups, each with its stop signal."""
    groups: dict[int, int] = {}
    rest = b""
    while True:
        # The parent is looked at too: a forked child of the starter may keep the pipe open.
        if not select.select([0], [], [], 1.0)[0]:
            if os.getppid() != starter:
                return groups
            continue
        chunk = os.read(0, 65536)
        if not chunk:
            return groups
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            group, _, word = line.decode().partition(" ")
            if word == "gone":
                groups.pop(int(group), None)
            else:
                groups[int(group)] = int(word)


def _send(kill: Callable[[int, int], None], number: int, sent: int) -> bool:
    """Send a signal (0: none) to a process or a group; give whether it exists."""
    try:
        kill(number, sent)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


if __name__ == "__main__":
    for ignored in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    main(sys.argv[1:])
