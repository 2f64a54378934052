"""A TCP proxy that spoils connections: delays, cuts, resets, black holes and half-open connections.

It runs in a thread of its own. What it cannot do is what the kernel does: towards both peers this machine goes on to
acknowledge bytes, so a peer's TCP keepalive and TCP_USER_TIMEOUT never fire. `half_open` therefore ends with a reset
after a time that stands for theirs.
"""

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from devtools.embedded import ports

T = TypeVar("T")

CHUNK = 65_536
FAREWELL_SECONDS = 5.0
_TRIES = 50


class Proxy:
    """Listens on a free port and passes everything on to `target`.

    rename: in what the target says, its own address is replaced by the proxy's. Pulsar's lookups answer with the
    broker's address, and its client would go there, past the proxy. The two have the same length, so frames stay whole.
    """

    def __init__(self, target: int, *, rename: bool = False) -> None:
        self.target = target
        self.port = _port_as_long_as(target) if rename else ports.free()
        self.delay = 0.0
        self._renames = (_address(target), _address(self.port)) if rename else None
        self._links: set[_Link] = set()
        self._open = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._refuses = False
        self._thread = threading.Thread(target=self._run, name=f"proxy-{target}", daemon=True)

    def start(self) -> None:
        """Listen. Raises OSError."""
        self._thread.start()
        self._do(self._listen())

    def stop(self) -> None:
        """Cut everything and end. May be called twice."""
        if not self._thread.is_alive():
            return
        with suppress(TimeoutError):
            self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._links)

    # --- acts: each comes into force before the call returns ---

    def slow_down(self, seconds: float) -> None:
        """Hold back every piece of data for so long, in both directions, until healed."""
        self.delay = seconds

    def cut(self) -> int:
        """Close every connection in order, as a peer that leaves does; returns how many there were."""
        return self._do(self._end_all(reset=False))

    def reset(self) -> int:
        """Reset every connection towards the client, and close it in order towards the target; returns how many.

        pulsar-lite keeps a consumer for ever whose connection was reset; a real broker does not.
        """
        return self._do(self._end_all(reset=True))

    def refuse(self) -> int:
        """Cut every connection, and reset new ones at once, until healed; returns how many there were."""
        self._refuses = True
        return self.cut()

    def black_hole(self) -> None:
        """Let nothing through, on old connections and new ones, until healed: then all that was held back goes on."""
        self._do(self._shut())

    def half_open(self, *, linger: float, longest: float) -> int:
        """Let nothing through for ever on the connections that are open now; returns how many. New ones work.

        When one side gives up, the other hears of it `linger` seconds later; after `longest` seconds both are reset, as
        the kernel's own time-out would do.
        """
        return self._do(self._forsake(linger, longest))

    def heal(self) -> None:
        """Take back slow_down, refuse and black_hole. Half-open connections stay as they are."""
        self.delay, self._refuses = 0.0, False
        self._do(self._heal())

    # --- in the proxy's thread ---

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _listen(self) -> None:
        self._open.set()
        self._server = await asyncio.start_server(self._accept, ports.LOOPBACK, self.port)

    async def _close(self) -> None:
        if self._server:
            self._server.close()
        await self._end_all(reset=False)
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._open.wait()
        if self._refuses:
            _abort(writer)
            return
        try:
            target = await asyncio.open_connection(ports.LOOPBACK, self.target)
        except OSError:
            _abort(writer)
            return
        link = _Link(self, (reader, writer), target)
        self._links.add(link)
        with suppress(asyncio.CancelledError):  # stop() cancels those that still take leave
            await link.run()
        self._links.discard(link)

    async def _end_all(self, *, reset: bool) -> int:
        links = list(self._links)
        for link in links:
            link.end(reset=reset)
        return len(links)

    async def _shut(self) -> None:
        self._open.clear()

    async def _heal(self) -> None:
        self._open.set()

    async def _forsake(self, linger: float, longest: float) -> int:
        links = list(self._links)
        for link in links:
            link.forsake(linger, longest)
        return len(links)

    def renamed(self, data: bytes) -> bytes:
        """What the target says, with our address in the place of its own."""
        return data.replace(*self._renames) if self._renames else data

    async def passage(self) -> None:
        """Wait until data may go on."""
        if self.delay:
            await asyncio.sleep(self.delay)
        await self._open.wait()


_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Link:
    """One connection through the proxy."""

    def __init__(self, proxy: Proxy, client: _Streams, target: _Streams) -> None:
        self._proxy = proxy
        self._client = client
        self._target = target
        self._forsaken: tuple[float, float] | None = None
        self._over = asyncio.Event()
        self._reset = False
        self._given_up = asyncio.Event()
        self._timer: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Pass data on in both directions until the link is over."""
        out = asyncio.ensure_future(self._pump(self._client[0], self._target[1], rename=False))
        back = asyncio.ensure_future(self._pump(self._target[0], self._client[1], rename=True))
        over = asyncio.ensure_future(self._over.wait())
        try:
            await asyncio.wait((out, back, over), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (out, back, over):
                task.cancel()
            await asyncio.gather(out, back, over, return_exceptions=True)
            await self._say_farewell()

    def end(self, *, reset: bool) -> None:
        self._reset = reset
        self._over.set()

    def forsake(self, linger: float, longest: float) -> None:
        if self._timer is None:
            self._timer = asyncio.ensure_future(self._wait_for_the_end(linger, longest))

    async def _wait_for_the_end(self, linger: float, longest: float) -> None:
        self._forsaken = (linger, longest)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._given_up.wait(), longest)
            await asyncio.sleep(linger)
        self.end(reset=True)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, rename: bool) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK):
                if not self._forsaken:
                    await self._proxy.passage()
                if self._forsaken:
                    continue  # lost, as on a line that nobody serves any more
                writer.write(self._proxy.renamed(data) if rename else data)
                await writer.drain()
        self._given_up.set()
        if self._forsaken:
            await self._over.wait()
        else:
            await self._proxy.passage()

    async def _say_farewell(self) -> None:
        if self._timer:
            self._timer.cancel()
        if self._reset:
            _abort(self._client[1])
        await asyncio.gather(_leave(*self._client), _leave(*self._target), return_exceptions=True)


async def _leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Close in order: what the peer still says is taken from it, for unread data would make the close a reset."""
    try:
        with suppress(OSError, TimeoutError):
            writer.write_eof()
            async with asyncio.timeout(FAREWELL_SECONDS):
                while await reader.read(CHUNK):
                    pass
    finally:
        writer.close()


def _abort(writer: asyncio.StreamWriter) -> None:
    own: socket.socket | None = writer.get_extra_info("socket")
    if own is not None and own.fileno() >= 0:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _address(port: int) -> bytes:
    return f"{ports.LOOPBACK}:{port}".encode()


def _port_as_long_as(port: int) -> int:
    for _ in range(_TRIES):
        found = ports.free()
        if len(str(found)) == len(str(port)):
            return found
    raise OSError(f"no free port has as many digits as {port}")
