"""Check Celery: its broker, its workers with their queues, and beat."""

from typing import Any
from urllib.parse import urlsplit

from celery import current_app
from django.conf import settings

from compensation import health
from compensation.health import State
from sagaproject.doctor.finding import Finding, age, error, ok, warning

QUEUES = frozenset({"applying", "commands", "housekeeping"})
ANSWER_SECONDS = 3.0
# Errors of RabbitMQ's client (the first three) and of Redis's that mean: connected, but access is denied.
_ACCESS_DENIED = frozenset({"AccessRefused", "NotAllowed", "NotFound", "AuthenticationError", "NoPermissionError"})
# Warn if more than this share of maxmemory is in use.
_NEARLY_FULL = 0.9


class _Blocked(Exception):
    """RabbitMQ has an alarm: it accepts connections but blocks those that publish."""


def check_celery_broker() -> Finding:
    """Check that the broker answers, grants access and accepts a message.

    Publishes a message that is not routed to any queue (RabbitMQ), or sets a key for 1 s (Valkey or Redis).
    """
    address = host(settings.CELERY_BROKER_URL)
    broker_name = _broker_name()
    try:
        # While the broker has an alarm, the wait for its confirmation would never end.
        options = {"confirm_publish": False, "read_timeout": ANSWER_SECONDS, "write_timeout": ANSWER_SECONDS}
        given = options if settings.CELERY_BROKER_URL.startswith("amqp") else None
        with current_app.connection_for_write(connect_timeout=ANSWER_SECONDS, transport_options=given) as broker:
            broker.ensure_connection(max_retries=1, interval_start=0, timeout=int(ANSWER_SECONDS))
            return _check_messages(broker, broker_name, address)
    except Exception as failure:  # each transport raises its own classes
        kind = type(failure).__name__
        if kind in _ACCESS_DENIED:
            return error(
                "celery broker",
                f"{broker_name} at {address} denies access ({kind}).",
                "Correct the user, the password or the virtual host in CELERY_BROKER_URL, or the user's permissions.",
            )
        return error(
            "celery broker",
            f"{broker_name} at {address} does not answer ({kind}).",
            f"Start {broker_name}, or correct CELERY_BROKER_URL. "
            "Nothing is lost in the meantime: work waits in the database.",
        )


def check_worker() -> Finding:
    """Check that workers answer and consume all queues."""
    queues = current_app.control.inspect(timeout=ANSWER_SECONDS).active_queues() or {}
    consumed = {queue["name"] for worker_queues in queues.values() for queue in worker_queues}
    if not queues:
        return error(
            "worker",
            "No Celery worker answers: events are stored but not applied, and no commands are sent.",
            "Start one: celery -A sagaproject worker -Q applying,commands,housekeeping.",
        )
    missing = sorted(QUEUES - consumed)
    if missing:
        return error(
            "worker",
            f"No worker consumes {', '.join(missing)}.",
            "Make sure that each of the three queues is in the -Q option of a worker.",
        )
    return ok("worker", f"All three queues are consumed; {len(queues)} Celery workers answer.")


def check_beat() -> Finding:
    """Check that sweeps run: beat sends them, a worker runs them."""
    part = health.measure().part(health.Name.WORKER)
    if part.state == State.HEALTHY:
        return ok("beat", f"The last sweep was {age(part.age)} ago.")
    return error(
        "beat",
        "No sweep has ever run." if part.state == State.NEVER_RAN else f"The last sweep was {age(part.age)} ago.",
        "Start celery -A sagaproject beat (exactly one). If it runs, check whether a worker consumes housekeeping.",
    )


def host(url: str) -> str:
    """Return host and port of a URL, never its password."""
    return urlsplit(url).netloc.rpartition("@")[2] or url.partition(":")[0]


def _broker_name() -> str:
    return "RabbitMQ" if settings.CELERY_BROKER_URL.startswith("amqp") else "Valkey or Redis"


def _check_messages(broker: Any, broker_name: str, address: str) -> Finding:
    kind = broker.transport.driver_type
    if kind == "redis":
        return _check_redis_writes(broker, broker_name, address)
    if kind == "amqp":
        return _check_rabbitmq_messages(broker, broker_name, address)
    return ok("celery broker", f"{broker_name} at {address} answers.")


def _check_redis_writes(broker: Any, broker_name: str, address: str) -> Finding:
    client = broker.default_channel.client
    memory = client.info("memory")
    used, limit = memory.get("used_memory", 0), memory.get("maxmemory", 0)
    try:
        client.set("saga:doctor", "", px=1000)
    except Exception as failure:
        kind = type(failure).__name__
        if kind in _ACCESS_DENIED:
            raise
        return error(
            "celery broker",
            f"{broker_name} at {address} accepts no writes ({kind}): no task can be sent.",
            f"{_advice(kind)} Nothing is lost in the meantime: work waits in the database.",
        )
    if limit and used > limit * _NEARLY_FULL:
        return warning(
            "celery broker",
            f"{broker_name} at {address} answers, but uses {used * 100 // limit} % of its maxmemory.",
            "Give it more memory, or check what else uses it: when it is full, no task can be sent.",
        )
    if limit and memory.get("maxmemory_policy", "noeviction") != "noeviction":
        return warning(
            "celery broker",
            f"{broker_name} at {address} answers, but its maxmemory-policy is {memory['maxmemory_policy']}.",
            "Set maxmemory-policy noeviction: a queue stops if its bindings are evicted.",
        )
    return ok("celery broker", f"{broker_name} at {address} answers.")


def _advice(kind: str) -> str:
    if kind == "OutOfMemoryError":
        return "Raise its maxmemory, or remove other data from it."
    if kind == "ReadOnlyError":
        return "Set CELERY_BROKER_URL to the primary server: this one is a replica."
    return "See its log for the reason: a full disk (MISCONF), or missing replicas (NOREPLICAS)."


def _check_rabbitmq_messages(broker: Any, broker_name: str, address: str) -> Finding:
    def blocked(_reason: str) -> None:
        raise _Blocked

    broker.connection.on_blocked = blocked
    try:
        channel = broker.channel()
        # To the default exchange, for a queue that does not exist: the broker drops the message. It answers the next
        # call only if it goes on reading; while it has an alarm, it reports the alarm instead.
        channel.basic_publish(channel.prepare_message(b""), exchange="", routing_key="saga.doctor.nobody")
        channel.basic_qos(0, 1, False)
        channel.close()
    except (_Blocked, TimeoutError):
        return error(
            "celery broker",
            f"{broker_name} at {address} accepts connections but no messages: it has a memory or disk alarm.",
            "See rabbitmqctl status (alarms), then give it more memory or disk, or empty other queues. "
            "Nothing is lost in the meantime: work waits in the database.",
        )
    return ok("celery broker", f"{broker_name} at {address} answers.")
