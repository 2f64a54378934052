"""Read and validate the environment. No other module of the project reads it.

`load()` returns every setting, typed and checked, or raises ConfigurationError with a text for each problem.
docs/configuration.md describes each name for people; this module is authoritative.
"""

import ipaddress
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sagaproject import database_url, pulsar_address, stack_file
from sagaproject.env_reader import Reader

ROOT = Path(__file__).resolve().parent.parent
CONNECTIONS = ("DATABASE_URL", "CELERY_BROKER_URL", "PULSAR_SERVICE_URL")
DEV_SECRET_KEY = "dev-only-0000-never-use-this-key-in-production"  # noqa: S105 (refused in prod)
DEV_HOSTS = ("localhost", "127.0.0.1", "[::1]")
WEAK_SECRETS = ("dev-only", "django-insecure", "change", "secret", "example", "your-", "password")
DAY = 86_400.0
# Without a path, a login or a slash at the end, in lower case: a browser sends exactly this.
_ORIGIN = re.compile(r"https?://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")


class ConfigurationError(Exception):
    """The environment is invalid. `problems`: one text for each problem.

    `no_stack`: why no embedded stack can be used, if the command may have been meant for one; the error text begins
    with it. `is_empty`: nothing is configured at all; the error text then omits the problems.
    """

    def __init__(self, problems: list[str], no_stack: str = "", is_empty: bool = False) -> None:
        self.problems = problems
        count = "one problem" if len(problems) == 1 else f"{len(problems)} problems"
        if no_stack and is_empty:
            lines = [no_stack, "For production, set ENVIRONMENT=prod and the settings in docs/configuration.md."]
        else:
            head = f"As a production configuration, the environment has {count}:" if no_stack else ""
            lines = [no_stack, "\n  - ".join([head or f"The configuration has {count}:", *problems])]
            lines.append("(docs/configuration.md describes every setting.)")
        super().__init__("\n".join(line for line in lines if line))


@dataclass(frozen=True, slots=True)
class PulsarSettings:
    service_url: str
    token: str = field(repr=False)
    token_file: str
    tenant: str
    namespace: str
    subscription: str
    regions: tuple[str, ...] | str
    topics: dict[str, str]
    tls_trust_certs_file: str
    tls_validate_hostname: bool
    tls_allow_insecure: bool
    operation_timeout_seconds: int
    admin_url: str


@dataclass(frozen=True, slots=True)
class SagaSettings:
    publishing: str
    failure_scope: str
    confirmation_timeout: float
    deadline_hold: float
    initial_interval: float
    backoff_coefficient: float
    maximum_interval: float
    maximum_attempts: int
    jitter: float
    apply_page: int
    apply_seconds: float
    apply_turns: int
    breaker_commands: int
    retention_days: int
    pruned_keys_days: int


@dataclass(frozen=True, slots=True)
class BridgeSettings:
    batch_size: int
    batch_wait_ms: int
    max_body: int
    quarantine_per_hour: int
    receiver_queue_size: int
    silence_seconds: int


@dataclass(frozen=True, slots=True)
class ApiSettings:
    host: str
    port: int
    reload: bool
    https: bool
    behind_proxy: bool
    proxy_count: int
    throttle_user: str
    throttle_anon: str
    cors_origins: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EmbeddedSettings:
    """The servers that the embedded stack starts. pulsar: lite or apache; celery: valkey or rabbitmq."""

    pulsar: str
    celery: str


@dataclass(frozen=True, slots=True)
class Environment:
    """Every setting of the service. `database` is Django's DATABASES entry; intervals are in seconds.

    `no_stack`: in development, why no embedded stack provides the servers that the environment does not name; else "".
    """

    name: str
    debug: bool
    log_level: str
    secret_key: str = field(repr=False)
    allowed_hosts: tuple[str, ...]
    csrf_trusted_origins: tuple[str, ...]
    database: dict[str, Any] = field(repr=False)
    celery_broker_url: str = field(repr=False)
    celery_broker_tls_ca_file: str
    celery_db_reuse_max: int
    celery_visibility_timeout: int
    pulsar: PulsarSettings
    sagas: SagaSettings
    bridge: BridgeSettings
    api: ApiSettings
    embedded: EmbeddedSettings
    no_stack: str = ""

    @property
    def is_dev(self) -> bool:
        return self.name == "dev"


