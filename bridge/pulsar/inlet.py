"""Receive messages: all subscriptions as one stream of batches, renewed when the broker is silent or unavailable."""

import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pulsar
from django.utils import timezone

from bridge.envelope import Message, producer_name
from bridge.errors import BrokerUnavailable
from bridge.heartbeats import UnreadTopic
from bridge.pulsar.client import connect, describe, quietly, translated
from bridge.pulsar.silence_timer import SilenceTimer
from bridge.topics import Names, Subscriptions, Topics

logger = logging.getLogger(__name__)

T = TypeVar("T")

# A batch is one parameter of one statement: limited in bytes as well as in messages.
_MAX_BATCH_BYTES = 8 * 1024 * 1024
_CHECK_SECONDS = 0.5
# The client reconnects automatically, but after a long outage it waits for up to a minute; a new client does not.
_RENEW_SECONDS, _RENEW_SECONDS_MAX = 15.0, 60.0
# Deliveries stall soon after subscribing to a topic with a backlog. While other topics of the connection have traffic,
# only this timer detects that one of them has stalled.
_STALL_SECONDS, _STALL_SECONDS_MAX = 10.0, 600.0
# Interval for probing a topic that could not be subscribed to. The probing client has a short timeout, because nothing
# is received in the meantime.
_PROBE_SECONDS, _PROBE_SECONDS_MAX = 10.0, 30.0
_PROBE_TIMEOUT_SECONDS = 2
_CONNECTION_ERRORS = frozenset({"Interrupted", "ConnectError", "AuthenticationError", "AlreadyClosed"})
# If more topics than this do not answer, the broker itself does not answer.
_MAX_SILENT_TOPICS = 3
_UNREADABLE_NAME = "\ufffd"  # instead of a name that is not valid UTF-8


