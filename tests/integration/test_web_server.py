"""The web server as a process: slow clients, malformed requests, HEAD, and a stop."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.db import connection

from devtools.embedded import ports
from sagaproject import env

pytestmark = pytest.mark.django_db(transaction=True)

# Of the service, of the API and of the admin.
PAGES = ("/health", "/api/v1/saga/sagas", "/admin/login/")
HALF_HEADER = b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
HALF_BODY = b"POST /admin/login/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nusername=a"


def database_url() -> str:
    """The URL of the test database, for another process."""
    said = connection.settings_dict
    host, port = said["HOST"], said["PORT"]
    place = f"?host={host}" if str(host).startswith("/") else ""
    return f"postgresql://{said['USER']}:{said['PASSWORD']}@{'' if place else f'{host}:{port}'}/{said['NAME']}{place}"


class Web:
    """manage.py serve, until stop()."""

    def __init__(self, folder: Path, *words: str, **environment: str) -> None:
        self.port = ports.free()
        self.log = folder / "web.log"
        told = {
            **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
            "ENVIRONMENT": "dev",
            "DATABASE_URL": database_url(),
            "CELERY_BROKER_URL": "redis://127.0.0.1:1/0",
            "PULSAR_SERVICE_URL": "pulsar://127.0.0.1:1",
            "API_PORT": str(self.port),
            **environment,
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "serve", *words], cwd=env.ROOT, env=told, stdout=log, stderr=log
            )
        eventually(lambda: self.get("/health")[0] in (200, 503), 60)

    def get(self, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
        """Ask as a client with 5 s of patience; (0, {}, b"") where there was no answer in time."""
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            client.request(method, path, headers={"Host": "localhost", **headers})
            answer = client.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        except (OSError, http.client.HTTPException):
            return 0, {}, b""
        finally:
            client.close()

    def send(self, words: bytes) -> socket.socket:
        """Send something and leave the connection open."""
        found = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        found.sendall(words)
        return found

    def raw(self, words: bytes) -> tuple[int, dict[str, str], bytes]:
        """Send these bytes as they are."""
        with self.send(words) as client:
            answer = http.client.HTTPResponse(client, method=words.partition(b" ")[0].decode())
            answer.begin()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()

    def stop(self) -> int:
        """Ask it to stop, and give its exit code."""
        self.process.terminate()
        try:
            return self.process.wait(15)
        finally:
            self.process.kill()


def eventually(holds: Any, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    found = Web(tmp_path, "--workers", "2")
    yield found
    found.stop()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, django_db_setup: None) -> Iterator[Web]:
    """One server for the tests that leave it as it was."""
    found = Web(tmp_path_factory.mktemp("web"), "--workers", "1")
    yield found
    found.stop()


@pytest.mark.parametrize("words", [HALF_HEADER, HALF_BODY], ids=["header", "body"])
@pytest.mark.parametrize("count", [40, 1000])
def test_clients_that_never_end_their_request_stop_no_one(count: int, words: bytes, web: Web) -> None:
    with contextlib.ExitStack() as opened:
        for _ in range(count):
            opened.enter_context(web.send(words))
        assert [web.get(path)[0] for path in PAGES] == [200] * len(PAGES)


def test_a_client_that_sends_a_letter_a_second_loses_its_connection(tmp_path: Path) -> None:
    """However often it sends: the time of a request is counted as a whole."""
    from sagaproject import web_server

    listener = web_server.listen("127.0.0.1", 0)
    server = web_server.Server(lambda environ, start: [b""], listener, 1)
    port = listener.getsockname()[1]
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(b"GET / HTTP/1.1\r\n")
        eventually(lambda: server.active_channels)
        for channel in list(server.active_channels.values()):
            channel.waits_since -= web_server.REQUEST_SECONDS
        with contextlib.suppress(ConnectionError):
            client.sendall(b"X")  # fresh activity, which saves nobody
            assert client.recv(100) == b""
    server.stop()
    thread.join(10)
    assert not thread.is_alive()


MALFORMED = {
    "no request": b"nonsense\r\n\r\n",
    "a header without a name": b"GET /api/v1/saga/sagas HTTP/1.1\r\nHost: localhost\r\nno colon\r\n\r\n",
    "a folded first header": b"GET /api/v1/saga/sagas HTTP/1.1\r\n  folded: <b>x</b>\r\n\r\n",
    "a bare line feed": b"GET /api/v1/saga/sagas HTTP/1.1\r\nHost: local\nhost\r\n\r\n",
    "a length that is none": b"POST /api/v1/saga/publishing HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
    "an unknown coding": b"POST /api/v1/saga/publishing HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: x\r\n\r\n",
    "a chunk that is none": (
        b"POST /api/v1/saga/publishing HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n\r\n"
    ),
    "a header that is too large": b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 40_000 + b"\r\n\r\n",
    "a body that is too large": (
        b"POST /api/v1/saga/publishing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n"
    ),
    "a host that is none": b"GET /api/v1/saga/sagas HTTP/1.1\r\nHost: a b\r\n\r\n",
    "two hosts": b"GET /api/v1/saga/sagas HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n\r\n",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_no_request_is_reported_in_json(name: str, shared: Web) -> None:
    status, headers, body = shared.raw(MALFORMED[name])
    assert status in (400, 413, 431, 501)
    assert headers["content-type"] == "application/json"
    assert list(json.loads(body)) == ["detail"]
    assert b"<b>" not in body
    assert "server" not in headers


@pytest.mark.parametrize("path", ["/health", "/api/v1/saga/sagas", "/admin/login/", "/static/sagas/staff.css"])
def test_head_has_the_headers_of_get_and_no_body(path: str, shared: Web) -> None:
    with shared.send(f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()) as client:
        found = b"".join(iter(lambda: client.recv(65_536), b""))
    head, _mark, body = found.partition(b"\r\n\r\n")
    assert head.split()[1] in (b"200", b"503")
    assert b"content-length: " in head.lower()
    assert body == b""


def test_a_part_of_an_address_is_read_as_it_was_sent(shared: Web) -> None:
    answer = json.loads(shared.get("/api/v1/saga/sagas/by-correlation/a%2Fb%2F")[2])
    assert "a/b/" in answer["detail"]


def test_a_stop_ends_every_process_and_lets_go_of_the_port(web: Web) -> None:
    children = psutil.Process(web.process.pid).children()
    assert len(children) == 2
    with web.send(HALF_HEADER):
        assert web.stop() == 0
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    with pytest.raises(OSError, match="refused"):
        web.send(b"")
    assert "Traceback" not in web.log.read_text()


def test_a_process_that_dies_is_started_again_and_none_outlives_the_first(web: Web) -> None:
    first = psutil.Process(web.process.pid)
    before = first.children()
    before[0].kill()
    eventually(lambda: len([child for child in first.children() if child.pid != before[0].pid]) == 2)
    eventually(lambda: web.get("/admin/login/")[0] == 200)
    after = first.children()
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    eventually(lambda: not [child for child in after if child.is_running() and child.status() != psutil.STATUS_ZOMBIE])


def test_a_request_that_is_there_is_answered_before_the_stop() -> None:
    from sagaproject import web_server

    begun, may_end = threading.Event(), threading.Event()

    def slow(environ: dict[str, Any], start: Any) -> list[bytes]:
        begun.set()
        may_end.wait(10)
        start("200 OK", [("Content-Length", "4")])
        return [b"done"]

    listener = web_server.listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    server = web_server.Server(slow, listener, 1)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    client.request("GET", "/")
    assert begun.wait(10)
    server.stop()
    eventually(lambda: server.socket is None)
    may_end.set()
    assert client.getresponse().read() == b"done"
    client.close()
    thread.join(10)
    assert not thread.is_alive()


def test_an_address_that_is_taken_is_reported_in_plain_text(tmp_path: Path, web: Web) -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", "serve"],
        cwd=env.ROOT,
        env={**psutil.Process(web.process.pid).environ()},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert f"Cannot listen on 127.0.0.1:{web.port}" in done.stderr
    assert "Traceback" not in done.stderr
