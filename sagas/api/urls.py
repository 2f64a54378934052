"""The API's addresses, each with and without a slash at its end."""

from typing import Any

from django.urls import URLPattern, URLResolver, re_path

from sagas.api import action_views, jobs, overview, sagas

SAGA = r"^sagas/(?P<saga_id>[^/]+)"
JOB = r"^jobs/(?P<job_id>[^/]+)"


def _both(route: str, view: Any, name: str | None = None) -> list[URLPattern]:
    """Return the address without a trailing slash, which is the documented one, and with one."""
    plain = re_path(rf"{route}$", view.as_view(), name=name)
    return [plain, re_path(rf"{route}/$", view.as_view(schema=None))]


def decision_patterns() -> list[URLPattern]:
    """Return the addresses at which one target is decided on, one for each decision."""
    return [line for route, view, name in action_views.addresses() for line in _both(route, view, name or None)]


urlpatterns: list[URLPattern | URLResolver] = [
    re_path(r"^$", overview.IndexView.as_view(), name="index"),
    *_both(r"^sagas", sagas.SagasView, "sagas"),
    # Before the others: a correlation id may be any string, also with slashes or line breaks.
    re_path(r"^sagas/by-correlation/(?P<correlation_id>[\s\S]+)$", sagas.SagaByCorrelationView.as_view()),
    re_path(r"^sagas/by-task/(?P<task_id>[\s\S]+)$", sagas.SagasByTaskView.as_view()),
    *_both(r"^sagas/decide", action_views.DecideSagasView, "sagas-decide"),
    *_both(rf"{SAGA}", sagas.SagaView, "saga"),
    *_both(rf"{SAGA}/steps", sagas.StepsView, "saga-steps"),
    *_both(rf"{SAGA}/lanes", sagas.LanesView, "saga-lanes"),
    *_both(rf"{SAGA}/commands", sagas.CommandsView, "saga-commands"),
    *_both(rf"{SAGA}/events", sagas.EventsView, "saga-events"),
    *_both(rf"{SAGA}/timeline", sagas.TimelineView, "saga-timeline"),
    *_both(r"^commands/decide", action_views.DecideCommandsView, "commands-decide"),
    *_both(r"^publishing", action_views.PublishingView, "publishing"),
    *_both(r"^parked", overview.ParkedView, "parked"),
    *_both(r"^quarantine", overview.QuarantineView, "quarantine"),
    *decision_patterns(),
    *_both(r"^jobs", jobs.JobsView, "jobs"),
    *_both(rf"{JOB}", jobs.OneJobView, "job"),
    *_both(rf"{JOB}/items", jobs.JobItemsView, "job-items"),
    *(line for name, view in jobs.DECISIONS.items() for line in _both(rf"{JOB}/{name}", view)),
    *_both(r"^attention", overview.AttentionView, "attention"),
    *_both(r"^incidents", overview.IncidentsView, "incidents"),
    *_both(r"^incidents/(?P<incident_id>[^/]+)", overview.IncidentDetailView, "incident"),
    *_both(r"^definitions", overview.DefinitionsView, "definitions"),
    *_both(r"^definitions/(?P<saga_type>[^/]+)", overview.DefinitionOfView, "definition"),
    re_path(r"", overview.Unknown.as_view(schema=None)),
]
