"""Celery's doors: each asks the database what there is to do, and may be lost, repeated or run beside itself."""

import logging
import os
import socket
from datetime import timedelta

from celery import shared_task

from bridge import clock, heartbeats, wakeup
from bridge.errors import BrokerUnavailable
from bridge.models import HeartbeatKind
from bridge.publisher import get_publisher
from compensation import deadlines, delivery, queries, switches

logger = logging.getLogger(__name__)

# How old the broker's last sign of life may be before the sweep asks for another; after a failure it asks sooner.
PROBE_AFTER = timedelta(seconds=15)
PROBE_AGAIN_AFTER = timedelta(seconds=5)


@shared_task(name="compensation.publish")
def publish() -> None:
    """Publish what is due. While Pulsar is away that is left to the sweeper, which sees when it is back."""
    try:
        more = delivery.publish_due(get_publisher(), worker=_process())
    except BrokerUnavailable as error:
        logger.warning("no command leaves: %s", error)
        return
    if more:
        wakeup.nudge("publish")


@shared_task(name="compensation.sweep")
def sweep() -> None:
    """Find passed deadlines, lost claims and due commands from the database alone."""
    now = clock.now()
    # A row a host: the clocks of all hosts can then be compared.
    heartbeats.beat(f"{HeartbeatKind.SWEEPER}:{socket.gethostname()}", HeartbeatKind.SWEEPER, connected=True)
    passed, recovered = deadlines.pass_deadlines(now), deadlines.recover_lost(now)
    if passed or recovered:
        logger.info("%d confirmations are overdue, %d claims were lost", passed, recovered)
    if _broker_is_there() and queries.is_anything_due(now, switches.read()):
        wakeup.nudge("publish")


def _broker_is_there() -> bool:
    """What the publisher's heartbeat says, asked anew when that is too old."""
    last = next(iter(heartbeats.read(HeartbeatKind.PUBLISHER)), None)
    if last is not None and last.age < (PROBE_AFTER if last.connected else PROBE_AGAIN_AFTER):
        return last.connected
    if last is not None and not last.connected:
        # Asking may take seconds: the sweeps that come meanwhile must not all wait for the same answer.
        heartbeats.beat(delivery.HEARTBEAT, HeartbeatKind.PUBLISHER, connected=False, detail=last.detail)
    try:
        delivery.reach(get_publisher())
    except BrokerUnavailable:
        return False
    return True


def _process() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"
