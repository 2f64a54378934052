"""What happens to a running service from outside: migrations, workers of two releases, a restored database."""

import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import pytest

from devtools.embedded import postgres
from devtools.embedded.process import ProcessSpec
from devtools.embedded.stack import Stack
from devtools.simulator.transport import Broker
from tests.bench.parties import Party
from tests.chaos import witness
from tests.chaos.witness import Witness
from tests.soak import outside

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(600)]

RATE, SECONDS = 80.0, 20.0
NEXT_RELEASE = {"DJANGO_SETTINGS_MODULE": "tests.upgrade.settings"}
SERVICES = ("bridge", "worker", "beat", "web")
# A migration that cannot have its table in time gives up, and is started again; the traffic waits no longer than this.
LOCK_TIMEOUT = "?options=-c%20lock_timeout%3D2s"


class NextBridge(Stack):
    """A stack in the middle of a rolling deploy: the bridge is of the next release, the worker still of this one."""

    def _services(self) -> list[ProcessSpec]:
        return [
            replace(part, environment={**part.environment, **NEXT_RELEASE}) if part.name == "bridge" else part
            for part in super()._services()
        ]


class Running:
    """A stack under load, watched while one waits."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.broker = Broker(stack.environment["PULSAR_SERVICE_URL"])

    @property
    def url(self) -> str:
        return self.stack.environment["DATABASE_URL"]

    @property
    def pids(self) -> dict[str, int]:
        return self.stack._supervisor.pids

    def ask(self, sql: str, url: str = "") -> list[tuple[Any, ...]]:
        connection = psycopg2.connect(url or self.url)
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def one(self, sql: str) -> int:
        return int(self.ask(sql)[0][0])

    def wait(self, what: str, holds: Callable[[], bool], seconds: float = 180) -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, f"{what}: not after {seconds:.0f} s"
            self.stack.watch()
            time.sleep(0.2)

    def events(self) -> int:
        return self.one("SELECT count(*) FROM bridge_event")

    def goes_on(self) -> None:
        """Wait until events that came after now are applied."""
        known = self.one("SELECT coalesce(max(id), 0) FROM bridge_event")
        self.wait(
            "the load goes on", lambda: self.one(f"SELECT count(*) FROM sagas_saga_event WHERE event > {known}") > 50
        )

    def manage(self, *words: str, url: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.stack.command(*words),
            env={**self.stack.environment, **({"DATABASE_URL": url} if url else {}), **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def migrates(self, *words: str, **environment: str) -> None:
        """Migrate as an operator does it: with a short lock_timeout, again where it could not have a lock in time."""
        for _ in range(10):
            done = self.manage("migrate", "--no-input", *words, url=self.url + LOCK_TIMEOUT, **environment)
            if not done.returncode:
                return
            assert "lock timeout" in done.stderr, done.stderr[-2000:]
        pytest.fail("the migration never had its lock")

    def all_is_well(self, told: outside.Told) -> None:
        """Wait until every saga that was told has ended, and hold the state against the log."""
        ended = "SELECT count(*) FROM sagas_saga WHERE status NOT IN ('STARTED', 'COMPENSATING')"
        self.wait("every saga ends", lambda: self.one(ended) == told.sagas)
        self.wait("the queue is empty", lambda: self.one("SELECT count(*) FROM bridge_pending") == 0)
        assert self.one("SELECT count(*) FROM sagas_saga WHERE set_aside_at IS NOT NULL") == 0
        assert self.one("SELECT count(*) FROM sagas_parked") == 0
        assert self.one("SELECT count(*) FROM sagas_saga WHERE status = 'COMPENSATION_FAILED'") == 0
        verified = self.manage("verify_sagas")
        assert verified.returncode == 0, verified.stdout[-2000:]


@pytest.fixture(autouse=True)
def _a_stack_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this process's environment says of servers and settings is for tests, not for the parts of a stack."""
    for name in ("DATABASE_URL", "CELERY_BROKER_URL", "PULSAR_SERVICE_URL", "DJANGO_SETTINGS_MODULE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ENVIRONMENT", "dev")


@contextmanager
def running(folder: Path, kind: type[Stack] = Stack) -> Iterator[Running]:
    stack = kind(folder, lambda words: None, {"BRIDGE_SILENCE_SECONDS": "4"})
    try:
        stack.start()
        yield Running(stack)
    finally:
        stack.stop()


@contextmanager
def load(stack: Running, seconds: float = SECONDS) -> Iterator[Party]:
    """Sagas that are told meanwhile, and services that confirm; gives the teller, whose result says what it told."""
    services = outside.services(stack.broker)
    teller = outside.teller(stack.broker, rate=RATE, seconds=seconds, seed=7)
    services.go()
    teller.go()
    try:
        yield teller
    finally:
        teller.end()
        services.end()


