"""docs/architecture.md and docs/glossary.md say where things are, so each place that they name is there."""

import re
from collections.abc import Iterator

import pytest

from sagaproject import env
from tests.architecture import drawing

# A path, and what is in parentheses behind it: names in that file.
PLACE = re.compile(r"`([\w.]+(?:/[\w.]*)+)`(?: \(((?:`\w+`(?:, )?)+)\))?")


def places(page: str, heading: str = "") -> Iterator[tuple[str, str]]:
    """Give (path, names in it) of each table row of a page, or of the section with this heading."""
    text = (env.ROOT / "docs" / page).read_text(encoding="utf-8")
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0] if heading else text
    for line in section.splitlines():
        if line.startswith("|"):
            yield from PLACE.findall(line)


RULES = list(places("architecture.md", "Where to find a rule"))
TERMS = list(places("glossary.md"))


def test_the_drawings_show_the_contracts_and_the_imports() -> None:
    page = drawing.PAGE.read_text(encoding="utf-8")
    assert page == drawing.drawn(page), "run: python -m tests.architecture.drawing"


def test_the_tables_name_places() -> None:
    assert len(RULES) > 25
    assert len(TERMS) > 10


@pytest.mark.parametrize(("path", "names"), sorted({*RULES, *TERMS}))
def test_each_place_is_there(path: str, names: str) -> None:
    place = env.ROOT / path
    assert place.is_dir() if path.endswith("/") else place.is_file()
    for name in re.findall(r"\w+", names):
        assert re.search(rf"\b(def|class) {name}\b|^{name}\b", place.read_text(encoding="utf-8"), re.MULTILINE)


def test_each_package_and_each_package_in_it_is_explained() -> None:
    text = (env.ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    explained = set(re.findall(r"^\| `([\w.]+)` \|", text, re.MULTILINE))
    packages = {
        path.parent.relative_to(env.ROOT).as_posix().replace("/", ".")
        for name in drawing.LINTER["root_packages"]
        for path in [env.ROOT / name / "__init__.py", *(env.ROOT / name).glob("*/__init__.py")]
    }
    assert explained == {name for name in packages if not name.endswith((".migrations", ".templatetags"))}
