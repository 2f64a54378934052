"""Services whose answers may be waiting undelivered on a topic: their deadlines are on hold, for a limited time.

The time is limited, because a topic that stalls permanently must not suspend deadlines permanently.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.conf import settings

from bridge import backlog
from bridge.backlog import UndeliveredTopic
from compensation import answers


@dataclass(frozen=True, slots=True, kw_only=True)
class Undelivered:
    """The undelivered messages on the topics of one service that hold its deadlines.

    since: when the first of these topics began to wait. until: the latest time at which they hold a deadline.
    """

    topics: tuple[str, ...]
    messages: int
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """waiting: by service, what holds its deadlines now. ended: by service, when its last hold of this kind ended."""

    waiting: Mapping[str, Undelivered] = field(default_factory=dict)
    ended: Mapping[str, datetime] = field(default_factory=dict)


def read(now: datetime) -> Answers:
    """Return which services' answers may be waiting undelivered, and until when they were.

    One query. now: by the database's clock.
    """
    held: dict[str, list[UndeliveredTopic]] = defaultdict(list)
    ended: dict[str, datetime] = {}
    for row in backlog.read():
        end = min(row.until or hold_ends(row), hold_ends(row))
        for service in answers.services_on(row.topic):
            if row.until is None and now < end:
                held[service].append(row)
            else:
                ended[service] = max(end, ended.get(service, end))
    return Answers(waiting={service: _of(rows) for service, rows in held.items()}, ended=ended)


def hold_ends(row: UndeliveredTopic) -> datetime:
    """Return when the messages of a topic stop holding deadlines, even if they still wait."""
    return row.since + timedelta(seconds=settings.SAGA_DEADLINE_HOLD)


def _of(rows: Sequence[UndeliveredTopic]) -> Undelivered:
    return Undelivered(
        topics=tuple(row.topic for row in rows),
        messages=sum(row.undelivered for row in rows),
        since=min(row.since for row in rows),
        until=max(map(hold_ends, rows)),
    )
