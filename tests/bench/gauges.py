"""Where the CPU's time goes: by part of the stack, and how much of the machine others took."""

from collections.abc import Mapping
from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True)
class Spent:
    """CPU seconds by part, and the share of all CPUs that others took meanwhile (0 to 1)."""

    seconds: dict[str, float]
    foreign: float

    def micros(self, events: int) -> dict[str, float]:
        """CPU µs an event, by part."""
        return {name: round(value * 1e6 / events, 1) for name, value in self.seconds.items()}


class Gauge:
    """Measures from its making until `read`. pids: part → the process at its root."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._roots = {name: psutil.Process(pid) for name, pid in pids.items()}
        self._before = {name: _seconds(root) for name, root in self._roots.items()}
        self._busy, self._all = _machine()

    def read(self, more: Mapping[str, float] | None = None) -> Spent:
        """What was spent; call it while all parts still run. more: CPU seconds of processes that have ended by now."""
        seconds = {name: _seconds(root) - self._before[name] for name, root in self._roots.items()}
        seconds |= more or {}
        busy, everything = _machine()
        passed = max(everything - self._all, 0.01)
        return Spent(seconds, max(0.0, (busy - self._busy - sum(seconds.values())) / passed))


def resident(pid: int) -> dict[int, float]:
    """Resident megabytes of a process and each of its children."""
    found = {}
    for process in _family(psutil.Process(pid)):
        try:
            found[process.pid] = process.memory_info().rss / 1e6
        except psutil.NoSuchProcess:
            continue
    return found


def _seconds(root: psutil.Process) -> float:
    """CPU seconds of a process and all its children, with those of children that have ended."""
    total = 0.0
    for process in _family(root):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def _family(root: psutil.Process) -> list[psutil.Process]:
    try:
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _machine() -> tuple[float, float]:
    """(busy, all) seconds of all CPUs since the machine's start."""
    times = psutil.cpu_times()
    everything = sum(times[:8]) if len(times) >= 8 else sum(times)
    return everything - times.idle - getattr(times, "iowait", 0.0), everything
