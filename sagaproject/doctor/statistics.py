"""Check what only the broker's admin interface knows: subscribers, stalled backlogs, topics that are not read."""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django.conf import settings

from bridge import heartbeats
from bridge.catalog import get_catalog
from bridge.models import HeartbeatKind
from bridge.pulsar import backlog
from bridge.pulsar.admin import AdminUnavailable, PulsarAdmin
from bridge.topics import get_topics
from sagaproject.doctor.finding import Finding, error, listed, ok, skipped, warning
from sagaproject.doctor.pulsar import command_topics

# Long enough for a working consumer to acknowledge a message, short enough for a person to wait.
SECOND_SAMPLE_SECONDS = 3.0
_LIST_THEM = (
    "Grant the bridge's role the right to consume on the namespace, so that it can list the topics, or name all "
    "regions in PULSAR_REGIONS and restart the bridge."
)
_SET_IT = "Set PULSAR_ADMIN_URL to the address of Pulsar's admin interface."


def check_subscribers() -> Finding:
    """Check that every command topic has a subscriber with a connected consumer."""
    name = "command topics"
    if not settings.PULSAR["admin_url"]:
        return skipped(name, "Not checked without PULSAR_ADMIN_URL: the subscribers of commands.", _SET_IT)
    admin, topics = PulsarAdmin(settings.PULSAR), get_topics()
    try:
        found = {topic: admin.stats(topics.full(topic)) for topic in command_topics()}
    except AdminUnavailable as failure:
        return _unavailable(name, failure)
    unsubscribed = [topic for topic, stats in found.items() if not backlog.subscriptions(stats)]
    if unsubscribed:
        return warning(
            name,
            f"No subscription on {listed(unsubscribed)}: Pulsar drops the commands sent there.",
            "Start the service that receives these commands, or correct PULSAR_TOPICS, PULSAR_TENANT or "
            "PULSAR_NAMESPACE.",
        )
    idle = [topic for topic, stats in found.items() if not _has_consumer(stats)]
    if idle:
        return warning(
            name,
            f"No consumer is connected to {listed(idle)}; the commands wait there.",
            "Start the service that receives these commands.",
        )
    return ok(name, f"All {len(found)} command topics have a connected subscriber.")


def check_backlogs(sleep: Callable[[float], None] = time.sleep) -> Finding:
    """Check that no topic that we read has a stalled backlog. Takes a second sample of topics with a backlog."""
    if not settings.PULSAR["admin_url"]:
        return _check_progress_of_bridges(sleep)
    name = "backlogs"
    admin = PulsarAdmin(settings.PULSAR)
    try:
        first = backlog.sample(admin, backlog.subscribed_topics(admin))
        waiting = [topic for topic, state in first.items() if state.messages]
        if waiting:
            sleep(SECOND_SAMPLE_SECONDS)
        second = backlog.sample(admin, waiting)
    except AdminUnavailable as failure:
        return _unavailable(name, failure)
    stuck = [topic for topic in waiting if topic in second and second[topic].is_stalled_since(first[topic])]
    if stuck:
        count = sum(second[topic].messages for topic in stuck)
        return error(
            name,
            f"{count} messages wait, and none was received for {SECOND_SAMPLE_SECONDS:.0f} s: {_shown(stuck)}.",
            "See bridge and database above. If both are OK, restart the bridge: it subscribes again. Deadlines of the "
            "services that answer there are on hold for a limited time only.",
        )
    return ok(name, "No topic that we read has a stalled backlog.")


def check_regions() -> Finding:
    """Check whether there are event topics of regions that are not read."""
    name, regions = "regions", settings.PULSAR["regions"]
    reads_any = _bridges_read_any_region() if "*" in regions else []
    if regions == "*" or (reads_any and all(reads_any)):
        return ok(name, "Every region is read.")
    named = listed(region for region in regions if region != "*")
    if reads_any and not settings.PULSAR["admin_url"]:
        return warning(
            name,
            f"Only these regions are read: {named}. The broker does not list its topics to the bridge.",
            _LIST_THEM,
        )
    if not settings.PULSAR["admin_url"]:
        return skipped(name, "Not checked without PULSAR_ADMIN_URL: topics of regions that are not read.", _SET_IT)
    ours = set(get_topics().subscriptions(get_catalog().topics).topics)
    try:
        found = backlog.regional_topics(PulsarAdmin(settings.PULSAR))
    except AdminUnavailable as failure:
        return _unavailable(name, failure)
    unread = [topic for topic in found if topic not in ours]
    if unread:
        return warning(
            name,
            f"Not read: {_shown(unread)}. Their events are missing in every saga.",
            _LIST_THEM if reads_any else f"Add the region to PULSAR_REGIONS (now {named}), then restart the bridge.",
        )
    return ok(name, f"There are no topics of regions other than {named}.")


def _bridges_read_any_region() -> list[bool]:
    """Return of each connected bridge whether it reads the topics of every region, and not only of the named ones."""
    rows = heartbeats.read(HeartbeatKind.BRIDGE)
    return [bool(row.detail.get("any_region")) for row in rows if row.is_alive and row.connected]


def _check_progress_of_bridges(sleep: Callable[[float], None]) -> Finding:
    """Check, without the admin interface, that a bridge that reports a backlog receives messages."""
    first = _behind()
    if first:
        sleep(SECOND_SAMPLE_SECONDS)
    second = _behind() if first else {}
    stuck = [name for name, received in first.items() if second.get(name) == received]
    if stuck:
        return error(
            "backlogs",
            f"Behind, and received no message for {SECOND_SAMPLE_SECONDS:.0f} s: {listed(stuck)}.",
            "See database above. If it is OK, restart the bridge: it subscribes again.",
        )
    return skipped(
        "backlogs",
        "No bridge reports a backlog. Not checked without PULSAR_ADMIN_URL: the backlog of each topic.",
        _SET_IT,
    )


def _behind() -> dict[str, int]:
    rows = heartbeats.read(HeartbeatKind.BRIDGE)
    behind = (row for row in rows if row.is_alive and row.connected and not row.detail.get("caught_up", True))
    return {row.name: int(row.detail.get("received", 0)) for row in behind}


def _has_consumer(stats: Mapping[str, Any] | None) -> bool:
    return any(subscription.get("consumers") for subscription in backlog.subscriptions(stats).values())


def _shown(topics: Iterable[str]) -> str:
    return listed(get_topics().names(topic).shown for topic in topics)


def _unavailable(name: str, failure: AdminUnavailable) -> Finding:
    return warning(
        name,
        f"Pulsar's admin interface could not be used: {failure}.",
        "Correct PULSAR_ADMIN_URL, or grant the token's role the right to read the namespace. 401 and 403 mean a "
        "missing right.",
    )
