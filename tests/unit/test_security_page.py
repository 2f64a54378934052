"""docs/security.md and the code: every topic has its row, and the grants are what each role needs and no more."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.catalog import REGION, get_catalog
from sagas.definitions import image_processing
from sagas.engine.definition import Event
from tests.grants import PAGE, Commands, of_the_page

NAMESPACE = "tenant/space"
REGIONS = ("usa", "latam")
BRIDGE, PUBLISHER = "saga-bridge", "saga-publisher"
ROLES = {"DATA_RETRIEVAL": "data-retrieval", "ANONYMIZATION": "anonymization", "PROCESSING": "processing"}
# What roles may do on top of what the definition says, and why.
BESIDES = {
    ("front-end", "produce", "data-retrieval-commands"),  # commands of its own
    ("anonymization", "consume", "image-anonymization"),  # the event that it begins with
    (PUBLISHER, "consume", "retrieval-started"),  # a sign of life
}
COMMANDS = image_processing.DEFINITION.compensations


def service_of(event: Event) -> str:
    """Which service sends an event: that of its step, else that of the command which it answers."""
    if event.means.step is not None:
        return event.means.step.service
    [service] = [one.service for one in COMMANDS if one.command in (event.means.refuses, event.means.confirms)]
    return service


def rows(heading: str) -> Iterator[list[str]]:
    """The table below a line of headings, without the marks around its words."""
    below = PAGE.read_text(encoding="utf-8").split(f"| {heading} |", 1)[1].splitlines()[2:]
    for line in below:
        if not line.startswith("|"):
            return
        yield [cell.strip() for cell in line.strip("|").split("|")]


def topics_in(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    return of_the_page(tmp_path, NAMESPACE)


def in_regions(topic: str) -> list[str]:
    return [topic.replace(REGION, region) for region in REGIONS] if REGION in topic else [topic]


def expected() -> set[tuple[str, str, str]]:
    """Role, action and topic of everything that the definition makes somebody do."""
    found = set(BESIDES)
    for event in image_processing.DEFINITION.events:
        for topic in (real for name in event.topics for real in in_regions(name)):
            found |= {(ROLES[service_of(event)], "produce", topic), (BRIDGE, "consume", topic)}
    for command in COMMANDS:
        found |= {(ROLES[command.service], "consume", command.topic), (PUBLISHER, "produce", command.topic)}
    return found


def test_every_topic_of_events_has_a_row_with_its_events_and_producer() -> None:
    told = {
        topic: (events, producer)
        for topics, events, producer, _ in rows("topic | events | producer | at most")
        for topic in topics_in(topics)
    }
    declared = defaultdict(list)
    for event in image_processing.DEFINITION.events:
        for topic in event.topics:
            declared[topic].append(event)
    assert told == {
        topic: (", ".join(event.type for event in events), ", ".join({service_of(event) for event in events}))
        for topic, events in declared.items()
    }
    assert set(told) == set(get_catalog().topics)


def test_every_topic_of_commands_has_a_row_with_its_commands_and_consumer() -> None:
    told = {
        (topic, names, consumer)
        for topics, names, consumer, _ in rows("topic | commands | consumer | at most, by another producer")
        for topic in topics_in(topics)
    }
    assert told == {(command.topic, command.command, command.service) for command in COMMANDS}


def test_each_role_is_granted_what_it_needs_and_nothing_else(commands: Commands) -> None:
    granted = {
        (grant.role, grant.action, grant.of.removeprefix(f"persistent://{NAMESPACE}/"))
        for grant in commands.grants
        if grant.kind == "topic"
    }
    assert granted == expected()
    assert [grant for grant in commands.grants if grant.kind == "namespace"] == []


def test_the_bridges_subscription_is_the_bridges_alone(commands: Commands) -> None:
    [grant] = [grant for grant in commands.grants if grant.kind == "subscription"]
    assert (grant.of, grant.role) == (f"{NAMESPACE}/saga", BRIDGE)


def test_a_topic_is_there_before_a_grant_on_it(commands: Commands) -> None:
    assert set(commands.topics) == {grant.of for grant in commands.grants if grant.kind == "topic"}
