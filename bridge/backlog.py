"""Record topics with messages that the broker has not delivered to any bridge.

A row outlives the bridge that wrote it, so that a restart does not reset the time. Without the broker's admin interface
there are no rows and nothing is known.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db.models import BooleanField, ExpressionWrapper, Q
from django.db.models.functions import Now

from bridge import sql, statements
from bridge.models import TopicBacklog

# Bridges query the broker every ten seconds: an older reading no longer counts.
FRESH = timedelta(minutes=1)
# After such a gap in the readings the messages may be other ones, so the time starts again.
_SAME = timedelta(minutes=10)


class Reading(NamedTuple):
    """The broker's report on one topic (shown name): undelivered messages, and whether delivery has stalled."""

    topic: str
    undelivered: int
    stalled: bool


class UndeliveredTopic(NamedTuple):
    """A topic that has or had undelivered messages.

    since: when that began. until: when it ended or was last seen; None while it lasts.
    """

    topic: str
    undelivered: int
    stalled: bool
    since: datetime
    until: datetime | None


def note(readings: Sequence[Reading]) -> None:
    """Store the readings. At most two statements, each in its own transaction unless the caller has one.

    May run twice, and in several bridges at the same time.
    """
    empty = sorted(reading.topic for reading in readings if not reading.undelivered)
    TopicBacklog.objects.filter(topic__in=empty, ended_at=None).update(
        undelivered=0, stalled=False, seen_at=Now(), ended_at=Now()
    )
    waiting = sorted(reading for reading in readings if reading.undelivered)
    if waiting:
        rows = (reading._asdict() for reading in waiting)
        statements.NOTE_BACKLOG.run([*sql.dump(statements.BACKLOG, rows), str(_SAME)])


def read() -> list[UndeliveredTopic]:
    """Return the topics that have or had undelivered messages. One query."""
    fresh = ExpressionWrapper(Q(seen_at__gt=Now() - FRESH), output_field=BooleanField())
    rows = TopicBacklog.objects.annotate(fresh=fresh).order_by("topic")
    return [_waiting(row, fresh=row.fresh) for row in rows]


def waiting() -> list[UndeliveredTopic]:
    """Return the topics that have undelivered messages now. One query."""
    return [row for row in read() if row.until is None]


def _waiting(row: TopicBacklog, *, fresh: bool) -> UndeliveredTopic:
    until = row.ended_at or (None if fresh else row.seen_at)
    return UndeliveredTopic(row.topic, row.undelivered, row.stalled, row.since, until)
