"""How much the service does, for the start page: events and ends of sagas per minute, the backlog, the oldest waiting.

Five queries, all by index; none depends on how many sagas there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Count
from django.db.models.functions import TruncMinute

from bridge import clock
from bridge.models import Event, Pending
from sagas.models import ENDED, SagaLog
from sagas.statements import EVENTS_BY_MINUTE

MINUTES = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """The last hour, minute by minute, the oldest first; the last number is of the current, unfinished minute.

    events: received events, and repeated deliveries, which take an id too. ended: sagas that ended with no decision
    open, by the time of their last event. backlog: events stored and not applied. oldest: since when the first of them
    waits; None if there is none.
    """

    events: Sequence[int]
    ended: Sequence[int]
    backlog: int
    oldest: datetime | None
    now: datetime


def throughput() -> Throughput:
    """Return the throughput of the last hour, by the database's clock."""
    now = clock.now()
    until = now.replace(second=0, microsecond=0)
    since = until - timedelta(minutes=MINUTES - 1)
    minutes = [since + timedelta(minutes=number) for number in range(MINUTES)]
    # The end of the current minute closes its span.
    received = dict(EVENTS_BY_MINUTE.rows({"since": since, "until": until + timedelta(minutes=1)}))
    rows = SagaLog.objects.filter(status__in=ENDED, end_time__gte=since).order_by()
    counted = rows.values(minute=TruncMinute("end_time")).annotate(count=Count("id"))
    ends = {row["minute"]: row["count"] for row in counted}
    first = Pending.objects.order_by("id").values_list("id", flat=True).first()
    waits = Event.objects.filter(pk=first).values_list("received_at", flat=True).first() if first else None
    return Throughput(
        events=[received.get(minute, 0) for minute in minutes],
        ended=[ends.get(minute, 0) for minute in minutes],
        backlog=Pending.objects.count(),
        oldest=waits,
        now=now,
    )
