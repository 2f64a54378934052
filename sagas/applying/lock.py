"""Take the locks of a page and read what still waits under them. All locks end with the caller's transaction."""

from __future__ import annotations

import logging
import socket
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from django.db import OperationalError

from bridge.sqlstate import sqlstate
from sagas.applying import statements
from sagas.applying.statements import EventRow, PendingRow

logger = logging.getLogger(__name__)

_HOST = socket.gethostname()

# PostgreSQL's error code "out of memory", also of a full lock table.
_OUT_OF_MEMORY = "53200"


class WorkerLimitReached(Exception):
    """This host's limit of concurrently applied pages is reached; the running workers will claim the rest."""


@contextmanager
def fewer_if_full() -> Iterator[None]:
    """Raise WorkerLimitReached if the server's lock table is full, and use smaller pages from then on."""
    try:
        yield
    except OperationalError as error:
        if sqlstate(error) != _OUT_OF_MEMORY:
            raise
        statements.take_fewer_locks()
        logger.warning("the server's lock table is full: smaller pages from now on, see max_locks_per_transaction")
        raise WorkerLimitReached from error


def worker_slot(slots: int | None) -> datetime | None:
    """Take one of this host's worker slots; return the database's time, or None if there is no limit (`slots`).

    Raises WorkerLimitReached if all are taken. Never waits.
    """
    if slots is None:
        return None
    now = statements.acquire_worker_slot(_HOST, slots)
    if now is None:
        raise WorkerLimitReached
    return now


def locked_events(page: Sequence[PendingRow]) -> list[EventRow]:
    """Lock the keys of a page that can be locked without waiting; return their events that still wait."""
    held = statements.try_lock(row.key for row in page)
    return _read([row.id for row in page if row.key in held], held)


def events_of(key: str) -> list[EventRow]:
    """Return the events that wait under a routing key, whose lock the caller holds."""
    return _read(statements.pending_of([key]), {key})


def _read(ids: Sequence[int], held: Container[str]) -> list[EventRow]:
    """Return those of the events that still wait and whose routing key we hold.

    An event may wait under another key than when it was claimed: another worker rerouted it to its saga, whose lock we
    do not hold. It is left to the pass that claims it again.
    """
    if not ids:
        return []
    events = statements.read_events(ids, statements.content_types())
    return [event for event in events if event.routing_key in held]
