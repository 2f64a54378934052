"""Delete old events and quarantined messages: the only code that removes events from the log.

The caller decides what is deleted (`sagas.retention`: whole ended sagas, and messages dismissed long ago). The keys of
events from Pulsar are kept, so that a message that is delivered again counts as a duplicate and not as a new event.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta

from django.db import transaction

from bridge import sql, statements
from bridge.models import PrunedEvent, QuarantineCount, Quarantined, QuarantineStatus
from bridge.once import Once
from bridge.quarantine import with_open_message

# Events younger than this are never pruned, so their ids need no lookup. Half of the shortest retention, so that errors
# of clocks do not matter.
YOUNGEST = timedelta(hours=12)
# Rows deleted in one transaction, where rows are deleted by age alone.
PAGE = 5000


@contextmanager
def deleting() -> Iterator[None]:
    """Allow deleting rows from append-only tables inside the block, in the caller's transaction. May be nested.

    An error inside rolls back the transaction or savepoint, and with it the permission.
    """
    before, _now = statements.ALLOW_DELETING.row()
    yield
    statements.END_DELETING.rows([before])


def forget(ids: Sequence[int], now: datetime) -> int:
    """Delete events with their Duplicate rows and keep their keys; return how many events were deleted.

    ids: of events, or of their readings, where several saga types read one. Such an event stays until its last reading
    is deleted. Needs the caller's transaction, which must also delete everything that refers to these ids. May run
    twice. Raises ValueError, so that the transaction is rolled back, if an event from Pulsar occurred less than
    YOUNGEST ago.
    """
    if not ids:
        return 0
    with deleting():
        statements.DELETE_COUNTED.run({"ids": list(ids)})
        events = _without_readers(ids)
        statements.DELETE_DUPLICATES.run([events])
        count, last = statements.DELETE_EVENTS.row({"events": events, "now": now})
        if last is not None and not is_old(last, now):
            raise ValueError("an event this young must not be pruned: a redelivery would not be recognized")
    return int(count)


def _without_readers(ids: Sequence[int]) -> list[int]:
    """Delete the readings among these ids; return the events that no saga type reads any more."""
    of_readings = {row[0] for row in statements.DELETE_READINGS.rows([list(ids)])}
    if not of_readings:
        return list(ids)
    statements.LOCK_EVENTS.rows([list(of_readings)])
    return [row[0] for row in statements.UNREAD_EVENTS.rows([list({*ids, *of_readings})])]


def is_old(occurred_at: datetime, now: datetime) -> bool:
    """Return whether an event of this time can have been pruned."""
    return now - occurred_at > YOUNGEST


def remembered(keys: Collection[Once]) -> dict[Once, bytes]:
    """Return which of these keys belong to pruned events: key → hash of the content.

    Reads what is committed when it is called: to be certain that none of them is inserted while it is being pruned,
    call it *after* the insert, in the same transaction. Costs nothing as long as nothing was ever pruned.
    """
    if not keys:
        return {}
    rows = statements.REMEMBERED.rows(sql.dump(statements.ONCE, (key._asdict() for key in keys)))
    return {Once(day, event_id): bytes(body_hash) for day, event_id, body_hash in rows}


def forget_keys(before: datetime) -> int:
    """Delete the keys of events that were pruned before a time, at most PAGE; return how many. Own transaction."""
    oldest = PrunedEvent.objects.filter(pruned_at__lt=before).order_by("pruned_at").select_for_update(skip_locked=True)
    with transaction.atomic(), deleting():
        return PrunedEvent.objects.filter(id__in=oldest.values("id")[:PAGE]).delete()[0]


def forget_messages(before: datetime) -> int:
    """Delete quarantined messages that were decided on before a time, at most PAGE; return how many. Own transaction.

    An open message is never deleted. Also deletes the counts of messages beyond the quota for hours that long ago in
    which no message is open.
    """
    QuarantineCount.objects.filter(~with_open_message(), hour__lt=before - timedelta(hours=1)).delete()
    with transaction.atomic(), deleting():
        return statements.DELETE_MESSAGES.run({"before": before, "limit": PAGE})


def count_messages(before: datetime) -> int:
    """Return how many messages `forget_messages` would delete in all."""
    decided = (QuarantineStatus.REQUEUED, QuarantineStatus.DISMISSED)
    # The condition on received_at lets the query use the index, as in DELETE_MESSAGES.
    return Quarantined.objects.filter(status__in=decided, received_at__lt=before, decided_at__lt=before).count()
