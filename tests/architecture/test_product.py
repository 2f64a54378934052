"""The product is what the wheel and the image hold: no development tools, no tests, and it works without them."""

import ast
import importlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from sagaproject import env
from sagaproject.version import VERSION

ROOT = env.ROOT
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PRODUCT = tuple(name.rstrip("*") for name in PROJECT["tool"]["setuptools"]["packages"]["find"]["include"])
BARE = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
# What a test of production has to say, besides ENVIRONMENT.
PROD = {
    "SECRET_KEY": "gVq3mK8xZr5tW2yB7nD4pF9sJ6hL1cA0",
    "ALLOWED_HOSTS": "saga.example",
    "DATABASE_URL": "postgresql://saga:pw@127.0.0.1:1/saga",
    "CELERY_BROKER_URL": "redis://127.0.0.1:1/0",
    "PULSAR_SERVICE_URL": "pulsar://127.0.0.1:1",
    "SAGA_PUBLISHING": "paused",
}


def product_files() -> set[str]:
    """The files of the product, as paths from the root."""
    paths = (path for name in PRODUCT for path in (ROOT / name).rglob("*"))
    return {path.relative_to(ROOT).as_posix() for path in paths if path.is_file() and "__pycache__" not in path.parts}


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the product and manage.py only, as in the image."""
    folder = tmp_path_factory.mktemp("product")
    for name in (*product_files(), "manage.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


def manage(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", *words],
        cwd=folder,
        env={**BARE, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_the_wheel_holds_every_file_of_the_product_and_nothing_else(tmp_path: Path) -> None:
    """What setuptools collects for the wheel; the wheel itself would need setuptools 70.1 or the package wheel."""
    tree = tmp_path / "tree"
    shutil.copytree(
        ROOT,
        tree,
        ignore=lambda folder, names: {name for name in names if name[0] == "." or name in ("var", "__pycache__")},
    )
    build: list[str | Path] = [
        sys.executable,
        "-c",
        "import setuptools; setuptools.setup()",
        "-q",
        "build",
        "--build-lib",
        tmp_path / "lib",
    ]
    subprocess.run(build, cwd=tree, check=True, capture_output=True, text=True)

    collected = {
        path.relative_to(tmp_path / "lib").as_posix() for path in (tmp_path / "lib").rglob("*") if path.is_file()
    }
    assert collected == product_files()
    assert {"sagas/templates/admin/base.html", "sagas/static/sagas/staff.css"} <= collected
    assert "sagas/locale/es/LC_MESSAGES/django.mo" in collected


def test_the_wheel_requires_what_the_image_installs_and_has_the_version_that_the_service_shows() -> None:
    dynamic = PROJECT["tool"]["setuptools"]["dynamic"]
    module, _, name = dynamic["version"]["attr"].rpartition(".")

    assert sorted(PROJECT["project"]["dynamic"]) == sorted(dynamic)
    assert getattr(importlib.import_module(module), name) == VERSION
    assert dynamic["dependencies"] == {"file": ["requirements.in"]}


def test_the_image_copies_the_product_and_nothing_else() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    copied = {word for line in re.findall(r"^COPY (.*)$", dockerfile, re.MULTILINE) for word in line.split()[:-1]}
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()

    assert copied == {*PRODUCT, "manage.py", "requirements.txt"}
    assert ignored[0] == "*"
    assert {line[1:] for line in ignored if line[0] == "!"} == copied


def test_the_product_names_neither_the_development_tools_nor_the_tests() -> None:
    """Neither in an import nor as a dotted name that Django or Celery would import."""
    found = []
    for name in sorted(product_files()):
        if name.endswith(".py"):
            for node in ast.walk(ast.parse((ROOT / name).read_text(encoding="utf-8"))):
                words = [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []
                if isinstance(node, ast.Import):
                    words = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    words = [node.module or ""]
                found += [f"{name}: {word}" for word in words if re.fullmatch(r"(devtools|tests)(\.\w+)*", word)]

    # Where it asks whether this is a checkout, and where a checkout adds the app.
    assert found == ["sagaproject/env.py: devtools", "sagaproject/settings.py: devtools"]


@pytest.mark.parametrize("environment", [{"ENVIRONMENT": "dev"}, {"ENVIRONMENT": "prod", **PROD}], ids=["dev", "prod"])
@pytest.mark.parametrize("words", [["check"], ["migrate", "--help"], ["--help"]], ids=" ".join)
def test_the_product_works_without_the_development_tools(
    product: Path, words: list[str], environment: dict[str, str]
) -> None:
    done = manage(product, *words, **environment)

    assert done.returncode == 0, done.stderr
    assert "make up" not in done.stdout + done.stderr
    if words == ["--help"]:
        assert {"retry_command", "doctor", "run_bridge"} <= set(done.stdout.split())
        assert not {"demo", "up", "fill", "simulate_services", "dev_login", "[devtools]"} & set(done.stdout.split())


def test_the_products_migrations_are_all_of_them(product: Path, postgres_url: str) -> None:
    done = manage(product, "migrate", "--plan", ENVIRONMENT="dev", DATABASE_URL=postgres_url)

    assert done.returncode == 0, done.stderr
    assert "sagas.0001_initial" in done.stdout


@pytest.mark.parametrize("environment", [{}, {"ENVIRONMENT": "dev"}, {"ENVIRONMENT": "prod"}], ids=str)
@pytest.mark.parametrize("words", [["list_sagas"], ["doctor"], ["migrate", "--plan"]], ids=" ".join)
def test_no_text_of_the_product_names_what_it_does_not_have(
    product: Path, words: list[str], environment: dict[str, str]
) -> None:
    """A Makefile and a stack exist in a checkout only. There the same commands name them: tests/unit/test_env.py."""
    done = manage(product, *words, **environment)

    assert done.returncode != 0
    assert not re.search(r"\bmake\b|Makefile|stack", done.stdout + done.stderr.replace("Traceback", ""))
