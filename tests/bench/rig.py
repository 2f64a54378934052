"""A stack of its own for measuring, and the questions that measurements ask of it."""

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
from celery import Celery

from devtools.embedded.stack import Stack
from devtools.simulator.transport import Broker
from sagaproject import stack_file
from tests.bench import parties
from tests.bench.gauges import Gauge, Spent
from tests.bench.load import Load

PATIENCE = 180.0
# Commands are counted as in production, and the limit is never reached: all that is undone here is undone at once.
BREAKER = {"SAGA_BREAKER_COMMANDS": "1000000000"}
_TRIES = 4
_TABLES = (
    "bridge_event, bridge_event_reading, bridge_pending, bridge_duplicate, bridge_quarantined, sagas_saga, sagas_lane, "
    "sagas_step, sagas_saga_event, sagas_parked, sagas_saga_key, sagas_attachment, compensation_command, "
    "compensation_attempt, bridge_quarantine_count, compensation_plannedminute"
)
_ONCE = "CONSTRAINT bench_event_once UNIQUE (source, event_id)"
_CEILING = f"""
    CREATE TABLE IF NOT EXISTS bench_event (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, source text COLLATE "C", event_id text COLLATE "C",
        type text, task_id text, image_id text, occurred_at timestamptz, payload jsonb, {_ONCE}
    )
"""


class NotDone(Exception):
    """What was published did not get through in time."""


@dataclass(frozen=True, slots=True)
class Passage:
    """How a load went through: seconds from the first publish to the last commit, and what that took.

    standstill: the longest time without a commit of the bridge, in seconds; wal: bytes written.
    """

    events: int
    seconds: float
    spent: Spent
    standstill: float
    wal: int

    @property
    def rate(self) -> float:
        return self.events / self.seconds


