"""What all commands here share: exit codes, errors as one plain sentence, JSON.

Exit codes: 0 done, 1 failed or a difference found, 2 wrong usage, 3 not found, 4 refused by the state. For a call with
many ids, the highest exit code wins. The code reports what was done, even if the answer could not be written.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser
from django.db import DatabaseError, InterfaceError, OperationalError

from sagas.definitions.registry import UnknownDefinition
from sagas.errors import DecisionError, Invalid, NotFound
from sagas.management.output import TextCommand
from sagas.queries.ids import is_storable

DONE, FAILED, USAGE, NOT_FOUND, REFUSED = range(5)

Options = dict[str, Any]


def add_payload_argument(parser: CommandParser) -> None:
    """Add the option that shows error texts of services: they may name patients, and output is pasted elsewhere."""
    parser.add_argument("--payload", action="store_true", help="show error texts of services (default: their length)")


class UsageError(Exception):
    """The command was called wrongly; the message states how to call it."""


class OperatorCommand(TextCommand):
    """A command that ends with an exit code and, on an error, one sentence on stderr."""

    def act(self, options: Options) -> int:
        """Do the work and return the exit code. May raise any error that `exit_code` maps."""
        raise NotImplementedError

    def handle(self, *args: Any, **options: Any) -> None:
        """Call `act`. Raises SystemExit with its code if that is not 0."""
        code = self._guarded(options)
        if code != DONE:
            raise SystemExit(code)

    def _guarded(self, options: Options) -> int:
        try:
            _refuse_undecoded(options)
            return self.act(options)
        except KeyboardInterrupt:
            self.complain("Interrupted. Everything reported so far is done.")
            return FAILED
        except (DecisionError, UsageError, UnknownDefinition) as error:
            self.complain(sentence(error))
            return exit_code(error)
        except OperationalError as error:
            hint = settings.NO_STACK or "Run manage.py doctor."
            self.complain(f"Database error: {first_line(error)}. {hint}")
            return FAILED
        except (DatabaseError, InterfaceError) as error:
            self.complain(f"Database error: {first_line(error)}. Run manage.py doctor.")
            return FAILED


def _refuse_undecoded(options: Options) -> None:
    """Raise UsageError for an argument that is not text in the terminal's encoding; no row can store it."""
    for value in options.values():
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and text and not is_storable(text):
                raise UsageError(f"the argument {text} is not text in the encoding of this terminal")


def exit_code(error: Exception) -> int:
    """Return the exit code of an error."""
    if isinstance(error, UsageError | Invalid):
        return USAGE
    if isinstance(error, NotFound | UnknownDefinition):
        return NOT_FOUND
    return REFUSED if isinstance(error, DecisionError) else FAILED


def sentence(error: Exception) -> str:
    """Return an error's message as a sentence."""
    text = str(error).strip()
    return f"{text[:1].upper()}{text[1:]}" + ("" if text.endswith((".", "?", "!")) else ".")


def first_line(error: Exception) -> str:
    """Return the first line of a database's message; the other lines may quote data."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
