"""The Celery app: three queues by concern, and beat's sweeps."""

import os
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from celery import Celery, Task
from celery.schedules import schedule
from django.db import connection
from kombu import Queue

from sagaproject import valkey_transport
from sagaproject.env import ConfigurationError

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "sagaproject.settings")


class FreshConnection(Task):  # type: ignore[type-arg]
    """A task that begins with a connection that works, and leaves none behind that it may have broken.

    Connections are kept over tasks (CELERY_DB_REUSE_MAX). One whose server went away is of no use to any later task of
    this process, and the one that a time limit cut off in mid-query is not either.
    """

    abstract = True

    def before_start(self, *args: Any, **kwargs: Any) -> None:
        # As a request begins: the next query first looks whether the connection still works, and else makes a new one.
        if _is_ours():
            connection.close_if_unusable_or_obsolete()

    def on_failure(self, *args: Any, **kwargs: Any) -> None:
        if _is_ours():
            connection.close()

    def on_retry(self, *args: Any, **kwargs: Any) -> None:
        if _is_ours():
            connection.close()


class SagaCelery(Celery):
    """An app that ends its process as manage.py does where the configuration cannot be used: its text, exit code 2."""

    def _load_config(self) -> Any:
        try:
            return super()._load_config()  # type: ignore[misc]  # not in celery-types
        except ConfigurationError as error:
            sys.stderr.write(f"{error}\n")
            raise SystemExit(2) from None


def _is_ours() -> bool:
    """Whether the connection is not in the middle of a transaction of somebody who calls the task like a function."""
    return not connection.in_atomic_block


valkey_transport.install()
app = SagaCelery("sagaproject", task_cls=FreshConnection)
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.task_queues = [Queue(name, routing_key=name) for name in ("applying", "commands", "housekeeping")]
app.conf.task_routes = {
    "sagas.apply": {"queue": "applying"},
    "compensation.publish": {"queue": "commands"},
    "sagas.sweep": {"queue": "housekeeping"},
    "compensation.sweep": {"queue": "housekeeping"},
    "sagas.prune": {"queue": "housekeeping"},
}


def _steady() -> datetime:
    """A time that only ever goes forward at the same pace, from an arbitrary beginning."""
    return datetime(2000, 1, 1, tzinfo=UTC) + timedelta(seconds=time.monotonic())


# By the monotonic clock: when the wall clock is set back an hour, Celery's own schedule sends nothing for an hour.
# `expiration` is counted by RabbitMQ, and not, as `expires` would be, by the clock of whichever worker takes the task.
app.conf.beat_schedule = {
    name: {"task": name, "schedule": schedule(seconds, nowfun=_steady), "options": {"expiration": 10}}
    for name, seconds in {"sagas.sweep": 2.0, "compensation.sweep": 2.0, "sagas.prune": 10.0}.items()
}
app.autodiscover_tasks(["sagas", "compensation"])
