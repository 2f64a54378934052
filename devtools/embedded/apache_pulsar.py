"""The real Apache Pulsar: broker, bookie and metadata in one JVM, from the jars that Maven fetches.

Needs `java` (17 or newer) and `mvn`. Maven fetches 235 MB once for a user, into its own folder; after that a start
takes some fifteen seconds and half a gigabyte.
"""

import contextlib
import http.client
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from devtools.embedded import ports
from devtools.embedded.process import Process, ProcessSpec, StackError, run_once
from sagaproject import env

VERSION = "4.0.7"
OLDEST_JAVA = 17
FILES = Path(__file__).with_name("apache_pulsar_files")
READY_SECONDS = 300.0
FETCH_SECONDS = 900.0
_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:build-classpath"
_PORTS = ("brokerServicePort", "webServicePort", "bookie")
# Netty and RocksDB use internals of the JDK, which must be allowed explicitly.
_OPENED = (
    *("java.base/java.nio", "java.base/jdk.internal.misc", "java.base/sun.net", "java.base/jdk.internal.platform"),
    *("java.management/sun.management", "jdk.management/com.sun.management.internal"),
)
_JVM = (
    *("-Xms256m", "-Xmx768m", "-XX:MaxDirectMemorySize=768m", "-XX:+ExitOnOutOfMemoryError"),
    "-Dio.netty.tryReflectionSetAccessible=true",
    *(word for module in _OPENED for word in ("--add-opens", f"{module}=ALL-UNNAMED")),
)
_LOGGING = f"-Dlog4j.configurationFile={FILES / 'log4j2.xml'}"
_DRIVERS = "org.apache.pulsar.metadata.bookkeeper.PulsarMetadata"
# BookKeeper's own list of bookies. Whoever asks RocksDB's store for the registrations removes those of earlier starts.
_LIST_BOOKIES = (
    *("-Xmx128m", "-XX:TieredStopAtLevel=1", _LOGGING, f"-Dbookkeeper.metadata.client.drivers={_DRIVERS}ClientDriver"),
    *(f"-Dbookkeeper.metadata.bookie.drivers={_DRIVERS}BookieDriver", "org.apache.bookkeeper.bookie.BookieShell"),
    *("-conf", "metadata.conf", "listbookies", "-rw"),
)


