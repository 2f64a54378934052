"""Services whose answers may wait, undelivered, on a topic: their deadlines are on hold, for a limited time.

Limited, because a topic that stands still for good must not end every deadline for good.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.conf import settings

from bridge import backlog
from bridge.backlog import Waiting
from compensation import answers


@dataclass(frozen=True, slots=True, kw_only=True)
class Undelivered:
    """What waits on the topics of one service, as far as it holds deadlines.

    since: when the first of it began. until: when the last of them holds no deadline any more, at the latest.
    """

    topics: tuple[str, ...]
    messages: int
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """waiting: by service, what holds its deadlines now. ended: by service, when such a time last ended."""

    waiting: Mapping[str, Undelivered] = field(default_factory=dict)
    ended: Mapping[str, datetime] = field(default_factory=dict)


def read(now: datetime) -> Answers:
    """Which services' answers may wait undelivered, and until when they did. One query; now: the database's clock."""
    held: dict[str, list[Waiting]] = defaultdict(list)
    ended: dict[str, datetime] = {}
    for row in backlog.read():
        end = min(row.until or hold_ends(row), hold_ends(row))
        for service in answers.services_on(row.topic):
            if row.until is None and now < end:
                held[service].append(row)
            else:
                ended[service] = max(end, ended.get(service, end))
    return Answers(waiting={service: _of(rows) for service, rows in held.items()}, ended=ended)


def hold_ends(row: Waiting) -> datetime:
    """When a topic's messages hold no deadline any more, though they may still wait."""
    return row.since + timedelta(seconds=settings.SAGA_DEADLINE_HOLD)


def _of(rows: Sequence[Waiting]) -> Undelivered:
    return Undelivered(
        topics=tuple(row.topic for row in rows),
        messages=sum(row.undelivered for row in rows),
        since=min(row.since for row in rows),
        until=max(map(hold_ends, rows)),
    )
