"""Django system checks: a definition with a mistake must not start."""

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register
from django.utils.module_loading import import_string

from bridge.catalog import REGION, Catalog, CatalogError, overlap, region_pattern
from bridge.codec import Codec
from bridge.topics import get_topics
from sagas.definitions import registry


@register()
def check_definitions(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Error sagas.E001 for each problem of a definition, by itself or beside the others. Never raises.

    Where there is none, warning sagas.W001 for each name in PULSAR_TOPICS that renames nothing.
    """
    problems = registry.problems() or _bridge_problems()
    if problems:
        return [Error(problem, hint="mend it in sagas/definitions", id="sagas.E001") for problem in problems]
    return [Warning(said, hint="correct the name in PULSAR_TOPICS", id="sagas.W001") for said in _renamed_in_vain()]


def _bridge_problems() -> list[str]:
    """What the bridge would refuse when it starts: all that it makes of the definitions is made here."""
    try:
        make: Callable[[], Catalog] = import_string(settings.BRIDGE_CATALOG)
        catalog = make()
        Codec(catalog, settings.BRIDGE_MAX_BODY)
        get_topics().subscriptions(catalog.topics)
        get_topics().full(catalog.probe_topic)
        return [*get_topics().problems(), *_returning(catalog), *_merged_topics(catalog)]
    except CatalogError as error:
        return list(error.problems)
    except Exception as error:  # a check that raises says nothing of the other checks
        return [f"the bridge cannot be made from the definitions: {type(error).__name__}: {error}"]


def _merged_topics(catalog: Catalog) -> Iterator[str]:
    """Topics that PULSAR_TOPICS makes one: a message on it would be taken for one of either, whoever sent it."""
    for (short, full), (other, twin) in combinations(get_topics().all_names(catalog.topics), 2):
        if overlap(full, twin) and not overlap(short, other):
            yield (
                f"PULSAR_TOPICS makes {short} and {other} one topic, {full if REGION in twin else twin}, but each "
                "carries types of its own: name a topic for each, or declare one topic for all of these types"
            )


def _renamed_in_vain() -> Iterator[str]:
    """Names in PULSAR_TOPICS that no definition knows, as after a slip of the keyboard: the topic meant is not read."""
    definitions = registry.all_definitions()
    known = {topic for definition in definitions for event in definition.events for topic in event.topics}
    known |= {item.topic for definition in definitions for item in definition.compensations}
    for short in settings.PULSAR["topics"]:
        if not any(short == topic or region_pattern(topic).fullmatch(short) for topic in known):
            yield f"PULSAR_TOPICS renames {short}, which is the topic of no event and no command: nothing is renamed"


def _returning(catalog: Catalog) -> Iterator[str]:
    """Commands on topics that the bridge reads: each would come back to it, and go to quarantine."""
    read = [full for _, full in get_topics().all_names(catalog.topics)]
    for definition in registry.all_definitions():
        for item in definition.compensations:
            if any(overlap(get_topics().full(item.topic), full) for full in read):
                yield (
                    f"{definition.name} version {definition.version}, {item.command}: its topic {item.topic} is one "
                    "that events come on, so the bridge would receive the command"
                )