@dataclass(slots=True)
class Batch:
    """The messages of one `receive`. `full`: more may be waiting. `size`: bytes of all bodies."""

    messages: list[Message] = field(default_factory=list)
    full: bool = False
    size: int = 0
    natives: list[tuple[pulsar.Consumer, pulsar.Message]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Flow:
    """How much to receive at once.

    batch_size: messages in a batch. wait_ms: the longest wait for the first of them. window: messages prefetched for
    each topic. silence_seconds: the longest silence of a connection before it subscribes again.
    """

    batch_size: int
    wait_ms: int
    window: int
    silence_seconds: float


class Inlet:
    """The subscriptions of the bridge. For one thread.

    options: the setting PULSAR. One connection serves all topics that are known by name, and one each pattern; each
    is monitored and renewed separately. A topic that cannot be subscribed to is left out, listed in `unread`, and
    probed again; a pattern of which one topic cannot be subscribed to is left out as a whole.
    """

    def __init__(
        self,
        options: Mapping[str, Any],
        topics: Topics,
        subscriptions: Subscriptions,
        flow: Flow,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # While true, a signal handler may raise to end the current call of the client.
        self.is_blocking = False
        self._topics = topics
        self._names: dict[str, Names] = {}
        self._flow = flow
        self._clock = clock
        self._next_check = 0.0
        self._renewal = SilenceTimer(_RENEW_SECONDS_MAX, clock(), first=_RENEW_SECONDS)
        targets: list[list[str] | re.Pattern[str]] = [list(subscriptions.topics)]
        targets += map(re.compile, subscriptions.patterns)
        wait_ms = max(1, flow.wait_ms // len(targets))
        self._connections = [_Connection(options, target, flow, wait_ms, clock) for target in targets]

    @property
    def is_connected(self) -> bool:
        connections = [connection for connection in self._connections if not connection.is_left_out]
        return bool(connections) and all(connection.is_connected for connection in connections)

    @property
    def unread(self) -> list[UnreadTopic]:
        """Return the topics that could not be subscribed to, under the names that people know."""
        missing = [topic for connection in self._connections for topic in connection.missing]
        return sorted(topic._replace(topic=self._topics.names(topic.topic).shown) for topic in missing)

    def open(self) -> None:
        """Connect and subscribe to all available topics. Raises BrokerUnavailable, or Interrupted by a signal."""
        with self._blocking():
            for connection in self._connections:
                connection.open()
            if all(connection.is_left_out for connection in self._connections):
                raise BrokerUnavailable(self._connections[0].missing[0].reason)

    def receive(self) -> Batch:
        """Return about one batch of messages; an empty one if none came within the wait.

        Raises BrokerUnavailable, or Interrupted by a signal, when it renews a connection, before it takes any message.
        """
        if self._clock() >= self._next_check:
            self._next_check = self._clock() + _CHECK_SECONDS
            self._check_connections()
        batch = Batch()
        for connection in tuple(self._connections):
            # After a full batch the next `receive` continues with the next connection, so that no topic starves.
            self._connections.append(self._connections.pop(0))
            self._fill(batch, connection)
            if batch.full:
                break
        return batch

    def acknowledge(self, batch: Batch) -> None:
        """Acknowledge the batch to Pulsar. Never raises: unacknowledged messages are redelivered, as duplicates."""
        failed = 0
        for consumer, native in batch.natives:
            try:
                consumer.acknowledge(native)
            except pulsar.PulsarException:
                failed += 1
        if failed:
            logger.warning(
                "%d of %d messages could not be acknowledged: they will be redelivered", failed, len(batch.natives)
            )

    def close(self) -> None:
        """Flush the acknowledgements and disconnect. Never raises."""
        for connection in self._connections:
            connection.close()

    def _fill(self, batch: Batch, connection: "_Connection") -> None:
        while not batch.full:
            consumer, natives = connection.receive()
            for native in natives:
                message = self._message(native)
                batch.messages.append(message)
                batch.natives.append((consumer, native))
                batch.size += len(message.body)
            batch.full = len(batch.messages) >= self._flow.batch_size or batch.size >= _MAX_BATCH_BYTES
            if len(natives) < self._flow.window:
                return

    def _check_connections(self) -> None:
        for connection in self._connections:
            connection.reset_after_reconnection()
            if connection.is_suspect:
                with self._blocking():
                    connection.subscribe_again()
        if self.is_connected:
            self._renewal.heard(self._clock())
            self._probe_missing()
        elif self._renewal.is_over(self._clock()):
            self._renew()

    def _probe_missing(self) -> None:
        for connection in self._connections:
            if connection.is_probe_due:
                with self._blocking():
                    connection.probe_missing()

    def _renew(self) -> None:
        logger.warning("no connection to Pulsar for a while: reconnecting")
        self._renewal.checked(self._clock())
        with self._blocking():
            for connection in self._connections:
                if not connection.is_connected and not connection.is_left_out:
                    connection.open()

    def _message(self, native: pulsar.Message) -> Message:
        full = native.topic_name()
        names = self._names.get(full)
        if names is None:
            names = self._names[full] = self._topics.names(full)
        position = native.message_id()
        encryption = native.encryption_context()
        return Message(
            topic=names.shown,
            short_name=names.short,
            message_id=f"{position.ledger_id()}:{position.entry_id()}:{position.partition()}:{position.batch_index()}",
            published_ms=native.publish_timestamp(),
            body=native.data(),
            properties=_text_or(native.properties, {}),
            encrypted=0 if encryption is None else max(1, encryption.batch_size()),
            producer=producer_name(_text_or(native.producer_name, _UNREADABLE_NAME)),
        )

    @contextmanager
    def _blocking(self) -> Iterator[None]:
        self.is_blocking = True
        try:
            with translated():
                yield
        finally:
            self.is_blocking = False


class _Missing:
    """A topic or pattern that could not be subscribed to: since when, why, and when it is probed again."""

    def __init__(self, topic: str, answer: str, now: float) -> None:
        self.unread = UnreadTopic(topic, timezone.now(), _reason(answer))
        self._interval = _PROBE_SECONDS
        self._next = now + self._interval
        logger.warning("%s", self.unread)

    def is_due(self, now: float) -> bool:
        return now >= self._next

    def postpone(self, answer: str, now: float) -> None:
        self.unread = self.unread._replace(reason=_reason(answer))
        self._interval = min(self._interval * 2, _PROBE_SECONDS_MAX)
        self._next = now + self._interval


class _Connection:
    """One connection and its consumer, for some topics or for a pattern of them."""

    def __init__(
        self,
        options: Mapping[str, Any],
        target: list[str] | re.Pattern[str],
        flow: Flow,
        wait_ms: int,
        clock: Callable[[], float],
    ) -> None:
        self._options = options
        self._target = target
        self._flow = flow
        self._wait_ms = wait_ms
        self._clock = clock
        self._reset_timers()
        self._was_connected = False
        self._client: pulsar.Client | None = None
        self._consumer: pulsar.Consumer | None = None
        self._missing: dict[str, _Missing] = {}
        self._times_opened = 0

    @property
    def missing(self) -> list[UnreadTopic]:
        return [one.unread for one in self._missing.values()]

    @property
    def is_left_out(self) -> bool:
        """Whether nothing is received. Only for a pattern: of topics known by name, the others are received."""
        return isinstance(self._target, re.Pattern) and bool(self._missing)

    @property
    def is_probe_due(self) -> bool:
        now = self._clock()
        return any(one.is_due(now) for one in self._missing.values())

    @property
    def is_connected(self) -> bool:
        return self._consumer is not None and bool(self._consumer.is_connected())

    @property
    def is_suspect(self) -> bool:
        """Whether delivery may have stalled, on all its topics or on one while the others have traffic."""
        now = self._clock()
        return self.is_connected and (self._silence.is_over(now) or self._stall_timer.is_over(now))

    def reset_after_reconnection(self) -> None:
        """Treat a connection that the client renewed, for example after a broker's restart, as a new one."""
        connected = self.is_connected
        if connected and not self._was_connected:
            self._reset_timers()
        self._was_connected = connected

    def open(self) -> None:
        self.close()
        self._client = connect(self._options)
        if isinstance(self._target, list):
            # A different topic each time, in case this one topic is the one that does not answer.
            self._times_opened += 1
            self._check_broker(self._target[(self._times_opened - 1) % len(self._target)])
        self._subscribe()
        self._reset_timers()

    def probe_missing(self) -> None:
        """Probe the missing topics that are due. If some are available now, subscribe to them with the others."""
        now = self._clock()
        due = [topic for topic, one in self._missing.items() if one.is_due(now)]
        try:
            answers = self._probe(due)
        except pulsar.Interrupted:
            raise
        except pulsar.PulsarException as error:
            # The existing consumer, if any, goes on receiving.
            answers = dict.fromkeys(due, _answer(error))
        for topic, answer in answers.items():
            if answer:
                self._missing[topic].postpone(answer, self._clock())
            else:
                del self._missing[topic]
                logger.info("%s can be read again", topic)
        if all(answers.values()):
            return
        if self._client is None:
            self.open()
        else:
            self.subscribe_again()

    def subscribe_again(self) -> None:
        if self._consumer is not None:
            with quietly("close a consumer"):
                self._consumer.close()
            self._consumer = None
        self._silence.checked(self._clock())
        self._stall_timer.checked(self._clock())
        self._subscribe()

    def receive(self) -> tuple[pulsar.Consumer | None, list[pulsar.Message]]:
        if self._consumer is None:
            time.sleep(self._wait_ms / 1000)
            return None, []
        try:
            natives = self._consumer.batch_receive()
        except pulsar.PulsarException as error:
            # The other connections still fill this batch; this one will be found disconnected and renewed.
            logger.warning("lost a connection to Pulsar: %s", type(error).__name__)
            self.close()
            return None, []
        if natives:
            self._silence.heard(self._clock())
        return self._consumer, natives

    def close(self) -> None:
        client, self._client, self._consumer = self._client, None, None
        if client is not None:
            with quietly("close"):
                client.close()

    def _reset_timers(self) -> None:
        self._silence = SilenceTimer(self._flow.silence_seconds, self._clock())
        self._stall_timer = SilenceTimer(_STALL_SECONDS_MAX, self._clock(), first=_STALL_SECONDS)

    def _check_broker(self, topic: str) -> None:
        """Look up one topic first: if the broker does not answer, subscribing would log three lines for each topic."""
        assert self._client is not None
        try:
            self._client.get_topic_partitions(topic)
        except pulsar.PulsarException as error:
            if not _concerns_topic(error) or _answer(error) == "Timeout":
                raise

    def _subscribe(self) -> None:
        """Subscribe to all available topics. Raises the client's error if none is, or if it concerns the broker."""
        assert self._client is not None
        if isinstance(self._target, re.Pattern):
            self._subscribe_to_pattern(self._client, self._target)
            return
        wanted = [topic for topic in self._target if topic not in self._missing]
        try:
            self._consumer = self._consumer_of(self._client, wanted or self._target)
            return
        except pulsar.PulsarException as error:
            if not _concerns_topic(error):
                raise
            answers = self._probe(wanted or self._target)
            refused = {topic: answer for topic, answer in answers.items() if answer}
            if len(refused) == len(answers):
                raise
        self._missing |= {topic: _Missing(topic, answer, self._clock()) for topic, answer in refused.items()}
        self._consumer = self._consumer_of(self._client, [topic for topic in answers if topic not in refused])

    def _subscribe_to_pattern(self, client: pulsar.Client, pattern: re.Pattern[str]) -> None:
        try:
            self._consumer = self._consumer_of(client, pattern)
        except pulsar.PulsarException as error:
            if not _concerns_topic(error):
                raise
            self._missing = {pattern.pattern: _Missing(pattern.pattern, _answer(error), self._clock())}

    def _probe(self, topics: Iterable[str]) -> dict[str, str]:
        """Subscribe to each topic alone, briefly; return the error for each, empty if the topic is available.

        Raises the client's error if the broker itself does not answer.
        """
        answers: dict[str, str] = {}
        seconds = self._options["operation_timeout_seconds"]
        if isinstance(self._target, list):
            seconds = min(seconds, _PROBE_TIMEOUT_SECONDS)
        client = connect(self._options, seconds)
        try:
            for topic in topics:
                try:
                    target = self._target if isinstance(self._target, re.Pattern) else [topic]
                    self._consumer_of(client, target, window=1).close()
                    answers[topic] = ""
                except pulsar.PulsarException as error:
                    answers[topic] = _answer(error)
                    if not _concerns_topic(error) or list(answers.values()).count("Timeout") > _MAX_SILENT_TOPICS:
                        raise
        finally:
            with quietly("close"):
                client.close()
        return answers

    def _consumer_of(
        self, client: pulsar.Client, target: list[str] | re.Pattern[str], window: int | None = None
    ) -> pulsar.Consumer:
        window = window or self._flow.window
        return client.subscribe(
            target,
            self._options["subscription"],
            consumer_type=pulsar.ConsumerType.Shared,
            # A new subscription must receive earlier messages too, such as the first events of a new region.
            initial_position=pulsar.InitialPosition.Earliest,
            receiver_queue_size=window,
            batch_receive_policy=pulsar.ConsumerBatchReceivePolicy(window, _MAX_BATCH_BYTES, self._wait_ms),
            # Brokers that do not support it acknowledge the whole entry, and its unread messages would be lost.
            batch_index_ack_enabled=False,
            # Otherwise encrypted messages are neither delivered nor acknowledged: a window of them blocks the topic.
            crypto_failure_action=pulsar.ConsumerCryptoFailureAction.CONSUME,
        )


def _text_or(read: Callable[[], T], default: T) -> T:
    """Read a message's metadata, or return the default: a producer may put bytes there that are not valid UTF-8."""
    try:
        return read()
    except UnicodeDecodeError:
        return default


def _answer(error: pulsar.PulsarException) -> str:
    return type(error).__name__


def _reason(answer: str) -> str:
    """Return the code of what the client's error means for one topic while others are available."""
    return "topic-timeout" if answer == "Timeout" else describe(answer)


def _concerns_topic(error: pulsar.PulsarException) -> bool:
    """Whether the error may concern one topic alone. Brokers also give no answer for a topic that they cannot serve."""
    return _answer(error) not in _CONNECTION_ERRORS
