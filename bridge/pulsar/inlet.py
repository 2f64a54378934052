"""Taking in: subscriptions as one stream of batches, mended when the broker falls silent or goes away."""

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
from bridge.pulsar.client import connect, in_words, quietly, translated
from bridge.pulsar.silence_timer import SilenceTimer
from bridge.topics import Names, Subscriptions, Topics

logger = logging.getLogger(__name__)

T = TypeVar("T")

# A batch is one parameter of one statement: bounded in bytes as well as in messages.
_MAX_BATCH_BYTES = 8 * 1024 * 1024
_LOOK_SECONDS = 0.5
# The client reconnects by itself, but after a long outage waits for up to a minute; a new one does not.
_RENEW_SECONDS, _RENEW_SECONDS_AT_MOST = 15.0, 60.0
# Stalls come soon after subscribing, over a backlog; under traffic nothing else shows that one topic of many stands.
_SETTLE_SECONDS, _SETTLE_SECONDS_AT_MOST = 10.0, 600.0
# A topic that cannot be had is asked for again after so long, with a client that gives up soon: nothing is received
# meanwhile.
_ASK_SECONDS, _ASK_SECONDS_AT_MOST = 10.0, 30.0
_PROBE_TIMEOUT_SECONDS = 2
_OF_CONNECTION = frozenset({"Interrupted", "ConnectError", "AuthenticationError", "AlreadyClosed"})
# With more topics than this that give no answer it is the broker that gives none.
_SILENT_TOPICS = 3
_NO_TEXT = "\ufffd"  # instead of a name that is no text in UTF-8


