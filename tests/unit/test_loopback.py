"""Nothing on this machine is asked through a proxy, whatever the environment says."""

import ast
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from devtools.simulator import api
from sagaproject import env

FOLDERS = ("devtools", "sagaproject", "sagas", "compensation", "bridge", "tests")
# What asks the environment for a proxy unless it is kept from it.
ASKING = ("urlopen", "urlretrieve", "requests", "httpx", "aiohttp")


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps({"total": 7, "items": []}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture
def dead_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("dead_proxy")
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_the_simulator_asks_this_machine_directly(server: str, host: str) -> None:
    url = f"http://{server.replace('127.0.0.1', host)}/api/v1/saga"
    assert api.ApiClient(url).quarantined() == 7


def test_another_machine_is_asked_as_the_environment_says(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://{server}")
    assert api.ApiClient("http://saga.invalid/api/v1/saga").quarantined() == 7


def test_no_one_else_uses_a_client_that_looks_for_a_proxy() -> None:
    found = []
    for folder in FOLDERS:
        for file in (env.ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                words = {node.attr} if isinstance(node, ast.Attribute) and not _is_own(node) else set()
                if isinstance(node, ast.Import | ast.ImportFrom):
                    words = {alias.name.partition(".")[0] for alias in node.names}
                    words.add((getattr(node, "module", None) or "").partition(".")[0])
                found += [f"{file}:{getattr(node, 'lineno', 0)}" for word in ASKING if word in words]
    # sagas.api.requests is a module of ours.
    assert [place for place in found if "/sagas/api/" not in place] == []


def _is_own(node: ast.Attribute) -> bool:
    """Whether it is an attribute of the object itself, such as the `requests` that a connection has received."""
    return isinstance(node.value, ast.Name) and node.value.id == "self"
