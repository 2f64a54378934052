"""Celery: whether its broker answers and takes messages, whether workers take from all queues, and beat sends."""

from typing import Any
from urllib.parse import urlsplit

from celery import current_app
from django.conf import settings

from compensation import health
from compensation.health import State
from sagaproject.doctor.finding import Finding, age, error, ok, warning

QUEUES = frozenset({"applying", "commands", "housekeeping"})
ANSWER_SECONDS = 3.0
# How RabbitMQ's client (the first three) and Redis's say that they reached the broker, and may not use it.
_NOT_LET_IN = frozenset({"AccessRefused", "NotAllowed", "NotFound", "AuthenticationError", "NoPermissionError"})
# More than this share of maxmemory in use is worth a warning.
_NEARLY_FULL = 0.9


class _Blocked(Exception):
    """RabbitMQ has an alarm: it accepts connections and stops those that publish."""


def check_celery_broker() -> Finding:
    """Whether the broker answers, lets us in and takes a message. Publishes one to nobody, or sets one key for 1 s."""
    place = host(settings.CELERY_BROKER_URL)
    broker_name = _broker_name()
    try:
        # A confirmation of the broker would be waited for without end while it has an alarm.
        options = {"confirm_publish": False, "read_timeout": ANSWER_SECONDS, "write_timeout": ANSWER_SECONDS}
        given = options if settings.CELERY_BROKER_URL.startswith("amqp") else None
        with current_app.connection_for_write(connect_timeout=ANSWER_SECONDS, transport_options=given) as broker:
            broker.ensure_connection(max_retries=1, interval_start=0, timeout=int(ANSWER_SECONDS))
            return _takes_messages(broker, broker_name, place)
    except Exception as failure:  # each transport raises classes of its own
        kind = type(failure).__name__
        if kind in _NOT_LET_IN:
            return error(
                "celery broker",
                f"{broker_name} at {place} does not let us in ({kind}).",
                "Correct the user, the password or the virtual host in CELERY_BROKER_URL, or the user's permissions.",
            )
        return error(
            "celery broker",
            f"{broker_name} at {place} does not answer ({kind}).",
            f"Start {broker_name}, or correct CELERY_BROKER_URL. "
            "Nothing is lost meanwhile: work waits in the database.",
        )


def check_worker() -> Finding:
    """Whether workers answer, and take from all queues."""
    queues = current_app.control.inspect(timeout=ANSWER_SECONDS).active_queues() or {}
    heard = {queue["name"] for consumed in queues.values() for queue in consumed}
    if not queues:
        return error(
            "worker",
            "No Celery worker answers: events are stored but not applied, and no command leaves.",
            "Start one: celery -A sagaproject worker -Q applying,commands,housekeeping.",
        )
    missing = sorted(QUEUES - heard)
    if missing:
        return error(
            "worker", f"No worker takes from {', '.join(missing)}.", "Name all three queues in some worker's -Q."
        )
    return ok("worker", f"{len(queues)} Celery workers take from all three queues.")


def check_beat() -> Finding:
    """Whether sweeps run: beat sends them, a worker runs them."""
    part = health.measure().part(health.Name.WORKER)
    if part.state == State.HEALTHY:
        return ok("beat", f"The last sweep was {age(part.age)} ago.")
    return error(
        "beat",
        "No sweep ever ran." if part.state == State.NEVER_RAN else f"The last sweep was {age(part.age)} ago.",
        "Start celery -A sagaproject beat (exactly one). If it runs, see whether a worker takes from housekeeping.",
    )


def host(url: str) -> str:
    """Give host and port of a URL, never its password."""
    return urlsplit(url).netloc.rpartition("@")[2] or url.partition(":")[0]


def _broker_name() -> str:
    return "RabbitMQ" if settings.CELERY_BROKER_URL.startswith("amqp") else "Valkey or Redis"


def _takes_messages(broker: Any, broker_name: str, place: str) -> Finding:
    kind = broker.transport.driver_type
    if kind == "redis":
        return _redis_takes_writes(broker, broker_name, place)
    if kind == "amqp":
        return _rabbitmq_takes_messages(broker, broker_name, place)
    return ok("celery broker", f"{broker_name} at {place} answers.")


def _redis_takes_writes(broker: Any, broker_name: str, place: str) -> Finding:
    client = broker.default_channel.client
    memory = client.info("memory")
    used, most = memory.get("used_memory", 0), memory.get("maxmemory", 0)
    try:
        client.set("saga:doctor", "", px=1000)
    except Exception as failure:
        kind = type(failure).__name__
        if kind in _NOT_LET_IN:
            raise
        return error(
            "celery broker",
            f"{broker_name} at {place} takes no writes ({kind}): no task can be sent.",
            f"{_advice(kind)} Nothing is lost meanwhile: work waits in the database.",
        )
    if most and used > most * _NEARLY_FULL:
        return warning(
            "celery broker",
            f"{broker_name} at {place} answers, but uses {used * 100 // most} % of its maxmemory.",
            "Give it more memory, or see who else uses it: when it is full, no task can be sent.",
        )
    if most and memory.get("maxmemory_policy", "noeviction") != "noeviction":
        return warning(
            "celery broker",
            f"{broker_name} at {place} answers, but its maxmemory-policy is {memory['maxmemory_policy']}.",
            "Set maxmemory-policy noeviction: a queue's bindings that are evicted stop that queue.",
        )
    return ok("celery broker", f"{broker_name} at {place} answers.")


def _advice(kind: str) -> str:
    if kind == "OutOfMemoryError":
        return "Raise its maxmemory, or remove what else fills it."
    if kind == "ReadOnlyError":
        return "Name the primary in CELERY_BROKER_URL: this one is a replica."
    return "Its log says why: a full disk (MISCONF), or replicas that are away (NOREPLICAS)."


def _rabbitmq_takes_messages(broker: Any, broker_name: str, place: str) -> Finding:
    def blocked(_reason: str) -> None:
        raise _Blocked

    broker.connection.on_blocked = blocked
    try:
        channel = broker.channel()
        # To the default exchange, for a queue that nobody has: dropped by the broker. It answers the next call only
        # if it goes on reading; while it has an alarm, it announces that instead.
        channel.basic_publish(channel.prepare_message(b""), exchange="", routing_key="saga.doctor.nobody")
        channel.basic_qos(0, 1, False)
        channel.close()
    except (_Blocked, TimeoutError):
        return error(
            "celery broker",
            f"{broker_name} at {place} accepts connections, but takes no messages: it has a memory or disk alarm.",
            "See rabbitmqctl status (alarms), then give it memory or disk, or empty the queues of others. "
            "Nothing is lost meanwhile: work waits in the database.",
        )
    return ok("celery broker", f"{broker_name} at {place} answers.")
