"""Read sagas, for the API, the admin and the command line alike: nothing here locks or changes a row.

Each function states how many queries it makes; none makes more for a larger saga or a longer page.
"""

from sagas.queries.attention import Attention, attention
from sagas.queries.attention_items.item import Item as AttentionItem
from sagas.queries.counts import StatusCounts, status_counts
from sagas.queries.pages import Page
from sagas.queries.parked import ParkedGroup, parked_groups, pruned_at
from sagas.queries.publishing import Publishing, publishing
from sagas.queries.runs import run_text
from sagas.queries.sagas import (
    SagaFilters,
    by_correlation,
    by_task,
    counted_events,
    duplicates,
    get_saga,
    list_sagas,
    metadata,
    of_event,
)
from sagas.queries.timeline import Entry, timeline
from sagas.queries.waiting import Waiting, waiting

__all__ = [
    "Attention",
    "AttentionItem",
    "Entry",
    "Page",
    "ParkedGroup",
    "Publishing",
    "SagaFilters",
    "StatusCounts",
    "Waiting",
    "attention",
    "by_correlation",
    "by_task",
    "counted_events",
    "duplicates",
    "get_saga",
    "list_sagas",
    "metadata",
    "of_event",
    "parked_groups",
    "pruned_at",
    "publishing",
    "run_text",
    "status_counts",
    "timeline",
    "waiting",
]
