"""Runs a management command as a shell would: its exit code, what it said on stdout and on stderr."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command


@dataclass(frozen=True)
class Ran:
    """What a command answered."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[Any]:
        """Each line of stdout as JSON."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def data(self) -> Any:
        """The one line of stdout as JSON."""
        [line] = self.lines
        return line


class Typed(io.StringIO):
    """A terminal at which somebody typed this."""

    def isatty(self) -> bool:
        return True


def run(name: str, *words: object) -> Ran:
    out, err = io.StringIO(), io.StringIO()
    code = 0
    try:
        call_command(name, *map(str, words), stdout=out, stderr=err)
    except SystemExit as ended:
        code = int(ended.code or 0)
    return Ran(code, out.getvalue(), err.getvalue())


def decide(name: str, *words: object) -> Ran:
    """A decision, with all that it needs where nobody can be asked."""
    return run(name, *words, "--reason", "because", "--yes", "--json")


def typed(patch: pytest.MonkeyPatch, text: str) -> None:
    patch.setattr(sys, "stdin", Typed(text))


def piped(patch: pytest.MonkeyPatch, folder: Path, *lines: object) -> None:
    """Puts a file of these lines on stdin."""
    file = folder / "stdin"
    file.write_text("".join(f"{line}\n" for line in lines))
    patch.setattr(sys, "stdin", file.open())
