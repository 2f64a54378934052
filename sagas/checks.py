"""Django system checks: a definition with a mistake must not start."""

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Error, register

from sagas.definitions import registry


@register()
def check_definitions(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Error sagas.E001 for each problem of a definition, by itself or beside the others."""
    return [Error(problem, hint="mend it in sagas/definitions", id="sagas.E001") for problem in registry.problems()]
