"""Short names and full names, both ways."""

import re

import pytest

from bridge.topics import Topics

SHORTS = ("started", "processing.{region}.done", "processing.{region}.failed")


def topics(overrides: dict[str, str] | None = None, regions: object = ("usa", "latam")) -> Topics:
    return Topics("acme", "imaging", overrides or {}, regions)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("override", "full"),
    [
        (None, "persistent://acme/imaging/started"),
        ("begun", "persistent://acme/imaging/begun"),
        ("other/place/begun", "persistent://other/place/begun"),
        ("non-persistent://other/place/begun", "non-persistent://other/place/begun"),
    ],
)
def test_full_names_and_back(override: str | None, full: str) -> None:
    here = topics({"started": override} if override else {})
    assert here.full("started") == full
    assert here.names(full).short == "started"
    assert here.names(full + "-partition-3").short == "started"
    assert here.of_shown(here.names(full).shown) == here.names(full)


def test_people_see_the_name_without_what_is_the_same_everywhere() -> None:
    assert topics().names("persistent://acme/imaging/started-partition-0").shown == "started"
    assert topics().names("persistent://other/place/started").shown == "persistent://other/place/started"


def test_a_list_of_regions_is_spelled_out() -> None:
    found = topics().subscriptions(SHORTS)
    assert found.patterns == ()
    assert found.topics == (
        "persistent://acme/imaging/started",
        "persistent://acme/imaging/processing.usa.done",
        "persistent://acme/imaging/processing.latam.done",
        "persistent://acme/imaging/processing.usa.failed",
        "persistent://acme/imaging/processing.latam.failed",
    )


def test_any_region_is_a_pattern_a_namespace() -> None:
    found = topics({"processing.{region}.failed": "other/place/failed-{region}"}, "*").subscriptions(SHORTS)
    assert found.topics == ("persistent://acme/imaging/started",)
    here, there = found.patterns
    assert here.startswith("persistent://acme/imaging/(")
    assert re.fullmatch(here, "persistent://acme/imaging/processing.peru.done")
    assert not re.fullmatch(here, "persistent://acme/imaging/processingXperuXdone")
    assert re.fullmatch(there, "persistent://other/place/failed-peru")


def test_every_other_region_is_a_pattern_that_is_optional_beside_those_with_a_name() -> None:
    found = topics({"processing.peru.done": "ready-peru"}, ("usa", "us east", "*")).subscriptions(SHORTS)
    assert found.optional
    assert set(found.topics) == {
        f"persistent://acme/imaging/{name}"
        for name in (
            *("started", "processing.usa.done", "processing.us east.done", "ready-peru"),
            *("processing.usa.failed", "processing.us east.failed"),
        )
    }
    (pattern,) = found.patterns
    for region in ("peru", "us.east", "sudamérica", ""):
        assert re.fullmatch(pattern, f"persistent://acme/imaging/processing.{region}.done")
    assert pattern.count("/") == 4, "the client takes each further slash for a part of the topic's name"
    assert not topics(regions="*").subscriptions(SHORTS).optional
    assert not topics().subscriptions(SHORTS).optional


def test_a_regional_topic_is_overridden_as_a_whole_or_for_one_region() -> None:
    here = topics({"processing.{region}.done": "ready-{region}", "processing.usa.done": "ready-us"})
    assert here.subscriptions(("processing.{region}.done",)).topics == (
        "persistent://acme/imaging/ready-us",
        "persistent://acme/imaging/ready-latam",
    )
    assert here.names("persistent://acme/imaging/ready-us").short == "processing.usa.done"
    assert here.names("persistent://acme/imaging/ready-peru").short == "processing.peru.done"


def test_a_region_with_a_name_of_its_own_is_read_beside_the_pattern() -> None:
    renamed = {"processing.usa.done": "ready-us", "processing.eu.done": "processing.europe.done"}
    here = topics({**renamed, "processing.{region}.failed": "failed-{region}"}, "*")
    found = here.subscriptions(("processing.{region}.done", "processing.{region}.failed"))
    assert found.topics == ("persistent://acme/imaging/ready-us",)
    assert len(found.patterns) == 1