def test_migrations_run_while_bridge_and_worker_run(stack_folder: Path) -> None:
    with running(stack_folder) as stack:
        # Not where a column is missing: new code needs it, and migrations go before the code.
        stack.migrates("sagas", "0005")
        pids = {name: stack.pids[name] for name in SERVICES}
        with load(stack) as teller:
            stack.goes_on()  # on the tables of an earlier release
            stack.migrates()
            stack.goes_on()
            stack.migrates(**NEXT_RELEASE)
            stack.goes_on()  # old code, with columns and an index that it does not know
            assert stack.ask("SELECT 1 FROM pg_index WHERE indexrelid = 'later_index'::regclass AND indisvalid")
            stack.migrates("later", "zero", **NEXT_RELEASE)
            stack.goes_on()
            stack.all_is_well(teller.result(240))
        assert {name: stack.pids[name] for name in SERVICES} == pids  # nobody died of it


@pytest.mark.nightly
def test_an_old_worker_loses_nothing_of_what_it_does_not_know(stack_folder: Path) -> None:
    """In a rolling deploy the new bridge calls a task that the old worker throws away; the sweeper brings the work."""
    with running(stack_folder, NextBridge) as stack:
        worker = stack.pids["worker"]
        with load(stack, seconds=8) as teller:
            stack.all_is_well(teller.result(240))
        said = (stack_folder / "log" / "worker.log").read_text(encoding="utf-8")
        assert "sagas.apply_as_in_the_next_release" in said
        assert stack.pids["worker"] == worker


@pytest.mark.nightly
def test_a_database_that_is_restored_in_the_middle_of_a_run(stack_folder: Path) -> None:
    """Back to a dump; another subscription reads the topics again from their start: what was known is a repeat, what
    the dump does not know is new, and a command that had left already leaves again under its one id.
    """
    with running(stack_folder) as stack:
        kept = Witness(stack.broker, ("usa", "latam"))
        with load(stack) as teller:
            stack.wait("commands are confirmed", lambda: _confirmed(stack) > 2)
            _pg(stack, "pg_dump", "--format=custom", f"--file={stack_folder / 'dump'}")
            dumped, confirmed = stack.events(), _confirmed(stack)
            stack.wait("more comes after the dump", lambda: stack.events() > dumped + 200)
            stack.wait("more is undone after the dump", lambda: _confirmed(stack) > confirmed)
            known = stack.events()
            _restore(stack, stack_folder / "dump", dumped + 200)
            attempts = stack.one("SELECT count(*) FROM compensation_attempt")
            stack.wait("what was known comes again", lambda: stack.events() >= known)
            assert stack.one("SELECT count(*) FROM compensation_attempt") == attempts
            assert stack.manage("resume_publishing", "--reason", "restored", "--yes").returncode == 0
            told = teller.result(300)
            stack.all_is_well(told)
        messages = kept.testify()
    ids = defaultdict(set)
    for message in messages:
        if message.topic in kept.command_topics:
            data = message.content["data"]
            ids[message.content["type"], data["task_id"], data["image_id"]].add(message.content["id"])
    assert ids
    assert {key: found for key, found in ids.items() if len(found) > 1} == {}


def _confirmed(stack: Running) -> int:
    return stack.one("SELECT count(*) FROM compensation_command WHERE status = 'confirmed'")


def _restore(stack: Running, dump: Path, most: int) -> None:
    """As docs/operations.md says it: services stopped, the dump restored, another subscription, services started."""
    for name in ("web", "bridge", "worker", "beat"):
        for process in (psutil.Process(stack.pids[name]), *psutil.Process(stack.pids[name]).children(recursive=True)):
            process.kill()
    maintenance = stack.url.rpartition("/")[0] + "/postgres"
    stack.ask("DROP DATABASE saga WITH (FORCE)", maintenance)
    stack.ask("CREATE DATABASE saga", maintenance)
    _pg(stack, "pg_restore", "--exit-on-error", str(dump))
    assert 0 < stack.events() < most
    # The switch is as it was when the dump was taken.
    assert stack.manage("pause_publishing", "--reason", "restored", "--yes").returncode == 0
    stack.stack.environment["PULSAR_SUBSCRIPTION"] = witness.SUBSCRIPTION + "-restored"


def _pg(stack: Running, program: str, *words: str) -> None:
    done = subprocess.run(
        [str(postgres.wheel_binaries() / program), f"--dbname={stack.url}", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
