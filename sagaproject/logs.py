"""Format log records as one line: time, level, logger, message, then the ids and counts given as `extra`.

No payload: of an exception, the type and the traceback are logged but never its message, which may quote a value that
was read (`KeyError: 'name of a patient'`) or a whole row ("Failing row contains ...").
"""

import copy
import logging
import time
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

from bridge.sqlstate import sqlstate

# Attributes of every record; the others came in as `extra`.
STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "data", "request"}
# Types of values of `extra` that are shown, if they are short. Anything else might be payload.
SHOWN = (str, int, float, bool)
LONGEST = 200


class LineFormatter(logging.Formatter):
    """Write times in UTC and `extra` as key=value; of a value that is not a short text or number only the type."""

    converter = staticmethod(time.gmtime)
    default_msec_format = "%s.%03dZ"
    default_time_format = "%Y-%m-%dT%H:%M:%S"

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        own = copy.copy(record)
        own.exc_text = None  # the exception as another formatter cached it
        if own.name.startswith("celery"):
            own.args = _without_messages(own.args)
        return super().format(own)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's name)
        extras = [f"{key}={_shown(value)}" for key, value in vars(record).items() if key not in STANDARD]
        return " ".join([super().formatMessage(record), *extras])

    def formatException(self, ei: Any) -> str:  # noqa: N802 (logging's name)
        return "".join(_places(error) for error in _chain(ei[1])).rstrip("\n")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and its causes, the first cause first."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    yield from reversed(found)


def _places(error: BaseException) -> str:
    state = sqlstate(error)
    return f"{''.join(traceback.format_tb(error.__traceback__))}{type(error).__name__}{f' {state}' if state else ''}\n"


def _without_messages(args: Any) -> Any:
    """Return the arguments of Celery's log lines with the types of exceptions in place of the exceptions."""
    if isinstance(args, Mapping):
        # For a failed task, `exc` is the exception's repr, and `traceback` ends with it.
        texts = {"exc": str(args.get("exc")).partition("(")[0], "traceback": ""}
        return {**args, **{name: text for name, text in texts.items() if name in args}}
    if isinstance(args, tuple):
        return tuple(type(value).__name__ if isinstance(value, BaseException) else value for value in args)
    return args


def _shown(value: object) -> str:
    if value is None or (isinstance(value, SHOWN) and len(str(value)) <= LONGEST):
        return str(value)
    if hasattr(value, "hex") and len(str(value)) <= LONGEST:  # a UUID
        return str(value)
    return f"<{type(value).__name__}>"
