"""Processes that an earlier stack left behind: where the kernel does not end them with it (macOS), or not at once.

A stack notes each process with the time at which it started. A process is only ever ended if both still agree, so one
that was given an old pid since is left alone.
"""

import contextlib
import json
import os
import signal
from collections.abc import Iterable
from pathlib import Path

import psutil

PATIENCE_SECONDS = 8.0


def note(file: Path, pids: Iterable[int]) -> None:
    """Record which processes belong to this stack; processes that have already ended are left out."""
    started = {}
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            started[pid] = psutil.Process(pid).create_time()
    fresh = file.with_suffix(".new")
    fresh.write_text(json.dumps(started), encoding="utf-8")
    fresh.replace(file)


def end(file: Path) -> int:
    """End the remaining processes of the stack that wrote `file`, with their sessions; return how many there were."""
    left = _still_running(file)
    for process in left:
        # SIGINT makes PostgreSQL stop without waiting for sessions; to the others it is as good as SIGTERM.
        with contextlib.suppress(psutil.Error):
            process.send_signal(signal.SIGINT if "postgres" in process.name() else signal.SIGTERM)
    _, stubborn = psutil.wait_procs(left, timeout=PATIENCE_SECONDS)
    for process in stubborn:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    psutil.wait_procs(stubborn, timeout=2)
    file.unlink(missing_ok=True)
    return len(left)


def _still_running(file: Path) -> list[psutil.Process]:
    try:
        started = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    found = []
    for pid, since in started.items():
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(int(pid))
            if abs(process.create_time() - since) < 1 and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found
