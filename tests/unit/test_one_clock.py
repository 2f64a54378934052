"""No host's wall clock decides anything: what is compared across hosts is read from the database's clock."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("bridge", "compensation", "devtools", "sagas", "sagaproject")

# Modules that may read their host's wall clock, and why nothing of another host is compared with it.
SHOWN_ONLY = {
    "bridge/heartbeats.py": "says what this host's clock shows, so that the difference can be told",
    "bridge/pulsar/inlet.py": "since when a topic is not read, for people",
    "sagas/admin/filters.py": "days that a person filters by",
    "sagas/admin/saga.py": "an age, for people",
    "sagas/admin/start.py": "an age, for people",
    "sagas/admin/form_drafts.py": "what a person typed minutes ago, in the same session",
    "sagas/api/overview.py": "an age, for people",
    "sagas/templatetags/staff.py": "an age, for people",
    "sagaproject/doctor/pulsar.py": "when a token expires, by its own word",
    "sagaproject/doctor/service.py": "compares this clock with the database's",
    "devtools/management/commands/fill.py": "invents data",
    "devtools/simulator/answering.py": "a foreign service",
    "devtools/simulator/options.py": "names a run",
}
WALL_CLOCKS = {("timezone", "now"), ("datetime", "now"), ("datetime", "utcnow"), ("time", "time"), ("date", "today")}
# Celery's absolute times: set by the clock of the sender, compared with the clock of whichever worker takes the task.
BETWEEN_HOSTS = {"expires", "eta", "countdown"}


def modules() -> Iterator[tuple[str, ast.Module]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if "migrations" not in path.parts:
                yield str(path.relative_to(ROOT)), ast.parse(path.read_text())


def attributes(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            owner = node.value
            yield (owner.id if isinstance(owner, ast.Name) else getattr(owner, "attr", ""), node.attr)


def test_the_wall_clock_is_read_only_where_nothing_is_compared_with_it() -> None:
    readers = {name for name, tree in modules() if WALL_CLOCKS & set(attributes(tree))}
    assert readers == set(SHOWN_ONLY)


def test_no_task_carries_a_time_that_another_host_compares_with_its_clock() -> None:
    calls = {"send_task", "apply_async", "retry", "signature"}
    found = [
        (name, node.lineno)
        for name, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in calls
        and BETWEEN_HOSTS & {keyword.arg for keyword in node.keywords}
    ]
    assert found == []


@pytest.mark.parametrize("source", ["timezone.now()", "x = time.time", "datetime.datetime.now(UTC)"])
def test_the_search_finds_what_it_looks_for(source: str) -> None:
    assert WALL_CLOCKS & set(attributes(ast.parse(source)))
