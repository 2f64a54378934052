"""One name means one thing: no two classes of the product share a name, and no module collects odds and ends."""

import ast
from collections import defaultdict

from sagaproject import env

PACKAGES = ("bridge", "compensation", "devtools", "sagas", "sagaproject")
# Django looks for these by name; and a stored event beside an event type of a definition, until the tables change.
SHARED = {"Meta", "Command", "Event"}
DRAWERS = {"utils", "util", "helpers", "common", "misc"}


def modules() -> list[tuple[str, ast.Module]]:
    files = [file for name in PACKAGES for file in sorted((env.ROOT / name).rglob("*.py"))]
    return [
        (str(file.relative_to(env.ROOT)), ast.parse(file.read_text(encoding="utf-8")))
        for file in files
        if "migrations" not in file.parts
    ]


def test_no_two_classes_are_called_alike() -> None:
    places = defaultdict(set)
    for file, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                places[node.name].add(file)
    twice = {name: files for name, files in places.items() if len(files) > 1 and name not in SHARED}
    assert not twice


def test_no_module_is_a_drawer_for_everything() -> None:
    assert [file for file, _ in modules() if DRAWERS & set(file.removesuffix(".py").split("/"))] == []
