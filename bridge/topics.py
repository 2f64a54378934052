"""Translate between the catalog's short names of topics and Pulsar's full names."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Literal, NamedTuple

from django.conf import settings

from bridge.catalog import REGION, REGION_PATTERN, region_pattern

_PARTITION = re.compile(r"-partition-\d+$")


class Subscriptions(NamedTuple):
    """What to subscribe to: full names, and, if any region counts, one regular expression for each namespace.

    optional: whether the topics suffice where the broker cannot list its topics, which a pattern needs.
    """

    topics: tuple[str, ...]
    patterns: tuple[str, ...]
    optional: bool = False


class Names(NamedTuple):
    """A topic's name as shown to people, and its short name in the catalog."""

    shown: str
    short: str


class Topics:
    """The two-way map of names.

    overrides: short name → another name: "local-name", "tenant/namespace/name", or a full one with its scheme.
        A regional topic may be overridden for all regions ("processing.{region}.started") or for one.
    regions: those to subscribe to by name. "*" means any other, which needs a regular expression: Apache Pulsar can
        subscribe by one, if the role may list the topics of the namespace.
    """

    def __init__(
        self, tenant: str, namespace: str, overrides: Mapping[str, str], regions: Sequence[str] | Literal["*"]
    ) -> None:
        self._home = f"persistent://{tenant}/{namespace}/"
        self._overrides = dict(overrides)
        self._regions = [region for region in regions if region != "*"]
        self._is_any_read = "*" in regions
        self._short_by_real = {self.full(short): short for short in overrides if REGION not in short}
        self._regional_overrides = [
            (re.compile(_regional(self.full(short), f"(?P<region>{REGION_PATTERN})")), short)
            for short in overrides
            if REGION in short
        ]

    def full(self, short: str) -> str:
        """Return Pulsar's full name of this topic."""
        name = self._overrides.get(short, short)
        if "://" in name:
            return name
        return f"persistent://{name}" if name.count("/") == 2 else f"{self._home}{name}"

    @staticmethod
    def whole(full: str) -> str:
        """Return the full name without the suffix of a partition."""
        return _PARTITION.sub("", full)

    def names(self, full: str) -> Names:
        """Return the names for a full name of Pulsar. Accepts any full name."""
        whole = self.whole(full)
        shown = whole.removeprefix(self._home)
        return Names(shown=shown, short=self._short(whole, shown))

    def of_shown(self, shown: str) -> Names:
        """Return the names for a shown name (see Names), the form that is stored in tables."""
        return self.names(shown if "://" in shown else f"{self._home}{shown}")

    def subscriptions(self, shorts: Iterable[str]) -> Subscriptions:
        """Return what to subscribe to for these short names of the catalog."""
        topics: list[str] = []
        regional: list[str] = []
        for short in shorts:
            if REGION not in short:
                topics.append(self.full(short))
                continue
            topics.extend(self._in_region(short, region) for region in self._regions)
            if self._is_any_read:
                regional.append(self.full(short))
                topics.extend(map(self.full, self._renamed_regions(short)))
        patterns, optional = _patterns(regional), bool(self._regions)
        # A topic that the pattern has too needs no subscription of its own, if the pattern is certain to be available.
        # Two consumers of one topic share its messages.
        apart = [full for full in topics if optional or not any(re.fullmatch(pattern, full) for pattern in patterns)]
        return Subscriptions(tuple(dict.fromkeys(apart)), patterns, optional and bool(patterns))

    def all_names(self, shorts: Iterable[str]) -> list[tuple[str, str]]:
        """These short names with their full ones, and those of their regions that are overridden by themselves."""
        names = (name for short in shorts for name in (short, *self._renamed_regions(short)))
        return [(name, self.full(name)) for name in dict.fromkeys(names)]

    def problems(self) -> Iterator[str]:
        """What is wrong with the overrides by themselves, a sentence each: such a name could not be read back."""
        for short, name in self._overrides.items():
            if (REGION in short) != (REGION in name):
                yield (
                    f"PULSAR_TOPICS names {short} {name}: {REGION} must be in both or in none, or nobody could tell "
                    "the region of a message"
                )
            elif self._is_any_read and REGION in self.full(short).rpartition("/")[0]:
                yield (
                    f"PULSAR_TOPICS names {short} {name}: with * in PULSAR_REGIONS {REGION} can only be in the last "
                    "part of a name, because a pattern is of one namespace"
                )

    def _renamed_regions(self, short: str) -> list[str]:
        """The overridden names that are one region of this regional short name."""
        if REGION not in short:
            return []
        pattern = region_pattern(short)
        return [one for one in self._overrides if REGION not in one and pattern.fullmatch(one)]

    def _short(self, whole: str, shown: str) -> str:
        short = self._short_by_real.get(whole)
        if short is not None:
            return short
        for pattern, template in self._regional_overrides:
            match = pattern.fullmatch(whole)
            if match:
                return template.replace(REGION, match["region"])
        return shown

    def _in_region(self, short: str, region: str) -> str:
        regional = short.replace(REGION, region)
        return self.full(regional) if regional in self._overrides else self.full(short).replace(REGION, region)


def _regional(name: str, region: str) -> str:
    return re.escape(name).replace(re.escape(REGION), region)


def _patterns(regional: Iterable[str]) -> tuple[str, ...]:
    """Return one expression for each namespace: the client reads scheme, tenant and namespace from it, unescaped."""
    local_names: dict[str, list[str]] = {}
    for full in regional:
        namespace, _, name = full.rpartition("/")
        local_names.setdefault(namespace, []).append(_regional(name, REGION_PATTERN))
    return tuple(f"{namespace}/({'|'.join(names)})" for namespace, names in local_names.items())


@cache
def get_topics() -> Topics:
    """Return the project's topics, from the setting PULSAR."""
    pulsar = settings.PULSAR
    return Topics(pulsar["tenant"], pulsar["namespace"], pulsar["topics"], pulsar["regions"])
