"""The requirements: pinned with hashes, complete, and no more of them installed than a target uses."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
from django.conf import settings
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from sagaproject import env

ROOT = env.ROOT
# Each file, and those that it is installed on top of.
FILES = {
    "requirements": (),
    "requirements-stack": ("requirements",),
    "requirements-dev": ("requirements-stack", "requirements"),
    "requirements-plots": ("requirements-dev", "requirements-stack", "requirements"),
    "requirements-mutants": (),
    "requirements-newer": (),
}
INSTALLED = ("requirements", "requirements-stack", "requirements-dev")
PIN = re.compile(
    r"^(?P<requirement>[A-Za-z0-9][^\\\n]*==[^\\\n]*?)(?P<hashes>( \\\n    --hash=sha256:[0-9a-f]{64})+)\n",
    re.MULTILINE,
)
# Imports of these packages are written as names in the settings, not as statements.
OURS = {"devtools", "sagaproject", "sagas", "compensation", "bridge", "tests"}


@cache
def pins(file: str) -> dict[str, Requirement]:
    text = (ROOT / f"{file}.txt").read_text(encoding="utf-8")
    found = [Requirement(match["requirement"].strip()) for match in PIN.finditer(text)]
    return {canonicalize_name(requirement.name): requirement for requirement in found}


def pinned(*files: str) -> set[str]:
    return {name for file in files for name in pins(file)}


def wanted(file: str) -> list[Requirement]:
    lines = (ROOT / f"{file}.in").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("file", FILES)
def test_every_line_is_an_exact_version_with_hashes_or_includes_a_file(file: str) -> None:
    text = (ROOT / f"{file}.txt").read_text(encoding="utf-8")
    rest = [line for line in PIN.sub("", text).splitlines() if line.strip() and not line.lstrip().startswith("#")]

    assert pins(file)
    assert rest == [f"-r {base}.txt" for base in FILES[file][:1]]
    assert all(re.fullmatch(r"==[^*]+", str(requirement.specifier)) for requirement in pins(file).values())
    # Neither an index nor a file of somebody's machine.
    assert not re.search(r"://|--index|--find-links|--trusted-host", text)


@pytest.mark.parametrize("file", FILES)
def test_what_is_asked_for_is_pinned_at_that_version_and_nothing_is_pinned_twice(file: str) -> None:
    for requirement in wanted(file):
        pin = pins(file)[canonicalize_name(requirement.name)]
        assert (pin.specifier, pin.extras) == (requirement.specifier, requirement.extras), requirement
    assert not pinned(file) & pinned(*FILES[file])


def test_the_tools_of_the_mutants_are_those_of_the_tests() -> None:
    shared = pins("requirements-mutants").keys() & pinned(*INSTALLED)
    versions = {name: pins(file)[name].specifier for file in INSTALLED for name in pins(file)}
    assert "pytest" in shared
    assert all(pins("requirements-mutants")[name].specifier == versions[name] for name in ("pytest", "hypothesis"))


def test_the_second_lane_differs_only_in_what_its_file_names_and_what_that_brings() -> None:
    ours = {name: requirement.specifier for file in INSTALLED for name, requirement in pins(file).items()}
    theirs = {name: requirement.specifier for name, requirement in pins("requirements-newer").items()}
    named = {canonicalize_name(requirement.name) for requirement in wanted("requirements-newer")}

    assert {"django", "django-unfold", "psycopg"} == named
    assert {name for name in ours.keys() & theirs.keys() if ours[name] != theirs[name]} == named & ours.keys()
    assert theirs.keys() - ours.keys() == {"psycopg", "psycopg-binary"}


def needed(file: str) -> set[str]:
    """Give all that a file's requirements bring along here, by what the installed distributions say of themselves."""
    todo = [
        (requirement, extra)
        for requirement in wanted(file)
        if applies(requirement)
        for extra in ("", *requirement.extras)
    ]
    seen = set()
    while todo:
        requirement, extra = todo.pop()
        name = canonicalize_name(requirement.name)
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        for line in metadata.requires(name) or ():
            further = Requirement(line)
            if applies(further, extra):
                todo += [(further, word) for word in ("", *further.extras)]
    return {name for name, _ in seen}


def applies(requirement: Requirement, extra: str = "") -> bool:
    environment = {**{name: str(value) for name, value in default_environment().items()}, "extra": extra}
    return requirement.marker is None or requirement.marker.evaluate(environment)


@pytest.mark.parametrize("file", INSTALLED)
def test_all_that_a_file_brings_along_is_pinned_and_nothing_else(file: str) -> None:
    brought = needed(file)
    here = {name for name, requirement in pins(file).items() if applies(requirement)}

    assert brought - pinned(file, *FILES[file]) == set()
    assert here - brought == set()


def imports(path: Path) -> Iterator[str]:
    """Give the first word of every module that a file imports, but for those that only the type checker sees."""
    todo: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            todo += node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]
        todo += ast.iter_child_nodes(node)


def strangers(modules: set[str], *files: str) -> set[str]:
    """Give the modules that come from no distribution of these files."""
    distributions = metadata.packages_distributions()
    foreign = modules - OURS - sys.stdlib_module_names
    allowed = pinned(*files)
    return {name for name in foreign if not {canonicalize_name(word) for word in distributions[name]} & allowed}


def test_the_service_imports_only_what_production_installs() -> None:
    product = OURS - {"tests", "devtools"}
    files = [ROOT / "manage.py", *(file for folder in product for file in (ROOT / folder).rglob("*.py"))]
    service = {name for file in files for name in imports(file)}
    apps = {word.partition(".")[0] for word in (*settings.INSTALLED_APPS, *settings.MIDDLEWARE)}

    assert strangers(service | apps, "requirements") == set()


def test_the_development_tools_import_only_what_demo_and_up_install() -> None:
    stack = {name for file in (ROOT / "devtools").rglob("*.py") for name in imports(file)}

    assert "psutil" in stack
    assert strangers(stack, "requirements", "requirements-stack") == set()


@pytest.mark.parametrize(("target", "installs_tools"), [("demo", False), ("up", False), ("test", True), ("lint", True)])
def test_a_target_installs_what_it_uses(target: str, installs_tools: bool) -> None:
    printed = subprocess.run(
        ["make", "--dry-run", "--always-make", target], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout

    installs = [line for line in printed.splitlines() if "pip install" in line]
    assert all("--require-hashes" in line for line in installs)
    assert any("requirements-stack.txt" in line for line in installs)
    assert any("requirements-dev.txt" in line for line in installs) is installs_tools


def test_the_image_installs_with_hashes() -> None:
    commands = re.findall(r"pip (?:download|install|wheel)[^\n]*", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    assert commands
    assert all("--require-hashes" in command for command in commands)
