"""Celery's doors: each asks the database what there is to do, and may be lost, repeated or run beside itself."""

import logging
import os
import socket
from datetime import timedelta

from celery import Task, shared_task
from django.utils import timezone

from bridge import heartbeats, wakeup
from bridge.errors import BrokerUnavailable
from bridge.models import HeartbeatKind
from bridge.publisher import get_publisher
from compensation import deadlines, delivery, queries, switches

logger = logging.getLogger(__name__)

PUBLISH_RETRIES = 6
PUBLISH_RETRY_MAXIMUM_SECONDS = 20
PROBE_SECONDS = 15


@shared_task(name="compensation.publish", bind=True, max_retries=PUBLISH_RETRIES)
def publish(self: "Task[[], None]") -> None:
    """Publish what is due. While Pulsar is away it comes back with growing waits, then leaves it to the sweeper."""
    try:
        more = delivery.publish_due(get_publisher(), worker=_process())
    except BrokerUnavailable as error:
        tries = self.request.retries
        logger.warning("no command leaves: %s", error)
        if tries >= PUBLISH_RETRIES:
            return
        raise self.retry(exc=error, countdown=min(2**tries, PUBLISH_RETRY_MAXIMUM_SECONDS)) from error
    if more:
        wakeup.nudge("publish")


@shared_task(name="compensation.sweep")
def sweep() -> None:
    """Find passed deadlines, lost claims and due commands from the database alone."""
    now = timezone.now()
    # A row a host: the clocks of all hosts can then be compared.
    heartbeats.beat(f"{HeartbeatKind.SWEEPER}:{socket.gethostname()}", HeartbeatKind.SWEEPER, connected=True)
    passed, recovered = deadlines.pass_deadlines(now), deadlines.recover_lost(now)
    if passed or recovered:
        logger.info("%d confirmations are overdue, %d claims were lost", passed, recovered)
    # While the broker is away the publishing task itself comes back; a nudge every few seconds would only pile up.
    if _broker_is_there() and queries.is_anything_due(now, switches.read()):
        wakeup.nudge("publish")


def _broker_is_there() -> bool:
    """What the publisher's heartbeat says, asked anew when it is older than PROBE_SECONDS."""
    last = next(iter(heartbeats.read(HeartbeatKind.PUBLISHER)), None)
    if last is not None and last.age < timedelta(seconds=PROBE_SECONDS):
        return last.connected
    try:
        delivery.reach(get_publisher())
    except BrokerUnavailable:
        return False
    return True


def _process() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"
