"""What the saboteur can do: each act has a beginning, an end, and lasts for some seconds between them."""

import shutil
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from random import Random

import psutil

from tests.chaos.stage import SERVERS, Stage

PROCESSES = ("bridge", "worker", "beat", "valkey", "pulsar", "postgres")
# The kernel's time-outs for a peer that does not answer, in whose place the proxy resets a half-open connection.
# Pulsar and Valkey are left to their clients, who notice by themselves.
HALF_OPEN_SECONDS = {"postgres": 20.0, "valkey": 120.0, "pulsar": 120.0}
LONGEST_LINGER = 10.0


@dataclass(frozen=True, slots=True)
class Act:
    """kind: its name in tables. begin: does it and says what exactly was done. end: takes it back, after `seconds`."""

    kind: str
    begin: Callable[[], str]
    seconds: tuple[float, float] = (0.0, 0.0)
    end: Callable[[], None] = lambda: None


def repertoire(stage: Stage, rng: Random) -> list[Act]:
    """Every act that can be done to a stage, by name."""
    acts = [Act(f"kill -9 {name}", _bind(_kill, stage, name)) for name in PROCESSES if name != "valkey"]
    acts += [
        Act("kill -9 valkey, wipe it", lambda: _wipe(stage)),
        Act("kill -9 a worker's child", lambda: _kill_child(stage, "worker", rng)),
        Act("kill -9 a session of postgres", lambda: _kill_child(stage, "postgres", rng)),
    ]
    acts += [_freeze(stage, name) for name in PROCESSES]
    acts.append(_freeze_child(stage, rng))
    for server in SERVERS:
        acts += _spoil(stage, server, rng)
    return acts


def _bind(do: Callable[[Stage, str], str], stage: Stage, name: str) -> Callable[[], str]:
    return lambda: do(stage, name)


# --- processes --------------------------------------------------------------------------------------------------------


def _kill(stage: Stage, name: str) -> str:
    process = stage.process(name)
    if process is None:
        return "it was not running"
    process.kill()
    return f"process {process.pid}"


def _wipe(stage: Stage) -> str:
    """Before the supervisor, in this same thread, starts it again."""
    process = stage.process("valkey")
    said = _kill(stage, "valkey")
    while process is not None and not _is_dead(process):
        time.sleep(0.01)
    for path in (stage.folder / "valkey").iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "valkey.conf":
            path.unlink()
    return said


def _is_dead(process: psutil.Process) -> bool:
    """Without waiting for it as a parent does, for that is the supervisor's part."""
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def _kill_child(stage: Stage, name: str, rng: Random) -> str:
    child = _child(stage, name, rng)
    if child is None:
        return "there was none"
    with suppress(psutil.NoSuchProcess):
        child.kill()
    return f"process {child.pid}"


def _child(stage: Stage, name: str, rng: Random) -> psutil.Process | None:
    """One of the workers' children, or one of PostgreSQL's that serves a session of ours."""
    process = stage.process(name)
    children: list[psutil.Process] = []
    if process is not None:
        with suppress(psutil.NoSuchProcess):
            children = process.children()
    if name == "postgres":
        children = [child for child in children if _serves_a_session(child)]
    return rng.choice(children) if children else None


def _serves_a_session(child: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return "127.0.0.1(" in " ".join(child.cmdline())
    return False


class _Frozen:
    """Processes that are stopped, to be woken whatever became of them meanwhile."""

    def __init__(self) -> None:
        self._processes: list[psutil.Process] = []

    def stop(self, processes: list[psutil.Process]) -> str:
        self._processes = processes
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGSTOP)
        return f"processes {', '.join(str(process.pid) for process in processes)}" if processes else "there was none"

    def wake(self) -> None:
        for process in self._processes:
            # psutil compares the start time: nobody else who has the pid by now is signalled.
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)


def _freeze(stage: Stage, name: str) -> Act:
    frozen = _Frozen()

    def begin() -> str:
        process = stage.process(name)
        tree: list[psutil.Process] = []
        if process is not None:
            with suppress(psutil.NoSuchProcess):
                tree = [process, *process.children(recursive=True)]
        return frozen.stop(tree)

    return Act(f"freeze {name}", begin, (2.0, 20.0), frozen.wake)


def _freeze_child(stage: Stage, rng: Random) -> Act:
    frozen = _Frozen()

    def begin() -> str:
        child = _child(stage, "worker", rng)
        return frozen.stop([child] if child else [])

    return Act("freeze a worker's child", begin, (2.0, 20.0), frozen.wake)


# --- connections ------------------------------------------------------------------------------------------------------


def _spoil(stage: Stage, server: str, rng: Random) -> list[Act]:
    proxy = stage.proxies[server]

    def slow_down() -> str:
        seconds = rng.choice((0.02, 0.1, 0.5, 1.0))
        proxy.slow_down(seconds)
        return f"by {seconds} s each way"

    def black_hole() -> str:
        proxy.black_hole()
        return f"{proxy.connections} connections"

    def half_open() -> str:
        linger = rng.uniform(0, LONGEST_LINGER)
        count = proxy.half_open(linger=linger, longest=HALF_OPEN_SECONDS[server])
        return f"{count} connections, ends told {linger:.1f} s later"

    return [
        Act(f"delay {server}", slow_down, (3.0, 15.0), proxy.heal),
        Act(f"cut {server}", lambda: f"{proxy.cut()} connections"),
        Act(f"reset {server}", lambda: f"{proxy.reset()} connections"),
        Act(f"refuse {server}", lambda: f"{proxy.refuse()} connections", (2.0, 15.0), proxy.heal),
        Act(f"black hole before {server}", black_hole, (2.0, 20.0), proxy.heal),
        Act(f"half-open {server}", half_open),
    ]
