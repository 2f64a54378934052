"""The stack on which the saboteur plays: the embedded one, with a proxy before each of its servers."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from devtools.embedded.stack import Stack
from tests.chaos.proxy import Proxy

SERVERS: Mapping[str, str] = {
    "postgres": "DATABASE_URL",
    "valkey": "CELERY_BROKER_URL",
    "pulsar": "PULSAR_SERVICE_URL",
}


class Stage(Stack):
    """An embedded stack whose parts reach its servers through proxies. `direct`: the servers' own URLs, by name."""

    def __init__(self, folder: Path, say: Callable[[str], None], extra: Mapping[str, str]) -> None:
        super().__init__(folder, say, extra)
        self.direct: dict[str, str] = {}
        self.proxies: dict[str, Proxy] = {}

    def process(self, name: str) -> psutil.Process | None:
        """The process of a part, if it runs now."""
        pid = self._supervisor.pids.get(name)
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(pid) if pid else None
        return None

    def pids(self) -> dict[str, int]:
        """The parts that run now."""
        return self._supervisor.pids

    def stop(self) -> None:
        super().stop()
        for proxy in self.proxies.values():
            proxy.stop()

    def _start_servers(self) -> None:
        super()._start_servers()
        for name, variable in SERVERS.items():
            url = self.direct[name] = self.environment[variable]
            port = urlsplit(url).port
            assert port is not None
            # Pulsar's lookups say where the broker is; PostgreSQL and Valkey say nothing of their address.
            proxy = self.proxies[name] = Proxy(port, rename=name == "pulsar")
            proxy.start()
            self.environment[variable] = url.replace(f":{port}", f":{proxy.port}")


@contextmanager
def stage(folder: Path, say: Callable[[str], None], extra: Mapping[str, str]) -> Iterator[Stage]:
    """Start it in `folder` and stop it afterwards; raises StackError."""
    stack = Stage(folder, say, extra)
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()