class ApachePulsarServer:
    """An Apache Pulsar whose data lives under `folder`; a folder keeps its ports from start to start.

    settings: lines added to standalone.conf. admin_token: the token for its REST interface, if that requires one.
    say: receives a line before anything that takes minutes.
    """

    def __init__(
        self,
        folder: Path,
        log: Path,
        settings: Mapping[str, str] | None = None,
        admin_token: str = "",
        say: Callable[[str], None] = lambda words: None,
    ) -> None:
        self._folder = folder
        self._log = log
        self._settings = dict(settings or {})
        self._admin_token = admin_token
        self._say = say
        self._ports = _lasting_ports(folder / "ports.json")
        self.port = self._ports["brokerServicePort"]
        self.admin_port = self._ports["webServicePort"]

    @property
    def url(self) -> str:
        return f"pulsar://{ports.LOOPBACK}:{self.port}"

    @property
    def admin_url(self) -> str:
        return f"http://{ports.LOOPBACK}:{self.admin_port}"

    def prepare(self) -> ProcessSpec:
        """Fetch the jars if need be, write the configuration and give the part to start.

        Raises StackError if java or mvn is missing, or mvn cannot fetch.
        """
        java = find_java()
        classpath = _classpath(self._log, self._say)
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / "ports.json").write_text(json.dumps(self._ports), encoding="utf-8")
        metadata = (self._folder / "data" / "metadata").absolute()
        metadata_conf = f"metadataServiceUri=metadata-store:rocksdb://{metadata}\n"
        (self._folder / "metadata.conf").write_text(metadata_conf, encoding="utf-8")
        config = self._folder / "standalone.conf"
        config.write_text(self._configuration(), encoding="utf-8")
        config.chmod(0o600)  # a test's settings may hold a token
        broker = [java, *_JVM, _LOGGING, "org.apache.pulsar.PulsarStandaloneStarter", "--config", str(config)]
        broker += ["--no-functions-worker", "--no-stream-storage", "--bookkeeper-port", str(self._ports["bookie"])]
        broker += ["--metadata-dir", "data/metadata", "--bookkeeper-dir", "data/bookkeeper"]
        argv = ["/bin/sh", "-c", f"{_forget_registrations(java)}; exec {shlex.join(broker)}"]
        environment = {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "CLASSPATH": classpath}
        return ProcessSpec(
            "pulsar", argv, self._log, environment, self.is_healthy, self._folder, ready_seconds=READY_SECONDS
        )

    def is_healthy(self) -> bool:
        """Whether the broker has just written a message of its own and read it back."""
        try:
            return self.admin("GET", "/admin/v2/brokers/health")[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def admin(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        """Ask the admin REST interface; give status and body. Raises OSError or HTTPException if it does not answer."""
        connection = http.client.HTTPConnection(ports.LOOPBACK, self.admin_port, timeout=15)
        headers = {"Content-Type": "application/json"}
        if self._admin_token:
            headers["Authorization"] = f"Bearer {self._admin_token}"
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def discard(self) -> None:
        """Remove the data; for servers that die with their test session."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _configuration(self) -> str:
        own = {name: str(self._ports[name]) for name in ("brokerServicePort", "webServicePort")}
        own["listeningInterface"] = _loopback_interface()  # the bookie's, which would listen to the world
        lines = [f"{name}={value}" for name, value in {**own, **self._settings}.items()]
        return "\n".join([(FILES / "standalone.conf").read_text(encoding="utf-8"), *lines]) + "\n"


@contextlib.contextmanager
def temporary(
    folder: Path, settings: Mapping[str, str] | None = None, admin_token: str = ""
) -> Iterator[tuple[ApachePulsarServer, Process]]:
    """Run a throw-away broker for tests and give it, with its process."""
    server = ApachePulsarServer(folder / "pulsar", folder / "pulsar.log", settings, admin_token)
    process = Process(server.prepare())
    try:
        process.wait_ready()
        yield server, process
    finally:
        process.stop(time.monotonic())
        server.discard()


def missing() -> str:
    """Return what this machine lacks to run an Apache Pulsar; empty if nothing is missing."""
    try:
        find_java()
        _find_mvn()
    except StackError as error:
        return str(error)
    return ""


def find_java() -> str:
    """Return the path of a Java that is new enough; raises StackError."""
    path = shutil.which("java")
    if path is None:
        raise StackError(
            f"BROKER=apache needs Java {OLDEST_JAVA} or newer, and there is no `java` here "
            "(Debian: openjdk-17-jre-headless). Without BROKER the stack runs pulsar-lite."
        )
    said = subprocess.run([path, "-version"], capture_output=True, text=True, check=False, timeout=30).stderr
    found = re.search(r'version "(?:1\.)?(\d+)', said)
    if found is None or int(found[1]) < OLDEST_JAVA:
        version = found[1] if found else "unknown"
        raise StackError(f"BROKER=apache needs Java {OLDEST_JAVA} or newer; {path} is version {version}.")
    return path


def _forget_registrations(java: str) -> str:
    """Return the shell command that removes a killed bookie's registration, before each start that follows a kill.

    The new bookie finds it, has it deleted, registers, and may then take that deletion for one of its own
    registration: it deletes and renews that permanently, hundreds of times a second, each renewal being the next one's
    deletion (ResourceLockImpl compares registrations, which have no equals). Half of the new topics then fail with "Not
    enough non-faulty bookies available". About one restart in four was like that.
    """
    return f"[ ! -e data/bookkeeper/current/DIRTY ] || {shlex.join([java, *_LIST_BOOKIES])}"


def _find_mvn() -> str:
    path = shutil.which("mvn")
    if path is None:
        raise StackError(
            "BROKER=apache needs Maven, which fetches Pulsar's jars, and there is no `mvn` here (Debian: maven). "
            "Without BROKER the stack runs pulsar-lite."
        )
    return path


def _classpath(log: Path, say: Callable[[str], None]) -> str:
    """Return the jars, fetched with Maven at the first time and whenever one of them is gone; raises StackError."""
    file = env.ROOT / "var" / "cache" / f"apache-pulsar-{VERSION}.classpath"
    if not _is_whole(file):
        say("fetching Apache Pulsar with mvn (235 MB the first time, a minute or two) …")
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh = file.with_suffix(f".{os.getpid()}")
        argv = [_find_mvn(), "--quiet", "--batch-mode", "-f", str(FILES / "pom.xml"), f"-Dpulsar.version={VERSION}"]
        argv += [_PLUGIN, "-DincludeScope=runtime", f"-Dmdep.outputFile={fresh}"]
        run_once(ProcessSpec("mvn", argv, log, env.snapshot()), FETCH_SECONDS)
        fresh.replace(file)
    return file.read_text(encoding="utf-8").strip()


def _is_whole(classpath: Path) -> bool:
    try:
        jars = classpath.read_text(encoding="utf-8").strip().split(os.pathsep)
    except OSError:
        return False
    return all(Path(jar).is_file() for jar in jars)


def _loopback_interface() -> str:
    """Return the name of the loopback interface: lo on Linux, lo0 on macOS."""
    return next(name for _, name in socket.if_nameindex() if name.startswith("lo"))


def _lasting_ports(file: Path) -> dict[str, int]:
    """Return the ports of this folder's broker: those of its last start where they are still free.

    A bookie is known by its port, so its data cannot be used on another one; the broker finds its port itself.
    """
    with contextlib.suppress(OSError, ValueError, KeyError):
        known = json.loads(file.read_text(encoding="utf-8"))
        return {name: ports.free(known[name]) for name in _PORTS}
    return {name: ports.free() for name in _PORTS}
