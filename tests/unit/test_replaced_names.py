"""What tests replace is there: a rename shows here in a second, and not in the one long test that replaces the name."""

import ast
import pkgutil
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import pytest

from sagaproject import env

TESTS = env.ROOT / "tests"
REPLACING = {"setattr", "delattr", "patch", "object"}


class Target(NamedTuple):
    """A name that a test replaces. `owner`: the imported module or class it is given with."""

    line: int
    name: str
    owner: str = ""

    @property
    def path(self) -> str:
        return f"{self.owner}.{self.name}" if self.owner else self.name

    def is_there(self) -> bool:
        """Whether the name can be imported, or is an attribute of what can."""
        owner, _, name = self.path.rpartition(".")
        try:
            return hasattr(pkgutil.resolve_name(owner), name)
        except (ImportError, AttributeError):
            return False


def targets(source: str) -> Iterator[Target]:
    """Find what a file replaces: by a dotted name, by an imported owner and a name, and the crash points of tests."""
    tree = ast.parse(source)
    imported = _imported(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _called(node) in REPLACING:
            yield from _replaced(node, imported)
        elif isinstance(node, ast.Tuple):
            yield from _crash_point(node)


def _called(node: ast.Call) -> str:
    match node.func:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
    return ""


def _replaced(node: ast.Call, imported: Mapping[str, str]) -> Iterator[Target]:
    match node.args:
        case [ast.Constant(value=str(name)), *_] if "." in name:
            yield Target(node.lineno, name)
        case [owner, ast.Constant(value=str(name)), *_]:
            path = _path(owner, imported)
            if path:
                yield Target(node.lineno, name, path)


def _crash_point(node: ast.Tuple) -> Iterator[Target]:
    match node.elts:
        case [ast.Constant(value="before" | "after"), ast.Constant(value=str(name)), *_] if "." in name:
            yield Target(node.lineno, name)


def _path(node: ast.expr, imported: Mapping[str, str]) -> str:
    """Give the dotted name of an imported module, or of what is in one; empty for what only a run can tell."""
    match node:
        case ast.Name(id=name):
            return imported.get(name, "")
        case ast.Attribute(value=value, attr=name):
            within = _path(value, imported)
            return f"{within}.{name}" if within else ""
    return ""


def _imported(tree: ast.AST) -> dict[str, str]:
    """Give what each name of the file's imports stands for, as a dotted name."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                found[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_every_name_that_a_test_replaces_is_there() -> None:
    missing = [
        f"{file.relative_to(env.ROOT)}:{target.line}: {target.path}"
        for file in sorted(TESTS.rglob("*.py"))
        for target in targets(file.read_text(encoding="utf-8"))
        if not target.is_there()
    ]
    assert not missing


@pytest.mark.parametrize(
    ("line", "there"),
    [
        ('monkeypatch.setattr("devtools.embedded.foreground.running", None)', True),
        ('monkeypatch.setattr("devtools.embedded.stack.running", None)', False),
        ('monkeypatch.delattr("sagaproject.no_module.running")', False),
        ('mock.patch("sagas.applying.route.new_saga_id")', True),
        ('with mock.patch("sagas.applying.route.no_name", side_effect=error): pass', False),
        ('from sagas.applying import route as ours\nmock.patch.object(ours, "new_saga_id")', True),
        ('from sagas.applying import route as ours\nmock.patch.object(ours, "no_name")', False),
        ('import os.path\nmonkeypatch.setattr(os, "getpid", None)', True),
        ('from sagas import rows\nmonkeypatch.setattr(rows._Crowd, "no_name", 1)', False),
        ('from sagas import no_module\nmonkeypatch.setattr(no_module, "name", 1)', False),
        ('POINT = ("after", "sagas.applying.statements.claim", 1)', True),
        ('POINT = ("before", "sagas.applying.statements.no_name")', False),
    ],
)
def test_a_name_that_has_moved_is_found(line: str, there: bool) -> None:
    [target] = targets(line)
    assert target.is_there() is there


def test_what_only_a_run_can_tell_is_left_to_it() -> None:
    assert not list(targets('monkeypatch.setattr(made_here, "name", 1)\nsetattr(row, column, 1)\n("before", "COMMIT")'))
