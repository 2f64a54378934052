"""The web server: waitress, which hands a request to a thread only when it is complete.

A client that sends or reads slowly, or never completes its request, occupies a socket and a small buffer but no thread.
This module adds: a time limit for the whole request, closing of the slowest connection if there are too many, errors as
JSON, and on a stop the answers to requests that have already been received.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask, ThreadedTaskDispatcher

# From the connection, or from the last answer, until a request is complete; so this also ends idle connections.
REQUEST_SECONDS = 20.0
# From the answer until the client has read it.
ANSWER_SECONDS = 120.0
# Open connections of a process. Further ones close those that have waited longest for the rest of their request.
CONNECTIONS = 400
# If none can be closed, because all requests are being answered, further connections wait in the listening queue.
MOST_CONNECTIONS = 600
BACKLOG = 1024
HEADER_BYTES = 32 * 1024
# More than Django reads of a body (DATA_UPLOAD_MAX_MEMORY_SIZE), so that Django reports a body that is too large.
BODY_BYTES = 3 * 1024 * 1024
# Memory for the body of a connection; the rest of a body is kept in a file.
BUFFER_BYTES = 64 * 1024
# Time to answer the requests that have been received when the server stops.
STOP_SECONDS = 3.0

_DETAILS = {400: "Invalid request", 413: "The body is too large", 500: "Internal error"}


class JsonErrorTask(ErrorTask):  # type: ignore[misc]  # waitress has no types
    """The answer to a malformed request or an error outside Django: {"detail"}, without anything that was sent."""

    def execute(self) -> None:
        error = self.request.error
        body = json.dumps({"detail": _DETAILS.get(error.code, error.reason)}).encode()
        self.status = f"{error.code} {error.reason}"
        self.response_headers += [
            ("Content-Type", "application/json"),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
        ]
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class RequestChannel(HTTPChannel):  # type: ignore[misc]
    """A connection that records since when it waits for its client."""

    error_task_class = JsonErrorTask

    def __init__(self, *args: Any, **options: Any) -> None:
        self.waits_since = time.monotonic()
        self._is_served = False
        super().__init__(*args, **options)

    def service(self) -> None:
        """Answer one request, in a thread."""
        self._is_served = True
        try:
            super().service()
        finally:
            self.waits_since = time.monotonic()
            self._is_served = False

    @property
    def waits(self) -> bool:
        """Whether the server waits for the client to send a request or to read the answer."""
        return not (self.requests or self._is_served or self.will_close)

    def is_too_slow(self, now: float) -> bool:
        """Return whether the client has exceeded its time limit. `now` is of time.monotonic()."""
        return self.waits and now - self.waits_since > (ANSWER_SECONDS if self.total_outbufs_len else REQUEST_SECONDS)


class Server(TcpWSGIServer):  # type: ignore[misc]
    """Serve `application` on a listening socket, in `threads` threads, until stop()."""

    channel_class = RequestChannel

    def __init__(self, application: Callable[..., Any], listener: socket.socket, threads: int) -> None:
        self._stops_at: float | None = None
        settings = Adjustments(
            sockets=[listener],
            threads=threads,
            backlog=BACKLOG,
            connection_limit=MOST_CONNECTIONS,
            cleanup_interval=1,
            max_request_header_size=HEADER_BYTES,
            max_request_body_size=BODY_BYTES,
            inbuf_overflow=BUFFER_BYTES,
            asyncore_use_poll=True,
            # Clients that disconnect are normal.
            log_socket_errors=False,
            ident="",
            # Django reads the headers of the proxy, if one is configured.
            clear_untrusted_proxy_headers=False,
        )
        dispatcher = ThreadedTaskDispatcher()
        dispatcher.set_thread_count(threads)
        listening = (listener.family, listener.type, listener.proto, listener.getsockname())
        super().__init__(
            application, {}, True, listener, dispatcher=dispatcher, adj=settings, sockinfo=listening, bind_socket=False
        )

    def handle_accept(self) -> None:
        """Accept a connection, and close the slowest one if there are too many."""
        super().handle_accept()
        if len(self.active_channels) > CONNECTIONS:
            waiting = [channel for channel in list(self.active_channels.values()) if channel.waits]
            if waiting:
                min(waiting, key=lambda channel: channel.waits_since).will_close = True

    def maintenance(self, now: float) -> None:
        """Close the connections of clients that have exceeded their time limit; called every second."""
        for channel in list(self.active_channels.values()):
            if channel.is_too_slow(time.monotonic()):
                channel.will_close = True

    def stop(self) -> None:
        """Let run() answer the received requests, accept no more, and return. May be called by a signal handler."""
        self._stops_at = self._stops_at or time.monotonic() + STOP_SECONDS
        self.pull_trigger()

    def run(self) -> None:
        """Serve until stop()."""
        while self._stops_at is None:
            self._poll()
        wasyncore.dispatcher.close(self)  # the listening socket; the trigger is still in use
        while self.active_channels and time.monotonic() < self._stops_at:
            for channel in list(self.active_channels.values()):
                channel.close_when_flushed = channel.close_when_flushed or channel.waits
            self._poll()
        self.task_dispatcher.shutdown(timeout=0.5)
        wasyncore.close_all(self._map)

    def _poll(self) -> None:
        wasyncore.loop(timeout=1.0, use_poll=True, map=self._map, count=1)


class ChildServer(Server):
    """A server in a child process, which stops when its parent process ends."""

    def __init__(self, application: Callable[..., Any], listener: socket.socket, threads: int) -> None:
        self._parent = os.getppid()
        super().__init__(application, listener, threads)

    def maintenance(self, now: float) -> None:
        super().maintenance(now)
        if os.getppid() != self._parent:
            self.stop()


def listen(host: str, port: int) -> socket.socket:
    """Open the socket. Raises OSError if the address is in use or does not belong to this machine."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host.strip("[]"), port), family=family, backlog=BACKLOG)


def run(server: Server) -> None:
    """Serve until SIGTERM or SIGINT. Must be called in the main thread of a process."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: server.stop())
    server.run()