def load() -> Environment:
    """Read the process's environment, completed by that of a running embedded stack. Raises ConfigurationError."""
    source = dict(os.environ)
    if not _may_use_a_stack(source):
        return read(source)
    folder = stack_folder(source)
    stack = stack_file.running(folder)
    if stack is not None:
        sys.stderr.write(f"Using the running stack of {stack_file.json_path(folder)} (ENVIRONMENT is dev).\n")
        return read({**stack.get("environment", {}), **source, "ENVIRONMENT": "dev"})
    no_stack = stack_file.why_not_running(folder)
    try:
        return replace(read(source), no_stack=no_stack)
    except ConfigurationError as error:
        # Without a Makefile this is the service's image, where `make up` does not exist.
        if source.get("ENVIRONMENT") or not (ROOT / "Makefile").exists():
            raise
        is_empty = not any(source.get(name) for name in names())
        raise ConfigurationError(error.problems, no_stack, is_empty) from None


def read(source: Mapping[str, str]) -> Environment:
    """Read the settings from `source`. Raises ConfigurationError with every problem in it."""
    reader = Reader(source)
    environment = _read(reader)
    reader.misspelled("SAGA_")
    reader.misspelled("BRIDGE_")
    if reader.problems:
        raise ConfigurationError(reader.problems)
    return environment


