"""The bridge's loop: receive, decode, store, acknowledge, nudge."""

import logging
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection

from bridge import clock, event_log, heartbeats, reasons
from bridge.catalog import get_catalog
from bridge.codec import Codec, get_codec
from bridge.envelope import Envelope, Message, Rejected
from bridge.errors import BrokerUnavailable, Interrupted
from bridge.heartbeats import UnreadTopic
from bridge.models import HeartbeatKind
from bridge.pulsar.inlet import Batch, Flow, Inlet
from bridge.sqlstate import sqlstate
from bridge.topics import get_topics

logger = logging.getLogger(__name__)

_BEAT_SECONDS = 1.0
_BACKOFF_SECONDS, _BACKOFF_SECONDS_MAX = 0.1, 5.0
# Full batches may follow each other for this long before they count as a backlog. Publish times cannot tell: they come
# from the producers' clocks.
_BEHIND_SECONDS = 5.0
_MAX_BEHIND_TOPICS = 5


class MessageSource(Protocol):
    """The source of batches: `bridge.pulsar.inlet.Inlet`, or a fake in tests."""

    @property
    def is_connected(self) -> bool: ...
    @property
    def is_blocking(self) -> bool: ...
    @property
    def unread(self) -> Sequence[UnreadTopic]: ...
    def open(self) -> None: ...
    def receive(self) -> Batch: ...
    def acknowledge(self, batch: Batch) -> None: ...
    def close(self) -> None: ...


@dataclass(slots=True)
class Vitals:
    """The values that the heartbeat reports."""

    received: int = 0
    stored: int = 0
    duplicates: int = 0
    quarantined: int = 0
    last_message: float | None = None  # by the monotonic clock
    full_since: float | None = None  # by the monotonic clock: since when every batch has been full
    is_caught_up: bool = False
    behind_topics: tuple[str, ...] = ()  # where the last full batch came from
    error: str = ""
    received_by_last_beat: int = 0
    last_beat: float = field(default=float("-inf"))

    def record(self, batch: Batch, moment: float) -> None:
        """Count a received batch. `moment`: monotonic seconds."""
        self.received += len(batch.messages)
        if batch.messages:
            self.last_message = moment
        if not batch.full:
            self.full_since, self.is_caught_up, self.behind_topics = None, True, ()
            return
        self.full_since = moment if self.full_since is None else self.full_since
        # A burst is not a backlog: a bridge that had caught up falls behind only if it goes on for a while.
        self.is_caught_up = self.is_caught_up and moment - self.full_since < _BEHIND_SECONDS
        topics = Counter(message.topic for message in batch.messages)
        self.behind_topics = tuple(topic for topic, _ in topics.most_common(_MAX_BEHIND_TOPICS))

    def last_message_age(self, moment: float) -> timedelta | None:
        return None if self.last_message is None else timedelta(seconds=moment - self.last_message)


