"""Read the backlog of our topics from the broker's admin interface and record it.

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

SAMPLE_SECONDS = 10.0
_LAST_SAMPLE_SECONDS = 0.5


class Sample(NamedTuple):
    """The state of our subscription to one topic at one moment.

    messages: number of unacknowledged messages. unsent: how many of them were sent to no consumer. acked: time of the
    last acknowledgement, in ms by the broker's clock; only used to see whether it changes.
    """

    messages: int
    unsent: int
    acked: int

    def is_stalled_since(self, earlier: "Sample") -> bool:
        """Whether messages waited at both moments and none was acknowledged in between."""
        return 0 < earlier.messages <= self.messages and self.acked == earlier.acked


def subscribed_topics(admin: PulsarAdmin) -> list[str]:
    """Return the full names of the topics that we read, patterns resolved by the broker. Raises AdminUnavailable."""
    subscriptions = get_topics().subscriptions(get_catalog().topics)
    if not subscriptions.patterns:
        return list(subscriptions.topics)
    try:
        regional = regional_topics(admin)
    except AdminUnavailable:
        # A role that may not list the topics cannot subscribe by a pattern either.
        if not subscriptions.optional:
            raise
        regional = []
    return list(dict.fromkeys([*subscriptions.topics, *regional]))


def regional_topics(admin: PulsarAdmin) -> list[str]:
    """Return the full names of all topics of any region that the broker has, whether or not we read them.

    Queries only the namespaces in which they may be: the token may have no rights elsewhere. Raises AdminUnavailable.
    """
    topics, regional = get_topics(), [topic for topic in get_catalog().topics if REGION in topic]
    places = sorted({_namespace(topics.full(topic)) for topic in regional})
    patterns = [region_pattern(topic) for topic in regional]
    names = without_partitions(name for place in places for name in admin.topics(place))
    return [name for name in names if any(pattern.fullmatch(topics.names(name).short) for pattern in patterns)]


def sample(admin: PulsarAdmin, topics: Iterable[str]) -> dict[str, Sample]:
    """Return the state of our subscription on each of the topics (full names) that has it. Raises AdminUnavailable."""
    found = {}
    for topic in topics:
        ours = subscriptions(admin.stats(topic)).get(settings.PULSAR["subscription"])
        if ours is not None:
            acked = [ours.get("lastAckedTimestamp", 0), *(c.get("lastAckedTimestamp", 0) for c in ours["consumers"])]
            messages = int(ours.get("msgBacklog", 0))
            # The backlog is counted in entries, which may hold several messages each; sent messages are counted singly.
            unsent = max(0, messages - int(ours.get("unackedMessages", 0)))
            found[topic] = Sample(messages, unsent, int(max(acked)))
    return found


def subscriptions(stats: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return the subscriptions of a topic by name, from its statistics."""
    found: Mapping[str, Any] = (stats or {}).get("subscriptions", {})
    return found


def without_partitions(topics: Iterable[str]) -> list[str]:
    """Return the topics, each partitioned one once."""
    return sorted({Topics.whole(topic) for topic in topics})


def compare(before: Mapping[str, Sample], now: Mapping[str, Sample]) -> list[Reading]:
    """Derive readings from two samples. One is not enough: a message that is being delivered is in the backlog too.

    If nothing was acknowledged between them, all messages count as undelivered, even those that the broker has sent: a
    consumer may hold them without processing them. Otherwise only those count that were unsent in both samples. A topic
    with messages but without an earlier sample is left out: nothing is known of it.
    """
    found = []
    for topic, last in now.items():
        first = before.get(topic)
        name = get_topics().names(topic).shown
        if not last.messages:
            found.append(Reading(name, 0, stalled=False))
        elif first is not None:
            stalled = last.is_stalled_since(first)
            found.append(Reading(name, last.messages if stalled else min(first.unsent, last.unsent), stalled))
    return found


def _namespace(topic: str) -> str:
    """Return the tenant and namespace of a topic (its full name), as the admin interface writes them."""
    return topic.partition("://")[2].rpartition("/")[0]


class BacklogMonitor:
    """Query the broker every SAMPLE_SECONDS from a separate thread and store the readings (bridge.backlog).

    An interface that hangs or fails delays no other thread: after a minute the backlog counts as unknown, and the
    doctor reports the cause.
    """

    def __init__(self, admin: PulsarAdmin, seconds: float = SAMPLE_SECONDS) -> None:
        self._admin = admin
        self._seconds = seconds
        self._last: Mapping[str, Sample] = {}
        self._error = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="backlog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop after the current step, waiting for it at most 0.5 s. May be called before `start`."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(_LAST_SAMPLE_SECONDS)

    def step(self) -> None:
        """Take one sample and store what it and the previous one show. Never raises."""
        self._log(_error_of(self._sample))

    def _sample(self) -> None:
        now = sample(self._admin, subscribed_topics(self._admin))
        before, self._last = self._last, now
        backlog.note(compare(before, now))

    def _log(self, error: str) -> None:
        if error and error != self._error:
            logger.warning("the backlog of the topics is not known: %s", error)
        self._error = error

    def _run(self) -> None:
        while not self._stopping.is_set():
            self.step()
            self._stopping.wait(self._seconds)
        connection.close()


def _error_of(run: Callable[[], None]) -> str:
    """Run the function and return a text without values for its error; empty if there is none."""
    try:
        run()
    except AdminUnavailable as error:
        return f"Pulsar's admin interface: {error}"
    except (DatabaseError, InterfaceError) as error:
        connection.close()
        return f"the database: {type(error).__name__}"
    except Exception as error:  # answers of an unexpected shape: the thread must continue
        return type(error).__name__
    return ""
