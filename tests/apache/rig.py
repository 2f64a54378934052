"""A broker that can be killed, a namespace of its own for each test, foreign services, and bridges as processes."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pulsar
from django.db import connection

from devtools.embedded.apache_pulsar import ApachePulsarServer
from devtools.embedded.process import Process
from sagaproject import env

MANAGE = [sys.executable, str(env.ROOT / "manage.py")]
# No payload may reach a log: every body carries this name.
PATIENT = "MARIA-GOMEZ-7391"
NOBODY = "redis://127.0.0.1:1/0"


def eventually(holds: Callable[[], object], seconds: float = 60.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.1)
    return bool(holds())


class Broker:
    """An Apache Pulsar of the session's own, on one folder and the same ports however often it is killed."""

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None, admin_token: str = "") -> None:
        self.log = folder / "pulsar.log"
        self.server = ApachePulsarServer(folder / "pulsar", self.log, settings, admin_token)
        self._process: Process | None = None

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    def start(self) -> None:
        self._process = Process(self.server.prepare())
        self._process.wait_ready()

    def kill(self) -> None:
        """As a power cut would, without a word to anybody."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.stop(time.monotonic() + 5)

    def close(self) -> None:
        if self._process is not None:
            self._process.stop(time.monotonic())
        self.server.discard()

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Ask the admin REST interface, and give what it answers; fails the test if that is an error."""
        status, answer = self.server.admin(method, f"/admin/v2/{path}", body)
        assert status < 300, f"{method} {path}: {status} {answer[:500]!r}"
        return json.loads(answer) if answer else None

    def space(self, policies: Mapping[str, object] | None = None) -> "Space":
        """Make a namespace of its own. policies: as the admin interface names them, such as retention."""
        name = f"t-{uuid.uuid4().hex[:8]}"
        self.ask("PUT", f"namespaces/public/{name}")
        for policy, value in (policies or {}).items():
            self.ask("POST", f"namespaces/public/{name}/{policy}", value)
        return Space(self, name)


@dataclass
class Space:
    """A namespace: what a service, and what our processes, have to say to use it."""

    broker: Broker
    name: str
    url: str = ""
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "ENVIRONMENT": "dev",
            "DATABASE_URL": database_url(),
            "CELERY_BROKER_URL": NOBODY,
            "PULSAR_SERVICE_URL": self.url or self.broker.server.url,
            "PULSAR_NAMESPACE": self.name,
            "PYTHONUNBUFFERED": "1",
        }

    def full(self, topic: str) -> str:
        return f"persistent://public/{self.name}/{topic}"

    def stats(self, topic: str) -> Any:
        return self.broker.ask("GET", f"persistent/public/{self.name}/{topic}/stats")

    def backlog(self, topic: str, subscription: str = "saga") -> int:
        """How many messages of the topic wait for the subscription, or for its acknowledgement."""
        found = self.stats(topic)["subscriptions"][subscription]["msgBacklog"]
        return int(found)

    @contextmanager
    def client(self) -> Iterator[pulsar.Client]:
        client = pulsar.Client(
            self.broker.server.url,
            operation_timeout_seconds=20,
            logger=pulsar.FileLogger(pulsar.LoggerLevel.Error, os.devnull),
            **self.options,
        )
        try:
            yield client
        finally:
            client.close()

    def publish(self, topic: str, bodies: Sequence[bytes], batch: int = 1) -> None:
        """Publish as a foreign service does; batch: how many messages make one entry of the topic."""
        with self.client() as client:
            producer = client.create_producer(
                self.full(topic),
                batching_enabled=batch > 1,
                batching_max_messages=max(batch, 2),
                batching_max_publish_delay_ms=1000,
                block_if_queue_full=True,
            )
            failed: list[str] = []

            def done(result: pulsar.Result, _id: object) -> None:
                if result != pulsar.Result.Ok:
                    failed.append(result.name)

            for body in bodies:
                producer.send_async(body, done)
            producer.flush()
            assert not failed, failed


def database_url() -> str:
    """The URL of the test's own database, for processes."""
    entry = connection.settings_dict
    return (
        f"postgresql://{entry['USER']}:{entry['PASSWORD']}@{entry['HOST']}:{entry['PORT']}/"
        f"{connection.settings_dict['NAME']}"
    )


def fact(type_: str, *, task: str, event_id: str = "", **fields: Any) -> bytes:
    """The body of an event, as a service writes it."""
    envelope = {
        "id": event_id or str(uuid.uuid4()),
        "type": type_,
        "timestamp": datetime.now(UTC).replace(tzinfo=None).isoformat(),
        "task_id": task,
        "source": PATIENT,
        **fields,
    }
    return json.dumps(envelope).encode()


def starts(count: int) -> list[bytes]:
    """So many sagas that start."""
    return [fact("RetrievalStarted", task=str(uuid.uuid4())) for _ in range(count)]


class Bridge:
    """manage.py run_bridge as a process, with its log."""

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        self.log = log
        with log.open("ab") as file:
            self.process = subprocess.Popen([*MANAGE, "run_bridge"], env=clean(environment), stdout=file, stderr=file)

    @property
    def words(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()


@contextmanager
def bridges(environment: Mapping[str, str], folder: Path, count: int = 1) -> Iterator[list[Bridge]]:
    """Run so many bridges; afterwards, no line of theirs may hold what patients trust us with, or a token."""
    running = [Bridge(environment, folder / f"bridge-{uuid.uuid4().hex[:6]}.log") for _ in range(count)]
    try:
        yield running
    finally:
        for bridge in running:
            bridge.close()
    for bridge in running:
        assert PATIENT not in bridge.words
        assert "eyJ" not in bridge.words


def doctor(environment: Mapping[str, str]) -> dict[str, Any]:
    """What manage.py doctor says, by the name of the part."""
    done = subprocess.run(
        [*MANAGE, "doctor", "--json"], env=clean(environment), capture_output=True, text=True, check=False, timeout=90
    )
    assert "eyJ" not in done.stdout + done.stderr
    return {finding["name"]: finding for finding in json.loads(done.stdout)["findings"]}


def clean(environment: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    return {**kept, **environment}
