"""Draw the rooms of docs/architecture.md: `python -m tests.architecture.drawing` writes them into the page.

The layers come from the contracts of pyproject.toml, the arrows from the imports themselves.
"""

import re
import sys
import tomllib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import grimp

from sagaproject import env

PAGE = env.ROOT / "docs" / "architecture.md"
LINTER = tomllib.loads((env.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]


def rooms() -> str:
    """Return the layers of each package as a text, from the top down; rooms side by side do not import each other."""
    contracts: dict[str, dict[str, Any]] = {item["id"]: item for item in LINTER["contracts"]}
    lines = ["```text"]
    for package in contracts["packages"]["layers"]:
        lines.append(package)
        lines += [f"    {line}" for layer in contracts[package]["layers"] if (line := _existing(package, layer))]
    return "\n".join([*lines, "```"])


def _existing(package: str, layer: str) -> str:
    """Return a layer without the rooms that need not exist and do not."""
    names = (name.strip(" ()") for name in layer.split("|"))
    return " | ".join(
        name for name in names if any((env.ROOT / package / f"{name}{end}").exists() for end in (".py", "/__init__.py"))
    )


def imports(package: str) -> str:
    """Return the imports between the rooms of a package as a mermaid graph, without those that follow from others."""
    reach = _imported_rooms(package)
    arrows = [
        f"    {room} --> {target}"
        for room in sorted(reach)
        for target in sorted(reach[room])
        if not any(target in _reached(reach, other) for other in reach[room] - {target})
    ]
    return "\n".join(["```mermaid", "graph TD", *arrows, "```"])


def _imported_rooms(package: str) -> dict[str, set[str]]:
    sys.path.insert(0, str(env.ROOT))
    graph = grimp.build_graph(package, cache_dir=None)
    children = {child for child in graph.find_children(package) if not child.endswith(".migrations")}
    return {
        room.rpartition(".")[2]: {
            other.rpartition(".")[2]
            for other in children - {room}
            if graph.direct_import_exists(importer=room, imported=other, as_packages=True)
        }
        for room in children
    }


def _reached(reach: Mapping[str, set[str]], room: str) -> set[str]:
    """Return the rooms that a room imports, directly or not. There are no circles: a contract refuses them."""
    return reach[room].union(*(_reached(reach, other) for other in reach[room]))


END = "<!-- end -->"
DRAWINGS: Mapping[str, Callable[[], str]] = {"rooms": rooms, "imports of sagas": partial(imports, "sagas")}


def drawn(page: str) -> str:
    """Return the page with every drawing renewed."""
    for name, draw in DRAWINGS.items():
        head, mark, rest = re.split(rf"(<!-- {name}: [^\n]* -->\n)", page)
        page = f"{head}{mark}{draw()}\n{END}{rest.partition(END)[2]}"
    return page


if __name__ == "__main__":
    PAGE.write_text(drawn(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
