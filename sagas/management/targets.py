"""What a command is about: ids from its arguments or from stdin, a saga by any of its names, times."""

from __future__ import annotations

import os
import select
import stat
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from sagas.errors import Invalid, NotFound
from sagas.management.door import UsageError
from sagas.models import SagaLog
from sagas.queries import sagas
from sagas.queries.ids import saga_id

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
    candidates = sagas.by_task(name, limit=2)
    own = [saga for saga in candidates if saga.key == name] if len(candidates) > 1 else candidates
    if len(own) == 1:
        return SagaLog.objects.get(id=own[0].id)
    if candidates:
        raise Invalid(f"several sagas have events of task {name}: name one by its own id")
    raise NotFound(f"no saga has the id, or the task id, {name}")


def moment(text: str) -> datetime:
    """A time in ISO 8601; without an offset it is UTC. Raises UsageError."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text} is no time: write it as 2026-03-01T12:00:00Z") from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


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
