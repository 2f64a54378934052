"""The database's clock, the source of every time that another host compares.

The clocks of hosts differ. A claim written by a host that is a minute slow would look lost to another host, and an
event received by a host that is ten minutes slow would look as if it had waited. Therefore `django.utils.timezone.now`
is used only for times that are merely shown, and time.monotonic only for durations within one process.
"""

from datetime import datetime

from bridge import statements


def now() -> datetime:
    """Return the database's current time, also inside a transaction that began long ago. One query."""
    found: datetime = statements.NOW.row()[0]
    return found
