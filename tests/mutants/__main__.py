"""Mutation testing of the engine: changes it in thousands of small ways and sees that a test fails of each.

`make mutants` copies the engine and its fast tests to var/mutants, runs mutmut there, and prints the score and every
mutant that survived. Each of those must be named, and explained, in docs/testing.md: exits with 1 where one is not.
The copy has an environment of its own, for the engine needs nothing but the standard library.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "var" / "mutants"
PAGE = ROOT / "docs" / "testing.md"

# Properties and enumerations take too long for each of two thousand mutants, and chance finds what a test should name.
CODE = ("sagas/__init__.py", "sagas/engine", "sagas/definitions")
TESTS = (
    "tests/__init__.py",
    "tests/stories.py",
    "tests/order_saga.py",
    "tests/histories",
    "tests/properties/__init__.py",
    "tests/properties/histories.py",
    "tests/properties/store.py",
    "tests/unit/__init__.py",
    "tests/unit/test_definition.py",
    "tests/unit/test_engine_details.py",
    "tests/unit/test_status_table.py",
    "tests/unit/test_steps.py",
)
SETTINGS = """
[tool.mutmut]
source_paths = ["sagas"]
only_mutate = ["sagas/engine/*"]
pytest_add_cli_args = ["-p", "no:cacheprovider", "-x", "-q"]
pytest_add_cli_args_test_selection = ["tests/unit", "tests/histories"]
use_git_change_detection = false

[tool.pytest.ini_options]
addopts = "--import-mode=importlib"
pythonpath = ["."]
"""
SURVIVED = re.compile(r"^\s*(\S+): (survived|no tests|suspicious)\s*$", re.MULTILINE)


def copy() -> Path:
    """A tree with the engine and its fast tests, and nothing else; what an earlier run left is removed."""
    tree = FOLDER / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    for name in (*CODE, *TESTS):
        source, target = ROOT / name, tree / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    (tree / "pyproject.toml").write_text(SETTINGS)
    return tree


def environment() -> Path:
    """The mutmut of an environment of its own, which is made once."""
    home, pins = FOLDER / "venv", ROOT / "requirements-mutants.txt"
    if not (home / "bin" / "mutmut").exists():
        venv.create(home, with_pip=True, clear=True)
    pip = [
        str(home / "bin" / "pip"),
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--require-hashes",
        "-r",
        str(pins),
    ]
    subprocess.run(pip, check=True)
    return home / "bin" / "mutmut"


def survivors(told: str) -> list[str]:
    """The mutants that no test failed of, from what `mutmut results` printed. One that runs for ever was noticed."""
    return [name for name, _ in SURVIVED.findall(told)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the process's exit status."""
    parser = argparse.ArgumentParser(prog="mutants", description="Mutation testing of sagas/engine.")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="mutants at a time (one a core)")
    said = parser.parse_args(arguments)
    mutmut, tree = environment(), copy()
    subprocess.run([mutmut, "run", "--max-children", str(said.jobs)], cwd=tree, check=True)
    results = subprocess.run([mutmut, "results"], cwd=tree, check=True, capture_output=True, text=True).stdout
    alive = survivors(results)
    explained = set(re.findall(r"`(\S+__mutmut_\d+)`", PAGE.read_text(encoding="utf-8")))
    unexplained = [name for name in alive if name.removeprefix("sagas.engine.") not in explained]
    for name in unexplained:
        shown = subprocess.run([mutmut, "show", name], cwd=tree, check=True, capture_output=True, text=True).stdout
        sys.stdout.write(f"{shown}\n")
    total = mutants_made(tree)
    sys.stdout.write(
        f"{total - len(alive):,} of {total:,} mutants killed ({100 * (total - len(alive)) / total:.1f} %);"
        f" {len(alive)} survived, of which docs/testing.md does not explain {len(unexplained)}\n"
    )
    return 1 if unexplained else 0


def mutants_made(tree: Path) -> int:
    """How many there were."""
    found = (tree / "mutants").glob("sagas/engine/*.meta")
    return sum(len(json.loads(path.read_text())["exit_code_by_key"]) for path in found)


if __name__ == "__main__":
    sys.exit(main())