@dataclass(slots=True)
class Batch:
    """What one receive brought. `full`: there may be more where it came from."""

    messages: list[Message] = field(default_factory=list)
    full: bool = False
    size: int = 0
    natives: list[tuple[pulsar.Consumer, pulsar.Message]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Flow:
    """How much to take at once.

    batch_size: messages; wait_ms: the longest wait for the first of them; window: messages prefetched, a topic;
    silence_seconds: the longest silence of a connection before it subscribes again.
    """

    batch_size: int
    wait_ms: int
    window: int
    silence_seconds: float


class Inlet:
    """The subscriptions of the bridge. For one thread.

    options: the setting PULSAR. One connection for all topics that are known by name, and one for each pattern;
    each is watched and mended for itself. A topic that cannot be had is left out, named in `unread`, and asked for
    again; a pattern whose topics are not all to be had is left out as a whole.
    """

    def __init__(
        self,
        options: Mapping[str, Any],
        topics: Topics,
        subscriptions: Subscriptions,
        flow: Flow,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # A signal handler that raises ends a call under way, and only then may it.
        self.is_blocking = False
        self._topics = topics
        self._names: dict[str, Names] = {}
        self._flow = flow
        self._clock = clock
        self._next_look = 0.0
        self._renewal = SilenceTimer(_RENEW_SECONDS_AT_MOST, clock(), first=_RENEW_SECONDS)
        targets: list[list[str] | re.Pattern[str]] = [list(subscriptions.topics)]
        targets += map(re.compile, subscriptions.patterns)
        wait_ms = max(1, flow.wait_ms // len(targets))
        self._lines = [_Line(options, target, flow, wait_ms, clock) for target in targets]

    @property
    def is_connected(self) -> bool:
        lines = [line for line in self._lines if not line.is_left_out]
        return bool(lines) and all(line.is_connected for line in lines)

    @property
    def unread(self) -> list[UnreadTopic]:
        """The topics that cannot be had, under the names that people know them by."""
        missing = [topic for line in self._lines for topic in line.missing]
        return sorted(topic._replace(topic=self._topics.names(topic.topic).shown) for topic in missing)

    def open(self) -> None:
        """Connect and subscribe to all that can be had. Raises BrokerUnavailable, or Interrupted by a signal."""
        with self._blocking():
            for line in self._lines:
                line.open()
            if all(line.is_left_out for line in self._lines):
                raise BrokerUnavailable(self._lines[0].missing[0].reason)

    def receive(self) -> Batch:
        """What has come, about a batch; empty after the wait.

        Raises BrokerUnavailable, or Interrupted by a signal, from mending a connection: before anything is taken.
        """
        if self._clock() >= self._next_look:
            self._next_look = self._clock() + _LOOK_SECONDS
            self._look_after_lines()
        batch = Batch()
        for line in tuple(self._lines):
            # Where a full batch leaves off, the next receive goes on: no topic starves.
            self._lines.append(self._lines.pop(0))
            self._fill(batch, line)
            if batch.full:
                break
        return batch

    def acknowledge(self, batch: Batch) -> None:
        """Tell Pulsar that the batch is safe. Never raises: what is not acknowledged comes again, as a duplicate."""
        failed = 0
        for consumer, native in batch.natives:
            try:
                consumer.acknowledge(native)
            except pulsar.PulsarException:
                failed += 1
        if failed:
            logger.warning("%d of %d messages could not be acknowledged: they come again", failed, len(batch.natives))

    def close(self) -> None:
        """Flush the acknowledgements and disconnect. Never raises."""
        for line in self._lines:
            line.close()

    def _fill(self, batch: Batch, line: "_Line") -> None:
        while not batch.full:
            consumer, natives = line.receive()
            for native in natives:
                message = self._message(native)
                batch.messages.append(message)
                batch.natives.append((consumer, native))
                batch.size += len(message.body)
            batch.full = len(batch.messages) >= self._flow.batch_size or batch.size >= _MAX_BATCH_BYTES
            if len(natives) < self._flow.window:
                return

    def _look_after_lines(self) -> None:
        for line in self._lines:
            line.notice_reconnection()
            if line.is_suspect:
                with self._blocking():
                    line.subscribe_again()
        if self.is_connected:
            self._renewal.heard(self._clock())
            self._ask_for_missing()
        elif self._renewal.is_over(self._clock()):
            self._renew()

    def _ask_for_missing(self) -> None:
        for line in self._lines:
            if line.is_asking_due:
                with self._blocking():
                    line.ask_again()

    def _renew(self) -> None:
        logger.warning("no connection to Pulsar for a while: connecting anew")
        self._renewal.looked(self._clock())
        with self._blocking():
            for line in self._lines:
                if not line.is_connected and not line.is_left_out:
                    line.open()

    def _message(self, native: pulsar.Message) -> Message:
        full = native.topic_name()
        names = self._names.get(full)
        if names is None:
            names = self._names[full] = self._topics.names(full)
        place = native.message_id()
        sealed = native.encryption_context()
        return Message(
            topic=names.shown,
            short_name=names.short,
            message_id=f"{place.ledger_id()}:{place.entry_id()}:{place.partition()}:{place.batch_index()}",
            published_ms=native.publish_timestamp(),
            body=native.data(),
            properties=_text_or(native.properties, {}),
            encrypted=0 if sealed is None else max(1, sealed.batch_size()),
            producer=producer_name(_text_or(native.producer_name, _NO_TEXT)),
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
    """A topic or pattern that cannot be had: since when, why, and when it is asked for again."""

    def __init__(self, topic: str, answer: str, now: float) -> None:
        self.unread = UnreadTopic(topic, timezone.now(), _reason(answer))
        self._interval = _ASK_SECONDS
        self._next = now + self._interval
        logger.warning("%s", self.unread)

    def is_due(self, now: float) -> bool:
        return now >= self._next

    def refused_again(self, answer: str, now: float) -> None:
        self.unread = self.unread._replace(reason=_reason(answer))
        self._interval = min(self._interval * 2, _ASK_SECONDS_AT_MOST)
        self._next = now + self._interval


class _Line:
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
        self._be_patient()
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
        """Whether nothing of it can be had. Only a pattern: of topics known by name, the others are taken."""
        return isinstance(self._target, re.Pattern) and bool(self._missing)

    @property
    def is_asking_due(self) -> bool:
        now = self._clock()
        return any(one.is_due(now) for one in self._missing.values())

    @property
    def is_connected(self) -> bool:
        return self._consumer is not None and bool(self._consumer.is_connected())

    @property
    def is_suspect(self) -> bool:
        """Whether it may have stalled: all of it, or a topic of it while the others hide that by their traffic."""
        now = self._clock()
        return self.is_connected and (self._patience.is_over(now) or self._settling.is_over(now))

    def notice_reconnection(self) -> None:
        """A connection that the client renewed by itself, as after a broker's restart, is as young as one of ours."""
        connected = self.is_connected
        if connected and not self._was_connected:
            self._be_patient()
        self._was_connected = connected

    def open(self) -> None:
        self.close()
        self._client = connect(self._options)
        if isinstance(self._target, list):
            # Another one each time, should it be this one that gets no answer.
            self._times_opened += 1
            self._ask_first(self._target[(self._times_opened - 1) % len(self._target)])
        self._subscribe()
        self._be_patient()

    def ask_again(self) -> None:
        """Ask for what is missing and due; where some of it is to be had by now, subscribe to it with the others."""
        now = self._clock()
        due = [topic for topic, one in self._missing.items() if one.is_due(now)]
        try:
            answers = self._probe(due)
        except pulsar.Interrupted:
            raise
        except pulsar.PulsarException as error:
            # What there is of a consumer receives all the same.
            answers = dict.fromkeys(due, _answer(error))
        for topic, answer in answers.items():
            if answer:
                self._missing[topic].refused_again(answer, self._clock())
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
        self._patience.looked(self._clock())
        self._settling.looked(self._clock())
        self._subscribe()

    def receive(self) -> tuple[pulsar.Consumer | None, list[pulsar.Message]]:
        if self._consumer is None:
            time.sleep(self._wait_ms / 1000)
            return None, []
        try:
            natives = self._consumer.batch_receive()
        except pulsar.PulsarException as error:
            # The other lines of this batch must not suffer; this one is found unconnected, and renewed.
            logger.warning("a connection to Pulsar broke: %s", type(error).__name__)
            self.close()
            return None, []
        if natives:
            self._patience.heard(self._clock())
        return self._consumer, natives

    def close(self) -> None:
        client, self._client, self._consumer = self._client, None, None
        if client is not None:
            with quietly("close"):
                client.close()

    def _be_patient(self) -> None:
        self._patience = SilenceTimer(self._flow.silence_seconds, self._clock())
        self._settling = SilenceTimer(_SETTLE_SECONDS_AT_MOST, self._clock(), first=_SETTLE_SECONDS)

    def _ask_first(self, topic: str) -> None:
        """One question: where it is in vain, subscribing would tell so of each topic, in three lines."""
        assert self._client is not None
        try:
            self._client.get_topic_partitions(topic)
        except pulsar.PulsarException as error:
            if not _is_of_topic(error) or _answer(error) == "Timeout":
                raise

    def _subscribe(self) -> None:
        """Subscribe to what can be had. Raises what the client raises where that is nothing, or it is the broker."""
        assert self._client is not None
        if isinstance(self._target, re.Pattern):
            self._subscribe_to_pattern(self._client, self._target)
            return
        wanted = [topic for topic in self._target if topic not in self._missing]
        try:
            self._consumer = self._consumer_of(self._client, wanted or self._target)
            return
        except pulsar.PulsarException as error:
            if not _is_of_topic(error):
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
            if not _is_of_topic(error):
                raise
            self._missing = {pattern.pattern: _Missing(pattern.pattern, _answer(error), self._clock())}

    def _probe(self, topics: Iterable[str]) -> dict[str, str]:
        """Ask for each topic alone; returns what the broker answered, empty where the topic can be had.

        Raises what the client raises where it is the broker that does not answer.
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
                    if not _is_of_topic(error) or list(answers.values()).count("Timeout") > _SILENT_TOPICS:
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
            # A new subscription must see what was published before it, such as the first events of a new region.
            initial_position=pulsar.InitialPosition.Earliest,
            receiver_queue_size=window,
            batch_receive_policy=pulsar.ConsumerBatchReceivePolicy(window, _MAX_BATCH_BYTES, self._wait_ms),
            # Brokers that do not know it acknowledge the whole entry, and what was not taken of it is lost.
            batch_index_ack_enabled=False,
            # Otherwise an encrypted message is neither given out nor acknowledged, and a window of them ends its topic.
            crypto_failure_action=pulsar.ConsumerCryptoFailureAction.CONSUME,
        )


def _text_or(read: Callable[[], T], otherwise: T) -> T:
    """What the client reads from a message's metadata. A producer may put bytes there that are no text."""
    try:
        return read()
    except UnicodeDecodeError:
        return otherwise


def _answer(error: pulsar.PulsarException) -> str:
    return type(error).__name__


def _reason(answer: str) -> str:
    """What an answer means for one topic, where others are to be had."""
    return "Pulsar gives no answer for this topic in time: Timeout" if answer == "Timeout" else in_words(answer)


def _is_of_topic(error: pulsar.PulsarException) -> bool:
    """Whether it may be about one topic alone. Brokers also answer with silence for one that they cannot serve."""
    return _answer(error) not in _OF_CONNECTION
