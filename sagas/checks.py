"""Django system checks: the service must not start with a mistake in a definition."""

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
from sagas import confirmations
from sagas.definitions import registry


@register()
def check_definitions(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Return the mistakes in definitions and in the settings of their topics. Never raises.

    Error sagas.E001 for each mistake of a definition or contradiction between definitions. Where there is none, error
    sagas.E002 for each command that SAGA_CONFIRMATIONS cannot change so, and warning sagas.W001 for each name in
    PULSAR_TOPICS that renames nothing.
    """
    problems = registry.problems() or _bridge_problems()
    if problems:
        return [Error(problem, hint="Fix it in sagas/definitions.", id="sagas.E001") for problem in problems]
    wrong = [Error(text, hint="Correct SAGA_CONFIRMATIONS.", id="sagas.E002") for text in confirmations.problems()]
    return wrong + [
        Warning(text, hint="Correct the name in PULSAR_TOPICS.", id="sagas.W001") for text in _unknown_topics()
    ]


def _bridge_problems() -> list[str]:
    """Return what the bridge would refuse at its start: build everything that it builds from the definitions."""
    try:
        create: Callable[[], Catalog] = import_string(settings.BRIDGE_CATALOG)
        catalog = create()
        Codec(catalog, settings.BRIDGE_MAX_BODY)
        get_topics().subscriptions(catalog.topics)
        get_topics().full(catalog.probe_topic)
        return [*get_topics().problems(), *_commands_on_event_topics(catalog), *_merged_topics(catalog)]
    except CatalogError as error:
        return list(error.problems)
    except Exception as error:  # if a check raises, Django reports none of the other checks
        return [f"the bridge cannot be built from the definitions: {type(error).__name__}: {error}"]


def _merged_topics(catalog: Catalog) -> Iterator[str]:
    """Yield a sentence for topics that PULSAR_TOPICS maps to one: its messages could be mistaken for each other."""
    for (short, full), (other, twin) in combinations(get_topics().all_names(catalog.topics), 2):
        if overlap(full, twin) and not overlap(short, other):
            yield (
                f"PULSAR_TOPICS maps {short} and {other} to one topic, {full if REGION in twin else twin}, but each "
                "has its own event types: map each to a topic of its own, or declare one topic for all of these types"
            )


def _unknown_topics() -> Iterator[str]:
    """Yield a sentence for each name in PULSAR_TOPICS that no definition knows: the intended topic is not read."""
    definitions = registry.all_definitions()
    known = {topic for definition in definitions for event in definition.events for topic in event.topics}
    known |= {item.topic for definition in definitions for item in definition.compensations}
    for short in settings.PULSAR["topics"]:
        if not any(short == topic or region_pattern(topic).fullmatch(short) for topic in known):
            yield f"PULSAR_TOPICS renames {short}, which is the topic of no event and no command: nothing is renamed"


def _commands_on_event_topics(catalog: Catalog) -> Iterator[str]:
    """Yield a sentence for each command on a topic that the bridge reads: it would be received and quarantined."""
    read = [full for _, full in get_topics().all_names(catalog.topics)]
    for definition in registry.all_definitions():
        for item in definition.compensations:
            if any(overlap(get_topics().full(item.topic), full) for full in read):
                yield (
                    f"{definition.name} version {definition.version}, {item.command}: its topic {item.topic} carries "
                    "events too, so the bridge would receive the command"
                )
