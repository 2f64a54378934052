"""What makes two messages one event: their id, and the UTC day on which it occurred by the body's own time.

A redelivery and a producer's resend carry the same body, hence the same day. The day leads the unique key of the log,
so that new ids, which are random, fall on few pages of its index. A service that stamps an event again around midnight
gives one id two days: two times within AROUND_MIDNIGHT of the same midnight count as the same day.
"""

from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple

AROUND_MIDNIGHT = timedelta(minutes=10)

_DAY = timedelta(days=1)


class Once(NamedTuple):
    """The key of an event from Pulsar. `day` is None for one whose body has no time of its own."""

    day: date | None
    event_id: str


class Midnight(NamedTuple):
    """A midnight (UTC) close to which an event occurred, and the day on its other side."""

    at: datetime
    other_day: date


def midnight_near(day: date | None, occurred_at: datetime) -> Midnight | None:
    """Return the midnight within AROUND_MIDNIGHT of a time in UTC; None if there is none, or the body has no time."""
    if day is None or 0 < occurred_at.hour < 23:
        return None
    begins = datetime.combine(day, time.min, tzinfo=UTC)
    if timedelta() <= occurred_at - begins < AROUND_MIDNIGHT:
        return Midnight(begins, day - _DAY)
    if timedelta() < begins + _DAY - occurred_at <= AROUND_MIDNIGHT:
        return Midnight(begins + _DAY, day + _DAY)
    return None
