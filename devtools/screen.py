"""Output of a command for the person who started it. Writing never fails because the reader is gone."""

import errno
import os
import sys
from collections.abc import Callable
from typing import TextIO

from sagas.management.output import visible

# The reader of the pipe has ended; the terminal was closed.
_GONE = (errno.EPIPE, errno.EIO)
# What a shell reports for a process that a closed pipe ended: 128 and the number of SIGPIPE.
EXIT_CODE = 141


class Screen:
    """Standard error, line by line, and standard output for results.

    `gone` becomes true when one of them cannot be written: then on_gone is called once, and nothing more is written.
    """

    def __init__(self) -> None:
        self.gone = False
        self.on_gone: Callable[[], None] = lambda: None

    def say(self, text: str) -> None:
        """Write a line to standard error.

        sys.stderr is looked up each time, because a live table replaces it while it is shown.
        """
        self._write(sys.stderr, text)

    def result(self, text: str) -> None:
        """Write a line to standard output."""
        self._write(sys.stdout, text)

    def lost(self) -> None:
        """Write nothing more, not even at the end of the process. May run twice."""
        if not self.gone:
            self.gone = True
            discard_output()
            self.on_gone()

    def _write(self, stream: TextIO, text: str) -> None:
        if self.gone:
            return
        try:
            stream.write(f"{visible(text)}\n")
            stream.flush()
        except OSError:
            self.lost()


def is_gone(error: OSError) -> bool:
    """Return whether the error means that the reader of the output is gone."""
    return error.errno in _GONE


def discard_output() -> None:
    """Redirect standard output and error to /dev/null, so that no later write and no flush at exit can fail."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(devnull, descriptor)
    os.close(devnull)
