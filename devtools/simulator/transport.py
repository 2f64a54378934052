"""The simulator's own connection to Pulsar: like an external service, it shares no client with ours.

Sends are asynchronous and batched, and failed sends are repeated: at-least-once delivery, like that of the services.
"""

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pulsar

from devtools.simulator.wire import COMMAND_TOPICS

logger = logging.getLogger(__name__)

SEND_TIMEOUT_MS = 10_000
OPERATION_TIMEOUT = 10  # seconds; with a wrong token the broker does not answer at all
RECEIVE_PAGE = 500


class TransportError(Exception):
    """The broker cannot be used. The text says what was tried."""


@dataclass(frozen=True, slots=True)
class Broker:
    """The address of the broker and its topics. topics: full or short names in place of the usual short ones."""

    service_url: str
    token: str = field(default="", repr=False)
    token_file: str = ""
    tenant: str = "public"
    namespace: str = "default"
    topics: Mapping[str, str] = field(default_factory=dict)
    tls_trust_certs_file: str = ""
    tls_validate_hostname: bool = True
    tls_allow_insecure: bool = False

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> "Broker":
        """Read the project's PULSAR setting."""
        return cls(**{name: settings[name] for name in cls.__slots__ if settings.get(name) is not None})

    def full_name(self, topic: str) -> str:
        """Return the full name of a topic."""
        name = self.topics.get(topic, topic)
        return name if "://" in name else f"persistent://{self.tenant}/{self.namespace}/{name}"

    def authentication(self) -> pulsar.Authentication | None:
        """Return the client's authentication; a token file is read again at each connection."""
        if self.token_file:
            return pulsar.AuthenticationToken(lambda: Path(self.token_file).read_text().strip())
        return pulsar.AuthenticationToken(self.token) if self.token else None

    def connect(self) -> pulsar.Client:
        """Make a client. It connects with its first producer or consumer."""
        return pulsar.Client(
            self.service_url,
            authentication=self.authentication(),
            operation_timeout_seconds=OPERATION_TIMEOUT,
            tls_trust_certs_file_path=self.tls_trust_certs_file or None,
            tls_validate_hostname=self.tls_validate_hostname,
            tls_allow_insecure_connection=self.tls_allow_insecure,
            # Its log lines would break the live table, and a Python logger can abort the process at exit.
            logger=pulsar.FileLogger(pulsar.LoggerLevel.Error, os.devnull),
        )


@dataclass(slots=True)
class _Inbox:
    """One command topic with its own client (a small broker stalls when several topics share a connection).

    consumer: None while the broker is unavailable and subscribing again has failed.
    """

    topic: str
    client: pulsar.Client
    consumer: pulsar.Consumer | None


class SimulatorTransport:
    """Send messages and receive commands. Sending and receiving may be done by different threads.

    subscription: must not be used by another process. It is removed when the transport closes.
    """

    def __init__(self, broker: Broker, subscription: str) -> None:
        """Subscribe to the command topics, starting with the next message. Raises TransportError."""
        self._broker = broker
        self._subscription = subscription
        self._producers: dict[str, pulsar.Producer] = {}
        self._failed: deque[tuple[str, bytes]] = deque()
        self._lock = threading.Lock()
        self._inboxes: list[_Inbox] = []
        self.sent = 0
        try:
            self._sender = broker.connect()
            for topic in COMMAND_TOPICS.values():
                client = broker.connect()
                self._inboxes.append(_Inbox(topic, client, self._subscribe(client, topic)))
        except pulsar.PulsarException as error:
            self.close()
            raise TransportError(f"No answer from Pulsar at {broker.service_url}: {error}") from error

    def send(self, topic: str, body: bytes) -> None:
        """Send without waiting (topic: short name). flush() repeats failed sends."""

        def done(result: pulsar.Result, _: object) -> None:
            # Called by the client's thread. Must not raise: an exception there makes flush() hang permanently.
            if result == pulsar.Result.Ok:
                self.sent += 1
            else:
                self._failed.append((topic, body))

        try:
            self._producer(topic).send_async(body, done)
        except pulsar.PulsarException:
            self._failed.append((topic, body))

    @property
    def healthy(self) -> bool:
        """Whether there are no failed sends to repeat."""
        return not self._failed

    def flush(self) -> bool:
        """Wait for the pending sends and repeat the failed ones; return whether none is left."""
        with suppress(IndexError):  # the other thread may have taken the last one
            for _ in range(len(self._failed)):
                self.send(*self._failed.popleft())
        for producer in list(self._producers.values()):
            try:
                producer.flush()
            except pulsar.PulsarException as error:
                logger.warning("some messages could not be sent yet: %s", error)
        return not self._failed

    def receive(self) -> list[tuple[str, bytes]]:
        """Return the received commands as (short topic, body) and acknowledge them. Waits at most 0.1 s."""
        received = []
        for inbox in self._inboxes:
            if inbox.consumer is None:
                self._open(inbox)
                continue
            try:
                messages = inbox.consumer.batch_receive()
                for message in messages:
                    received.append((inbox.topic, message.data()))
                    inbox.consumer.acknowledge(message)
            except pulsar.PulsarException as error:
                logger.warning("cannot receive commands from %s: %s", inbox.topic, error)
                time.sleep(0.5)  # the client reconnects automatically
        return received

    def resubscribe(self) -> None:
        """Subscribe again, in case the broker has stopped delivering. Unacknowledged messages are redelivered."""
        for inbox in self._inboxes:
            # A consumer must not be closed twice, even if closing it failed.
            consumer, inbox.consumer = inbox.consumer, None
            if consumer is not None:
                _quietly(consumer.close)
            self._open(inbox)

    def close(self) -> None:
        """Remove the subscriptions and close the clients. May be called twice."""
        for inbox in self._inboxes:
            if inbox.consumer is not None:
                _quietly(inbox.consumer.unsubscribe)
            _quietly(inbox.client.close)
        _quietly(self._sender.close)
        self._inboxes = []

    def _producer(self, topic: str) -> pulsar.Producer:
        with self._lock:
            producer = self._producers.get(topic)
            if producer is None:
                producer = self._producers[topic] = self._sender.create_producer(
                    self._broker.full_name(topic),
                    batching_enabled=True,
                    batching_max_publish_delay_ms=5,
                    block_if_queue_full=True,
                    send_timeout_millis=SEND_TIMEOUT_MS,
                )
            return producer

    def _open(self, inbox: _Inbox) -> None:
        try:
            inbox.consumer = self._subscribe(inbox.client, inbox.topic)
        except pulsar.PulsarException as error:
            logger.warning("could not subscribe to %s again: %s", inbox.topic, error)

    def _subscribe(self, client: pulsar.Client, topic: str) -> pulsar.Consumer:
        return client.subscribe(
            self._broker.full_name(topic),
            self._subscription,
            consumer_type=pulsar.ConsumerType.Shared,
            initial_position=pulsar.InitialPosition.Latest,
            receiver_queue_size=RECEIVE_PAGE,
            batch_receive_policy=pulsar.ConsumerBatchReceivePolicy(RECEIVE_PAGE, -1, 50),
        )


def _quietly(close: Any) -> None:
    try:
        close()
    except pulsar.PulsarException as error:
        logger.info("while closing: %s", error)
