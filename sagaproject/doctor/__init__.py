"""Check each part of the service and advise what to do about problems (manage.py doctor).

Safe at any time, also in production: a check's test write is rolled back or expires within a second. A check cannot
abort the others, nor delay them beyond its timeout.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from sagaproject.doctor.celery import check_beat, check_celery_broker, check_worker
from sagaproject.doctor.database import check_database, check_migrations, check_writes
from sagaproject.doctor.finding import Finding, FindingLevel, bounded, unknown
from sagaproject.doctor.pulsar import check_pulsar, check_token, check_topics, check_transport
from sagaproject.doctor.service import (
    check_answers,
    check_backlog,
    check_bridge,
    check_clocks,
    check_confirmations,
    check_definitions,
    check_event_topics,
    check_publisher,
)
from sagaproject.doctor.statistics import check_backlogs, check_regions, check_subscribers

__all__ = ["Finding", "FindingLevel", "examine"]


class _DoctorCheck(NamedTuple):
    """One check. needs: the check whose error makes this one meaningless."""

    name: str
    run: Callable[[], Finding]
    needs: str = ""


# In the order in which problems should be fixed.
_CHECKS = (
    _DoctorCheck("database", check_database),
    _DoctorCheck("migrations", check_migrations, "database"),
    _DoctorCheck("database writes", check_writes, "database"),
    _DoctorCheck("celery broker", check_celery_broker),
    _DoctorCheck("worker", check_worker, "celery broker"),
    _DoctorCheck("beat", check_beat, "database"),
    _DoctorCheck("token", check_token),
    _DoctorCheck("tls", check_transport),
    _DoctorCheck("pulsar", check_pulsar),
    _DoctorCheck("topics", check_topics, "database"),
    _DoctorCheck("bridge", check_bridge, "database"),
    _DoctorCheck("publishing", check_publisher, "database"),
    _DoctorCheck("queue", check_backlog, "database"),
    _DoctorCheck("answers", check_answers, "database"),
    _DoctorCheck("event topics", check_event_topics, "database"),
    _DoctorCheck("definitions", check_definitions, "database"),
    _DoctorCheck("confirmations", check_confirmations),
    _DoctorCheck("clocks", check_clocks, "database"),
    _DoctorCheck("command topics", check_subscribers),
    _DoctorCheck("backlogs", check_backlogs),
    _DoctorCheck("regions", check_regions),
)


def examine() -> Iterator[Finding]:
    """Run every check and yield each finding as soon as it is known. Takes up to a minute if much is broken."""
    failed: set[str] = set()
    for check in _CHECKS:
        finding = (
            unknown(check.name, _display_name(check.needs))
            if check.needs in failed
            else bounded(check.name, _bind(check, failed))
        )
        if finding.level == FindingLevel.ERROR:
            failed.add(check.name)
        yield finding


def _bind(check: _DoctorCheck, failed: set[str]) -> Callable[[], Finding]:
    """Return the check's function; that of the topics gets the result of the check of Pulsar."""
    return partial(check_topics, "pulsar" not in failed) if check.name == "topics" else check.run


def _display_name(name: str) -> str:
    return {"celery broker": "Celery's broker"}.get(name, f"the {name}")
