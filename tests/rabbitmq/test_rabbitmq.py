"""Celery on RabbitMQ: nudges, deaths, and what the doctor says of it. The acceptance tests run on it as well."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import current_app
from kombu import Connection, pools

from bridge import wakeup
from devtools.embedded import ports, rabbitmq
from devtools.embedded.process import Process
from sagaproject import env, stack_file
from sagaproject.doctor import examine
from sagaproject.doctor.celery import check_celery_broker, check_worker
from sagaproject.doctor.finding import bounded
from tests.acceptance.test_stack import eventually

pytestmark = [pytest.mark.rabbitmq, pytest.mark.timeout(300)]
QUEUES = ("applying", "commands", "housekeeping")


class Node:
    """A RabbitMQ that can be killed, on one folder and one port."""

    def __init__(self, folder: Path) -> None:
        self._server = rabbitmq.RabbitServer(folder / "rabbitmq", folder / "rabbitmq.log")
        self._processes: list[Process] = []

    @property
    def url(self) -> str:
        return self._server.url

    def start(self) -> None:
        for part in self._server.prepare():
            self._processes.append(Process(part))
            self._processes[-1].wait_ready()

    def control(self, *words: str) -> None:
        """Run rabbitmqctl on this node."""
        part = self._server.prepare()[1]
        argv = ["/usr/lib/rabbitmq/bin/rabbitmqctl", *words]
        subprocess.run(argv, env=part.environment, check=True, capture_output=True, timeout=60)

    def kill(self) -> None:
        for process in reversed(self._processes):
            os.kill(process.pid, signal.SIGKILL)
            process.stop(time.monotonic() + 5)
        self._processes.clear()

    def close(self) -> None:
        for process in self._processes:
            process.stop(time.monotonic())
        self._server.discard()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    missing = rabbitmq.missing()
    if missing:
        pytest.skip(missing)
    node = Node(tmp_path_factory.mktemp("rabbitmq"))
    node.start()
    yield node
    node.close()


@pytest.fixture
def celery(node: Node, settings: Any) -> Iterator[Any]:
    """Give the project's Celery app, on RabbitMQ for the time of the test."""
    settings.CELERY_BROKER_URL = node.url
    app: Any = current_app
    before = (app.conf.broker_url, app.conf.broker_transport_options)
    app.conf.broker_url, app.conf.broker_transport_options = node.url, {"confirm_publish": True, "connect_timeout": 3}
    _forget_connections(app)
    yield app
    _forget_connections(app)
    app.conf.broker_url, app.conf.broker_transport_options = before


def _forget_connections(app: Any) -> None:
    pools.reset()
    app._after_fork()  # as a forked child begins: without its parent's pools


def waiting(node: Node) -> dict[str, int]:
    """How many messages wait in each of our queues."""
    with Connection(node.url) as connection:
        channel: Any = connection.default_channel
        return {name: channel.queue_declare(name, passive=True).message_count for name in QUEUES}


def test_a_nudge_comes_once_and_to_its_own_queue(node: Node, celery: Any) -> None:
    assert wakeup.nudge("apply")
    assert wakeup.nudge("publish")
    assert wakeup.nudge("apply")
    with Connection(node.url) as connection:
        for queue in celery.amqp.queues.values():
            queue(connection.default_channel).declare()  # as a worker does, with all their bindings
    assert wakeup.nudge("apply")
    assert eventually(lambda: waiting(node) == {"applying": 3, "commands": 1, "housekeeping": 0}, 10)


def test_what_no_consumer_takes_goes_by_the_broker_s_clock(
    node: Node, celery: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakeup, "_KEPT_SECONDS", 3)
    with Connection(node.url) as connection:
        channel: Any = connection.default_channel
        for queue in celery.amqp.queues.values():
            queue(channel).declare()
            channel.queue_purge(queue.name)
    for _ in range(5):
        assert wakeup.nudge("publish")
    assert waiting(node)["commands"] == 5
    assert eventually(lambda: waiting(node)["commands"] == 0, 20)


