"""The brokers of these tests. Without java or mvn each test is skipped, and says what is missing."""

from collections.abc import Iterator

import pytest

from sagaproject.embedded import apache_pulsar
from tests.apache.rig import Broker, Space


@pytest.fixture(scope="session")
def apache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """Give an Apache Pulsar that asks nobody for anything."""
    _skip_if_missing()
    broker = Broker(tmp_path_factory.mktemp("apache"))
    broker.start()
    yield broker
    broker.close()


@pytest.fixture
def space(apache: Broker, transactional_db: None) -> Space:
    """Give a namespace of the test's own on a broker that runs, and an empty database."""
    return apache.space()


def _skip_if_missing() -> None:
    missing = apache_pulsar.missing()
    if missing:
        pytest.skip(missing)
