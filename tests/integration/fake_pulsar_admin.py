"""A stand-in for Apache Pulsar's admin REST interface. tests/apache holds the real one to the same expectations."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class FakeAdmin:
    """topics: full name → what `stats` answers. `looks` counts the questions for each; `change` runs after each."""

    def __init__(self) -> None:
        self.topics: dict[str, dict[str, Any]] = {}
        self.partitioned: dict[str, dict[str, Any]] = {}
        self.status = 200
        self.elsewhere = ""  # where a broker that does not have the topic sends whoever asks
        self.tokens: list[str | None] = []
        self.url = ""

    def answer(self, path: str) -> tuple[int, Any]:
        if self.status != 200:
            return self.status, {"reason": "no"}
        if path == "/admin/v2/persistent/public/default":
            return 200, list(self.topics)
        if path == "/admin/v2/persistent/public/default/partitioned":
            return 200, list(self.partitioned)
        for known, question in ((self.topics, "/stats"), (self.partitioned, "/partitioned-stats?perPartition=false")):
            name = "persistent://" + path.removeprefix("/admin/v2/persistent/").removesuffix(question)
            if path.endswith(question) and name in known:
                return 200, known[name]
        return 404, {"reason": "Topic not found"}


def stats(**subscriptions: Mapping[str, Any]) -> dict[str, Any]:
    """What the interface says of a topic, cut down to what the doctor reads."""
    usual = {"msgBacklog": 0, "lastAckedTimestamp": 0, "consumers": [{"consumerName": "c", "lastAckedTimestamp": 0}]}
    return {"subscriptions": {name: {**usual, **said} for name, said in subscriptions.items()}}


@contextmanager
def running() -> Iterator[FakeAdmin]:
    """Serve on a free port of this machine until the end of the block."""
    fake = FakeAdmin()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            fake.tokens.append(self.headers["Authorization"])
            status, body = fake.answer(self.path)
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            if fake.elsewhere:
                self.send_header("Location", fake.elsewhere + self.path)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    fake.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
