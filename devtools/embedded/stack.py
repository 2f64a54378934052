"""The whole development stack: servers, migrations, login, then bridge, worker, beat and web server."""

import contextlib
import http.client
import json
import secrets
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from devtools.embedded import (
    apache_pulsar,
    disk,
    leftovers,
    ports,
    postgres,
    pulsar,
    rabbitmq,
    stack_record,
    valkey,
)
from devtools.embedded.process import DiskFull, ProcessSpec, StackError, run_once
from devtools.embedded.supervisor import Supervisor
from sagaproject import env

DEFAULTS = {"REMAP_SIGTERM": "SIGQUIT", "PYTHONUNBUFFERED": "1"}
# pulsar-lite sometimes stops delivering until the consumer subscribes again: the embedded stack detects that sooner.
LITE_DEFAULTS = {"BRIDGE_SILENCE_SECONDS": "5"}
LOGIN = "admin"
WORKER_CHILDREN = 2
WELL_SECONDS = 20.0
LARGEST_LOG = 20_000_000
# Between two looks at the disk.
DISK_SECONDS = 1.0


class Stack:
    """An embedded stack in `folder`. The environment applies to every part; `extra` adds to it.

    postgres_settings: more settings of its PostgreSQL, as name=value.

    Use from one thread: start(), then watch() several times a second, then stop(), also when start() raised.
    """

    def __init__(
        self,
        folder: Path,
        say: Callable[[str], None],
        extra: Mapping[str, str] | None = None,
        postgres_settings: tuple[str, ...] = (),
    ) -> None:
        self.folder = folder
        self._postgres_settings = postgres_settings
        self._say = say
        self._supervisor = Supervisor(say, self._changed)
        self._lock: IO[str] | None = None
        self._port_claim: socket.socket | None = None
        self._said = {name: value for name, value in env.snapshot().items() if value}
        self.environment: dict[str, str] = {**DEFAULTS, **(extra or {}), **self._said}
        self.login: dict[str, str] = {}
        self._ready = False
        self._bridge_upsets = ""
        self._folders = [folder]
        self._look_at_disk = 0.0

    @property
    def base_url(self) -> str:
        return f"http://{self.environment['API_HOST']}:{self.environment['API_PORT']}"

    @property
    def api_url(self) -> str:
        return f"{self.base_url}/api/v1/saga"

    def greeting(self) -> str:
        """Return the addresses and the login, in a few lines."""
        return (
            f"Admin  {self.base_url}/admin/   login {self.login['username']}, password {self.login['password']}\n"
            f"API    {self.api_url}/sagas\n"
            f"Docs   {self.base_url}/api/docs/\n"
            "To use the API in another terminal, paste this line there:\n"
            f"export API={self.api_url}\n"
            "Ctrl-C stops everything."
        )

    def start(self) -> None:
        """Start everything. Raises StackError, which names what is missing and the solution."""
        with self._naming_the_disk():
            self._start()

    def _start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = stack_record.take_lock(self.folder)
        if self._lock is None:
            raise StackError(f"A stack already runs in {self.folder}: stop it first (Ctrl-C where it runs).")
        self._require_room(disk.TO_START)
        stack_record.remove(self.folder)
        (self.folder / "log").mkdir(exist_ok=True)
        count = leftovers.end(self._processes_file)
        if count:
            self._say(f"ended {count} processes that an earlier stack had left behind")
        self._settle_environment()
        self._start_servers()
        self._run_once("migrate", "migrate", "--no-input")
        self._run_once("login", "dev_login", self.login["username"], stdin=self.login["password"])
        self._supervisor.start_together(self._services())
        self._wait_until_well()
        self._ready = True
        self._changed()

    def watch(self) -> None:
        """Restart what died; call it several times a second. Raises StackError when the disk is full."""
        with self._naming_the_disk():
            if time.monotonic() >= self._look_at_disk:
                self._look_at_disk = time.monotonic() + DISK_SECONDS
                self._require_room(disk.TO_RUN)
            self._supervisor.watch()

    def _require_room(self, least: int) -> None:
        words = disk.shortage(self._folders, least) or disk.refusal(self.folder)
        if words:
            raise DiskFull(words)

    @contextlib.contextmanager
    def _naming_the_disk(self) -> Iterator[None]:
        """Turn a failed write into a StackError, and add the full disk to an error that it may have caused."""
        try:
            yield
        except OSError as error:
            raise StackError(disk.complaint(error, self.folder)) from error
        except DiskFull:
            raise
        except StackError as error:
            words = disk.shortage(self._folders, disk.TO_RUN)
            if not words:
                raise
            raise DiskFull(f"{error}\n{words}") from error

    def stop(self) -> None:
        """Stop everything within 10 s and leave nothing behind."""
        self._ready = False
        if self._lock is None:
            return
        self._supervisor.stop()
        stack_record.remove(self.folder)
        self._processes_file.unlink(missing_ok=True)
        if self._port_claim is not None:
            self._port_claim.close()
        self._lock.close()
        self._lock = None

    def command(self, *words: str) -> list[str]:
        """Return the command line of a manage.py command, to be run with `environment`."""
        return [sys.executable, str(env.ROOT / "manage.py"), *words]

    def health(self) -> dict[str, Any]:
        """Return what GET /health answers; empty if it does not."""
        host, port = self.environment["API_HOST"], int(self.environment["API_PORT"])
        connection = http.client.HTTPConnection(host, port, timeout=5)
        try:
            connection.request("GET", "/health", headers={"Host": "localhost"})
            answer = json.loads(connection.getresponse().read())
        except (OSError, http.client.HTTPException, ValueError):
            return {}
        finally:
            connection.close()
        return answer if isinstance(answer, dict) else {}

    @property
    def _processes_file(self) -> Path:
        return self.folder / "processes.json"

    def _log(self, name: str) -> Path:
        log = self.folder / "log" / f"{name}.log"
        if log.exists() and log.stat().st_size > LARGEST_LOG:
            log.replace(log.with_suffix(".log.1"))
        return log

    def _settle_environment(self) -> None:
        secret = _lasting_secrets(self.folder / "secrets.json")
        self.login = {"username": LOGIN, "password": secret["password"]}
        self.environment.update(ENVIRONMENT="dev", STACK_DIR=str(self.folder))
        self.environment.setdefault("SECRET_KEY", secret["secret_key"])
        self.environment.setdefault("API_HOST", ports.LOOPBACK)
        if "API_PORT" not in self._said:
            port, self._port_claim = ports.claim(8085)
            self.environment["API_PORT"] = str(port)
        elif not ports.is_free(int(self.environment["API_PORT"])):
            raise StackError(f"API_PORT is {self._said['API_PORT']}, but something listens there: name another port.")

    def _is_said(self, name: str) -> bool:
        return name in self._said or f"{name}_FILE" in self._said

    def _start_servers(self) -> None:
        """Start the servers that the environment does not name; its URLs are used as they are."""
        parts = []
        database = None
        if not self._is_said("DATABASE_URL"):
            database = postgres.PostgresServer(self.folder / "postgres", self._log("postgres"), self._postgres_settings)
            self._folders.append(database.home)
            self._require_room(disk.TO_START)
            parts.append(database.prepare())
            self.environment["DATABASE_URL"] = database.url
        if not self._is_said("CELERY_BROKER_URL"):
            parts += self._celery_broker()
        if not self._is_said("PULSAR_SERVICE_URL"):
            parts.append(self._pulsar())
        self._supervisor.start_together(parts)
        if database:
            database.make_database()

    def _celery_broker(self) -> list[ProcessSpec]:
        if env.read(self.environment).embedded.celery == "rabbitmq":
            rabbit = rabbitmq.RabbitServer(self.folder / "rabbitmq", self._log("rabbitmq"))
            parts, url = rabbit.prepare(), rabbit.url
        else:
            server = valkey.ValkeyServer(self.folder / "valkey", self._log("valkey"))
            parts, url = [server.prepare()], server.url
        self.environment["CELERY_BROKER_URL"] = url
        return parts

    def _pulsar(self) -> ProcessSpec:
        server: pulsar.PulsarLiteServer | apache_pulsar.ApachePulsarServer
        if env.read(self.environment).embedded.pulsar == "apache":
            server = apache_pulsar.ApachePulsarServer(self.folder / "apache-pulsar", self._log("pulsar"), say=self._say)
            self.environment.setdefault("PULSAR_ADMIN_URL", server.admin_url)
        else:
            server = pulsar.PulsarLiteServer(self.folder / "pulsar", self._log("pulsar"))
            self.environment = {**LITE_DEFAULTS, **self.environment}
            self._bridge_upsets = "pulsar"
        part = server.prepare()
        self.environment["PULSAR_SERVICE_URL"] = server.url
        return part

    def _services(self) -> list[ProcessSpec]:
        celery = [sys.executable, "-m", "celery", "-A", "sagaproject"]
        worker = [*celery, "worker", "--concurrency", str(WORKER_CHILDREN), "--hostname", "saga@%h"]
        worker += ["--queues", "applying,commands,housekeeping", "--without-gossip", "--without-mingle"]
        # These events are not read, and the thread that sends them holds a lock while it reconnects without end: a
        # worker whose broker is gone then never stops.
        worker += ["--without-heartbeat"]
        return [
            self._part("web", self.command("serve", "--workers", "1"), lambda: bool(self.health())),
            # pulsar-lite does not notice a consumer that was killed while messages were on their way to it (the
            # connection is reset, not closed): it keeps them back, and refuses its consumer ids, until it begins anew.
            replace(
                self._part("bridge", self.command("run_bridge"), self._bridge_is_ready), upsets=self._bridge_upsets
            ),
            self._part("worker", worker),
            self._part("beat", [*celery, "beat", "--pidfile="]),
        ]

    def _bridge_is_ready(self) -> bool:
        return self.health().get("pulsar_consumer_status") == "ready"

    def _part(self, name: str, argv: list[str], is_ready: Callable[[], bool] = lambda: True) -> ProcessSpec:
        return ProcessSpec(name, argv, self._log(name), self.environment, is_ready, env.ROOT, ready_seconds=60.0)

    def _run_once(self, name: str, *words: str, stdin: str = "") -> None:
        self._say(f"{name} …")
        run_once(self._part(name, self.command(*words)), stdin=stdin)

    def _wait_until_well(self) -> None:
        """Wait for the sweeps that beat sends and the worker runs: their heartbeat shows that commands can be sent."""
        deadline = time.monotonic() + WELL_SECONDS
        while self.health().get("status") != "ok":
            if time.monotonic() > deadline:
                self._say(f"health is not ok yet: {self.health()}; `manage.py doctor` says more")
                return
            self.watch()
            time.sleep(0.2)

    def _changed(self) -> None:
        leftovers.note(self._processes_file, self._supervisor.pids.values())
        if self._ready:
            stack_record.write(self.folder, self._content())

    def _content(self) -> dict[str, Any]:
        names = env.names()
        return {
            "database_url": self.environment.get("DATABASE_URL", ""),
            "celery_broker_url": self.environment.get("CELERY_BROKER_URL", ""),
            "pulsar_service_url": self.environment.get("PULSAR_SERVICE_URL", ""),
            "api_url": self.api_url,
            "admin_url": f"{self.base_url}/admin/",
            "docs_url": f"{self.base_url}/api/docs/",
            "login": self.login,
            "pids": self._supervisor.pids,
            "environment": {name: value for name, value in self.environment.items() if name in names},
        }


def _lasting_secrets(file: Path) -> dict[str, str]:
    """Return the secrets of this folder's stack, made at its first start; only its owner may read them."""
    try:
        content: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
        return {"secret_key": content["secret_key"], "password": content["password"]}
    except (OSError, ValueError, KeyError):
        content = {"secret_key": secrets.token_urlsafe(50), "password": secrets.token_urlsafe(9)}
        file.touch(mode=0o600)
        file.chmod(0o600)
        file.write_text(json.dumps(content), encoding="utf-8")
        return content
