"""A stack in the foreground: it starts, runs until it is asked to end, and stops in order."""

import contextlib
import signal
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Any

from devtools import screen as screens
from devtools.embedded.stack import Stack
from devtools.screen import Screen


class _Gone(Exception):
    """The terminal is closed."""


@contextlib.contextmanager
def running(stack: Stack, screen: Screen) -> Iterator[Callable[[], bool]]:
    """Start the stack, yield a function that returns whether to end, and stop the stack after the block.

    SIGINT, SIGTERM and SIGHUP break off a start at once (SystemExit), end the block while it runs, and change nothing
    once the stack is stopping. A signal that was ignored when the process began (nohup, a background job) stays
    ignored; SIGTERM never is. A closed terminal ends the stack like a signal. Raises StackError.
    """
    asked: list[int] = []
    previous = {number: signal.getsignal(number) for number in _heeded()}
    try:
        _on_signals(previous, signal.default_int_handler)
        screen.on_gone = _raise_gone
        stack.start()
        screen.on_gone = lambda: None
        _on_signals(previous, lambda number, _frame: asked.append(number))
        yield lambda: bool(asked) or screen.gone
    except KeyboardInterrupt:
        screen.say("interrupted while starting")
        raise SystemExit(130) from None
    except _Gone:
        raise SystemExit(screens.EXIT_CODE) from None
    finally:
        _on_signals(previous, signal.SIG_IGN)
        screen.on_gone = lambda: None
        screen.say("stopping …")
        stack.stop()
        screen.say(f"stopped; data and logs stay in {stack.folder}")
        for number, handler in previous.items():
            signal.signal(number, handler)
    if screen.gone:
        raise SystemExit(screens.EXIT_CODE)


def _heeded() -> list[signal.Signals]:
    wanted = [number for number in (signal.SIGINT, signal.SIGHUP) if signal.getsignal(number) != signal.SIG_IGN]
    return [*wanted, signal.SIGTERM]


def _on_signals(
    numbers: Iterable[signal.Signals], handler: Callable[[int, FrameType | None], Any] | signal.Handlers
) -> None:
    for number in numbers:
        signal.signal(number, handler)


def _raise_gone() -> None:
    raise _Gone
