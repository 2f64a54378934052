"""The proxy does to connections what it says, and nothing else."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from tests.chaos.proxy import Proxy


class Echo:
    """A server that sends back what it gets, and notes how its connections ended."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.ends: list[str] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # or the thread that waits for connections takes one more
        self._socket.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(65_536):
                    connection.sendall(data)
                self.ends.append("closed")
            except ConnectionError:
                self.ends.append("reset")


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    running = Proxy(echo.port)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def client(proxy: Proxy) -> Iterator[socket.socket]:
    connection = connect(proxy)
    assert say(connection, b"hello") == b"hello"
    yield connection
    connection.close()


def connect(proxy: Proxy, timeout: float = 5.0) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=timeout)


def say(connection: socket.socket, words: bytes) -> bytes:
    connection.sendall(words)
    return connection.recv(65_536)


def is_silent(connection: socket.socket) -> bool:
    """Whether nothing comes for a while, not even an end."""
    connection.settimeout(0.3)
    try:
        connection.recv(1)
    except TimeoutError:
        return True
    finally:
        connection.settimeout(5)
    return False


def is_refused(proxy: Proxy) -> bool:
    """Whether a new connection is reset, be it before it is known here or after."""
    try:
        with connect(proxy) as connection:
            connection.recv(1)
    except ConnectionResetError:
        return True
    return False


def eventually(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.02)
    return holds()


def test_everything_goes_through_and_ends_are_passed_on(proxy: Proxy, echo: Echo, client: socket.socket) -> None:
    large = b"x" * 1_000_000
    threading.Thread(target=client.sendall, args=(large,)).start()
    came = b""
    while len(came) < len(large):
        came += client.recv(65_536)
    assert came == large
    assert proxy.connections == 1

    client.close()

    assert eventually(lambda: echo.ends == ["closed"])
    assert eventually(lambda: proxy.connections == 0)


def test_delay_holds_back_until_healed(proxy: Proxy, client: socket.socket) -> None:
    proxy.slow_down(0.2)
    began = time.monotonic()
    assert say(client, b"late") == b"late"
    assert time.monotonic() - began >= 0.4

    proxy.heal()
    assert proxy.delay == 0
    assert say(client, b"prompt") == b"prompt"


def test_cut_closes_both_sides_in_order(proxy: Proxy, echo: Echo, client: socket.socket) -> None:
    assert proxy.cut() == 1

    assert client.recv(1) == b""
    client.close()
    assert eventually(lambda: echo.ends == ["closed"])
    with connect(proxy) as again:
        assert say(again, b"again") == b"again"


def test_reset_resets_the_client_and_closes_the_target_in_order(
    proxy: Proxy, echo: Echo, client: socket.socket
) -> None:
    assert proxy.reset() == 1

    with pytest.raises(ConnectionResetError):
        client.recv(1)
    assert eventually(lambda: echo.ends == ["closed"])


def test_refuse_lets_no_one_in_until_healed(proxy: Proxy, client: socket.socket) -> None:
    assert proxy.refuse() == 1
    assert client.recv(1) == b""
    assert is_refused(proxy)

    proxy.heal()
    with connect(proxy) as again:
        assert say(again, b"again") == b"again"


def test_a_black_hole_is_silent_and_gives_everything_back(proxy: Proxy, client: socket.socket) -> None:
    proxy.black_hole()
    client.sendall(b"into the dark")
    with connect(proxy) as fresh:
        fresh.sendall(b"me too")
        assert is_silent(client)
        assert is_silent(fresh)

        proxy.heal()
        assert client.recv(100) == b"into the dark"
        assert fresh.recv(100) == b"me too"


def test_half_open_stays_silent_and_new_connections_work(proxy: Proxy, echo: Echo, client: socket.socket) -> None:
    assert proxy.half_open(linger=0.3, longest=60) == 1
    client.sendall(b"is there anybody?")
    assert is_silent(client)
    with connect(proxy) as fresh:
        assert say(fresh, b"here") == b"here"
        proxy.heal()
        assert is_silent(client)

        client.close()
        assert echo.ends == []
        assert eventually(lambda: echo.ends == ["closed"])
        assert say(fresh, b"still here") == b"still here"


def test_half_open_ends_with_a_reset_where_no_one_gives_up(proxy: Proxy, client: socket.socket) -> None:
    assert proxy.half_open(linger=0, longest=0.2) == 1

    with pytest.raises(ConnectionResetError):
        client.recv(1)


def test_the_target_s_address_becomes_the_proxy_s(echo: Echo) -> None:
    renaming = Proxy(echo.port, rename=True)
    renaming.start()
    try:
        with connect(renaming) as connection:
            said = say(connection, f"pulsar://127.0.0.1:{echo.port}".encode())
            assert said == f"pulsar://127.0.0.1:{renaming.port}".encode()
    finally:
        renaming.stop()


def test_a_target_that_is_away_is_a_reset(proxy: Proxy, echo: Echo, client: socket.socket) -> None:
    echo.close()
    proxy.cut()
    assert is_refused(proxy)
