"""Topics that refuse commands until a person changes something: a missing grant, a schema, an exclusive producer.

This is not an outage: the broker is available, and waiting alone does not help. Each such topic has a row from its
first refusal until it accepts a message.
"""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

from bridge import sql, statements
from bridge.models import BlockedTopic

# Waiting commands are tried at least once a minute, so a refusal after such a silence starts a new period.
_SAME = timedelta(hours=1)


def blocked_topics(before: datetime) -> list[BlockedTopic]:
    """Return the topics that have refused messages since before a time, the longest first. One query."""
    return list(BlockedTopic.objects.filter(since__lt=before).order_by("since", "topic"))


def note(blocked: Mapping[str, str], open_topics: Collection[str], now: datetime) -> None:
    """Record which topics refuse messages (short name -> code of the reason), and which accepted one.

    At most two statements, in their own transactions unless the caller has one. May run twice.
    """
    if open_topics:
        BlockedTopic.objects.filter(topic__in=open_topics).delete()
    if blocked:
        rows = [{"topic": topic, "reason": reason} for topic, reason in blocked.items()]
        statements.NOTE_BLOCKED.run([now, now, *sql.dump(statements.BLOCKED, rows), now - _SAME])
