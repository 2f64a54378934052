"""docs/your-own-saga.md step by step in a copy of the project: afterwards its tests are as green as before."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sagaproject import env

pytestmark = [pytest.mark.acceptance, pytest.mark.nightly, pytest.mark.timeout(600)]

PARTS = (
    "bridge",
    "compensation",
    "devtools",
    "docs",
    "sagaproject",
    "sagas",
    "tests",
    "manage.py",
    "pyproject.toml",
    "Makefile",
)
# Those that look at which saga types are registered.
AFFECTED = (
    *("tests/unit/test_definition.py", "tests/unit/test_describe.py", "tests/unit/test_catalog.py"),
    *("tests/unit/test_topics.py", "tests/histories", "tests/integration/test_tutorial.py"),
    *("tests/integration/test_api_access.py", "tests/integration/test_query_counts.py"),
)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project."""
    folder = tmp_path / "project"
    folder.mkdir()
    for name in PARTS:
        source = env.ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    return folder


def run(project: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, *words],
        cwd=project,
        env={name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "PG_BIN")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    return done.stdout


def follow_the_page(project: Path) -> None:
    """Do what steps 1 and 2 of the page say."""
    page = (project / "docs" / "your-own-saga.md").read_text(encoding="utf-8")
    definition, lines = (re.findall(rf"```{kind}\n(.*?)```", page, flags=re.DOTALL)[0] for kind in ("python", "text"))
    [path] = re.findall(r"^`(sagas/definitions/\w+\.py)`:$", page, flags=re.MULTILINE)
    (project / path).write_text(definition, encoding="utf-8")
    for line in filter(None, lines.splitlines()):
        change_line(project, re.split(r"(?<=import) |(?<==) ", line, maxsplit=1)[0], line)


def change_line(project: Path, beginning: str, line: str) -> None:
    registry = project / "sagas" / "definitions" / "registry.py"
    text, count = re.subn(
        rf"^{re.escape(beginning)} .*image_processing.*$",
        line,
        registry.read_text(encoding="utf-8"),
        flags=re.MULTILINE,
    )
    assert count == 1, beginning
    registry.write_text(text, encoding="utf-8")


def add_order(project: Path) -> None:
    """Add a type with the name, the events and the topics that a shop would take: those that tests once took too."""
    own = (project / "tests" / "order_saga.py").read_text(encoding="utf-8")
    order = own.replace('name="order_of_the_tests"', 'name="order"')
    assert order != own
    (project / "sagas" / "definitions" / "order.py").write_text(order, encoding="utf-8")
    change_line(
        project,
        "from sagas.definitions import",
        "from sagas.definitions import image_processing, order, trip_booking",
    )
    change_line(
        project,
        "DEFINITIONS: tuple[Definition, ...] =",
        "DEFINITIONS: tuple[Definition, ...] = (*image_processing.VERSIONS, trip_booking.DEFINITION, order.DEFINITION)",
    )


def test_tests_stay_green_beside_the_tutorials_type_and_one_called_order(project: Path) -> None:
    follow_the_page(project)
    add_order(project)
    page = (project / "docs" / "your-own-saga.md").read_text(encoding="utf-8")
    [module] = re.findall(r"^\.venv/bin/python -m (\S+)$", page, flags=re.MULTILINE)
    run(project, "-m", module)

    run(project, "manage.py", "check", "--settings", "tests.settings")
    assert "trip_booking" in run(project, "manage.py", "describe_saga_type", "--settings", "tests.settings")
    run(project, "-m", "pytest", "-q", "-p", "no:cacheprovider", *AFFECTED)
