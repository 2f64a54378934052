"""Text that is safe to print: on any terminal, in any encoding, and to a stream that cannot be written to.

What commands print comes in part from messages of other services. A character that a terminal would execute instead
of show (escape sequences, carriage returns, changes of direction, characters without width) is printed as its escape,
such as \\x1b. A character that the stream's encoding lacks is replaced in the same way, so that output never raises
UnicodeEncodeError after the work is done.
"""

from __future__ import annotations

import codecs
import io
import json
import os
import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO
from uuid import UUID

from django.core.management.base import BaseCommand, OutputWrapper

from bridge import instants

# Spellings in ASCII of the characters that this service's own texts use.
_PLAIN = {"→": "->", "…": "...", "–": "-", "—": "-", "·": "-", "’": "'", "‘": "'", "“": '"', "”": '"'}
_ERRORS = "saga_terminal"


class LostAnswer(Exception):
    """Stdout did not accept the answer. `reader_left`: because its reader has closed it, as `head` does."""

    def __init__(self, error: OSError) -> None:
        self.reader_left = isinstance(error, BrokenPipeError)
        super().__init__(error.strerror or type(error).__name__)


class TextCommand(BaseCommand):
    """A command whose `stdout` and `stderr` show every character and execute none.

    Colours come from `style_func` of write() alone: a text that holds the sequences of a colour is shown as it is.
    """

    def __init__(
        self,
        stdout: TextIO | None = None,
        stderr: TextIO | None = None,
        no_color: bool = False,
        force_color: bool = False,
    ) -> None:
        super().__init__(stdout, stderr, no_color, force_color)
        self.stdout = Output(stdout or sys.stdout)
        self.stderr = Output(stderr or sys.stderr, self.stderr.style_func)

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Run the command. The streams of options replace the command's own, as in BaseCommand.

        An answer that could not be written exits with 1, or with 0 if only its reader has left. A code that the command
        has chosen itself stays.
        """
        # BaseCommand would wrap these in wrappers that filter nothing.
        for name in ("stdout", "stderr"):
            stream = options.pop(name, None)
            if stream is not None:
                setattr(self, name, Output(stream))
        try:
            result = super().execute(*args, **options)
            self.flush()
        except LostAnswer as lost:
            self.lose_answer(lost)
            if not lost.reader_left:
                raise SystemExit(1) from None
            return None
        except SystemExit:
            with self.reporting():
                pass
            raise
        return result

    def say(self, line: str) -> None:
        """Write a line beside the answer, on stderr: progress, a preview. Never fails."""
        self._write_error(line, str)

    def complain(self, line: str) -> None:
        """Write what is wrong, on stderr, and in red where there are colours. Never fails."""
        self._write_error(line, None)

    def tell(self, line: str, *, mark: str = "", style: Callable[[str], str] | None = None) -> None:
        """Write one line of the answer, after a `mark` in this style. Raises LostAnswer."""
        try:
            if mark:
                self.stdout.write(one_line(mark), style, ending="")
            self.stdout.write(one_line(line))
        except OSError as error:
            raise LostAnswer(error) from error

    def tell_data(self, data: Mapping[str, Any]) -> None:
        """Write the answer, or one of several, as one line of JSON. Raises LostAnswer."""
        self.tell(as_json(data))

    def flush(self) -> None:
        """Flush what was written so far. Raises LostAnswer."""
        try:
            self.stdout.flush()
        except OSError as error:
            raise LostAnswer(error) from error

    @contextmanager
    def reporting(self) -> Iterator[None]:
        """Report finished work. If the answer is lost, report that and continue: the exit code still holds."""
        try:
            yield
            self.flush()
        except LostAnswer as lost:
            self.lose_answer(lost)

    def lose_answer(self, lost: LostAnswer) -> None:
        """Continue without stdout, and report that on stderr unless only its reader has left."""
        discard(self.stdout)
        self.stdout = Output(io.StringIO())
        if not lost.reader_left:
            self.complain(f"The answer could not be written: {lost}.")

    def _write_error(self, line: str, style: Any) -> None:
        try:
            self.stderr.write(one_line(line), style_func=style)
        except OSError:
            discard(self.stderr)


class Output(OutputWrapper):
    """A command's stream: passes text through `visible` and replaces what its encoding lacks."""

    def __init__(self, stream: TextIO, style_func: Callable[[str], str] | None = None) -> None:
        super().__init__(stream)
        self.style_func = style_func
        replace_what_is_not_encodable(stream)

    def write(self, msg: str = "", style_func: Any = None, ending: str | None = None) -> None:  # type: ignore[override]
        """Write one text, of one or more lines."""
        super().write(visible(str(msg)), style_func, ending)


def prepare_streams() -> None:
    """Make the standard streams of this process safe for every text, also argparse's and Django's own.

    A stream that the caller has closed is replaced by one that discards. Safe to call twice.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 (as long as the process)
        replace_what_is_not_encodable(getattr(sys, name))
    if isinstance(sys.stdin, io.TextIOWrapper):
        # An id or an answer in another encoding is an unknown one, not a reason to fail.
        sys.stdin.reconfigure(errors="surrogateescape")


def replace_what_is_not_encodable(stream: TextIO) -> None:
    """Make the stream replace each character that its encoding lacks. Safe to call twice."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors=_ERRORS)


def discard(stream: OutputWrapper) -> None:
    """Discard what the stream still holds and all that is written to it from now on.

    For a stream whose other end is closed or full: Python flushes it once more at the end, and would turn the failure
    of that into an exit code of its own. Does nothing for a stream that is not a file.
    """
    try:
        number = stream.fileno()
    except (OSError, ValueError):
        return
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, number)
    os.close(sink)


def as_json(data: Any, indent: int | None = None) -> str:
    """Return JSON in printable ASCII, with times in UTC with Z."""
    # DEL is the one ASCII character that JSON may contain unescaped and that a terminal executes.
    return json.dumps(data, default=_plain, indent=indent).replace("\x7f", "\\u007f")


def visible(text: str) -> str:
    """Return the text with an escape for each character that a terminal would execute; line breaks and tabs stay."""
    if text.isprintable():
        return text
    return "".join(char if char in "\n\t" else _shown(char) for char in text)


def one_line(text: str) -> str:
    """Return the text as one line: like `visible`, with escapes for line breaks and tabs too."""
    return text if text.isprintable() else "".join(map(_shown, text))


def width(text: str) -> int:
    """Count the terminal columns of a text that `one_line` returned."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def _plain(value: Any) -> str:
    if isinstance(value, datetime):
        return instants.for_programs(value)
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not JSON serializable")


def _shown(char: str) -> str:
    # Spaces of other widths (category Zs) are not "printable" to Python, and harmless.
    if char.isprintable() or unicodedata.category(char) == "Zs":
        return char
    return _escape(char)


def _escape(char: str) -> str:
    return char.encode("ascii", "backslashreplace").decode() if not char.isascii() else f"\\x{ord(char):02x}"


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_PLAIN.get(char) or _escape(char) for char in lacking), error.end


codecs.register_error(_ERRORS, _replace)