def test_a_nudge_to_a_broker_that_is_away_fails_soon_and_works_again_after(node: Node, celery: Any) -> None:
    assert wakeup.nudge("apply")
    node.kill()
    began = time.monotonic()
    assert not wakeup.nudge("apply")
    assert time.monotonic() - began < 30
    found = check_celery_broker()
    assert not found.well
    assert found.says.startswith("RabbitMQ at 127.0.0.1:")
    assert "does not answer" in found.says
    node.start()
    assert eventually(lambda: wakeup.nudge("apply"), 20)
    assert check_celery_broker().well


@pytest.mark.parametrize(
    ("change", "words"),
    [("password", "denies access (AccessRefused)"), ("host", "denies access (NotAllowed)")],
)
def test_who_is_not_let_in_is_reported(change: str, words: str, node: Node, celery: Any, settings: Any) -> None:
    url = node.url.replace(":", ":x", 2).replace(":x//", "://") if change == "password" else node.url + "elsewhere"
    settings.CELERY_BROKER_URL = celery.conf.broker_url = url
    found = check_celery_broker()
    assert words in found.says
    assert "virtual host in CELERY_BROKER_URL" in found.do


def test_an_alarm_is_reported_within_seconds(node: Node, celery: Any) -> None:
    """It accepts connections then and stops whoever publishes: to ask the workers would hang for minutes."""
    assert check_celery_broker().well
    node.control("set_vm_memory_high_watermark", "absolute", "1MB")
    try:
        assert eventually(lambda: "alarm" in check_celery_broker().says, 20)
        began = time.monotonic()
        found = check_celery_broker()
        assert time.monotonic() - began < 10
        assert not found.well
        assert "memory or disk alarm" in found.says
        began = time.monotonic()
        findings = {finding.name: finding for finding in examine()}
        assert time.monotonic() - began < 60
        assert findings["worker"].says == "Not checked: it needs Celery's broker."
    finally:
        node.control("set_vm_memory_high_watermark", "0.8")
    assert eventually(lambda: check_celery_broker().well, 20)


def test_a_check_that_hangs_is_given_up(node: Node, celery: Any) -> None:
    node.control("set_vm_memory_high_watermark", "absolute", "1MB")
    try:
        assert eventually(lambda: not check_celery_broker().well, 20)
        began = time.monotonic()
        found = bounded("worker", check_worker, 3)
        assert time.monotonic() - began < 6
        assert found.says == "No answer within 3 s."
    finally:
        node.control("set_vm_memory_high_watermark", "0.8")


def test_the_demo_ends_as_foreseen_though_rabbitmq_and_a_worker_are_killed(stack_folder: Path) -> None:
    if rabbitmq.missing():
        pytest.skip(rabbitmq.missing())
    bare = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    environment = {**bare, "ENVIRONMENT": "dev", "STACK_DIR": str(stack_folder), "API_PORT": str(ports.free())}
    words = ["demo", "--sagas", "60", "--rate", "150", "--failure-rate", "0.4", "--timeout", "90", "--once", "--json"]
    demo = subprocess.Popen(
        [sys.executable, str(env.ROOT / "manage.py"), *words],
        env={**environment, "CELERY_ON": "rabbitmq"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert eventually(lambda: bool(stack_file.running(stack_folder)), 120)
        told = stack_file.running(stack_folder) or {}
        assert told["celery_broker_url"].startswith("amqp://")
        for name in ("rabbitmq", "worker"):
            os.kill(told["pids"][name], signal.SIGKILL)
        said, screen = demo.communicate(timeout=180)
    except subprocess.TimeoutExpired:
        demo.terminate()
        pytest.fail(demo.communicate(timeout=30)[1])
    verdict = json.loads(said.splitlines()[-1])
    assert demo.returncode == 0, screen
    assert (verdict["sagas"], verdict["unexpected"]) == (60, [])
    assert "rabbitmq died (killed by SIGKILL)" in screen
