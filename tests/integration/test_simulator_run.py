"""A run over a real (small) broker, against an API that only pretends: threads, pace, answers, verdict, end."""

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from devtools.simulator import scenario
from devtools.simulator.api import ApiClient, ApiError
from devtools.simulator.options import Options
from devtools.simulator.report import Report
from devtools.simulator.run import Snapshot, simulate
from devtools.simulator.scenario import Script
from devtools.simulator.transport import Broker, SimulatorTransport, TransportError

RUN = "20260131T154500-aaaaaa"
OPTIONS = Options(
    sagas=20, rate=0, failure_rate=0, duplicate_rate=0.2, garbage_rate=0.1, run=RUN, timeout=4, once=True, seed=2
)


@dataclass
class Pretender:
    """Answers the judge's calls with what the script says; `lies` change the status of a saga."""

    script: Script
    garbage: int = 0
    calls: int = 0
    busy: int = 2
    lies: dict[str, str] = field(default_factory=dict)

    def answer(self, path: str, query: dict[str, list[str]]) -> dict[str, Any]:
        self.calls += 1
        parts = path.strip("/").split("/")
        if parts == ["sagas"]:
            items = [self.summary(task) for task in self.script.sagas]
            offset, limit = int(query["offset"][0]), int(query["limit"][0])
            return {"total": len(items), "items": items[offset : offset + limit]}
        # The first two calls are before the run, the others see its rubbish: one of it was only counted.
        counted = min(1, self.garbage) if self.calls > 2 else 0
        if parts == ["attention"]:
            return {"total": 2, "items": [{"kind": "counted", "count": counted}, {"kind": "stalled", "count": 1}]}
        if parts[0] in ("parked", "quarantine"):
            total = self.garbage - counted if parts[0] == "quarantine" and self.calls > 2 else 0
            return {"total": total, "items": []}
        return self.part(parts[1], parts[2])

    def summary(self, task: scenario.TaskScript) -> dict[str, str]:
        assert task.expected is not None
        status = self.lies.get(task.task.task_id, task.expected.status)
        return {"id": task.task.task_id, "correlation_id": task.correlation_id, "status": status}

    def part(self, task_id: str, name: str) -> dict[str, Any]:
        expected = self.script.by_task[task_id].expected
        assert expected is not None
        if name == "lanes":
            items = [{"entity": image, "outcome": outcome} for image, outcome in expected.lanes.items()]
            return {"total": len(items), "items": items}
        total = expected.events if name == "events" else 0
        return {"total": total, "items": [{"source": "pulsar"}] * min(total, 100)}


@pytest.fixture
def pretender() -> Pretender:
    from devtools.simulator import mischief
    from devtools.simulator.mischief import Kind

    script = scenario.write_script(OPTIONS, RUN)
    sendings = mischief.order(script, OPTIONS)
    return Pretender(script, sum(sending.kind is Kind.GARBAGE for sending in sendings))


@pytest.fixture
def api_url(pretender: Pretender) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            if pretender.busy:
                pretender.busy -= 1
                self.send_response(429)
                self.send_header("Retry-After", "0")
                self.end_headers()
                return
            body = json.dumps(pretender.answer(url.path, parse_qs(url.query))).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_run_ends_with_a_verdict(pulsar_url: str, api_url: str, pretender: Pretender) -> None:
    shown: list[Snapshot] = []
    verdicts: list[Report] = []
    report = simulate(OPTIONS, Broker(pulsar_url), api_url, on_progress=shown.append, on_verdict=verdicts.append)
    assert report.unexpected == []
    assert report.as_foreseen
    assert verdicts == [report]
    assert report.by_status == {"COMPLETED": 20}
    assert report.events == sum(len(task.events) for task in pretender.script.tasks)
    assert report.messages["sent"] == sum(report.messages[kind] for kind in ("event", "duplicate", "garbage"))
    assert report.messages["garbage"] == pretender.garbage
    assert shown[-1].as_expected == 20
    assert shown[-1].rows


def test_a_saga_that_ends_otherwise_is_unexpected(pulsar_url: str, api_url: str, pretender: Pretender) -> None:
    task = pretender.script.tasks[7].task.task_id
    pretender.lies[task] = "COMPENSATING"
    report = simulate(OPTIONS, Broker(pulsar_url), api_url)
    assert not report.as_foreseen
    assert [(item.task, item.seen) for item in report.unexpected] == [(task, "COMPENSATING")]