class Rig:
    """A running stack. All its times are of the clock of this machine, to which PostgreSQL's commits are stamped."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.stored = 0
        self._known_before = 0
        environment = stack.environment
        self.broker = Broker(environment["PULSAR_SERVICE_URL"])
        self.database_url = environment["DATABASE_URL"]
        self._celery = Celery(broker=environment["CELERY_BROKER_URL"])
        self._celery.conf.broker_transport_options = {"global_keyprefix": "saga:"}
        self._connection = psycopg2.connect(self.database_url)
        self._connection.autocommit = True
        self.ask(_CEILING)

    @property
    def breaker_commands(self) -> int:
        """The circuit breaker's limit, with which this stack runs."""
        return int(self.stack.environment["SAGA_BREAKER_COMMANDS"])

    @property
    def pids(self) -> dict[str, int]:
        """The parts of the stack and their processes."""
        content = stack_file.read(self.stack.folder) or {}
        pids: dict[str, int] = content["pids"]
        return pids

    def ask(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows of a query, in a transaction of its own."""
        with self._connection.cursor() as cursor:
            cursor.execute(sql, list(parameters))
            return cursor.fetchall() if cursor.description else []

    def one(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        """The one value of a query."""
        return self.ask(sql, parameters)[0][0]

    def fill(self, sagas: int, *, with_ceiling: bool = True) -> None:
        """Store ended sagas by `manage.py fill`, to measure on top of them: from now on nothing is forgotten.

        A database of DATABASE_URL that holds as many already is taken as it is. with_ceiling: whether the raw ceiling
        is to know their ids too.
        """
        self.stored = sagas
        if self.one("SELECT count(*) FROM sagas_saga") < sagas:
            command = self.stack.command("fill", "--sagas", str(sagas), "--in-flight", "0", "--yes")
            subprocess.run(command, env={**os.environ, **self.stack.environment}, check=True, stdout=subprocess.DEVNULL)
        if with_ceiling:
            self._ceiling_knows_them_too()

    def _ceiling_knows_them_too(self) -> None:
        """Gives the raw ceiling the ids of all that is stored: whoever keeps each event once has to know them.

        Where it knows most of them from an earlier measurement, it is taken as it is.
        """
        events, known = self.ask("SELECT (SELECT count(*) FROM bridge_event), (SELECT count(*) FROM bench_event)")[0]
        if known < 0.9 * events:
            self._copy_ids()
        self._known_before = self.one("SELECT max(id) FROM bench_event")

    def _copy_ids(self) -> None:
        self.ask("TRUNCATE bench_event")
        self.ask("ALTER TABLE bench_event DROP CONSTRAINT IF EXISTS bench_event_once")
        self.ask(
            "INSERT INTO bench_event (source, event_id, type, occurred_at)"
            " SELECT source, event_id, type, occurred_at FROM bridge_event"
        )
        self.ask(f"ALTER TABLE bench_event ADD {_ONCE}")
        self.ask("VACUUM (FREEZE, ANALYZE) bench_event")

    def forget(self) -> None:
        """Empty every table that a load fills, unless sagas were stored beforehand.

        Then the server makes its checkpoints when it will, as it does for users: after each one the first event on a
        page of an index writes the whole page to the log, and there are as many pages as events in minutes.
        """
        if not self.stored:
            self.ask(f"SET bridge.truncate = 'on'; TRUNCATE bench_event, {_TABLES}; RESET bridge.truncate")
            self.ask("CHECKPOINT")

    # --- loads ---

    def ceiling(self, load: Load) -> float:
        """Events a second of the least that a durable consumer does with this load.

        Tried again where the broker falls silent: a small one sometimes stops delivering until one subscribes anew.
        """
        for _ in range(_TRIES):
            if rate := self._ceiling(load):
                return rate
        raise NotDone(f"the broker fell silent in {_TRIES} runs of the raw ceiling")

    def _ceiling(self, load: Load) -> float | None:
        prefix = "bench-"
        if self.stored:
            self.ask("DELETE FROM bench_event WHERE id > %s", [self._known_before])
        else:
            self.ask("TRUNCATE bench_event")
        topics = [prefix + topic for topic in load.topics]
        consumer = parties.ceiling(self.broker, self.database_url, topics, load.events)
        publisher = parties.publisher(self.broker, load.messages, prefix=prefix)
        consumer.go()
        publisher.go()
        first = publisher.result(PATIENCE).first
        last = consumer.result(PATIENCE)
        return load.events / float(last - first) if last else None

    def passes(self, load: Load, *, rate: float = 0, stored_only: bool = False) -> Passage:
        """Publish a load and wait until all of it is applied (or, with the worker held back, stored)."""
        newest = self.newest_event()
        publisher = parties.publisher(self.broker, load.messages, rate=rate)
        gauge = Gauge(self.pids)
        wal = self.wal()
        publisher.go()
        published = publisher.result(PATIENCE + len(load.messages) / rate if rate else PATIENCE)
        if published.failed:
            raise NotDone(f"{published.failed} messages could not be published")
        table, key = ("bridge_event", "id") if stored_only else ("sagas_saga_event", "event")
        self.wait(lambda: self._is_through(table, key, newest, load.events, stored_only=stored_only))
        spent = gauge.read({"publisher": published.cpu})
        last = self.one(
            f"SELECT extract(epoch FROM max(pg_xact_commit_timestamp(xmin)))::float8 FROM {table} WHERE {key} > %s",
            [newest],
        )
        return Passage(load.events, last - published.first, spent, self._standstill(newest), self.wal() - wal)

    def newest_event(self) -> int:
        return int(self.one("SELECT coalesce(max(id), 0) FROM bridge_event"))

    def wal(self) -> int:
        """Bytes of write-ahead log ever written."""
        return int(self.one("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"))

    @contextmanager
    def worker_held_back(self) -> Iterator[None]:
        """Let nothing be applied meanwhile."""
        self._celery.control.cancel_consumer("applying", reply=True, timeout=5)
        try:
            yield
        finally:
            self._celery.control.add_consumer("applying", reply=True, timeout=5)

    def wait(self, holds: Any, seconds: float = PATIENCE, every: float = 0.05) -> None:
        """Wait until it holds; raises NotDone."""
        deadline = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > deadline:
                raise NotDone(f"not done after {seconds:.0f} s: {self.standing()}")
            time.sleep(every)

    def drained(self) -> bool:
        """Whether nothing waits to be applied."""
        return not self.ask("SELECT id FROM bridge_pending ORDER BY id LIMIT 1")

    def standing(self) -> dict[str, Any]:
        """How far things are, for messages about what did not get through."""
        tables = ("bridge_event", "bridge_pending", "sagas_saga_event", "sagas_parked", "bridge_quarantined")
        return {table: self.one(f"SELECT count(*) FROM {table}") for table in tables}

    def statuses(self) -> Mapping[str, int]:
        return dict(self.ask("SELECT status, count(*) FROM sagas_saga GROUP BY status ORDER BY status"))

    def _is_through(self, table: str, key: str, newest: int, events: int, *, stored_only: bool) -> bool:
        # Counting costs; while something waits there is no need to.
        if not stored_only and not self.drained():
            return False
        return bool(self.one(f"SELECT count(*) FROM {table} WHERE {key} > %s", [newest]) >= events)

    def _standstill(self, newest: int) -> float:
        gap = self.one(
            """
            SELECT extract(epoch FROM max(at - before))::float8 FROM (
                SELECT at, lag(at) OVER (ORDER BY at) AS before
                FROM (SELECT DISTINCT pg_xact_commit_timestamp(xmin) AS at FROM bridge_event WHERE id > %s) AS commits
            ) AS gaps
            """,
            [newest],
        )
        return float(gap or 0)


@contextmanager
def rig(folder: Path, say: Any) -> Iterator[Rig]:
    """Start a stack in `folder` and stop it afterwards. Its PostgreSQL stamps commits: latency is read from that."""
    stack = Stack(folder, say, BREAKER, postgres_settings=("track_commit_timestamp=on",))
    try:
        stack.start()
        yield Rig(stack)
    finally:
        stack.stop()


def roomy() -> Path:
    """A disk for data, not memory that pretends to be one; reachable for the account that PostgreSQL runs as."""
    return Path("/var/tmp") if Path("/var/tmp").is_dir() else Path(tempfile.gettempdir())
