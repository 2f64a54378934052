"""manage.py doctor: is each part well, in plain words, and if not, what to do.

Safe at any time, also in production: what a check writes to see whether it can be written is rolled back, or expires
within a second. No check can end or delay the others beyond its time-out.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from sagaproject.doctor.celery import check_beat, check_celery_broker, check_worker
from sagaproject.doctor.database import check_database, check_migrations, check_writes
from sagaproject.doctor.finding import Finding, Level, bounded, unknown
from sagaproject.doctor.pulsar import check_pulsar, check_token, check_topics, check_transport
from sagaproject.doctor.service import (
    check_answers,
    check_backlog,
    check_bridge,
    check_clocks,
    check_definitions,
    check_event_topics,
    check_publisher,
)
from sagaproject.doctor.statistics import check_backlogs, check_regions, check_subscribers

__all__ = ["Finding", "Level", "examine"]


class _Check(NamedTuple):
    """needs: the check whose error makes this one meaningless."""

    name: str
    run: Callable[[], Finding]
    needs: str = ""


# In the order in which one would repair things.
_CHECKS = (
    _Check("database", check_database),
    _Check("migrations", check_migrations, "database"),
    _Check("database writes", check_writes, "database"),
    _Check("celery broker", check_celery_broker),
    _Check("worker", check_worker, "celery broker"),
    _Check("beat", check_beat, "database"),
    _Check("token", check_token),
    _Check("tls", check_transport),
    _Check("pulsar", check_pulsar),
    _Check("topics", check_topics, "database"),
    _Check("bridge", check_bridge, "database"),
    _Check("publishing", check_publisher, "database"),
    _Check("queue", check_backlog, "database"),
    _Check("answers", check_answers, "database"),
    _Check("event topics", check_event_topics, "database"),
    _Check("definitions", check_definitions, "database"),
    _Check("clocks", check_clocks, "database"),
    _Check("command topics", check_subscribers),
    _Check("backlogs", check_backlogs),
    _Check("regions", check_regions),
)


def examine() -> Iterator[Finding]:
    """Run every check and give its finding as soon as it is known. Takes up to a minute if much is broken."""
    failed: set[str] = set()
    for check in _CHECKS:
        finding = (
            unknown(check.name, _called(check.needs))
            if check.needs in failed
            else bounded(check.name, _ready(check, failed))
        )
        if finding.level == Level.ERROR:
            failed.add(check.name)
        yield finding


def _ready(check: _Check, failed: set[str]) -> Callable[[], Finding]:
    return partial(check_topics, "pulsar" not in failed) if check.name == "topics" else check.run


def _called(name: str) -> str:
    return {"celery broker": "Celery's broker"}.get(name, f"the {name}")
