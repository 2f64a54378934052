"""All settings, in groups: the only declaration of each.

A line is a setting; the string under it describes it, its first sentence alone in .env.example. After a change run
`make settings`, which writes .env.example and the tables of docs/configuration.md. Django's settings get the groups
`bridge`, `sagas`, `applying` and `api` as BRIDGE_…, SAGA_…, APPLY_… and API_… (sagaproject.settings).
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sagaproject import database_url
from sagaproject import setting_checks as checks
from sagaproject.setting import (
    choice,
    choices,
    flag,
    integer,
    items,
    items_or_all,
    mapping,
    number,
    rate,
    readable_file,
    secret,
    secret_url,
    text,
    url,
)

DAY = 86_400.0
DEV_HOSTS = ("localhost", "127.0.0.1", "[::1]")
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_BROKERS = ("redis", "rediss", "amqp", "amqps")
# What is reported if production has no value: the rest of a sentence that begins with the name.
_NEEDS_KEY = "is missing: set it (or SECRET_KEY_FILE) to 50 random characters."
_NEEDS_HOSTS = "is missing: list the host names that clients use for the service."
_NEEDS_DATABASE = "is missing: postgresql://USER:PASSWORD@HOST:PORT/NAME."
_NEEDS_BROKER = "is missing: redis://:PASSWORD@HOST:6379/0 or amqp://USER:PASSWORD@HOST:5672//."
_NEEDS_PULSAR = "is missing: pulsar://HOST:6650, or pulsar+ssl://HOST:6651."
_NEEDS_PUBLISHING = "must be set in prod: on (commands are sent) or paused (planned and shown, but not sent)."


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSettings:
    name: str = choice("ENVIRONMENT", ("dev", "prod"), "prod", example="prod")
    """Whether this is production. In `dev` the API can be read without a login, so the web server listens on this
    machine only; in `prod` the service does not start with a default secret, `DEBUG` or a wildcard host."""
    secret_key: str = secret("SECRET_KEY", dev=checks.DEV_SECRET_KEY, required=_NEEDS_KEY, check=checks.secret_key)
    """Signs the sessions; at least 32 random characters."""
    allowed_hosts: tuple[str, ...] = items(
        "ALLOWED_HOSTS", dev=DEV_HOSTS, required=_NEEDS_HOSTS, check=checks.no_wildcard, example="saga.hospital.example"
    )
    """Host names that clients use for the service; no wildcard."""
    csrf_trusted_origins: tuple[str, ...] = items(
        "CSRF_TRUSTED_ORIGINS", check=checks.origins, example="https://saga.hospital.example"
    )
    """Origins such as `https://saga.hospital.example`, if the proxy changes the host."""
    debug: bool = flag("DEBUG", False, check=checks.no_debug)
    """Django's debug pages; refused in prod."""
    log_level: str = choice("LOG_LEVEL", _LEVELS, "INFO")
    """The least severe log lines that are written. Logs contain ids and types, never payload."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiSettings:
    host: str = text("API_HOST", "127.0.0.1", check=checks.loopback_in_dev)
    """The address on which the web server listens. In `dev` only a loopback address is accepted."""
    port: int = integer("API_PORT", 8085, 1, 65_535)
    """The port on which the web server listens."""
    reload: bool = flag("API_RELOAD", False)
    """Restart the web server when the code changes (development)."""
    https: bool = flag("API_HTTPS", True, dev=False)
    """Cookies for HTTPS only, HSTS, and a redirect from HTTP to HTTPS (not for the health check). Turn it off only for
    a trial on one machine."""
    behind_proxy: bool = flag("API_BEHIND_PROXY", False, example="true")
    """Whether a proxy in front of the service terminates TLS, overwrites `X-Forwarded-Proto`, and adds to
    `X-Forwarded-For`. If it is off behind a proxy, all clients share the proxy's address and its limits. If it is on,
    nobody may be able to reach the web server without the proxy."""
    proxy_count: int = integer("API_PROXY_COUNT", 1, 1, 10)
    """With `API_BEHIND_PROXY`: the number of proxies in a row that add an entry to `X-Forwarded-For`. If it is too
    small, all clients share the address of a proxy and its limits; if it is too large, a client can choose its own
    address."""
    cors_origins: tuple[str, ...] = items("API_CORS_ORIGINS", check=checks.web_origins)
    """Origins whose web pages may call the API from a browser, such as `https://viewer.hospital.example`, with a port
    if it is not the default one, without a path; no wildcard. Such a page sends a token, never the session cookie."""
    throttle_user: str = rate("API_THROTTLE_USER", "1200/min")
    """Requests of one login to the API, in all web processes together. Not limited in dev."""
    throttle_anon: str = rate("API_THROTTLE_ANON", "60/min")
    """Requests to the API without a valid login, and failed logins in the admin, of one address (of IPv6: one /64).
    Further ones are refused before their token is looked up. Not limited in dev."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseSettings:
    url: str = secret(
        "DATABASE_URL",
        dev="postgresql://saga@127.0.0.1:5432/saga",
        required=_NEEDS_DATABASE,
        check=checks.postgresql_url,
    )
    """The database, as `postgresql://USER:PASSWORD@HOST:PORT/NAME`. `postgres://`, `postgresql+asyncpg://` and
    `postgresql+psycopg2://` are accepted too."""
    statement_timeout: int = integer("DATABASE_STATEMENT_TIMEOUT", 30, 0, 86_400)
    """Seconds that a statement may take; `0` for no limit (migrations of large tables)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CelerySettings:
    broker_url: str = secret_url("CELERY_BROKER_URL", _BROKERS, dev="redis://127.0.0.1:6379/0", required=_NEEDS_BROKER)
    """Celery's broker: Redis or Valkey, or RabbitMQ. It contains nothing that is needed again: the sweeps find in
    PostgreSQL what is lost there."""
    broker_tls_ca_file: str = readable_file("CELERY_BROKER_TLS_CA_FILE", shown="the system's")
    """CA certificates of the broker, for `rediss://` and `amqps://`. Certificate and host name are always checked."""
    db_reuse_max: int = integer("CELERY_DB_REUSE_MAX", 100, 0, 1_000_000)
    """Tasks that a worker process runs on one database connection; `0` opens one for each. A connection costs 5 ms,
    more than a small task."""
    visibility_timeout: int = integer("CELERY_VISIBILITY_TIMEOUT", 300, 120, 86_400)
    """Redis and Valkey: seconds until a task is given to another worker because its own has died. Must exceed the time
    limit of the tasks, 60."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PulsarSettings:
    service_url: str = url(
        "PULSAR_SERVICE_URL", ("pulsar", "pulsar+ssl"), dev="pulsar://127.0.0.1:6650", required=_NEEDS_PULSAR
    )
    """Pulsar: `pulsar://HOST:6650` or `pulsar+ssl://HOST:6651`; several hosts with commas between them."""
    token: str = secret("PULSAR_TOKEN")
    """The token of a role that may consume the event topics and produce on the command topics. A wrong or missing one
    shows itself as a *time-out*. Refused with `pulsar://` unless the broker is on this machine, because the token would
    cross the network in clear text."""
    token_file: str = text("PULSAR_TOKEN_FILE")
    tenant: str = text("PULSAR_TENANT", "public", check=checks.topic_part)
    """The tenant of the topics."""
    namespace: str = text("PULSAR_NAMESPACE", "default", check=checks.topic_part)
    """The namespace of the topics."""
    subscription: str = text("PULSAR_SUBSCRIPTION", "saga")
    """The bridge's subscription. With another name it reads everything that the topics still contain, from the
    beginning."""
    regions: tuple[str, ...] | str = items_or_all("PULSAR_REGIONS", ("usa", "latam", "*"), check=checks.regions)
    """The regions of `processing.{region}.…` that are read by name; a region is any text, with spaces, dots and
    accents, or empty. `*` adds every other region by a pattern, where the broker can list its topics (Apache Pulsar,
    with *consume* on the namespace): a new region is read within a minute, from its first message, without a restart.
    Where it cannot, the named regions are read, and the doctor says so. `*` alone reads by the pattern only; if the
    broker cannot list its topics, that is a topic that is not read."""
    topics: dict[str, str] = mapping("PULSAR_TOPICS")
    """Topics with other names: `{"retrieval-started": "prod-retrieval-started"}`. A regional topic is renamed for all
    regions (`"processing.{region}.started": "begun-{region}"`) or for one (`"processing.usa.started": "begun-us"`).
    `manage.py check` refuses names that make two topics one, that send a command back to the bridge, or that do not
    show the region, and warns of a name that renames nothing."""
    tls_trust_certs_file: str = readable_file("PULSAR_TLS_TRUST_CERTS_FILE", shown="the system's")
    """CA certificates of the broker."""
    tls_validate_hostname: bool = flag("PULSAR_TLS_VALIDATE_HOSTNAME", True)
    """Whether the certificate must name the host."""
    tls_allow_insecure: bool = flag("PULSAR_TLS_ALLOW_INSECURE", False, check=checks.no_insecure_tls)
    """Accept any certificate; refused in prod."""
    admin_url: str = url("PULSAR_ADMIN_URL", ("http", "https"))
    """Pulsar's admin interface, `https://HOST:8443` or `http://HOST:8080` (in docker-compose.yml `http://pulsar:8080`).
    Optional. With a token `http://` is refused unless it is on this machine, because the token would cross the network
    in clear text. Each bridge reads the backlog of its topics there every 10 s, and `manage.py doctor` reads what only
    the broker knows. Both use the same token, which needs the right to read the statistics of the namespace's topics
    (*consume* on a topic includes it; listing topics, for `*` in `PULSAR_REGIONS` and for unread regions, needs a grant
    on the namespace that contains the regions). Without it deadlines continue although answers wait undelivered
    ([operations.md](operations.md#deadlines-on-hold)), and the doctor cannot report which command topics have a
    subscriber, which backlog does not move, and which regions nobody reads."""
    operation_timeout_seconds: int = integer("PULSAR_OPERATION_TIMEOUT", 10, 1, 300)
    """Seconds that an operation such as subscribing may take."""

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with the settings together."""
        if not self.token and not self.token_file:
            return
        if checks.is_cleartext_pulsar(self.service_url):
            yield (
                "PULSAR_TOKEN would cross the network in clear text: use pulsar+ssl:// in PULSAR_SERVICE_URL, "
                "or a broker on this machine."
            )
        if checks.is_cleartext_http(self.admin_url):
            yield (
                "PULSAR_TOKEN would cross the network in clear text: use https:// in PULSAR_ADMIN_URL, or leave it out."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeSettings:
    batch_size: int = integer("BRIDGE_BATCH_SIZE", 500, 1, 5000)
    """Messages of one transaction."""
    batch_wait_ms: int = integer("BRIDGE_BATCH_WAIT_MS", 20, 1, 500)
    """Milliseconds that a transaction waits for further messages."""
    max_body: int = integer("BRIDGE_MAX_BODY", 1_048_576, 1024, 5_242_880)
    """Bytes of a message. A larger one goes to quarantine, where its first 64 kB, its size and its SHA-256 are kept."""
    quarantine_per_hour: int = integer("BRIDGE_QUARANTINE_PER_HOUR", 1000, 1, 1_000_000)
    """Unreadable messages of one topic that are stored in one hour. Further ones are counted in one row (number, first
    and last time, last reason), and only come back if their service sends them again."""
    receiver_queue_size: int = integer("BRIDGE_RECEIVER_QUEUE_SIZE", 200, 1, 1000)
    """Messages that Pulsar's client holds for each topic."""
    silence_seconds: int = integer("BRIDGE_SILENCE_SECONDS", 30, 1, 3600)
    """After so many seconds without a message the watchdog checks whether the broker still delivers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SagaSettings:
    publishing: str = choice(
        "SAGA_PUBLISHING", ("on", "paused"), dev="on", required=_NEEDS_PUBLISHING, example="paused"
    )
    """Whether commands are sent, or only planned and shown (`paused`). This is the *initial* value of the switch, which
    is in the database afterwards and is changed in the admin."""
    failure_scope: str = choice("SAGA_FAILURE_SCOPE", ("lane", "saga"), "lane")
    """What the failure of one part of a saga undoes, such as one image of a task: that part alone (`lane`) or the whole
    saga. A saga keeps the value with which it began."""
    confirmation_timeout: float = number("SAGA_CONFIRMATION_TIMEOUT", 300.0, 0.1, 7 * DAY)
    """Seconds that a service has to answer a command before the next attempt."""
    confirmations: dict[str, str] = choices("SAGA_CONFIRMATIONS", ("event", "manual"))
    """What confirms a command instead of what its definition says, such as `RollbackAnonymization=manual`: an `event`
    of the service, or an operator (`manual`). It is copied onto a command when it is planned, so commands that
    are planned already keep theirs. It concerns the commands of that name of all saga types. Only a definition can
    state that sending is enough (`published`), and such a command cannot be changed here. `manage.py check` refuses an
    unknown command, and `event` for a command that no event confirms
    ([operations.md](operations.md#commands-that-nobody-answers))."""
    deadline_hold: float = number("SAGA_DEADLINE_HOLD", 1800.0, 0.0, DAY)
    """Seconds for which the deadlines of a service are on hold at most, while messages wait undelivered on a topic on
    which it answers; `0`: never for that reason. Needs `PULSAR_ADMIN_URL`."""
    intake_silence: float = number("SAGA_INTAKE_SILENCE", 900.0, 0.0, 7 * DAY)
    """Seconds without an event after which no further parts of a saga, such as images of a task, are expected, if all
    known ones have ended and there is at least one. Counted by the database's clock, only while the bridge is connected
    and has caught up. A later event takes it back. `0`: never; the intake is then closed by its service or by a
    person."""
    stage_overdue: float = number("SAGA_STAGE_OVERDUE", 1800.0, 0.0, 30 * DAY)
    """Seconds without a new step after which an open image of a saga that otherwise makes progress is shown as an
    overdue stage on the start page; nothing fails because of it. `0`: never."""
    breaker_commands: int = integer("SAGA_BREAKER_COMMANDS", 5000, 0, 1_000_000_000)
    """Commands that may be planned for one service in ten minutes (the current minute and the nine before it, by the
    database's clock). One more pauses the service before any of them is sent, until a person has looked:
    [operations.md](operations.md#the-circuit-breaker). Commands that people order themselves do not count. `0`: no
    limit; a service that is paused already stays paused until it is resumed."""
    job_from: int = integer("SAGA_JOB_FROM", 100, 1, 5000)
    """Selected commands or sagas up to which the admin makes a decision on many at once, in the request itself. More
    become a [job](operations.md#bulk-jobs), which Celery carries out."""
    four_eyes_from: int = integer("SAGA_FOUR_EYES_FROM", 0, 0, 1_000_000_000)
    """Items of a job from which a second person must approve it before it starts. Terminating sagas then always needs
    one, and decisions that need one are refused outside of jobs. `0`: no one does
    ([operations.md](operations.md#two-people-for-one-job))."""
    retention_days: int = integer("SAGA_RETENTION_DAYS", 0, 0, 36_500)
    """Days for which a saga is kept after its end; `0`: permanently. Older ones are deleted with all their rows, for a
    few seconds at a time: [operations.md](operations.md#retention)."""
    pruned_keys_days: int = integer("SAGA_PRUNED_KEYS_DAYS", 90, 1, 36_500)
    """Days for which the keys of deleted events are kept, so that a message that is delivered again stays a duplicate.
    Must reach further back than Pulsar can deliver: its retention, and any cursor that you might move back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrySettings:
    initial_interval: float = number("SAGA_RETRY_INITIAL_INTERVAL", 1.0, 0.01, DAY)
    """Seconds before the second attempt."""
    backoff_coefficient: float = number("SAGA_RETRY_BACKOFF_COEFFICIENT", 2.0, 1.0, 100.0)
    """The factor by which each wait is longer than the one before."""
    maximum_interval: float = number("SAGA_RETRY_MAXIMUM_INTERVAL", 100.0, 0.01, 7 * DAY)
    """Seconds of the longest wait."""
    maximum_attempts: int = integer("SAGA_RETRY_MAXIMUM_ATTEMPTS", 10, 1, 1000)
    """Attempts of a round; then a person decides."""
    jitter: float = number("SAGA_RETRY_JITTER", 0.2, 0.0, 1.0)
    """The share by which a wait may differ, so that many commands are not sent again at the same moment."""

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with the settings together."""
        if self.maximum_interval < self.initial_interval:
            yield "SAGA_RETRY_MAXIMUM_INTERVAL must not be less than SAGA_RETRY_INITIAL_INTERVAL."


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplySettings:
    page: int = integer("SAGA_APPLY_PAGE", 2000, 1, 9000)
    """Events of one transaction. Of the next 20 pages of the backlog it takes the events of the same sagas together."""
    seconds: float = number("SAGA_APPLY_SECONDS", 10.0, 0.1, 40.0)
    """Seconds after which a task that applies events lets the next task run."""
    turns: int = integer("SAGA_APPLY_TURNS", os.cpu_count() or 1, 1, 64, shown="the number of processors")
    """Transactions in which one host applies events at the same time, for any number of worker processes, if few events
    or more than a page wait. In between only one does, because several would make each other's pages small. Other hosts
    have their own."""


@dataclass(frozen=True, slots=True)
class EmbeddedSettings:
    """The servers that the embedded stack starts."""

    pulsar: str = choice("BROKER", ("lite", "apache"), "lite")
    """`lite`: a small Pulsar from a wheel, which needs nothing. `apache`: the real Apache Pulsar, which needs `java`
    (17 or later) and `mvn`. Maven downloads 235 MB the first time; then it is ready after about ten seconds and uses
    half a gigabyte of memory."""
    celery: str = choice("CELERY_ON", ("valkey", "rabbitmq"), "valkey")
    """Celery's broker: `valkey` from a wheel, or `rabbitmq`, the one that is installed on the machine (Debian:
    `rabbitmq-server`; its service may stay off, because the stack runs its own node)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StackSettings:
    """Where the embedded stack is. They are read before anything else, and are not part of the environment."""

    folder: str = text("STACK_DIR", shown="`var`")
    """The folder of its data, logs and `stack.json`."""
    postgres_programs: str = text("PG_BIN", shown="the wheel's")
    """The folder of the programs of another PostgreSQL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Every setting of the service; intervals are in seconds.

    `no_stack`: in development, why no embedded stack provides the servers that the environment does not name; else "".
    """

    service: ServiceSettings
    postgres: DatabaseSettings
    celery: CelerySettings
    pulsar: PulsarSettings
    sagas: SagaSettings
    retry: RetrySettings
    applying: ApplySettings
    bridge: BridgeSettings
    api: ApiSettings
    embedded: EmbeddedSettings
    no_stack: str = ""

    @property
    def is_dev(self) -> bool:
        return self.service.name == "dev"

    @property
    def database(self) -> dict[str, Any]:
        """The entry of Django's DATABASES."""
        return database_url.with_server_settings(
            database_url.parse(self.postgres.url),
            {
                "statement_timeout": f"{self.postgres.statement_timeout}s",
                "idle_in_transaction_session_timeout": "60s",
                **database_url.SERVER_KEEPALIVE,
                # The default of 4.0 makes the planner scan whole tables although there is an index; disks are SSDs now.
                "random_page_cost": "1.1",
                # Reading again after a lock needs a new snapshot, whatever the role's default is. The space is escaped.
                "default_transaction_isolation": r"read\ committed",
            },
        )

    @property
    def celery_broker_url(self) -> str:
        """The URL of Celery's broker. For rediss:// it enables the check of the certificate, which kombu omits."""
        url = self.celery.broker_url
        if not url.startswith("rediss://") or "ssl_cert_reqs" in url:
            return url
        return f"{url}{'&' if '?' in url else '?'}ssl_cert_reqs=required"


# The sections of docs/configuration.md and .env.example, with their groups.
SECTIONS: tuple[tuple[str, tuple[type[Any], ...]], ...] = (
    ("The service", (ServiceSettings, ApiSettings)),
    ("PostgreSQL", (DatabaseSettings,)),
    ("Celery", (CelerySettings,)),
    ("Pulsar", (PulsarSettings,)),
    ("Bridge", (BridgeSettings,)),
    ("Sagas", (SagaSettings, RetrySettings, ApplySettings)),
    ("The embedded stack (development)", (StackSettings, EmbeddedSettings)),
)
