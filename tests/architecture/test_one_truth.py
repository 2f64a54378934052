"""One truth, one place: what several modules need is written in one of them, and what a wall divides agrees."""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_permission_codename
from hypothesis import given
from hypothesis import strategies as st

from bridge import instants, routing
from bridge.codec import canonical_id
from bridge.models import Source
from compensation import facts as command_facts
from compensation.switches import EVERYTHING
from sagaproject import env
from sagaproject.celery import app
from sagas import rights
from sagas.engine import facts as kinds
from sagas.engine import ids

PRODUCT = ("sagaproject", "sagas", "compensation", "bridge")
TEMPLATES = sorted((env.ROOT / "sagas" / "templates").rglob("*.html"))


def sources() -> Iterator[tuple[str, Path]]:
    for package in PRODUCT:
        for path in sorted((env.ROOT / package).rglob("*.py")):
            if "migrations" not in path.parts:
                yield path.relative_to(env.ROOT).as_posix(), path


def texts(path: Path) -> Iterator[ast.Constant]:
    """The strings of a file that are neither docstrings nor a parameter's `nargs`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped: set[ast.expr] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) or (isinstance(node, ast.keyword) and node.arg == "nargs"):
            skipped.add(node.value)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in skipped:
            yield node


def files_with(matches: Callable[[str], object]) -> set[str]:
    """The files that have such a string."""
    return {name for name, path in sources() if any(matches(str(node.value)) for node in texts(path))}


def lines_with(pattern: str) -> set[str]:
    """The files in whose code the pattern occurs."""
    return {name for name, path in sources() if re.search(pattern, path.read_text(encoding="utf-8"))}


# --- the routing key --------------------------------------------------------------------------------------------------


def test_only_one_module_writes_a_routing_key() -> None:
    written = lines_with(r'f"\{[\w.]*(stream|saga_type|definition\.name)\}:\{[\w.]*key\}"')
    # Models show the two like that in their names, which nothing reads.
    assert written == {"bridge/routing.py", "sagas/models.py"}


def test_only_the_statements_of_applying_write_one_in_sql() -> None:
    assert all(name.startswith("sagas/applying/") for name in lines_with(r"\|\| ':' \|\|"))


@given(st.from_regex(r"[a-z_]{1,20}", fullmatch=True), st.text(min_size=1, max_size=20))
def test_a_routing_key_can_be_taken_apart(stream: str, key: str) -> None:
    assert routing.split(routing.routing_key(stream, key)) == (stream, key)
    assert routing.split(routing.routing_key(stream, "", key)) == (stream, f"@{key}")


# --- permissions ------------------------------------------------------------------------------------------------------

RIGHTS = {value for name, value in vars(rights).items() if name.isupper() and isinstance(value, str)}
OURS = ("sagas", "compensation", "bridge")


def test_only_one_module_names_the_permissions_of_our_models() -> None:
    assert files_with(re.compile(rf"({'|'.join(OURS)})\.(view|add|change|delete|operate)_\w+").fullmatch) == {
        "sagas/rights.py"
    }


def test_each_permission_exists() -> None:
    known = set()
    for model in apps.get_models():
        options = model._meta
        names = [get_permission_codename(action, options) for action in options.default_permissions]
        known |= {f"{options.app_label}.{name}" for name in (*names, *(name for name, _ in options.permissions))}
    assert known >= RIGHTS


def test_templates_ask_for_permissions_that_the_module_names() -> None:
    asked = {
        name for path in TEMPLATES for name in re.findall(r"\bperms\.(\w+\.\w+)", path.read_text(encoding="utf-8"))
    }
    assert asked
    assert asked <= RIGHTS


# --- ids --------------------------------------------------------------------------------------------------------------


def test_only_the_codec_and_the_engine_know_how_a_uuid_is_spelled() -> None:
    assert files_with(re.compile(r"\[0-9a-f\]\{8\}-").search) == {"bridge/codec.py", "sagas/engine/ids.py"}


@given(
    st.one_of(
        st.text(max_size=60),
        st.builds(
            lambda id_, spell: spell(str(id_)),
            st.uuids(),
            st.sampled_from(
                [
                    str,
                    str.upper,
                    lambda text: text.replace("-", ""),
                    lambda text: f"{{{text}}}",
                    lambda text: f"urn:uuid:{text}",
                    lambda text: f"urn:uu\u0131d:{text}",
                ]
            ),
        ),
    )
)
def test_the_engine_compares_ids_as_the_bridge_stores_them(text: str) -> None:
    """An id in a list is stored as received, an id in a field is not: both name the same lane."""
    stored = canonical_id(text)
    if stored is not None:
        assert ids.canonical_id(text) == stored
        assert ids.is_uuid(stored) == ids.is_uuid(ids.canonical_id(text))


# --- times ------------------------------------------------------------------------------------------------------------


def test_times_are_parsed_and_formatted_in_few_places() -> None:
    parsed = lines_with(r"fromisoformat\(|strptime\(")
    # What a heartbeat and the engine read there, they have written themselves.
    assert {name for name in parsed if not name.startswith("sagas/engine/")} == {
        "bridge/instants.py",
        "bridge/heartbeats.py",
    }
    assert lines_with(r"strftime\(|:%[YH]") == {
        "bridge/instants.py",
        "bridge/models.py",  # the names of rows
        "compensation/models.py",
        "sagaproject/doctor/pulsar.py",  # when a token expires: to the minute
        "sagas/admin/formatting.py",  # <time>
        "sagas/management/wording.py",  # with milliseconds, so that lines of a list can be ordered
    }


@pytest.mark.parametrize("text", ["20260301", "2026-W09-7", "2026-3-1", "2026-03-01 ", "", "\u0662026-03-01"])
def test_a_bound_is_a_date_or_a_time_and_nothing_else(text: str) -> None:
    with pytest.raises(ValueError, match="time"):
        instants.parse_bound(text)


def test_a_date_is_its_first_moment_or_its_last() -> None:
    first, last = instants.parse_bound("2026-03-01"), instants.parse_bound("2026-03-01", end_of_day=True)
    assert instants.for_programs(first) == "2026-03-01T00:00:00Z"
    assert instants.for_programs(last) == "2026-03-01T23:59:59.999999Z"
    assert instants.for_people(instants.parse_bound("2026-03-01T12:00:00+02:00")) == "2026-03-01 10:00:00 UTC"


# --- facts of our own -------------------------------------------------------------------------------------------------

OWN_FACTS = kinds.SAGA_DECISIONS | kinds.COMMAND_DECISIONS | kinds.COMMAND_EVENTS


def test_the_facts_of_our_own_are_named_once_on_each_side_of_the_wall() -> None:
    assert files_with(OWN_FACTS.__contains__) == {"sagas/engine/facts.py", "compensation/facts.py"}
    named = (command_facts.EXHAUSTED, command_facts.PUBLISHED, command_facts.REQUIRED_AGAIN)
    assert named == (kinds.COMMAND_EXHAUSTED, kinds.COMMAND_PUBLISHED, kinds.COMMAND_REQUIRED_AGAIN)
    assert set(named) == kinds.COMMAND_EVENTS


def test_the_engine_and_the_log_name_the_sources_alike() -> None:
    assert Source.values == [kinds.WIRE, kinds.OPERATOR, kinds.COMPENSATION, kinds.SAGAS]
    compared = lines_with(r"""source(__in)? ?(==|!=|=) ?\[?["'](pulsar|operator|compensation|sagas)""")
    assert all("statements" in name or name == "bridge/event_log.py" for name in compared)  # SQL


# --- all services -----------------------------------------------------------------------------------------------------


def test_only_one_module_knows_how_all_services_are_written() -> None:
    found = {name for name in files_with(EVERYTHING.__eq__) if name.partition("/")[0] in ("sagas", "compensation")}
    assert found == {"compensation/switches.py"}


# --- tasks ------------------------------------------------------------------------------------------------------------


def test_every_name_of_a_task_is_that_of_a_task() -> None:
    """Processes of two releases know each other's tasks by these names: a move of a module does not change them."""
    app.loader.import_default_modules()
    ours = {name for name in app.tasks if name.partition(".")[0] in OURS}

    of_sagas = {"sagas.apply", "sagas.sweep", "sagas.incidents", "sagas.prune", "sagas.run_jobs"}
    assert ours == of_sagas | {"compensation.publish", "compensation.sweep"}
    assert set(app.conf.task_routes) == ours
    assert set(settings.WAKEUPS.values()) <= ours
    assert {entry["task"] for entry in app.conf.beat_schedule.values()} <= ours
