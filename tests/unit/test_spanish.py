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

from sagas import nouns
from sagas.definitions import registry

ROOT = Path(__file__).parents[2]
CATALOG = ROOT / "sagas" / "locale" / "es" / "LC_MESSAGES" / "django.mo"
SOURCE = CATALOG.with_suffix(".po")
PACKAGES = ("devtools", "sagaproject", "sagas", "compensation", "bridge")
MARKS = {"gettext", "gettext_lazy", "gettext_noop", "ngettext", "ngettext_lazy"}
# What templatize makes of a template: the calls that xgettext would find.
IN_TEMPLATE = re.compile(r"\b(?:n?gettext)\(u?('(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")", re.DOTALL)


@cache
def spanish() -> gettext.GNUTranslations:
    with CATALOG.open("rb") as file:
        return gettext.GNUTranslations(file)


def sources() -> Iterator[tuple[str, ast.Module]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def marks_of(tree: ast.Module) -> dict[str, str]:
    """What a module calls Django's functions that mark a string, by its own name for each."""
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    names = [name for node in imports if node.module == "django.utils.translation" for name in node.names]
    return {name.asname or name.name: name.name for name in names if name.name in MARKS}


def marked_in_code() -> Iterator[tuple[str, str]]:
    """Where, and the string; of a mark that is given a name instead of a string, the code itself: no translator
    would ever see that one."""
    for where, tree in sources():
        marks = marks_of(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in marks:
                first = node.args[0]
                yield where, str(first.value) if isinstance(first, ast.Constant) else ast.unparse(node)


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


def test_makemessages_knows_every_name_that_marks() -> None:
    """It finds `_` and the functions' own names; a string under another alias never reaches the translator."""
    aliases = {(where, said) for where, tree in sources() for said, real in marks_of(tree).items() if said != real}
    assert sorted(alias for alias in aliases if alias[1] != "_") == []


def test_what_is_compiled_is_what_is_written() -> None:
    written = list(entries(SOURCE.read_text(encoding="utf-8")))
    assert len(written) > 600
    compiled = spanish()._catalog  # type: ignore[attr-defined]
    wrong = []
    for entry in written:
        for key, text in entry.items():
            plural = key.removeprefix("msgstr").strip("[]")
            if key.startswith("msgstr") and entry["msgid"]:
                said = compiled.get((msgid(entry), int(plural)) if plural else msgid(entry))
                wrong += [entry["msgid"]] if not text or said != text else []
    assert wrong == []
    assert {msgid(entry) for entry in written} == known()


def msgid(entry: dict[str, str]) -> str:
    """The message as it is compiled: with its context."""
    return f"{entry['msgctxt']}\4{entry['msgid']}" if "msgctxt" in entry else entry["msgid"]


def test_each_noun_of_each_definition_has_spanish() -> None:
    wanted = [text for definition in registry.all_definitions() for text in nouns.english(definition)]
    assert {"Image processing", "task", "the task", "image", "images", "the image", "image deletion"} <= set(wanted)
    assert sorted({text for text in wanted if f"{nouns.CONTEXT}\4{text}" not in known()}) == []


def entries(text: str) -> Iterator[dict[str, str]]:
    """The entries of a .po file: keyword to text, its lines joined."""
    assert "fuzzy" not in text
    for block in text.split("\n\n"):
        entry: dict[str, str] = {}
        keyword = ""
        for line in block.splitlines():
            if line and not line.startswith("#"):
                keyword, quoted = (keyword, line) if line.startswith('"') else line.split(" ", 1)
                entry[keyword] = entry.get(keyword, "") + ast.literal_eval(quoted)
        if entry:
            yield entry


def test_placeholders_are_kept() -> None:
    """A translation that loses a placeholder loses a fact; one that invents another raises."""
    wrong = []
    for entry, text in spanish()._catalog.items():  # type: ignore[attr-defined]
        original = entry[0] if isinstance(entry, tuple) else entry
        placeholders = [sorted(re.findall(r"%\(\w+\)[sd]", words)) for words in (original, text)]
        if original and placeholders[0] != placeholders[1]:
            wrong.append(original)
    assert wrong == []


def test_only_a_definition_names_what_its_sagas_are_about() -> None:
    """Texts for sagas of every type have placeholders for nouns; nouns have a context."""
    foreign = re.compile(r"\b(images?|tasks?|retriev\w+|anonymiz\w+)\b", re.IGNORECASE)
    shared = {entry for entry in known() if not entry.startswith(f"{nouns.CONTEXT}\4")}
    assert sorted(entry for entry in shared if foreign.search(entry)) == []
