"""The Celery app: three queues by concern, and beat's sweeps."""

import os

from celery import Celery
from kombu import Queue

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "sagaproject.settings")

app = Celery("sagaproject")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.task_queues = [Queue(name, routing_key=name) for name in ("applying", "commands", "housekeeping")]
app.conf.task_routes = {
    "sagas.apply": {"queue": "applying"},
    "compensation.publish": {"queue": "commands"},
    "sagas.sweep": {"queue": "housekeeping"},
    "compensation.sweep": {"queue": "housekeeping"},
    "sagas.prune": {"queue": "housekeeping"},
}
# A sweep that waited longer than its interval is worth nothing: the next one looks at everything again.
app.conf.beat_schedule = {
    name: {"task": name, "schedule": seconds, "options": {"expires": 10}}
    for name, seconds in {"sagas.sweep": 2.0, "compensation.sweep": 2.0, "sagas.prune": 10.0}.items()
}
app.autodiscover_tasks(["sagas", "compensation"])
