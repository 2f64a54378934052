"""The Celery tasks. Each finds its work in the database, and may be lost, repeated or run concurrently."""

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

# The sweep probes the broker if the last result is older than this; after a failed probe, sooner.
PROBE_AFTER = timedelta(seconds=15)
PROBE_AGAIN_AFTER = timedelta(seconds=5)


@shared_task(name="compensation.publish")
def publish() -> None:
    """Publish due commands. While Pulsar is unavailable, the sweep detects when it is available again."""
    try:
        more = delivery.publish_due(get_publisher(), worker=_process())
    except BrokerUnavailable as error:
        logger.warning("no commands are sent: %s", error)
        return
    if more:
        wakeup.nudge("publish")


@shared_task(name="compensation.sweep")
def sweep() -> None:
    """Find overdue answers, lost claims and due commands from the database alone."""
    now = clock.now()
    # One row for each host, so that the clocks of all hosts can be compared.
    heartbeats.beat(f"{HeartbeatKind.SWEEPER}:{socket.gethostname()}", HeartbeatKind.SWEEPER, connected=True)
    overdue, recovered = deadlines.pass_deadlines(now), deadlines.recover_lost(now)
    if overdue or recovered:
        logger.info("%d confirmations were overdue, %d claims were lost", overdue, recovered)
    if _broker_is_available() and queries.is_anything_due(now, switches.read()):
        wakeup.nudge("publish")


def _broker_is_available() -> bool:
    """Return whether the broker answers: from the publisher's heartbeat, or by a new probe if that is too old."""
    last = next(iter(heartbeats.read(HeartbeatKind.PUBLISHER)), None)
    if last is not None and last.age < (PROBE_AFTER if last.connected else PROBE_AGAIN_AFTER):
        return last.connected
    if last is not None and not last.connected:
        # A probe may take seconds: other sweeps must not all wait for the same answer in the meantime.
        heartbeats.beat(delivery.HEARTBEAT, HeartbeatKind.PUBLISHER, connected=False, detail=last.detail)
    try:
        delivery.reach(get_publisher())
    except BrokerUnavailable:
        return False
    return True


def _process() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"