def _read(reader: Reader) -> Environment:
    name = reader.choice("ENVIRONMENT", ("dev", "prod"), "prod")
    dev = name == "dev"
    return Environment(
        name=name,
        debug=_debug(reader, dev),
        log_level=reader.choice("LOG_LEVEL", ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"), "INFO"),
        secret_key=_secret_key(reader, dev),
        allowed_hosts=_allowed_hosts(reader, dev),
        csrf_trusted_origins=_trusted_origins(reader),
        database=_database(reader, dev),
        celery_broker_url=_broker(reader, dev),
        celery_broker_tls_ca_file=_readable(reader, "CELERY_BROKER_TLS_CA_FILE"),
        celery_db_reuse_max=reader.integer("CELERY_DB_REUSE_MAX", 100, 0, 1_000_000),
        celery_visibility_timeout=reader.integer("CELERY_VISIBILITY_TIMEOUT", 300, 120, 86_400),
        pulsar=_pulsar(reader, dev),
        sagas=_sagas(reader, dev),
        bridge=_bridge(reader),
        api=_api(reader, dev),
        embedded=_embedded(reader),
    )


def stack_folder(source: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of the embedded stack's data, logs and stack.json (STACK_DIR, else var/ beside manage.py)."""
    return Path(source.get("STACK_DIR") or ROOT / "var").resolve()


def postgres_binaries() -> Path | None:
    """Return the folder of PostgreSQL's programs for the embedded stack (PG_BIN), if it is set."""
    folder = os.environ.get("PG_BIN")
    return Path(folder).resolve() if folder else None


def names() -> frozenset[str]:
    """Return every name that the service reads."""
    reader = Reader({"ENVIRONMENT": "dev"})
    _read(reader)
    return frozenset(reader.known)


def snapshot() -> dict[str, str]:
    """Return a copy of the environment, for the processes that this one starts."""
    return dict(os.environ)


def _may_use_a_stack(source: Mapping[str, str]) -> bool:
    """Whether the environment names no server and is not for production."""
    named = any(source.get(name) or source.get(f"{name}_FILE") for name in CONNECTIONS)
    return not named and (source.get("ENVIRONMENT") or "dev") == "dev"


def _debug(reader: Reader, dev: bool) -> bool:
    debug = reader.flag("DEBUG", False)
    if debug and not dev:
        reader.problem("DEBUG must be off in prod: error pages would show settings and data to every client.")
    return debug


def _secret_key(reader: Reader, dev: bool) -> str:
    key = reader.secret("SECRET_KEY")
    if dev:
        return key or DEV_SECRET_KEY
    if not key:
        reader.problem("SECRET_KEY is missing: set it (or SECRET_KEY_FILE) to 50 random characters.")
    elif len(key) < 32 or len(set(key)) < 8 or key.lower().startswith(WEAK_SECRETS):
        reader.problem("SECRET_KEY is a default or too easy to guess: use at least 32 random characters.")
    return key


def _allowed_hosts(reader: Reader, dev: bool) -> tuple[str, ...]:
    hosts = reader.items("ALLOWED_HOSTS", DEV_HOSTS if dev else ())
    if not hosts:
        reader.problem("ALLOWED_HOSTS is missing: list the host names that clients use for the service.")
    if any("*" in host for host in hosts):
        # Also in dev: any web page could point its own host name at this machine and read what needs no login.
        reader.problem("ALLOWED_HOSTS must not contain a wildcard: list the names.")
    return hosts


def _trusted_origins(reader: Reader) -> tuple[str, ...]:
    origins = reader.items("CSRF_TRUSTED_ORIGINS")
    if any("://" not in origin for origin in origins):
        reader.problem(
            "CSRF_TRUSTED_ORIGINS must list origins with their scheme, such as https://saga.hospital.example."
        )
    return origins


def _database(reader: Reader, dev: bool) -> dict[str, Any]:
    url = reader.secret("DATABASE_URL")
    timeout = reader.integer("DATABASE_STATEMENT_TIMEOUT", 30, 0, 86_400)
    if not url and not dev:
        reader.problem("DATABASE_URL is missing: postgresql://USER:PASSWORD@HOST:PORT/NAME.")
    try:
        entry = database_url.parse(url or "postgresql://saga@127.0.0.1:5432/saga")
    except database_url.DatabaseUrlError as error:
        reader.problem(f"DATABASE_URL {error}.")
        return {}
    return database_url.with_server_settings(
        entry,
        {
            "statement_timeout": f"{timeout}s",
            "idle_in_transaction_session_timeout": "60s",
            **database_url.SERVER_KEEPALIVE,
            # The default of 4.0 makes the planner scan whole tables although there is an index; disks are SSDs now.
            "random_page_cost": "1.1",
            # Reading again after a lock needs a new snapshot, whatever the role's default is. The space is escaped.
            "default_transaction_isolation": r"read\ committed",
        },
    )


def _broker(reader: Reader, dev: bool) -> str:
    url = reader.secret("CELERY_BROKER_URL")
    if url:
        return _checked(reader.url("CELERY_BROKER_URL", url, ("redis", "rediss", "amqp", "amqps")))
    if not dev:
        reader.problem(
            "CELERY_BROKER_URL is missing: redis://:PASSWORD@HOST:6379/0 or amqp://USER:PASSWORD@HOST:5672//."
        )
    return "redis://127.0.0.1:6379/0"


def _checked(url: str) -> str:
    """Enable the check of the broker's certificate, which kombu omits for rediss:// by default."""
    if not url.startswith("rediss://") or "ssl_cert_reqs" in url:
        return url
    return f"{url}{'&' if '?' in url else '?'}ssl_cert_reqs=required"


def _pulsar(reader: Reader, dev: bool) -> PulsarSettings:
    url = reader.text("PULSAR_SERVICE_URL", "pulsar://127.0.0.1:6650" if dev else "")
    if url:
        reader.url("PULSAR_SERVICE_URL", url, ("pulsar", "pulsar+ssl"))
    else:
        reader.problem("PULSAR_SERVICE_URL is missing: pulsar://HOST:6650, or pulsar+ssl://HOST:6651.")
    insecure = reader.flag("PULSAR_TLS_ALLOW_INSECURE", False)
    if insecure and not dev:
        reader.problem("PULSAR_TLS_ALLOW_INSECURE must be off in prod: any server could impersonate the broker.")
    token, token_file = reader.secret("PULSAR_TOKEN"), reader.text("PULSAR_TOKEN_FILE")
    if (token or token_file) and _is_cleartext(url):
        reader.problem(
            "PULSAR_TOKEN would cross the network in clear text: use pulsar+ssl:// in PULSAR_SERVICE_URL, "
            "or a broker on this machine."
        )
    admin_url = _admin_url(reader)
    if (token or token_file) and _is_cleartext_http(admin_url):
        reader.problem(
            "PULSAR_TOKEN would cross the network in clear text: use https:// in PULSAR_ADMIN_URL, or leave it out."
        )
    return PulsarSettings(
        service_url=url,
        token=token,
        token_file=token_file,
        tenant=_topic_part(reader, "PULSAR_TENANT", "public"),
        namespace=_topic_part(reader, "PULSAR_NAMESPACE", "default"),
        subscription=reader.text("PULSAR_SUBSCRIPTION", "saga"),
        regions=_regions(reader),
        topics=reader.mapping("PULSAR_TOPICS"),
        tls_trust_certs_file=_readable(reader, "PULSAR_TLS_TRUST_CERTS_FILE"),
        tls_validate_hostname=reader.flag("PULSAR_TLS_VALIDATE_HOSTNAME", True),
        tls_allow_insecure=insecure,
        operation_timeout_seconds=reader.integer("PULSAR_OPERATION_TIMEOUT", 10, 1, 300),
        admin_url=admin_url,
    )


def _admin_url(reader: Reader) -> str:
    url = reader.text("PULSAR_ADMIN_URL")
    return reader.url("PULSAR_ADMIN_URL", url, ("http", "https")) if url else ""


def _is_cleartext(url: str) -> bool:
    """Whether a Pulsar URL contains an address that is reached over a network without TLS."""
    try:
        hosts = [host for host, _port in pulsar_address.addresses(url)]
    except ValueError:  # not a URL, which is reported elsewhere
        return False
    return not url.startswith("pulsar+ssl://") and not all(_is_loopback(host) for host in hosts)


def _is_cleartext_http(url: str) -> bool:
    """Whether an HTTP URL names an address that is reached over a network without TLS."""
    try:
        parts = urlsplit(url)
        return parts.scheme == "http" and not _is_loopback(parts.hostname or "")
    except ValueError:  # told elsewhere: it is no URL
        return False


def _is_loopback(host: str) -> bool:
    """Whether an address or host name is reachable from this machine only."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


def _topic_part(reader: Reader, name: str, default: str) -> str:
    value = reader.text(name, default)
    if "/" in value or " " in value:
        reader.problem(f"{name} must be one part of a topic's name, without '/' and spaces, not {value!r}.")
    return value


def _regions(reader: Reader) -> tuple[str, ...] | str:
    regions = reader.items("PULSAR_REGIONS", ("usa", "latam"))
    if regions == ("*",):
        return "*"
    if any(not region.replace("-", "").replace("_", "").isalnum() for region in regions):
        reader.problem("PULSAR_REGIONS must be a list of names such as usa,latam, or * alone for all of them.")
    return regions


def _readable(reader: Reader, name: str) -> str:
    path = reader.text(name)
    if path and not os.access(path, os.R_OK):
        reader.problem(f"{name}: {path} cannot be read.")
    return path


def _sagas(reader: Reader, dev: bool) -> SagaSettings:
    if not dev and not reader.text("SAGA_PUBLISHING"):
        reader.problem(
            "SAGA_PUBLISHING must be set in prod: on (commands are sent) or paused (planned and shown, but not sent)."
        )
    settings = SagaSettings(
        publishing=reader.choice("SAGA_PUBLISHING", ("on", "paused"), "on"),
        failure_scope=reader.choice("SAGA_FAILURE_SCOPE", ("lane", "saga"), "lane"),
        confirmation_timeout=reader.number("SAGA_CONFIRMATION_TIMEOUT", 300.0, 0.1, 7 * DAY),
        deadline_hold=reader.number("SAGA_DEADLINE_HOLD", 1800.0, 0.0, DAY),
        initial_interval=reader.number("SAGA_RETRY_INITIAL_INTERVAL", 1.0, 0.01, DAY),
        backoff_coefficient=reader.number("SAGA_RETRY_BACKOFF_COEFFICIENT", 2.0, 1.0, 100.0),
        maximum_interval=reader.number("SAGA_RETRY_MAXIMUM_INTERVAL", 100.0, 0.01, 7 * DAY),
        maximum_attempts=reader.integer("SAGA_RETRY_MAXIMUM_ATTEMPTS", 10, 1, 1000),
        jitter=reader.number("SAGA_RETRY_JITTER", 0.2, 0.0, 1.0),
        apply_page=reader.integer("SAGA_APPLY_PAGE", 2000, 1, 9000),
        apply_seconds=reader.number("SAGA_APPLY_SECONDS", 10.0, 0.1, 40.0),
        apply_turns=reader.integer("SAGA_APPLY_TURNS", os.cpu_count() or 1, 1, 64),
        breaker_commands=reader.integer("SAGA_BREAKER_COMMANDS", 5000, 0, 1_000_000_000),
        retention_days=reader.integer("SAGA_RETENTION_DAYS", 0, 0, 36_500),
        pruned_keys_days=reader.integer("SAGA_PRUNED_KEYS_DAYS", 90, 1, 36_500),
    )
    if settings.maximum_interval < settings.initial_interval:
        reader.problem("SAGA_RETRY_MAXIMUM_INTERVAL must not be less than SAGA_RETRY_INITIAL_INTERVAL.")
    return settings


def _bridge(reader: Reader) -> BridgeSettings:
    return BridgeSettings(
        batch_size=reader.integer("BRIDGE_BATCH_SIZE", 500, 1, 5000),
        batch_wait_ms=reader.integer("BRIDGE_BATCH_WAIT_MS", 20, 1, 500),
        max_body=reader.integer("BRIDGE_MAX_BODY", 1_048_576, 1024, 5_242_880),
        quarantine_per_hour=reader.integer("BRIDGE_QUARANTINE_PER_HOUR", 1000, 1, 1_000_000),
        receiver_queue_size=reader.integer("BRIDGE_RECEIVER_QUEUE_SIZE", 200, 1, 1000),
        silence_seconds=reader.integer("BRIDGE_SILENCE_SECONDS", 30, 1, 3600),
    )


def _api(reader: Reader, dev: bool) -> ApiSettings:
    host = reader.text("API_HOST", "127.0.0.1")
    if dev and not _is_loopback(host):
        reader.problem(
            "API_HOST must be a loopback address (127.0.0.1) in dev, where the API can be read without a login and the "
            f"secret key is public, not {host!r}. To serve other machines set ENVIRONMENT=prod."
        )
    return ApiSettings(
        host=host,
        port=reader.integer("API_PORT", 8085, 1, 65_535),
        reload=reader.flag("API_RELOAD", False),
        https=reader.flag("API_HTTPS", not dev),
        behind_proxy=reader.flag("API_BEHIND_PROXY", False),
        proxy_count=reader.integer("API_PROXY_COUNT", 1, 1, 10),
        throttle_user=_rate(reader, "API_THROTTLE_USER", "1200/min"),
        throttle_anon=_rate(reader, "API_THROTTLE_ANON", "60/min"),
        cors_origins=_cors_origins(reader),
    )


def _cors_origins(reader: Reader) -> tuple[str, ...]:
    """Read the origins as browsers send them: scheme://host[:port], the default port left out. No wildcard, ever."""
    origins = reader.items("API_CORS_ORIGINS")
    for origin in origins:
        problem = _origin_problem(origin)
        if problem:
            reader.problem(f"API_CORS_ORIGINS: {origin!r} {problem}.")
    return origins


def _origin_problem(origin: str) -> str:
    """Return what is wrong with an origin; "" if nothing is."""
    if "*" in origin:
        # Also in dev: any web page could read what needs no login there.
        return "contains a wildcard: list each origin"
    try:
        parts = urlsplit(origin)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    if not host or not _ORIGIN.fullmatch(origin):
        return "must be scheme://host or scheme://host:port, in lower case, such as https://viewer.hospital.example"
    if port == {"http": 80, "https": 443}[parts.scheme]:
        return f"names the default port {port}, which browsers leave out: leave it out too"
    return ""


def _embedded(reader: Reader) -> EmbeddedSettings:
    return EmbeddedSettings(
        pulsar=reader.choice("BROKER", ("lite", "apache"), "lite"),
        celery=reader.choice("CELERY_ON", ("valkey", "rabbitmq"), "valkey"),
    )


def _rate(reader: Reader, name: str, default: str) -> str:
    value = reader.text(name, default)
    count, _, unit = value.partition("/")
    if not count.isdigit() or unit not in ("sec", "min", "hour", "day"):
        reader.problem(f"{name} must be a count and a unit, such as {default}, not {value!r}.")
        return default
    return value
