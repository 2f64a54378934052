"""Each contract of pyproject.toml refuses what it is there to refuse: shown with a violation planted in a copy."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from sagaproject import env

LINTER = tomllib.loads((env.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
CONTRACTS: dict[str, dict[str, Any]] = {contract["id"]: contract for contract in LINTER["contracts"]}

# For each contract, imports that it must refuse: (file, a statement appended to it).
PLANTED: dict[str, list[tuple[str, str]]] = {
    "packages": [
        ("bridge/codec.py", "import compensation.retry"),
        ("compensation/outbox.py", "from sagas.engine import state"),
        ("sagas/tasks.py", "from sagaproject import health"),
        ("sagaproject/env.py", "from devtools import screen"),
    ],
    "sagas": [
        ("sagas/applying/verify.py", "from sagas.actions import reason"),
        ("sagas/actions/reason.py", "from sagas.api import permissions"),
        ("sagas/admin/search.py", "from sagas.api import permissions"),
        ("sagas/actions/reason.py", "from sagas.queries import counts"),
        ("sagas/models.py", "from sagas import rights"),
        ("sagas/actions/reason.py", "from sagas import tasks"),
    ],
    "compensation": [
        ("compensation/retry.py", "from compensation import snapshot"),
        ("compensation/delivery.py", "from compensation import deadlines"),
    ],
    "bridge": [
        ("bridge/codec.py", "from bridge import event_log"),
        ("bridge/pulsar/inlet.py", "from bridge import event_log"),
    ],
    "sagaproject": [
        ("sagaproject/version.py", "from sagaproject import settings"),
        ("sagaproject/health.py", "from sagaproject import lockout"),
    ],
    "devtools": [("devtools/simulator/wire.py", "from devtools.embedded import ports")],
    "cycles": [
        ("sagas/queries/holding.py", "from sagas.queries import attention"),
    ],
    "engine": [
        ("sagas/engine/state.py", "import orjson"),
        ("sagas/engine/state.py", "from django.utils import timezone"),
        ("sagas/engine/state.py", "from bridge import instants"),
    ],
    "definitions": [("sagas/definitions/registry.py", "from django.conf import settings")],
    "models": [
        ("sagas/models.py", "from sagas import error_text"),
        ("bridge/models.py", "import orjson"),
    ],
    "environment": [
        ("sagaproject/env.py", "from django.conf import settings"),
        ("sagaproject/stack_file.py", "from bridge import clock"),
    ],
    "simulator": [("devtools/simulator/wire.py", "from sagas.engine import state")],
    "pulsar": [
        ("bridge/consumer.py", "import pulsar"),
        ("devtools/embedded/ports.py", "import pulsar"),
    ],
    "rest": [
        ("sagas/actions/reason.py", "from rest_framework import serializers"),
        ("sagas/admin/search.py", "import django_filters"),
    ],
    "theme": [("sagas/api/permissions.py", "from unfold.admin import ModelAdmin")],
    "admin": [
        ("sagas/actions/reason.py", "from django.contrib import messages, admin"),
        ("sagas/api/permissions.py", "import django.contrib.admin.utils"),
    ],
    "tokens": [("sagas/actions/reason.py", "from knox.models import AuthToken")],
}


PLANTS = [
    pytest.param(name, file, statement, id=f"{name}-{number}")
    for name, planted in PLANTED.items()
    for number, (file, statement) in enumerate(planted)
]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what lint-imports reads."""
    copy = tmp_path_factory.mktemp("tree")
    for package in LINTER["root_packages"]:
        shutil.copytree(env.ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__", "locale"))
    (copy / "tests").mkdir()
    (copy / "tests" / "__init__.py").touch()
    shutil.copytree(env.ROOT / "tests" / "architecture", copy / "tests" / "architecture")
    shutil.copy(env.ROOT / "pyproject.toml", copy)
    return copy


def broken(tree: Path, *contracts: str) -> bool:
    """Whether lint-imports refuses the tree because of these contracts (of all, if none is named)."""
    linter = Path(sys.executable).with_name("lint-imports")
    limits = [word for name in contracts for word in ("--contract", name)]
    run = subprocess.run([linter, *limits], cwd=tree, capture_output=True, text=True, check=False)
    assert "kept" in run.stdout, run.stdout + run.stderr  # otherwise it could not read the contracts
    assert ("BROKEN" in run.stdout) == (run.returncode != 0)
    return run.returncode != 0


def test_every_contract_has_a_planted_violation_and_only_contracts_have() -> None:
    assert len(CONTRACTS) == len(LINTER["contracts"])
    assert PLANTED.keys() == CONTRACTS.keys()


def test_no_contract_ignores_an_import() -> None:
    assert [
        name for name, contract in CONTRACTS.items() if contract.keys() & {"ignore_imports", "skip_descendants"}
    ] == []


def test_the_copy_itself_breaks_nothing(tree: Path) -> None:
    assert not broken(tree)


@pytest.mark.parametrize(("contract", "file", "statement"), PLANTS)
def test_a_planted_violation_is_refused(tree: Path, contract: str, file: str, statement: str) -> None:
    victim = tree / file
    before = victim.read_text(encoding="utf-8")
    try:
        victim.write_text(f"{before}\n{statement}\n", encoding="utf-8")
        assert broken(tree, contract)
    finally:
        victim.write_text(before, encoding="utf-8")


@pytest.mark.parametrize("contract", [name for name, item in CONTRACTS.items() if item["type"] == "layers"])
def test_a_module_without_a_place_is_refused(tree: Path, contract: str) -> None:
    """Whatever is new in a package falls under its contract: no list has to be remembered."""
    for container in CONTRACTS[contract].get("containers", []):
        module = tree / container / "unplaced.py"
        try:
            module.write_text("", encoding="utf-8")
            assert broken(tree, contract)
        finally:
            module.unlink()


def test_every_package_has_its_rooms() -> None:
    walled = {container for item in CONTRACTS.values() if item.get("exhaustive") for container in item["containers"]}
    assert walled == set(LINTER["root_packages"])
    assert set(CONTRACTS["packages"]["layers"]) == set(LINTER["root_packages"])
    assert set(CONTRACTS["cycles"]["ancestors"]) == set(LINTER["root_packages"])
