"""Which servers the embedded stack starts. docs/configuration.md describes the names for people."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sagaproject.env import ConfigurationError
from sagaproject.env_reader import Reader


@dataclass(frozen=True, slots=True)
class StackSettings:
    """The choices for a stack. pulsar: lite or apache; celery: valkey or rabbitmq."""

    pulsar: str
    celery: str
    postgres_binaries: Path | None


def read(source: Mapping[str, str]) -> StackSettings:
    """Read BROKER, CELERY_ON and PG_BIN from `source`. Raises ConfigurationError with every problem in it."""
    reader = Reader(source)
    binaries = reader.text("PG_BIN")
    found = StackSettings(
        pulsar=reader.choice("BROKER", ("lite", "apache"), "lite"),
        celery=reader.choice("CELERY_ON", ("valkey", "rabbitmq"), "valkey"),
        postgres_binaries=Path(binaries).resolve() if binaries else None,
    )
    if reader.problems:
        raise ConfigurationError(reader.problems)
    return found
