"""The Celery app, with its three queues and beat's schedule of sweeps."""

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
    """A task that starts with a working database connection and closes the connection after a failure.

    Connections are reused by later tasks (CELERY_DB_REUSE_MAX). A connection whose server is gone, or whose query was
    interrupted by a time limit, would break every later task of this process.
    """

    abstract = True

    def before_start(self, *args: Any, **kwargs: Any) -> None:
        # As at the start of a request: the next query first checks the connection and reconnects if it is broken.
        if _may_close():
            connection.close_if_unusable_or_obsolete()

    def on_failure(self, *args: Any, **kwargs: Any) -> None:
        if _may_close():
            connection.close()

    def on_retry(self, *args: Any, **kwargs: Any) -> None:
        if _may_close():
            connection.close()


class SagaCelery(Celery):
    """An app that exits on an invalid configuration like manage.py: it prints the error and exits with code 2."""

    def _load_config(self) -> Any:
        try:
            return super()._load_config()  # type: ignore[misc]  # not in celery-types
        except ConfigurationError as error:
            sys.stderr.write(f"{error}\n")
            raise SystemExit(2) from None


def _may_close() -> bool:
    """Whether the connection is in no transaction: the task may have been called as a function, inside the caller's."""
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
    "sagas.incidents": {"queue": "housekeeping"},
    "sagas.prune": {"queue": "housekeeping"},
    "sagas.run_jobs": {"queue": "housekeeping"},
}


def _monotonic_now() -> datetime:
    """Return the monotonic clock as a datetime with an arbitrary origin."""
    return datetime(2000, 1, 1, tzinfo=UTC) + timedelta(seconds=time.monotonic())


# By the monotonic clock: when the wall clock is set back an hour, Celery's own schedule sends nothing for an hour.
# RabbitMQ measures `expiration`; `expires` would be compared with the clock of the worker that receives the task.
app.conf.beat_schedule = {
    name: {"task": name, "schedule": schedule(seconds, nowfun=_monotonic_now), "options": {"expiration": 10}}
    for name, seconds in {
        "sagas.sweep": 2.0,
        "compensation.sweep": 2.0,
        "sagas.run_jobs": 2.0,
        "sagas.incidents": 5.0,
        "sagas.prune": 10.0,
    }.items()
}
app.autodiscover_tasks(["sagas", "compensation"])
