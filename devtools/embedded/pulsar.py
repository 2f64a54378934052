"""A small Pulsar from the wheel pulsar-lite, started by ourselves: its own starter opens a port to the world."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from devtools.embedded import ports
from devtools.embedded.process import ProcessSpec, StackError, executable, thrown_away, wheel_folder


class PulsarLiteServer:
    """A pulsar-lite broker whose data lives under `folder`."""

    def __init__(self, folder: Path, log: Path) -> None:
        self._folder = folder
        self._log = log
        self.port = ports.free()

    @property
    def url(self) -> str:
        return f"pulsar://{ports.LOOPBACK}:{self.port}"

    def prepare(self) -> ProcessSpec:
        """Write the configuration and give the part to start; raises StackError if the wheel is missing."""
        self._folder.mkdir(parents=True, exist_ok=True)
        config = self._folder / "pulsar-lite.toml"
        config.write_text(
            f'addr = "{ports.LOOPBACK}:{self.port}"\n'
            f'db_path = "{self._folder / "data"}"\n'
            'log_level = "warn"\n'
            "[metrics]\n"
            "enabled = false\n"
            f'addr = "{ports.LOOPBACK}:{ports.free()}"\n',
            encoding="utf-8",
        )
        argv = [_binary(), "--config", str(config)]
        environment = {"PATH": os.defpath, "RUST_LOG": "warn"}
        return ProcessSpec("pulsar", argv, self._log, environment, lambda: ports.answers(self.port), self._folder)

    def discard(self) -> None:
        """Remove the data; for servers that die with their test session."""
        shutil.rmtree(self._folder, ignore_errors=True)


@contextlib.contextmanager
def temporary(folder: Path) -> Iterator[str]:
    """Run a throw-away broker for tests and give its URL."""
    server = PulsarLiteServer(folder / "pulsar", folder / "pulsar.log")
    with thrown_away(server):
        yield server.url


def _binary() -> str:
    package = wheel_folder("pulsar_lite")
    if package is None:
        raise StackError(
            "There is no embedded Pulsar: pip install -r requirements-stack.txt, name a broker in PULSAR_SERVICE_URL, "
            "or, on a machine that pulsar-lite is not built for, say BROKER=apache."
        )
    path = package / "bin" / "pulsar-lite"
    if not path.exists():
        raise StackError(f"{path.parent} holds no pulsar-lite for this machine: name a broker in PULSAR_SERVICE_URL.")
    return executable(path)
