"""The API's addresses, each with and without a slash at its end."""

from typing import Any

from django.urls import URLPattern, URLResolver, re_path

from sagas.api import action_views, overview, sagas

SAGA = r"^sagas/(?P<saga_id>[^/]+)"
COMMAND = r"^commands/(?P<command_id>[^/]+)"
MESSAGE = r"^quarantine/(?P<message_id>[0-9]{1,18})"


def _both(route: str, view: Any, name: str | None = None, **options: Any) -> list[URLPattern]:
    """Return the address without a trailing slash, which is the documented one, and with one."""
    plain = re_path(rf"{route}$", view.as_view(**options), name=name)
    return [plain, re_path(rf"{route}/$", view.as_view(schema=None, **options))]


urlpatterns: list[URLPattern | URLResolver] = [
    re_path(r"^$", overview.IndexView.as_view(), name="index"),
    *_both(r"^sagas", sagas.SagasView, "sagas"),
    # Before the others: a correlation id may be any string, also with slashes or line breaks.
    re_path(r"^sagas/by-correlation/(?P<correlation_id>[\s\S]+)$", sagas.SagaByCorrelationView.as_view()),
    re_path(r"^sagas/by-task/(?P<task_id>[\s\S]+)$", sagas.SagasByTaskView.as_view()),
    *_both(rf"{SAGA}", sagas.SagaView, "saga"),
    *_both(rf"{SAGA}/steps", sagas.StepsView, "saga-steps"),
    *_both(rf"{SAGA}/lanes", sagas.LanesView, "saga-lanes"),
    *_both(rf"{SAGA}/commands", sagas.CommandsView, "saga-commands"),
    *_both(rf"{SAGA}/events", sagas.EventsView, "saga-events"),
    *_both(rf"{SAGA}/timeline", sagas.TimelineView, "saga-timeline"),
    *_both(rf"{SAGA}/force-compensation", action_views.ForceCompensationView),
    *_both(rf"{SAGA}/cancel", action_views.CancelView),
    *_both(rf"{SAGA}/terminate", action_views.TerminateView),
    *_both(rf"{SAGA}/resume", action_views.ResumeView),
    *_both(rf"{SAGA}/replay", action_views.ReplayView),
    *_both(r"^commands/decide", action_views.DecideCommandsView, "commands-decide"),
    *_both(rf"{COMMAND}/retry", action_views.DecideCommandView, action="retry"),
    *_both(rf"{COMMAND}/skip", action_views.DecideCommandView, action="skip"),
    *_both(rf"{COMMAND}/mark-done", action_views.DecideCommandView, action="mark_done"),
    *_both(rf"{COMMAND}/withdraw", action_views.DecideCommandView, action="withdraw"),
    *_both(rf"{COMMAND}/release", action_views.DecideCommandView, action="release"),
    *_both(r"^publishing", action_views.PublishingView, "publishing"),
    *_both(r"^parked", overview.ParkedView, "parked"),
    *_both(r"^parked/attach", action_views.AttachView, "parked-attach"),
    *_both(r"^parked/adopt", action_views.AdoptView, "parked-adopt"),
    *_both(r"^parked/dismiss", action_views.DismissView, "parked-dismiss"),
    *_both(r"^quarantine", overview.QuarantineView, "quarantine"),
    *_both(rf"{MESSAGE}/requeue", action_views.RequeueMessageView),
    *_both(rf"{MESSAGE}/dismiss", action_views.DismissMessageView),
    *_both(r"^attention", overview.AttentionView, "attention"),
    *_both(r"^definitions", overview.DefinitionsView, "definitions"),
    *_both(r"^definitions/(?P<saga_type>[^/]+)", overview.DefinitionOfView, "definition"),
    re_path(r"", overview.Unknown.as_view(schema=None)),
]
