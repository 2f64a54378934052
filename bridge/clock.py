"""The one clock: the database's. Times that another host compares are taken from here, never from a host's own clock.

Hosts disagree. A claim written by a host that is a minute slow would look lost to its neighbour, and an event received
by one that is ten minutes slow would look as if it had waited. So `django.utils.timezone.now` is left to what is only
shown, and time.monotonic to durations within one process.
"""

from datetime import datetime

from django.db import connection


def now() -> datetime:
    """Give the database's clock, also inside a transaction that began long ago. One query."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        found: datetime = cursor.fetchone()[0]
    return found