def test_a_run_can_be_stopped_at_any_time(pulsar_url: str, api_url: str) -> None:
    stop = threading.Event()
    began = time.monotonic()
    slow = Options(sagas=200, rate=50, run=RUN)
    report = simulate(slow, Broker(pulsar_url), api_url, stop=stop, on_progress=lambda _: stop.set())
    assert report.interrupted
    assert report.unexpected == []
    assert not report.as_foreseen
    assert time.monotonic() - began < 10


def test_after_the_verdict_the_services_go_on_until_they_are_stopped(
    pulsar_url: str, api_url: str, pretender: Pretender
) -> None:
    stop, judged = threading.Event(), threading.Event()
    told = Options(**{name: getattr(OPTIONS, name) for name in OPTIONS.__slots__} | {"once": False})
    result: list[Report] = []

    def play() -> None:
        result.append(simulate(told, Broker(pulsar_url), api_url, on_verdict=lambda _: judged.set(), stop=stop))

    thread = threading.Thread(target=play)
    thread.start()
    assert judged.wait(20)
    assert thread.is_alive()
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
    assert result[0].as_foreseen


def test_a_command_is_answered_on_the_wire(pulsar_url: str, api_url: str, pretender: Pretender) -> None:
    import pulsar

    broker = Broker(pulsar_url)
    client = broker.connect()
    answers = client.subscribe(
        broker.full_name("retrieval-imagedeletioncompleted"),
        "test-answers",
        consumer_type=pulsar.ConsumerType.Shared,
        initial_position=pulsar.InitialPosition.Latest,
    )
    ours = client.create_producer(broker.full_name("data-retrieval-commands"))
    task = next(task for task in pretender.script.tasks if task.images)
    image = task.images[0].image_id
    stop = threading.Event()
    data = {"task_id": task.task.task_id, "image_id": image, "reason": "Saga compensation"}
    message = {
        "type": "DeleteRetrievedImage",
        "id": "5f0c7f0e-0000-4000-8000-000000000001",
        "correlation_id": task.correlation_id,
        "timestamp": "2026-01-31T15:46:00",
        "data": data,
    }

    def publish(_: Report) -> None:
        ours.send(json.dumps(message).encode())
        seen = json.loads(answers.receive(10_000).data())
        assert (seen["type"], seen["image_id"]) == ("ImageDeletionCompleted", image)
        stop.set()

    told = Options(**{name: getattr(OPTIONS, name) for name in OPTIONS.__slots__} | {"once": False})
    try:
        simulate(told, broker, api_url, on_verdict=publish, stop=stop)
    finally:
        client.close()
    assert stop.is_set()


def test_what_was_not_acked_comes_again_to_a_new_subscription(pulsar_url: str) -> None:
    broker = Broker(pulsar_url, tenant="public", namespace="default")
    receiver, other = SimulatorTransport(broker, "test-a"), SimulatorTransport(broker, "test-b")
    try:
        receiver.resubscribe()
        other.send("anonymization-commands", b"{}")
        assert other.flush()
        until = time.monotonic() + 10
        seen: list[tuple[str, bytes]] = []
        while not seen and time.monotonic() < until:
            seen = receiver.receive()
        assert seen == [("anonymization-commands", b"{}")]
    finally:
        receiver.close()
        other.close()
        other.close()


def test_a_broker_that_is_not_there_is_named() -> None:
    with pytest.raises(TransportError, match=r"pulsar://127\.0\.0\.1:1"):
        SimulatorTransport(Broker("pulsar://127.0.0.1:1"), "test")


def test_an_api_that_is_not_there_is_named() -> None:
    with pytest.raises(ApiError, match="GET quarantine"):
        ApiClient("http://127.0.0.1:1/api/v1/saga").quarantined()


def test_topics_may_have_other_names() -> None:
    broker = Broker("pulsar://x:1", tenant="t", namespace="n", topics={"a": "b", "c": "persistent://q/r/s"})
    assert broker.full_name("a") == "persistent://t/n/b"
    assert broker.full_name("c") == "persistent://q/r/s"
    assert broker.full_name("d") == "persistent://t/n/d"


def test_a_token_is_shown_and_never_printed(tmp_path: Any) -> None:
    (tmp_path / "token").write_text("secret-token\n")
    assert Broker("pulsar://x:1").authentication() is None
    assert Broker("pulsar://x:1", token="secret-token").authentication() is not None
    assert Broker("pulsar://x:1", token_file=str(tmp_path / "token")).authentication() is not None
    assert "secret-token" not in repr(Broker("pulsar://x:1", token="secret-token"))
