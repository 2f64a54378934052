"""Starts parts, starts again those that die, stops them all."""

import time
from collections.abc import Callable, Sequence

from devtools.embedded.process import WATCHER, Process, ProcessSpec, log_tail

STOP_SECONDS = 8.0
SERVERS = ("postgres", "valkey", "rabbitmq", "epmd", "pulsar")
FIRST_WAIT, LONGEST_WAIT = 0.5, 5.0
# A part that ran this long was well: the next restart begins with a short wait again.
WELL_AFTER = 30.0


class Supervisor:
    """Keeps parts running.

    `say` gets one line for each thing that people should see; `changed` is called after every start.
    All calls come from one thread, which must live as long as the parts (see parent_watch.py).
    """

    def __init__(self, say: Callable[[str], None], changed: Callable[[], None]) -> None:
        self._say = say
        self._changed = changed
        self._processes: dict[str, Process] = {}
        self._waits: dict[str, float] = {}
        self._due: dict[str, tuple[float, ProcessSpec]] = {}

    @property
    def pids(self) -> dict[str, int]:
        return {name: process.pid for name, process in self._processes.items()}

    def start(self, part: ProcessSpec) -> None:
        """Start a part and wait until it answers; raises StackError, with its log, if it does not."""
        began = time.monotonic()
        process = self._processes[part.name] = Process(part)
        self._changed()
        process.wait_ready()
        self._say(f"{part.name:<9} runs as process {process.pid} ({time.monotonic() - began:.1f} s)")

    def start_together(self, parts: Sequence[ProcessSpec]) -> None:
        """Start parts that do not need each other at the same time, and wait for all of them; raises StackError."""
        began = time.monotonic()
        for part in parts:
            self._processes[part.name] = Process(part)
        self._changed()
        for part in parts:
            process = self._processes[part.name]
            process.wait_ready()
            self._say(f"{part.name:<9} runs as process {process.pid} ({time.monotonic() - began:.1f} s)")

    def watch(self) -> None:
        """One round: note who died, start again whose wait is over. Call it several times a second.

        Raises OSError if nothing can be written, to a log or by `changed`: on a full disk above all.
        """
        now = time.monotonic()
        WATCHER.keep()
        for name, process in list(self._processes.items()):
            if process.died():
                self._bury(name, process, now)
        for name, (when, part) in list(self._due.items()):
            if when <= now:
                del self._due[name]
                self._processes[name] = Process(part)
                self._changed()
                self._say(f"{name} is started again as process {self._processes[name].pid}")

    def stop(self) -> None:
        """Stop all, the last started first; who is not gone in time is killed. Takes at most STOP_SECONDS."""
        self._due.clear()
        deadline = time.monotonic() + STOP_SECONDS
        servers = [name for name in SERVERS if name in self._processes]
        workers = [name for name in reversed(self._processes) if name not in servers]
        # Those that use the servers first, so that they can end their work.
        for names, until in ((workers, deadline - 2.0), (servers, deadline)):
            for name in names:
                self._processes[name].ask_to_stop()
            for name in names:
                self._processes[name].stop(until)
        self._processes.clear()

    def _bury(self, name: str, process: Process, now: float) -> None:
        del self._processes[name]
        lasted = now - process.started
        wait = FIRST_WAIT if lasted > WELL_AFTER else min(self._waits.get(name, FIRST_WAIT / 2) * 2, LONGEST_WAIT)
        self._waits[name] = wait
        self._due[name] = (now + wait, process.part)
        self._say(
            f"{name} died ({process.exit_words}); it is started again in {wait:.1f} s. Its log: {process.part.log}"
        )
        upset = self._processes.get(process.part.upsets)
        if upset is not None:
            self._say(f"{process.part.upsets} begins anew: it keeps back what it had handed to the {name} that died")
            upset.ask_to_stop()
        if lasted < 5:
            self._say(log_tail(process.part.log, lines=3))
