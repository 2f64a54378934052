"""What only the broker can tell, by its admin interface: who subscribes, which backlog stands, what nobody reads."""

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

# Long enough for a consumer at work to acknowledge something, short enough for a person to wait.
LOOK_AGAIN_SECONDS = 3.0
_SET_IT = "Set PULSAR_ADMIN_URL to the address of Pulsar's admin interface."


def check_subscribers() -> Finding:
    """Whether somebody takes the messages of every command topic."""
    name = "command topics"
    if not settings.PULSAR["admin_url"]:
        return skipped(name, "Not checked without PULSAR_ADMIN_URL: whether somebody takes the commands.", _SET_IT)
    admin, topics = PulsarAdmin(settings.PULSAR), get_topics()
    try:
        found = {topic: admin.stats(topics.full(topic)) for topic in command_topics()}
    except AdminUnavailable as failure:
        return _unavailable(name, failure)
    alone = [topic for topic, stats in found.items() if not backlog.subscriptions(stats)]
    if alone:
        return warning(
            name,
            f"Nobody subscribes to {listed(alone)}: Pulsar drops what is sent there, and no command is ever answered.",
            "Start the service that takes these commands, or correct PULSAR_TOPICS, PULSAR_TENANT or PULSAR_NAMESPACE.",
        )
    idle = [topic for topic, stats in found.items() if not _has_consumer(stats)]
    if idle:
        return warning(
            name,
            f"No consumer is connected to {listed(idle)}; the commands wait there.",
            "Start the service that takes these commands.",
        )
    return ok(name, f"All {len(found)} command topics have a subscriber that is connected.")


def check_backlogs(sleep: Callable[[float], None] = time.sleep) -> Finding:
    """Whether the backlog of every topic that we read moves. Looks twice where there is one."""
    if not settings.PULSAR["admin_url"]:
        return _check_progress_of_bridges(sleep)
    name = "backlogs"
    admin = PulsarAdmin(settings.PULSAR)
    try:
        first = backlog.sample(admin, backlog.subscribed_topics(admin))
        waiting = [topic for topic, state in first.items() if state.messages]
        if waiting:
            sleep(LOOK_AGAIN_SECONDS)
        second = backlog.sample(admin, waiting)
    except AdminUnavailable as failure:
        return _unavailable(name, failure)
    stuck = [topic for topic in waiting if topic in second and second[topic].is_stalled_since(first[topic])]
    if stuck:
        count = sum(second[topic].messages for topic in stuck)
        return error(
            name,
            f"{count} messages wait and none was taken for {LOOK_AGAIN_SECONDS:.0f} s: {_shown(stuck)}.",
            "See bridge and database above. If both are well, restart the bridge: it subscribes anew. Deadlines of the "
            "services that answer there are on hold for a while only.",
        )
    return ok(name, "No topic that we read has a backlog that stands.")


def check_regions() -> Finding:
    """Whether there are topics of our shape for regions that PULSAR_REGIONS does not name."""
    name = "regions"
    if settings.PULSAR["regions"] == "*":
        return ok(name, "Every region is read.")
    if not settings.PULSAR["admin_url"]:
        return skipped(
            name, "Not checked without PULSAR_ADMIN_URL: whether a region is sent that we do not read.", _SET_IT
        )
    ours = set(get_topics().subscriptions(get_catalog().topics).topics)
    try:
        found = backlog.regional_topics(PulsarAdmin(settings.PULSAR))
    except AdminUnavailable as failure:
        return _unavailable(name, failure)
    unread = [topic for topic in found if topic not in ours]
    if unread:
        return warning(
            name,
            f"Nobody here reads {_shown(unread)}: their events are missing in every saga.",
            f"Add the region to PULSAR_REGIONS (now {', '.join(settings.PULSAR['regions'])}), then restart the bridge.",
        )
    return ok(name, f"No topics of other regions than {', '.join(settings.PULSAR['regions'])}.")


def _check_progress_of_bridges(sleep: Callable[[float], None]) -> Finding:
    """Without the broker's word: whether a bridge that says it is behind takes messages."""
    first = _behind()
    if first:
        sleep(LOOK_AGAIN_SECONDS)
    second = _behind() if first else {}
    stuck = [name for name, received in first.items() if second.get(name) == received]
    if stuck:
        return error(
            "backlogs",
            f"Behind, and took no message for {LOOK_AGAIN_SECONDS:.0f} s: {listed(stuck)}.",
            "See database above. If it is well, restart the bridge: it subscribes anew.",
        )
    return skipped(
        "backlogs",
        "No bridge says that it is behind. Not checked without PULSAR_ADMIN_URL: the backlog of each topic.",
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
        f"Pulsar's admin interface could not be asked: {failure}.",
        "Correct PULSAR_ADMIN_URL, or grant the token's role the right to read the namespace. 401 and 403 are a "
        "missing right.",
    )
