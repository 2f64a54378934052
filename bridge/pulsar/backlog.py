"""What the broker's admin interface says of the topics that we read: which messages wait there, and for how long.

The interface is optional (PULSAR_ADMIN_URL); the embedded pulsar-lite has none.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection

from bridge import backlog
from bridge.backlog import Reading
from bridge.catalog import REGION, get_catalog, region_pattern
from bridge.pulsar.admin import AdminUnavailable, PulsarAdmin
from bridge.topics import Topics, get_topics

logger = logging.getLogger(__name__)

LOOK_SECONDS = 10.0
_LAST_LOOK_SECONDS = 0.5


class Look(NamedTuple):
    """Our subscription to one topic at one moment.

    messages: all that are not acknowledged. unsent: those of them that no consumer was sent. acked: when the last was
    acknowledged, in ms by the broker's clock: only good to see whether it changes.
    """

    messages: int
    unsent: int
    acked: int

    def stood_since(self, earlier: "Look") -> bool:
        """Whether messages waited then and now, and none was taken meanwhile."""
        return 0 < earlier.messages <= self.messages and self.acked == earlier.acked


def subscribed_topics(admin: PulsarAdmin) -> list[str]:
    """The full names of the topics that we read, those of patterns as the broker has them. Raises AdminUnavailable."""
    subscriptions = get_topics().subscriptions(get_catalog().topics)
    return [*subscriptions.topics, *(regional_topics(admin) if subscriptions.patterns else ())]


def regional_topics(admin: PulsarAdmin) -> list[str]:
    """The full names of all topics of any region that the broker has, whether or not we read them.

    Asks only for the namespaces in which they may be: the token may be allowed nothing elsewhere. Raises
    AdminUnavailable.
    """
    topics, regional = get_topics(), [topic for topic in get_catalog().topics if REGION in topic]
    places = sorted({_namespace(topics.full(topic)) for topic in regional})
    patterns = [region_pattern(topic) for topic in regional]
    names = without_partitions(name for place in places for name in admin.topics(place))
    return [name for name in names if any(pattern.fullmatch(topics.names(name).short) for pattern in patterns)]


def look(admin: PulsarAdmin, topics: Iterable[str]) -> dict[str, Look]:
    """How our subscription stands on each of the topics (full names) that has one. Raises AdminUnavailable."""
    found = {}
    for topic in topics:
        ours = subscriptions(admin.stats(topic)).get(settings.PULSAR["subscription"])
        if ours is not None:
            acked = [ours.get("lastAckedTimestamp", 0), *(c.get("lastAckedTimestamp", 0) for c in ours["consumers"])]
            messages = int(ours.get("msgBacklog", 0))
            # A backlog is counted in entries, of which one may hold many messages; what was sent, in messages.
            unsent = max(0, messages - int(ours.get("unackedMessages", 0)))
            found[topic] = Look(messages, unsent, int(max(acked)))
    return found


def subscriptions(stats: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The subscriptions of a topic by name, from its statistics."""
    found: Mapping[str, Any] = (stats or {}).get("subscriptions", {})
    return found


def without_partitions(topics: Iterable[str]) -> list[str]:
    """The topics, each partitioned one once."""
    return sorted({Topics.whole(topic) for topic in topics})


def compare(before: Mapping[str, Look], now: Mapping[str, Look]) -> list[Reading]:
    """What two looks tell of the topics. One alone cannot: a message on its way to us is in the backlog as well.

    Where nothing was taken between them, all messages wait, also those that the broker has sent: a consumer may hold
    them and never give them out. Where some were, those wait that nobody was sent, at both times. A topic with messages
    of which there is no earlier look is left out: nothing is known of it.
    """
    found = []
    for topic, last in now.items():
        first = before.get(topic)
        name = get_topics().names(topic).shown
        if not last.messages:
            found.append(Reading(name, 0, stalled=False))
        elif first is not None:
            stalled = last.stood_since(first)
            found.append(Reading(name, last.messages if stalled else min(first.unsent, last.unsent), stalled))
    return found


def _namespace(topic: str) -> str:
    """The tenant and namespace of a topic (its full name), as the interface writes them."""
    return topic.partition("://")[2].rpartition("/")[0]


class Watch:
    """Asks the broker every LOOK_SECONDS from a thread of its own, and writes down what it said (bridge.backlog).

    An interface that hangs or answers with errors holds up nobody: after a minute nothing is known, and the doctor
    tells why.
    """

    def __init__(self, admin: PulsarAdmin, seconds: float = LOOK_SECONDS) -> None:
        self._admin = admin
        self._seconds = seconds
        self._last: Mapping[str, Look] = {}
        self._trouble = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="backlog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End after the look under way, which is not waited for. May be called though it was never started."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(_LAST_LOOK_SECONDS)

    def turn(self) -> None:
        """Look once, and write down what that and the last look tell. Never raises."""
        self._tell(_trouble_of(self._look))

    def _look(self) -> None:
        now = look(self._admin, subscribed_topics(self._admin))
        before, self._last = self._last, now
        backlog.note(compare(before, now))

    def _tell(self, trouble: str) -> None:
        if trouble and trouble != self._trouble:
            logger.warning("the backlog of the topics is not known: %s", trouble)
        self._trouble = trouble

    def _run(self) -> None:
        while not self._stopping.is_set():
            self.turn()
            self._stopping.wait(self._seconds)
        connection.close()


def _trouble_of(work: Callable[[], None]) -> str:
    """Do the work; returns what is in its way, in words without values, or nothing."""
    try:
        work()
    except AdminUnavailable as error:
        return f"Pulsar's admin interface: {error}"
    except (DatabaseError, InterfaceError) as error:
        connection.close()
        return f"the database: {type(error).__name__}"
    except Exception as error:  # answers of a shape that nobody expected: the thread must go on
        return type(error).__name__
    return ""
