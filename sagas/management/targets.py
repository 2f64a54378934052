"""The targets of a command: ids from its arguments or stdin, a saga by id or key, times."""

from __future__ import annotations

import os
import select
import stat
import sys
from collections.abc import Sequence
from datetime import datetime

from bridge import instants
from sagas.errors import Invalid, NotFound
from sagas.management.cli_base import UsageError
from sagas.management.wording import when
from sagas.models import PrunedKey, SagaLog
from sagas.nouns import shared
from sagas.queries import sagas
from sagas.queries.ids import saga_id, spelled

# How long to wait for input on a pipe that was not asked for: a job runner may pass one that never ends.
SILENCE_SECONDS = 10.0


def ids_from(given: Sequence[str], what: str) -> list[str]:
    """Return the ids of the arguments, each once; without arguments, those on stdin if it is a pipe or a file.

    "-" always reads stdin to its end. Raises UsageError if there is no id.
    """
    names = list(given)
    if names == ["-"] or (not names and _is_piped()):
        names = _read()
    if not names:
        raise UsageError(f"give at least one {what}, as an argument or on stdin, one per line")
    return list(dict.fromkeys(names))


def find_saga(name: str) -> SagaLog:
    """Return the saga with this saga id or key. Raises NotFound, or Invalid if several sagas know the key."""
    identity = saga_id(name)
    found = sagas.get_saga(identity) if identity is not None else None
    if found is not None:
        return found
    # A saga whose own key this is takes precedence over those that received single events of the key.
    own = SagaLog.objects.filter(key=spelled(name) or "")[:2]
    candidates = list(own) or sagas.by_task(name, limit=2)
    if len(candidates) > 1:
        raise Invalid(f"several sagas have events of {shared().the_key} {name}: give a saga id")
    if not candidates:
        raise NotFound(f"no saga has the saga id or {shared().key_id} {name}" + _pruned(name))
    return SagaLog.objects.get(id=candidates[0].id)


def saga_ids(names: Sequence[str]) -> list[str]:
    """Return the ids of sagas named by id or key; an id that no saga has stays as it is. One query, and some a key.

    Raises NotFound, or Invalid if several sagas know a key.
    """
    ids = {name: identity for name in names if (identity := saga_id(name)) is not None}
    known = set(SagaLog.objects.filter(id__in=ids.values()).values_list("id", flat=True))
    found = []
    for name in names:
        if ids.get(name) in known:
            found.append(str(ids[name]))
            continue
        try:
            found.append(str(find_saga(name).id))
        except NotFound:
            if name not in ids:
                raise
            found.append(str(ids[name]))
    return list(dict.fromkeys(found))


def _pruned(name: str) -> str:
    gone = PrunedKey.objects.filter(key=spelled(name) or "").order_by("-pruned_at").first()
    return f": it had ended and was pruned at {when(gone.pruned_at)}" if gone else ""


def name_of(text: str | None, what: str) -> str | None:
    """Return an id in canonical form, None if none is given. what: names it in an error, such as "event id".

    Raises UsageError for an id that no event can carry, so that an empty variable of a script does not mean "all".
    """
    if text is None:
        return None
    found = spelled(text)
    if found is None:
        raise UsageError(f"{text!r} is not a valid {what}")
    return found


def moment(text: str, *, end_of_day: bool = False) -> datetime:
    """Parse a time in ISO 8601, UTC without an offset. A date alone means its first moment, or its last.

    Raises UsageError.
    """
    try:
        return instants.parse_bound(text, end_of_day=end_of_day)
    except ValueError:
        raise UsageError(f"{text} is not a valid time: use for example 2026-03-01T12:00:00Z") from None


def is_terminal() -> bool:
    """Return whether a person can be asked on stdin."""
    return sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty()


def _read() -> list[str]:
    if sys.stdin is None or sys.stdin.closed:
        raise UsageError("stdin is closed: give the ids as arguments")
    return sys.stdin.read().split()


def _is_piped() -> bool:
    """Return whether ids come on stdin. Considers only pipes and files; waits SILENCE_SECONDS for a pipe's first."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (AttributeError, OSError, ValueError):
        return False  # closed, or not a file
    if stat.S_ISREG(mode):
        return True
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        return False
    ready, _, _ = select.select([sys.stdin], [], [], SILENCE_SECONDS)
    return bool(ready)
