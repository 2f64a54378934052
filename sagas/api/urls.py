"""The API's addresses, each with and without a slash at its end."""

from typing import Any

from django.urls import URLPattern, URLResolver, re_path

from sagas.api import deciding, overview, sagas

SAGA = r"^sagas/(?P<saga_id>[^/]+)"
COMMAND = r"^commands/(?P<command_id>[^/]+)"
MESSAGE = r"^quarantine/(?P<message_id>[0-9]{1,18})"


def _both(route: str, view: Any, name: str | None = None, **options: Any) -> list[URLPattern]:
    """The address without a slash at its end, which is the one that is told, and with one."""
    plain = re_path(rf"{route}$", view.as_view(**options), name=name)
    return [plain, re_path(rf"{route}/$", view.as_view(schema=None, **options))]


urlpatterns: list[URLPattern | URLResolver] = [
    re_path(r"^$", overview.Index.as_view(), name="index"),
    *_both(r"^sagas", sagas.Sagas, "sagas"),
    # Before the others: any string is a correlation id, also one with slashes or line ends.
    re_path(r"^sagas/by-correlation/(?P<correlation_id>[\s\S]+)$", sagas.SagaByCorrelation.as_view()),
    re_path(r"^sagas/by-task/(?P<task_id>[\s\S]+)$", sagas.SagasByTask.as_view()),
    *_both(rf"{SAGA}", sagas.Saga, "saga"),
    *_both(rf"{SAGA}/steps", sagas.Steps, "saga-steps"),
    *_both(rf"{SAGA}/lanes", sagas.Lanes, "saga-lanes"),
    *_both(rf"{SAGA}/commands", sagas.Commands, "saga-commands"),
    *_both(rf"{SAGA}/events", sagas.Events, "saga-events"),
    *_both(rf"{SAGA}/timeline", sagas.Timeline, "saga-timeline"),
    *_both(rf"{SAGA}/force-compensation", deciding.ForceCompensation),
    *_both(rf"{SAGA}/cancel", deciding.Cancel),
    *_both(rf"{SAGA}/terminate", deciding.Terminate),
    *_both(rf"{SAGA}/resume", deciding.Resume),
    *_both(rf"{SAGA}/replay", deciding.Replay),
    *_both(r"^commands/decide", deciding.DecideCommands, "commands-decide"),
    *_both(rf"{COMMAND}/retry", deciding.DecideCommand, action="retry"),
    *_both(rf"{COMMAND}/skip", deciding.DecideCommand, action="skip"),
    *_both(rf"{COMMAND}/mark-done", deciding.DecideCommand, action="mark_done"),
    *_both(rf"{COMMAND}/withdraw", deciding.DecideCommand, action="withdraw"),
    *_both(rf"{COMMAND}/release", deciding.DecideCommand, action="release"),
    *_both(r"^publishing", deciding.Publishing, "publishing"),
    *_both(r"^parked", overview.Parked, "parked"),
    *_both(r"^parked/attach", deciding.Attach, "parked-attach"),
    *_both(r"^parked/adopt", deciding.Adopt, "parked-adopt"),
    *_both(r"^parked/dismiss", deciding.Dismiss, "parked-dismiss"),
    *_both(r"^quarantine", overview.Quarantine, "quarantine"),
    *_both(rf"{MESSAGE}/requeue", deciding.RequeueMessage),
    *_both(rf"{MESSAGE}/dismiss", deciding.DismissMessage),
    *_both(r"^attention", overview.Attention, "attention"),
    *_both(r"^definitions", overview.Definitions, "definitions"),
    *_both(r"^definitions/(?P<saga_type>[^/]+)", overview.DefinitionOf, "definition"),
    re_path(r"", overview.Unknown.as_view(schema=None)),
]
