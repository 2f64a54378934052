"""How long it takes until the service works again, from a fact that comes in to an undo that goes out.

A canary is a saga that fails at once and owes one undo. The service has recovered when the undo of a canary has left
that was sent after the act: then Pulsar, bridge, PostgreSQL, worker and publisher all work.
"""

import contextlib
import threading
import time
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import psycopg2
import pulsar

from devtools.simulator import wire
from devtools.simulator.transport import Broker
from devtools.simulator.wire import Fields, Image, SimulatedEvent, Task

EVERY_SECONDS = 1.0
AT_MOST = 40
_LOOK_SECONDS = 0.1
_ASK = """
    SELECT EXISTS (SELECT FROM compensation_command WHERE key = ANY(%s) AND published_at IS NOT NULL)
       AND EXISTS (SELECT FROM bridge_heartbeat WHERE kind = 'sweeper' AND beat_at > %s)
"""


class Canaries:
    """Sends canaries past the proxies and looks for their undo in the database, past them too.

    whole, broken: the task ids of those that were sent, and of those of which some part may not have been.
    """

    def __init__(self, broker: Broker, database_url: str) -> None:
        self._broker = broker
        self._database_url = database_url
        self.whole: list[str] = []
        self.broken: list[str] = []

    def recovery(self, patience: float, over: threading.Event) -> float | None:
        """Seconds until an undo of a canary left that was sent after this call, and a sweep began; None: not in time.

        Returns when every canary is answered, which may take longer. Blocks; for one thread.
        """
        began, since = time.monotonic(), datetime.now(UTC)
        sent: list[Canary] = []
        last = float("-inf")
        client = self._broker.connect()
        seconds = None
        while time.monotonic() - began < patience and not over.is_set():
            if time.monotonic() - last >= EVERY_SECONDS and len(sent) < AT_MOST:
                last = time.monotonic()
                sent.append(Canary())
                whole = self._send(client, sent[-1].story())
                (self.whole if whole else self.broken).append(sent[-1].task_id)
                if not whole:
                    client = self._again(client)
            if self._is_well([canary.task_id for canary in sent], since):
                seconds = time.monotonic() - began
                break
            time.sleep(_LOOK_SECONDS)
        self._answer(client, sent, over)
        return seconds

    def _answer(self, client: pulsar.Client, sent: list["Canary"], over: threading.Event) -> None:
        """Confirm every undo, so that the canaries end well; also of those that may have been sent in part."""
        for canary in sent:
            while not self._send(client, canary.answer()) and not over.is_set():
                client = self._again(client)
        _close(client)

    def _again(self, client: pulsar.Client) -> pulsar.Client:
        """A new client: an old one may wait for long before it tries again."""
        _close(client)
        time.sleep(_LOOK_SECONDS)
        return self._broker.connect()

    def _send(self, client: pulsar.Client, story: list[SimulatedEvent]) -> bool:
        """Whether all of it was taken."""
        try:
            for event in story:
                producer = client.create_producer(self._broker.full_name(event.topic), send_timeout_millis=3000)
                producer.send(event.body())
                producer.close()
        except pulsar.PulsarException:
            return False
        return True

    def _is_well(self, tasks: list[str], since: datetime) -> bool:
        try:
            with contextlib.closing(_connect(self._database_url)) as connection, connection.cursor() as cursor:
                cursor.execute(_ASK, [tasks, since])
                return bool(cursor.fetchone()[0])
        except psycopg2.Error:
            return False


class Canary:
    """A saga of one image that fails at once. What it says is always the same, to the byte."""

    def __init__(self) -> None:
        self.task_id = str(uuid.uuid4())
        self._image_id = str(uuid.uuid4())
        self._at = datetime.now(UTC)

    def story(self) -> list[SimulatedEvent]:
        task = Task(self.task_id, self.task_id, "CANARY", "the mine")
        image = Image(self._image_id, 0, "CT", "usa", self.task_id, self.task_id)
        return [
            self._event("RetrievalStarted", wire.retrieval_started(task)),
            self._event("ImagesRetrieved", wire.images_retrieved(task, [image])),
            self._event("RetrievalFailed", wire.retrieval_failed(task, "the canary fell silent")),
        ]

    def answer(self) -> list[SimulatedEvent]:
        fields = wire.image_deletion_completed(self.task_id, self._image_id, "the canary is well")
        return [self._event("ImageDeletionCompleted", fields)]

    def _event(self, kind: str, fields: Fields) -> SimulatedEvent:
        return SimulatedEvent(kind, wire.TOPICS[kind], str(uuid.uuid5(uuid.UUID(self.task_id), kind)), self._at, fields)


def _connect(url: str) -> Any:
    return psycopg2.connect(url, connect_timeout=2, options="-c statement_timeout=2000")


def _close(client: pulsar.Client) -> None:
    with suppress(pulsar.PulsarException):
        client.close()
