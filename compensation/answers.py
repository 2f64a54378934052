"""How the services answer: from the settings ANSWERING_TOPICS and REFUSING_TYPES, as only definitions know it."""

import re
from collections.abc import Callable, Mapping
from functools import cache

from django.conf import settings
from django.utils.module_loading import import_string

from bridge.catalog import region_pattern
from bridge.topics import get_topics


@cache
def services_on(topic: str) -> tuple[str, ...]:
    """Return the services that answer on a topic (its shown name), sorted."""
    short = get_topics().of_shown(topic).short
    return tuple(
        service
        for service, patterns in sorted(_patterns().items())
        if any(pattern.fullmatch(short) for pattern in patterns)
    )


def refusing_types(stream: str, command: str) -> tuple[str, ...]:
    """Return the types of the events by which a command of this saga type is refused."""
    return _refusing().get((stream, command), ())


@cache
def _refusing() -> Mapping[tuple[str, str], tuple[str, ...]]:
    create: Callable[[], Mapping[tuple[str, str], tuple[str, ...]]] = import_string(settings.REFUSING_TYPES)
    return create()


@cache
def _patterns() -> Mapping[str, tuple[re.Pattern[str], ...]]:
    create: Callable[[], Mapping[str, tuple[str, ...]]] = import_string(settings.ANSWERING_TOPICS)
    return {service: tuple(map(region_pattern, topics)) for service, topics in create().items()}
