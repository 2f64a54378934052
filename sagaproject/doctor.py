"""Is each part well, in plain words, and if not, what to do. Reads only; safe at any time, also in production."""

import base64
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from celery import current_app
from django.conf import settings
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from bridge.catalog import get_catalog
from bridge.errors import BrokerUnavailable
from bridge.heartbeats import bridge_state
from bridge.models import Heartbeat
from bridge.publisher import get_publisher
from sagaproject import pulsar_address
from sagaproject.health import ALIVE
from sagas.definitions.registry import all_definitions

QUEUES = frozenset({"applying", "commands", "housekeeping"})
SWEEPER_ALIVE = timedelta(seconds=15)
ANSWER_SECONDS = 3.0
# How RabbitMQ's client (the first three) and Redis's say that they reached the broker, and may not use it.
_NOT_LET_IN = frozenset({"AccessRefused", "NotAllowed", "NotFound", "AuthenticationError", "NoPermissionError"})


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found. `do` is empty if all is well."""

    name: str
    well: bool
    says: str
    do: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def examine() -> Iterator[Finding]:
    """Run every check, in the order in which one would mend things. Takes up to half a minute if much is broken."""
    database = check_database()
    yield database
    yield check_migrations() if database.well else _untold("migrations")
    broker = check_celery_broker()
    yield broker
    yield check_worker() if broker.well else _untold("worker", "Celery's broker")
    yield check_beat() if database.well else _untold("beat")
    token = check_token()
    yield token
    pulsar = check_pulsar()
    yield pulsar
    yield check_topics(pulsar.well) if database.well else _untold("topics")
    yield check_bridge() if database.well else _untold("bridge")


def check_database() -> Finding:
    place = _place(settings.DATABASES["default"])
    try:
        with connection.cursor() as cursor:
            cursor.execute("SHOW server_version")
            version = cursor.fetchone()[0]
    except DatabaseError as error:
        return Finding(
            "database",
            False,
            f"PostgreSQL at {place} does not answer: {_first_line(error)}",
            "Start it, or correct DATABASE_URL. On this machine alone: make up starts one.",
        )
    if int(version.split(".")[0]) < 14:
        return Finding("database", False, f"PostgreSQL {version} is too old.", "Use PostgreSQL 14 or later.")
    return Finding("database", True, f"PostgreSQL {version} at {place} answers.")


def check_migrations() -> Finding:
    executor = MigrationExecutor(connection)
    waiting = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if not waiting:
        return Finding("migrations", True, "The tables are those that this version expects.")
    names = ", ".join(f"{migration.app_label}.{migration.name}" for migration, _ in waiting[:5])
    return Finding(
        "migrations", False, f"{len(waiting)} migrations are not applied: {names}.", "Run manage.py migrate."
    )


def check_celery_broker() -> Finding:
    name = "RabbitMQ" if settings.CELERY_BROKER_URL.startswith("amqp") else "Valkey or Redis"
    place = _host(settings.CELERY_BROKER_URL)
    try:
        with current_app.connection_for_write(connect_timeout=ANSWER_SECONDS) as broker:
            broker.ensure_connection(max_retries=1, interval_start=0, timeout=int(ANSWER_SECONDS))
    except Exception as error:  # each transport raises classes of its own
        kind = type(error).__name__
        if kind in _NOT_LET_IN:
            return Finding(
                "celery broker",
                False,
                f"{name} at {place} does not let us in ({kind}).",
                "Correct the user, the password or the virtual host in CELERY_BROKER_URL, or the user's permissions.",
            )
        return Finding(
            "celery broker",
            False,
            f"{name} at {place} does not answer ({kind}).",
            f"Start {name}, or correct CELERY_BROKER_URL. Nothing is lost meanwhile: work waits in the database.",
        )
    return Finding("celery broker", True, f"{name} at {place} answers.")


def check_worker() -> Finding:
    queues = current_app.control.inspect(timeout=ANSWER_SECONDS).active_queues() or {}
    heard = {queue["name"] for consumed in queues.values() for queue in consumed}
    if not queues:
        return Finding(
            "worker",
            False,
            "No Celery worker answers: events are stored but not applied, and no command leaves.",
            "Start one: celery -A sagaproject worker -Q applying,commands,housekeeping.",
        )
    missing = sorted(QUEUES - heard)
    if missing:
        return Finding(
            "worker", False, f"No worker takes from {', '.join(missing)}.", "Name all three queues in some worker's -Q."
        )
    return Finding("worker", True, f"{len(queues)} Celery workers take from all three queues.")


def check_beat() -> Finding:
    last = Heartbeat.objects.filter(kind="sweeper").order_by("-beat_at").first()
    if last and timezone.now() - last.beat_at < SWEEPER_ALIVE:
        return Finding("beat", True, f"The last sweep was {_age(last.beat_at)} ago.")
    return Finding(
        "beat",
        False,
        f"The last sweep was {_age(last.beat_at)} ago." if last else "No sweep ever ran.",
        "Start celery -A sagaproject beat (exactly one). If it runs, see whether a worker takes from housekeeping.",
    )


def check_token() -> Finding:
    token = str(settings.PULSAR["token"])
    if not token:
        return Finding("token", True, "No PULSAR_TOKEN is set: right for a broker that asks for none.")
    expires = _expiry(token)
    if expires and expires < timezone.now():
        return Finding(
            "token", False, f"PULSAR_TOKEN expired on {expires:%Y-%m-%d %H:%M} UTC.", "Put a new one in its place."
        )
    return Finding("token", True, "A token is set" + (f"; it expires on {expires:%Y-%m-%d}." if expires else "."))


def check_pulsar() -> Finding:
    url = settings.PULSAR["service_url"]
    place = _host(url)
    if not pulsar_address.answers(url):
        return Finding(
            "pulsar",
            False,
            f"Nothing answers at {place}.",
            "Start Pulsar, or correct PULSAR_SERVICE_URL. An outage exhausts nothing: commands wait.",
        )
    complaint = pulsar_address.tls_complaint(settings.PULSAR)
    if complaint:
        return Finding(
            "pulsar",
            False,
            f"{place} accepts connections, but {complaint}.",
            "Name the certificates that signed the broker's in PULSAR_TLS_TRUST_CERTS_FILE, and the broker in "
            "PULSAR_SERVICE_URL as its certificate does; a port without TLS is pulsar://, not pulsar+ssl://.",
        )
    try:
        publisher = get_publisher()
        publisher.probe()
        for topic in _command_topics():
            publisher.prepare(topic)
    except BrokerUnavailable as error:
        return Finding(
            "pulsar", False, f"{place} accepts connections, but {_first_line(error)}.", _pulsar_advice(error.answer)
        )
    return Finding("pulsar", True, f"Pulsar at {place} answers.")


def _pulsar_advice(answer: str) -> str:
    pulsar = settings.PULSAR
    if answer.startswith("ProducerBlockedQuotaExceeded"):
        return "See whether the service that takes the commands runs. Until then they wait, and no attempt is counted."
    if answer == "AuthorizationError":
        return (
            "Grant the token's role 'produce' and 'consume' on "
            f"{pulsar['tenant']}/{pulsar['namespace']}, or correct PULSAR_TENANT or PULSAR_NAMESPACE."
        )
    if pulsar_address.only_speaks_tls(pulsar["service_url"]):
        return "It speaks TLS: PULSAR_SERVICE_URL must begin with pulsar+ssl://."
    token = "a wrong token: look at PULSAR_TOKEN" if pulsar["token"] else "a missing token: PULSAR_TOKEN is not set"
    return (
        f"If it timed out, it may be {token}. On Apache Pulsar a wrong or missing token shows itself as a time-out, "
        "not as an authorization error; only the broker's log names it. Then see whether the broker is overloaded."
    )


def _command_topics() -> list[str]:
    return sorted({item.topic for definition in all_definitions() for item in definition.compensations})


def check_topics(pulsar_is_well: bool = True) -> Finding:
    expected = get_catalog().topics
    errors = bridge_state(timezone.now()).errors
    if errors:
        return Finding(
            "topics",
            False,
            f"The bridge says: {errors[0]}",
            "Grant the token's role 'consume' on the namespace, or correct "
            "PULSAR_TENANT, PULSAR_NAMESPACE or PULSAR_TOPICS."
            if pulsar_is_well
            else "See pulsar, above.",
        )
    if not any(row.connected for row in _fresh("bridge")):
        return Finding("topics", False, "No bridge is subscribed now.", "See bridge, below.")
    return Finding("topics", True, f"The bridge is subscribed to what the {len(expected)} declared topics name.")


def check_bridge() -> Finding:
    rows = _fresh("bridge")
    do = "Start manage.py run_bridge, and look at its log. Messages wait in Pulsar meanwhile: nothing is lost."
    if not rows:
        last = Heartbeat.objects.filter(kind="bridge").order_by("-beat_at").first()
        return Finding("bridge", False, f"Silent for {_age(last.beat_at)}." if last else "No bridge ever ran.", do)
    connected = [row for row in rows if row.connected]
    if not connected:
        return Finding("bridge", False, "It runs, but is not connected to Pulsar.", "See pulsar and token, above.")
    heard = max((row.last_message_at for row in connected if row.last_message_at), default=None)
    words = f"the last message came {_age(heard)} ago" if heard else "no message has come yet"
    return Finding("bridge", True, f"{len(connected)} connected; {words}.")


def _fresh(kind: str) -> list[Heartbeat]:
    return list(Heartbeat.objects.filter(kind=kind, beat_at__gte=timezone.now() - ALIVE[kind]))


def _untold(name: str, because: str = "the database") -> Finding:
    return Finding(name, False, f"Cannot be told without {because}.", f"Mend {because} first.")


def _age(moment: datetime) -> str:
    seconds = int((timezone.now() - moment).total_seconds())
    return f"{seconds} s" if seconds < 120 else f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"


def _place(entry: dict[str, Any]) -> str:
    return f"{entry['HOST'] or 'the local socket'}{':' + entry['PORT'] if entry['PORT'] else ''}/{entry['NAME']}"


def _host(url: str) -> str:
    """Give host and port of a URL, never its password."""
    return urlsplit(url).netloc.rpartition("@")[2] or url.partition(":")[0]


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _expiry(token: str) -> datetime | None:
    """Give when a JWT expires; None if it does not, or is no JWT."""
    try:
        middle = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
        return datetime.fromtimestamp(float(claims["exp"]), tz=timezone.get_default_timezone())
    except (IndexError, KeyError, ValueError, TypeError):
        return None
