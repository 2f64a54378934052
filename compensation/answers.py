"""The topics on which the services answer: from the setting ANSWERING_TOPICS, as only definitions know them."""

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


@cache
def _patterns() -> Mapping[str, tuple[re.Pattern[str], ...]]:
    create: Callable[[], Mapping[str, tuple[str, ...]]] = import_string(settings.ANSWERING_TOPICS)
    return {service: tuple(map(region_pattern, topics)) for service, topics in create().items()}
