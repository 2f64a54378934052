"""What a command is about: ids from its arguments or from stdin, a saga by any of its names, times."""

from __future__ import annotations

import os
import select
import stat
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime, time

from bridge import instants
from sagas.errors import Invalid, NotFound
from sagas.management.cli_base import UsageError
from sagas.management.wording import when
from sagas.models import PrunedKey, SagaLog
from sagas.queries import sagas
from sagas.queries.ids import saga_id, spelled

# How long a pipe that nobody spoke of may stay silent: a job runner may hand on one that never ends.
SILENCE_SECONDS = 10.0


def ids_from(given: Sequence[str], what: str) -> list[str]:
    """The ids of the arguments, each once. None, and a pipe or file on stdin: those that it holds, one a line.

    «-» always reads stdin to its end. Raises UsageError where there is none.
    """
    words = list(given)
    if words == ["-"] or (not words and _is_piped()):
        words = _read()
    if not words:
        raise UsageError(f"name at least one {what}, as an argument, or one a line on stdin")
    return list(dict.fromkeys(words))


def find_saga(name: str) -> SagaLog:
    """The saga that an id of its own or a task id names. Raises NotFound, Invalid (the task is known to several)."""
    identity = saga_id(name)
    found = sagas.get_saga(identity) if identity is not None else None
    if found is not None:
        return found
    # One whose own task it is goes before those to which single events of it came.
    own = SagaLog.objects.filter(key=spelled(name) or "")[:2]
    candidates = list(own) or sagas.by_task(name, limit=2)
    if len(candidates) > 1:
        raise Invalid(f"several sagas have events of task {name}: name one by its own id")
    if not candidates:
        raise NotFound(f"no saga has the id, or the task id, {name}" + _pruned(name))
    return SagaLog.objects.get(id=candidates[0].id)


def _pruned(name: str) -> str:
    gone = PrunedKey.objects.filter(key=spelled(name) or "").order_by("-pruned_at").first()
    return f": that of this task had ended and was pruned at {when(gone.pruned_at)}" if gone else ""


def name_of(text: str | None, what: str) -> str | None:
    """An image's, a task's or an event's id as the log spells it; None where none is said.

    Raises UsageError where no event could carry it, so that an empty variable of a script is not taken for «all».
    """
    if text is None:
        return None
    found = spelled(text)
    if found is None:
        raise UsageError(f"{text!r} cannot be the id of {what}")
    return found


def moment(text: str, *, end_of_day: bool = False) -> datetime:
    """A time in ISO 8601; without an offset it is UTC. A date alone is its first moment, or its last.

    Raises UsageError.
    """
    try:
        if len(text) <= len("2026-03-01"):
            return datetime.combine(date.fromisoformat(text), time.max if end_of_day else time.min, tzinfo=UTC)
        return instants.parse(text)
    except ValueError:
        raise UsageError(f"{text} is no time: write it as 2026-03-01T12:00:00Z") from None


def is_terminal() -> bool:
    """Whether a person can be asked on stdin."""
    return sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty()


def _read() -> list[str]:
    if sys.stdin is None or sys.stdin.closed:
        raise UsageError("stdin is closed: give the ids as arguments")
    return sys.stdin.read().split()


def _is_piped() -> bool:
    """Whether ids come on stdin. Looks only at pipes and files, and waits for the first of a pipe only so long."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (AttributeError, OSError, ValueError):
        return False  # closed, or no file at all
    if stat.S_ISREG(mode):
        return True
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        return False
    ready, _, _ = select.select([sys.stdin], [], [], SILENCE_SECONDS)
    return bool(ready)
