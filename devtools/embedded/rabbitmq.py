"""RabbitMQ as Celery's broker, from the machine's own package: on 127.0.0.1, with a password, keeping its data."""

import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import kombu

from devtools.embedded import ports
from devtools.embedded.process import Process, ProcessSpec, StackError

USER = "saga"
READY_SECONDS = 60.0
# Debian's and RPM's place; the command on the PATH is a wrapper that insists on a user of its own.
SCRIPTS = ("/usr/lib/rabbitmq/bin/rabbitmq-server",)


class RabbitServer:
    """A RabbitMQ node, and the Erlang port mapper that it asks for, whose data live under `folder`."""

    def __init__(self, folder: Path, log: Path) -> None:
        self._folder = folder
        self._log = log
        self.port = ports.free()
        self._mapper_port = ports.free()
        self._distribution_port = ports.free()
        self._password = ""

    @property
    def url(self) -> str:
        return f"amqp://{USER}:{self._password}@{ports.LOOPBACK}:{self.port}//"

    def prepare(self) -> list[ProcessSpec]:
        """Write the configuration and give the parts to start, in this order; raises StackError if it is missing."""
        script, mapper = _find()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._password = self._lasting_password()
        config = self._folder / "rabbitmq.conf"
        _write_private(config, f"default_user = {USER}\ndefault_pass = {self._password}\nlog.console.level = warning\n")
        return [
            ProcessSpec(
                "epmd",
                [mapper, "-port", str(self._mapper_port), "-address", ports.LOOPBACK],
                self._log,
                {"PATH": os.defpath},
                lambda: ports.answers(self._mapper_port),
                self._folder,
            ),
            ProcessSpec(
                "rabbitmq",
                [script],
                self._log,
                self._environment(config),
                self._answers,
                self._folder,
                ready_seconds=READY_SECONDS,
            ),
        ]

    def discard(self) -> None:
        """Remove the data; for servers that die with their test session."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _environment(self, config: Path) -> dict[str, str]:
        return {
            "PATH": f"/usr/sbin:/usr/bin:{os.defpath}",
            "HOME": str(self._folder),  # the cookie of its own
            "LC_ALL": "C.UTF-8",
            "ERL_EPMD_PORT": str(self._mapper_port),
            "RABBITMQ_NODENAME": "saga@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": ports.LOOPBACK,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_MNESIA_BASE": str(self._folder / "data"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_CONFIG_FILE": str(config),
            "RABBITMQ_CONF_ENV_FILE": str(self._folder / "none"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._folder / "none"),
            # The script then becomes the server, instead of a parent that the server may outlive.
            "RUNNING_UNDER_SYSTEMD": "yes",
        }

    def _lasting_password(self) -> str:
        """Return the password of this folder's node, which knows it from its first start on."""
        file = self._folder / "password"
        if not file.exists():
            _write_private(file, secrets.token_urlsafe(24))
        return file.read_text(encoding="utf-8")

    def _answers(self) -> bool:
        connection = kombu.Connection(self.url, connect_timeout=2)
        try:
            connection.connect()
        except connection.connection_errors + connection.channel_errors:
            return False
        finally:
            connection.release()
        return True


@contextlib.contextmanager
def temporary(folder: Path) -> Iterator[str]:
    """Run a throw-away server for tests and give its URL."""
    server = RabbitServer(folder / "rabbitmq", folder / "rabbitmq.log")
    processes: list[Process] = []
    try:
        for part in server.prepare():
            processes.append(Process(part))
            processes[-1].wait_ready()
        yield server.url
    finally:
        for process in reversed(processes):
            process.ask_to_stop()
            process.stop(time.monotonic() + 10)
        server.discard()


def missing() -> str:
    """Return what this machine lacks to run a RabbitMQ; empty if nothing is missing."""
    try:
        _find()
    except StackError as error:
        return str(error)
    return ""


def _find() -> tuple[str, str]:
    script = next((path for path in SCRIPTS if Path(path).exists()), None)
    mapper = shutil.which("epmd")
    if script is None or mapper is None:
        raise StackError(
            "CELERY_ON=rabbitmq needs RabbitMQ, which is not here (Debian: rabbitmq-server; its own service may stay "
            "off). Without CELERY_ON the stack runs Valkey."
        )
    return script, mapper


def _write_private(path: Path, content: str) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
        handle.write(content)
