"""Fixtures for all tests: embedded servers, started once for the session and only when a test asks for one."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from django.utils import translation

from devtools.embedded import outside, postgres, pulsar, valkey
from sagaproject import database_url
from tests.properties.tried import TRIED

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # Tests end stacks by SIGINT. Of a suite that runs as a background job they would inherit that it is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes says only how busy the machine is.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")

NO_DATABASE = "postgresql://nobody@127.0.0.1:1/none"


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give the URL of a PostgreSQL: DATABASE_URL's, else that of an embedded one without fsync."""
    said = os.environ.get("DATABASE_URL", NO_DATABASE)
    if said != NO_DATABASE:
        yield said
        return
    with postgres.temporary(tmp_path_factory.mktemp("postgres")) as url:
        yield url


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give the URL of an embedded Valkey."""
    with valkey.temporary(tmp_path_factory.mktemp("valkey")) as url:
        yield url


@pytest.fixture(scope="session")
def pulsar_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give the URL of an embedded Pulsar (pulsar-lite)."""
    with pulsar.temporary(tmp_path_factory.mktemp("pulsar")) as url:
        yield url


@pytest.fixture(scope="session")
def django_db_modify_db_settings(postgres_url: str) -> None:
    """Point Django at the session's PostgreSQL before pytest-django makes its test database there."""
    from django.db import connections

    entry: dict[str, Any] = database_url.parse(postgres_url)
    for name in ("HOST", "PORT", "USER", "PASSWORD", "NAME"):
        connections["default"].settings_dict[name] = entry[name]
        connections.settings["default"][name] = entry[name]
    # Between tests all tables are emptied, which append-only tables refuse to everybody who does not say so.
    for known in (connections["default"].settings_dict, connections.settings["default"]):
        said = known["OPTIONS"].get("options", "")
        known["OPTIONS"] = {**known["OPTIONS"], "options": f"{said} -c bridge.truncate=on".strip()}


@pytest.fixture(autouse=True)
def in_english() -> Iterator[None]:
    """End the language that a request of Django's test client leaves active, which the next test would speak."""
    yield
    translation.deactivate()


@pytest.fixture
def stack_folder(tmp_path: Path) -> Iterator[Path]:
    """Give an empty folder for an embedded stack of the test's own, and remove what stood for it elsewhere."""
    folder = tmp_path / "var"
    folder.mkdir()
    yield folder
    for elsewhere in outside.standing_for(folder):
        shutil.rmtree(elsewhere, ignore_errors=True)


# --- how many examples the properties were tried on, where several processes share the tests -------------------------


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Let a worker tell its count."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["tried"] = dict(TRIED)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Add a worker's count to ours; one that died tells none."""
    TRIED.update(getattr(node, "workeroutput", {}).get("tried", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say it in one line under the results."""
    if TRIED:
        terminalreporter.write_line(f"{TRIED.total():,} examples of {len(TRIED)} properties")