class Consumer:
    """Move messages from Pulsar to the event log. One per process; several processes may share the subscription.

    A message is acknowledged only after its commit, and never negatively acknowledged: while the database is
    unavailable the same batch is tried again and nothing is received.

    wake: called after each commit that added events; must not block.
    """

    def __init__(
        self,
        source: MessageSource,
        codec: Codec,
        *,
        wake: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.name = f"bridge:{socket.gethostname()}:{os.getpid()}"
        self.vitals = Vitals()
        self._source = source
        self._codec = codec
        self._wake = wake
        self._clock = clock
        self._sleep = sleep
        self._is_open = False
        self._is_stopping = False

    def run(self) -> None:
        """Run steps until `stop`, then close the source and remove the heartbeat. Blocks."""
        try:
            self._beat(forget=True)
            while not self._is_stopping:
                self.step()
        except Interrupted:
            logger.info("interrupted while waiting for Pulsar")
        finally:
            self._leave()

    def stop(self) -> None:
        """End after the current step. For signal handlers: raises Interrupted to end a wait of Pulsar's client."""
        self._is_stopping = True
        if self._source.is_blocking:
            raise Interrupted("stop")

    def step(self) -> bool:
        """Receive and store one batch. Return whether messages were stored.

        Raises Interrupted if `stop` was called while it waited for Pulsar.
        """
        self._beat_if_due()
        batch = self._receive()
        return bool(batch.messages) and self._take(batch)

    # --- receiving ---

    def _receive(self) -> Batch:
        try:
            if not self._is_open:
                self._source.open()
                self._is_open = True
                logger.info("subscribed to Pulsar")
                # Immediately: otherwise the heartbeat would report a disconnected bridge for up to a second more.
                self._beat()
            batch = self._source.receive()
        except BrokerUnavailable as error:
            self._report_error(error.code)
            self._pause(_BACKOFF_SECONDS_MAX if not self._is_open else _BACKOFF_SECONDS)
            return Batch()
        self.vitals.record(batch, self._clock())
        if not batch.messages and self._source.is_connected:
            self.vitals.error = ""
        elif not batch.messages:
            # Disconnected: messages may be accumulating unseen.
            self.vitals.is_caught_up = False
        return batch

    # --- storing ---

    def _take(self, batch: Batch) -> bool:
        """Store and acknowledge; return False if `stop` came before the database accepted the batch."""
        backoff = _BACKOFF_SECONDS
        while not self._is_stopping:
            if self._store(batch.messages):
                self._source.acknowledge(batch)
                return True
            self._pause(backoff)
            backoff = min(backoff * 2, _BACKOFF_SECONDS_MAX)
            self._beat_if_due()
        return False

    def _decode(self, messages: Sequence[Message], now: datetime) -> tuple[list[Envelope], list[Rejected]]:
        envelopes: list[Envelope] = []
        rejected: list[Rejected] = []
        for message in messages:
            decoded = self._codec.decode(message, now)
            if isinstance(decoded, Envelope):
                envelopes.append(decoded)
            else:
                rejected.append(decoded)
        return envelopes, rejected

    def _store(self, messages: Sequence[Message]) -> bool:
        try:
            result = event_log.store_batch(*self._decode(messages, clock.now()))
        except (DatabaseError, InterfaceError) as error:
            # The error's text may quote values, so only its kind is reported.
            self._report_error(f"database-refuses-events:{_kind_of(error)}")
            connection.close()
            return False
        self.vitals.stored += result.stored
        self.vitals.duplicates += result.duplicates
        self.vitals.quarantined += result.quarantined
        self.vitals.error = ""
        if result.stored:
            self._wake()
        return True

    # --- reporting, stopping ---

    def _beat_if_due(self) -> None:
        if self._clock() - self.vitals.last_beat >= _BEAT_SECONDS:
            self._beat()

    def _beat(self, *, forget: bool = False) -> None:
        vitals = self.vitals
        seconds = max(self._clock() - vitals.last_beat, 0.001)
        rate = (vitals.received - vitals.received_by_last_beat) / seconds
        vitals.last_beat, vitals.received_by_last_beat = self._clock(), vitals.received
        connected = self._is_open and self._source.is_connected
        # An unread topic may hold a confirmation whose deadline is running.
        unread = self._source.unread
        try:
            heartbeats.beat(
                self.name,
                HeartbeatKind.BRIDGE,
                connected=connected,
                well=connected and vitals.is_caught_up and not vitals.error and not unread,
                last_message_age=vitals.last_message_age(self._clock()),
                detail={
                    "per_second": round(rate, 1),
                    "caught_up": vitals.is_caught_up,
                    "behind_topics": [] if vitals.is_caught_up else vitals.behind_topics,
                    "received": vitals.received,
                    "stored": vitals.stored,
                    "duplicates": vitals.duplicates,
                    "quarantined": vitals.quarantined,
                    "error": vitals.error,
                    "unread_topics": [topic._asdict() for topic in unread],
                },
            )
            if forget:
                heartbeats.delete_stale()
        except (DatabaseError, InterfaceError) as error:
            self._report_error(f"database-refuses-heartbeat:{_kind_of(error)}")
            connection.close()

    def _leave(self) -> None:
        self._source.close()
        try:
            heartbeats.leave(self.name)
        except (DatabaseError, InterfaceError):
            logger.info("could not remove the heartbeat: the database is unavailable")
        logger.info("stopped: %d received, %d stored", self.vitals.received, self.vitals.stored)

    def _report_error(self, code: str) -> None:
        """Report an error by the code of its reason, in the heartbeat and, once, in the log."""
        if code != self.vitals.error:
            logger.warning("%s", reasons.english(code))
        self.vitals.error = code

    def _pause(self, seconds: float) -> None:
        until = self._clock() + seconds
        while not self._is_stopping and self._clock() < until:
            self._sleep(min(0.1, seconds))


def _kind_of(error: Exception) -> str:
    code = sqlstate(error)
    return f"{type(error).__name__} {code}" if code else type(error).__name__


def make_consumer(wake: Callable[[], None]) -> Consumer:
    """Make the project's consumer from the settings. Opens no connection yet."""
    topics = get_topics()
    flow = Flow(
        batch_size=settings.BRIDGE_BATCH_SIZE,
        wait_ms=settings.BRIDGE_BATCH_WAIT_MS,
        window=settings.BRIDGE_RECEIVER_QUEUE_SIZE,
        silence_seconds=settings.BRIDGE_SILENCE_SECONDS,
    )
    inlet = Inlet(settings.PULSAR, topics, topics.subscriptions(get_catalog().topics), flow)
    return Consumer(inlet, get_codec(), wake=wake)
