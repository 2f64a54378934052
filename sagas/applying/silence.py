"""End the intake of sagas that no event ends: all known lanes have ended, and nothing has been heard for a long time.

The end is a fact of our own. Its id is derived from the saga and from the greatest event of the latest run, which it
names, so that it can be written any number of times; it counts only while the run has no greater event. So a saga that
goes on is not ended, and does not change to and fro.
"""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta

from django.conf import settings

from bridge import clock, event_log, routing, wakeup
from bridge.event_log import NewFact
from bridge.models import Source
from compensation import deadlines
from sagas.applying import statements
from sagas.applying.statements import QuietSaga
from sagas.definitions import registry
from sagas.engine import facts as kinds

PAGE = 1000
# The id of each silence: uuid5 of saga and event in this namespace. Never change it.
NAMESPACE = uuid.UUID("0d7c9b52-6d0e-5f44-9f0f-7f1d2b9f4c10")


def sweep() -> int:
    """End the intake of those sagas of the next page that are quiet for SAGA_INTAKE_SILENCE; return how many.

    The time counts by the database's clock, and only while events could arrive: the bridge is connected and has caught
    up. Opens its own transactions; may run twice, and concurrently.
    """
    seconds = settings.SAGA_INTAKE_SILENCE
    if not seconds:
        return 0
    now = clock.now()
    quiet, _place.after = statements.quiet_sagas(_place.after, now - timedelta(seconds=seconds), PAGE)
    if not quiet or not _could_hear(now, seconds):
        return 0
    ended = [_silence(saga, seconds) for saga in quiet if registry.counts_lanes(saga.saga_type, saga.version)]
    event_log.append(ended)
    if ended:
        wakeup.nudge("apply")
    return len(ended)


def _could_hear(now: datetime, seconds: float) -> bool:
    """Return whether every event could have arrived in all of this time, up to now."""
    holds = deadlines.deadline_holds(now)
    return holds.general is None and holds.well_for is not None and holds.well_for >= timedelta(seconds=seconds)


def _silence(saga: QuietSaga, seconds: float) -> NewFact:
    return NewFact(
        source=Source.SAGAS,
        event_id=str(uuid.uuid5(NAMESPACE, f"{saga.id}:{saga.event_id}")),
        stream=saga.saga_type,
        type=kinds.INTAKE_SILENT,
        key=saga.key,
        entity="",
        occurred_at=saga.occurred_at + timedelta(seconds=seconds),
        payload={"after": [saga.occurred_at.isoformat(), saga.event_id], "seconds": seconds},
        routing_key=routing.routing_key(saga.saga_type, saga.key),
    )


class _Place:
    """How far this process has searched; a new one begins with the newest sagas, so that some are only read twice."""

    after: tuple[datetime, str] | None = None


_place = _Place()
