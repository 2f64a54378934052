"""What a command writes for the person who started it. It never fails because nobody reads any more."""

import errno
import os
import sys
from collections.abc import Callable
from typing import TextIO

from sagas.management.output import visible

# The reader of a pipe has left, and the terminal was closed.
_GONE = (errno.EPIPE, errno.EIO)
# What a shell reports for a process that a closed pipe ended: 128 and the number of SIGPIPE.
EXIT_CODE = 141


class Screen:
    """Standard error, line by line, and standard output for results.

    `gone` turns true when one of them cannot be written: from then on nothing is written, and on_gone was called once.
    """

    def __init__(self) -> None:
        self.gone = False
        self.on_gone: Callable[[], None] = lambda: None

    def say(self, words: str) -> None:
        """Write a line to standard error.

        sys.stderr is looked up each time, because a live table takes its place while it shows.
        """
        self._write(sys.stderr, words)

    def result(self, words: str) -> None:
        """Write a line to standard output."""
        self._write(sys.stdout, words)

    def lost(self) -> None:
        """Write nothing more, not at the end of the process either; repeatable."""
        if not self.gone:
            self.gone = True
            discard_output()
            self.on_gone()

    def _write(self, stream: TextIO, words: str) -> None:
        if self.gone:
            return
        try:
            stream.write(f"{visible(words)}\n")
            stream.flush()
        except OSError:
            self.lost()


def is_gone(error: OSError) -> bool:
    """Whether the error says that nobody reads what was written."""
    return error.errno in _GONE


def discard_output() -> None:
    """Send standard output and standard error to nowhere, so that no later write and no flush at exit can fail."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)
