"""The processes beside the stack: who publishes, who answers commands, and the raw ceiling's consumer.

Each is a process of its own, so that its time on the CPU is its own and no two share an interpreter.
"""

import contextlib
import multiprocessing
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import orjson
import psycopg2
import pulsar

from devtools.simulator import wire
from devtools.simulator.transport import Broker, SimulatorTransport
from tests.bench.load import NOW

_SPAWN = multiprocessing.get_context("spawn")  # a forked copy of Pulsar's client hangs
_PATIENCE = 60.0
# As the bridge takes them.
BATCH, WINDOW, WAIT_MS = 500, 200, 20
SILENCE = 3.0


class PartyError(Exception):
    """A party did not do its part in time."""


class Party:
    """A process that gets ready, starts when it is told to, and says in the end what it saw."""

    def __init__(self, work: Callable[..., None], *arguments: Any) -> None:
        self._ours, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=work, args=(theirs, *arguments), daemon=True)
        self._process.start()
        theirs.close()
        self._hear("ready")

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def go(self) -> None:
        self._ours.send("go")

    def result(self, seconds: float = _PATIENCE) -> Any:
        """What it has to say; raises PartyError if it says nothing in time."""
        answer = self._hear("result", seconds)
        self._ours.send("bye")
        self._process.join(10)
        return answer

    def end(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        self._process.join(5)

    def _hear(self, what: str, seconds: float = _PATIENCE) -> Any:
        try:
            heard, answer = self._ours.recv() if self._ours.poll(seconds) else ("nothing", None)
        except EOFError:
            heard, answer = "its end", None
        if heard != what:
            self.end()
            raise PartyError(f"expected {what!r}, but heard {heard!r}")
        return answer


class Published(NamedTuple):
    """When the first message was handed to the client (seconds since 1970), how many failed, CPU seconds of it all."""

    first: float
    failed: int
    cpu: float


def publisher(broker: Broker, messages: Sequence[tuple[str, bytes]], *, prefix: str = "", rate: float = 0) -> Party:
    """Publishes messages, as fast as the broker takes them or `rate` a second. Its result is a Published."""
    return Party(_publish, broker, [(prefix + topic, body) for topic, body in messages], rate)


def services(broker: Broker) -> Party:
    """Plays the services that obey commands: every command is confirmed at once, until its end."""
    return Party(_answer, broker)


def ceiling(broker: Broker, database_url: str, topics: Sequence[str], events: int) -> Party:
    """The least that a durable consumer does, without any saga.

    Its result is the time of its last commit, None if the broker fell silent before that.
    """
    return Party(_consume, broker, database_url, list(topics), events)


# --- in their processes -----------------------------------------------------------------------------------------------


def _publish(pipe: Connection, broker: Broker, messages: list[tuple[str, bytes]], rate: float) -> None:
    client = broker.connect()
    # Each message for itself, as the services publish: it costs the broker ten times what a batch of them would.
    producers = {
        topic: client.create_producer(
            broker.full_name(topic), batching_enabled=False, block_if_queue_full=True, max_pending_messages=5000
        )
        for topic in {topic for topic, _ in messages}
    }
    failures: list[str] = []

    def done(result: pulsar.Result, _: object) -> None:
        if result != pulsar.Result.Ok:
            failures.append(result.name)

    _wait_for_go(pipe)
    first, cpu = time.time(), time.process_time()
    for number, (topic, body) in enumerate(messages):
        producers[topic].send_async(_stamped(body) if rate else body, done)
        if rate and (early := first + (number + 1) / rate - time.time()) > 0:
            time.sleep(early)
    for producer in producers.values():
        producer.flush()
    _say(pipe, Published(first, len(failures), time.process_time() - cpu))
    client.close()


def _stamped(body: bytes) -> bytes:
    return body.replace(NOW, datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="microseconds").encode())


def _answer(pipe: Connection, broker: Broker) -> None:
    transport = SimulatorTransport(broker, f"bench-services-{time.time_ns()}")
    _wait_for_go(pipe)
    answered = 0
    while not pipe.poll():
        for _, body in transport.receive():
            transport.send(*confirmation(orjson.loads(body)))
            answered += 1
    transport.flush()
    transport.close()
    pipe.close()


def confirmation(command: dict[str, Any]) -> tuple[str, bytes]:
    """The service's answer to a command that it obeyed: (short topic, body)."""
    task, image = command["data"]["task_id"], command["data"]["image_id"]
    if command["type"] == wire.DELETE:
        kind, fields = "ImageDeletionCompleted", wire.image_deletion_completed(task, image, "Saga compensation")
    else:
        kind, fields = "AnonymizationRolledBack", wire.anonymization_rolled_back(task, image, "Saga compensation")
    # One answer has one id, however often the command comes.
    envelope = {"id": f"answer-to-{command['id']}", "timestamp": wire.timestamp(datetime.now(UTC)), "type": kind}
    return wire.TOPICS[kind], wire.encode({**envelope, **fields})


INSERT = """
    INSERT INTO bench_event (source, event_id, type, task_id, image_id, occurred_at, payload)
    SELECT 'pulsar', id, type, task_id, image_id, timestamp, payload
    FROM jsonb_to_recordset(%s::jsonb)
        AS r(id text, type text, task_id text, image_id text, timestamp timestamptz, payload jsonb)
    ORDER BY id ON CONFLICT (source, event_id) DO NOTHING
"""


def _consume(pipe: Connection, broker: Broker, database_url: str, topics: list[str], events: int) -> None:
    connection = psycopg2.connect(database_url)
    client = broker.connect()
    consumer = client.subscribe(
        [broker.full_name(topic) for topic in topics],
        f"bench-ceiling-{time.time_ns()}",
        consumer_type=pulsar.ConsumerType.Shared,
        initial_position=pulsar.InitialPosition.Latest,
        receiver_queue_size=WINDOW,
        batch_receive_policy=pulsar.ConsumerBatchReceivePolicy(WINDOW, -1, WAIT_MS),
    )
    _wait_for_go(pipe)
    stored, last, heard = 0, time.time(), time.time()
    while stored < events and time.time() - heard < SILENCE:
        batch = _batch(consumer)
        if not batch:
            continue
        with connection, connection.cursor() as cursor:
            bodies = [message.data() for message in batch]
            rows = [{**orjson.loads(body), "payload": orjson.Fragment(body)} for body in bodies]
            names = ("id", "type", "task_id", "image_id", "timestamp", "payload")
            cursor.execute(INSERT, [orjson.dumps([{name: row.get(name) for name in names} for row in rows]).decode()])
            stored += cursor.rowcount
        last = heard = time.time()
        for message in batch:
            consumer.acknowledge(message)
    _say(pipe, last if stored >= events else None)
    with contextlib.suppress(pulsar.PulsarException):
        consumer.unsubscribe()
    client.close()


def _batch(consumer: pulsar.Consumer) -> list[pulsar.Message]:
    batch: list[pulsar.Message] = []
    while len(batch) < BATCH:
        more = consumer.batch_receive()
        batch += more
        if len(more) < WINDOW:
            break
    return batch


def _wait_for_go(pipe: Connection) -> None:
    pipe.send(("ready", None))
    pipe.recv()


def _say(pipe: Connection, result: Any) -> None:
    pipe.send(("result", result))
    pipe.recv()
