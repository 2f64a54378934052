"""Whatever staff read has Spanish: every marked string of code and templates is translated, and compiled."""

from __future__ import annotations

import ast
import gettext
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from django.utils.translation.template import templatize

ROOT = Path(__file__).parents[2]
CATALOG = ROOT / "sagas" / "locale" / "es" / "LC_MESSAGES" / "django.mo"
PACKAGES = ("sagaproject", "sagas", "compensation", "bridge")
MARKS = {"_", "gettext", "gettext_lazy", "ngettext", "ngettext_lazy"}
# What templatize makes of a template: the calls that xgettext would find.
IN_TEMPLATE = re.compile(r"\b(?:n?gettext)\(u?('(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")", re.DOTALL)


@cache
def spanish() -> gettext.GNUTranslations:
    with CATALOG.open("rb") as file:
        return gettext.GNUTranslations(file)


def marked_in_code() -> Iterator[tuple[str, str]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in MARKS:
                    first = node.args[0] if node.args else None
                    if isinstance(first, ast.Constant) and isinstance(first.value, str):
                        yield path.relative_to(ROOT).as_posix(), first.value


def marked_in_templates() -> Iterator[tuple[str, str]]:
    for path in sorted((ROOT / "sagas" / "templates").rglob("*.html")):
        for found in IN_TEMPLATE.finditer(templatize(path.read_text(encoding="utf-8"))):
            yield path.relative_to(ROOT).as_posix(), ast.literal_eval(found.group(1)).replace("%%", "%")


def known() -> set[str]:
    """Every message that the catalogue has, singulars of plurals too."""
    found: set[str] = set()
    for entry in spanish()._catalog:  # type: ignore[attr-defined]
        found.add(entry[0] if isinstance(entry, tuple) else entry)
    return found


@pytest.mark.parametrize("marked", [marked_in_code, marked_in_templates])
def test_no_string_lacks_spanish(marked: object) -> None:
    assert callable(marked)
    strings = list(marked())
    assert len(strings) > 100  # the walk finds what there is to find
    have = known()
    assert sorted({f"{where}: {text}" for where, text in strings if text not in have}) == []


def test_placeholders_are_kept() -> None:
    """A translation that loses a placeholder loses a fact; one that invents another raises."""
    wrong = []
    for entry, text in spanish()._catalog.items():  # type: ignore[attr-defined]
        original = entry[0] if isinstance(entry, tuple) else entry
        placeholders = [sorted(re.findall(r"%\(\w+\)[sd]", words)) for words in (original, text)]
        if original and placeholders[0] != placeholders[1]:
            wrong.append(original)
    assert wrong == []
