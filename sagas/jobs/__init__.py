"""Bulk jobs: one decision on many items, whose list is fixed when the job is made.

A job is made (`making`), its items are checked (`check`), a person starts it (`control`), and Celery carries it out
(`runner`). Every item is decided by the decision's own effect, with its own rules and its own audit row.
"""

from sagas.jobs.control import ENDED, Speed, approve, get, needs_approval, pause, possible, resume, start, stop
from sagas.jobs.kinds import NewItem
from sagas.jobs.making import MOST_ITEMS, make, of_filter, of_ids, of_rows
from sagas.jobs.runner import run_jobs

__all__ = [
    "ENDED",
    "MOST_ITEMS",
    "NewItem",
    "Speed",
    "approve",
    "get",
    "make",
    "needs_approval",
    "of_filter",
    "of_ids",
    "of_rows",
    "pause",
    "possible",
    "resume",
    "run_jobs",
    "start",
    "stop",
]
