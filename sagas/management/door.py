"""What every command here has in common: exit codes, errors as one plain sentence, JSON.

Exit codes: 0 done, 1 failed or a difference found, 2 used wrongly, 3 not found, 4 refused by the state. Where one call
speaks of many ids the greatest of their codes holds.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand
from django.db import DatabaseError, InterfaceError

from sagas.definitions.registry import UnknownDefinition
from sagas.errors import DecisionError, Invalid, NotFound

DONE, FAILED, USAGE, NOT_FOUND, REFUSED = range(5)

Options = dict[str, Any]


class UsageError(Exception):
    """The command was called wrongly; the message says how to call it."""


class Door(BaseCommand):
    """A command that answers with an exit code and, where something is wrong, one sentence on stderr."""

    def act(self, options: Options) -> int:
        """Does the work; returns the exit code. May raise what `exit_code` knows."""
        raise NotImplementedError

    def handle(self, *args: Any, **options: Any) -> None:
        """Calls `act`. Raises SystemExit with its code, if that is not 0."""
        code = self._guarded(options)
        if code != DONE:
            raise SystemExit(code)

    def say(self, words: str, ending: str | None = None) -> None:
        """Something beside the answer, on stderr: progress, a look before, a question."""
        self.stderr.write(words, style_func=str, ending=ending)

    def complain(self, words: str) -> None:
        """What is wrong, on stderr, and in red where there are colours."""
        self.stderr.write(words)

    def tell(self, words: str) -> None:
        """One line of the answer."""
        self.stdout.write(words)

    def tell_data(self, data: Mapping[str, Any]) -> None:
        """The answer, or one of several, as one line of JSON."""
        self.stdout.write(as_json(data))

    def _guarded(self, options: Options) -> int:
        try:
            code = self.act(options)
            self.stdout.flush()
        except BrokenPipeError:
            # Whoever read our answer has read enough. Nothing is left to be flushed at the end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return DONE
        except KeyboardInterrupt:
            self.complain("Interrupted. What was reported before is done.")
            return FAILED
        except (DecisionError, UsageError, UnknownDefinition) as error:
            self.complain(sentence(error))
            return exit_code(error)
        except (DatabaseError, InterfaceError) as error:
            self.complain(f"The database could not do it: {first_line(error)}. See manage.py doctor.")
            return FAILED
        return code


def exit_code(error: Exception) -> int:
    """The exit code that stands for an error."""
    if isinstance(error, UsageError | Invalid):
        return USAGE
    if isinstance(error, NotFound | UnknownDefinition):
        return NOT_FOUND
    return REFUSED if isinstance(error, DecisionError) else FAILED


def sentence(error: Exception) -> str:
    """An error's message as a sentence."""
    words = str(error).strip()
    return f"{words[:1].upper()}{words[1:]}" + ("" if words.endswith((".", "?", "!")) else ".")


def first_line(error: Exception) -> str:
    """The first line of a database's message; the others may quote data."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def as_json(data: Any, indent: int | None = None) -> str:
    """JSON text of plain data, times in UTC with Z."""
    return json.dumps(data, default=_plain, ensure_ascii=False, indent=indent)


def _plain(value: Any) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} is no JSON")
