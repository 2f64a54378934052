"""The service stores no sentence: each reason is a code that the tables write out in English and in Spanish."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from django.utils import translation

from bridge import reasons as bridge_reasons
from bridge.reasons import Reason, english, joined, notes_text, reason, text
from compensation import reasons as command_reasons
from sagas import reasons as saga_reasons

ROOT = Path(__file__).parents[2]
TABLES = {
    "bridge": bridge_reasons.TEXTS,
    "compensation": command_reasons.TEXTS,
    "sagas": saga_reasons.TEXTS,
}
CODES = sorted({(name, code) for name, table in TABLES.items() for code in table})
# Columns of texts that people read, and the values that carry such a text to one.
STORED = {"reason", "last_reason", "error", "last_error", "note", "invalid", "set_aside_error", "error_message"}
CARRIERS = {"Rejected", "_Unreadable", "BrokerUnavailable", "StillUnreadable", "Sent", "PublishResult", "UnreadTopic"}
CARRIERS |= {"_report_error", "_waiting", "_exhausted"}
# A verdict is printed and not stored; a command's data are words of the contract with its service.
ELSEWHERE = {"sagas/applying/verify.py", "sagas/definitions/image_processing.py"}
# Two words after each other: no code has a space.
SENTENCE = re.compile(r"[A-Za-z]{2,} [A-Za-z(]{2,}")
PLACEHOLDER = re.compile(r"%\((\w+)\)s")


def modules() -> Iterator[tuple[str, ast.Module]]:
    for package in ("bridge", "compensation", "sagas"):
        for path in sorted((ROOT / package).rglob("*.py")):
            # A command's help and its output are no columns; serializers and requests declare fields of the API.
            where = path.relative_to(ROOT).as_posix()
            if not {"migrations", "management", "api", "admin"} & set(path.parts) and where not in ELSEWHERE:
                yield where, ast.parse(path.read_text(encoding="utf-8"))


def name_of(node: ast.expr) -> str:
    if isinstance(node, ast.Call):
        return name_of(node.func)
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def sentences(node: ast.expr) -> Iterator[str]:
    """The English that this expression writes itself; what is marked for translation, or a table of codes, is none."""
    if isinstance(node, ast.Call):
        return
    for part in [node, *ast.walk(node)]:
        if isinstance(part, ast.Constant) and isinstance(part.value, str) and SENTENCE.search(part.value):
            yield part.value


def stored_sentences(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        for value in values_to_store(node):
            yield from sentences(value)


def values_to_store(node: ast.AST) -> Iterator[ast.expr]:
    """What this node gives to a column, or to a value that carries it to one."""
    if isinstance(node, ast.Call):
        yield from (keyword.value for keyword in node.keywords if keyword.arg in STORED)
        if name_of(node.func) in CARRIERS or ast.unparse(node.func) == "notes.append":
            yield from node.args
    elif isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        yield from (value for key, value in pairs if isinstance(key, ast.Constant) and key.value in STORED)
    elif isinstance(node, ast.FunctionDef) and node.name.strip("_") in STORED | {"shape_problem", "error_location"}:
        returns = (inner for inner in ast.walk(node) if isinstance(inner, ast.Return))
        yield from (found.value for found in returns if found.value is not None)
    elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if any(name_of(target) in STORED for target in targets):
            yield node.value


def test_no_place_writes_a_sentence_into_a_column() -> None:
    """In whatever way: as a keyword, a key, an assignment, or by a value that carries it there."""
    assert [f"{where}: {found}" for where, tree in modules() for found in stored_sentences(tree)] == []


def written_codes() -> Iterator[tuple[str, str, set[str] | None]]:
    """Where a reason is made with a constant code, the code, and its parameters; None where they are not listed."""
    for where, tree in modules():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or name_of(node.func) not in ("reason", "Reason"):
                continue
            first = node.args[0]
            if isinstance(first, ast.Constant):
                listed = name_of(node.func) == "reason"
                yield where, str(first.value), {str(one.arg) for one in node.keywords} if listed else None
            elif isinstance(first, ast.JoinedStr) and isinstance(first.values[0], ast.Constant):
                yield where, str(first.values[0].value).partition(":")[0], None


def test_every_code_that_is_written_has_a_text_that_uses_its_parameters() -> None:
    found = list(written_codes())
    assert len(found) > 30
    for where, code, parameters in found:
        table = TABLES[where.partition("/")[0]]
        assert code in table, (where, code)
        if parameters is not None:
            assert parameters == set(PLACEHOLDER.findall(template_of(table, code))), (where, code)


def template_of(table: Mapping[str, Any], code: str) -> str:
    template = table[code]
    with translation.override("en"):
        # The forms of a plural have the same parameters.
        return str(template % Placeholders()) if hasattr(template, "_get_number_value") else str(template)


class Placeholders(dict[str, Any]):
    """Puts each placeholder back in its own place."""

    def __missing__(self, key: str) -> Any:
        return Count(7) if key == "count" else f"%({key})s"


class Count(int):
    def __str__(self) -> str:
        return "%(count)s"


def written(table: Mapping[str, Any], code: str, language: str) -> str:
    data = {name: 7 if name == "count" else f"<{name}>" for name in PLACEHOLDER.findall(template_of(table, code))}
    data.pop("argument", None)
    full = code if ":" in code or "%(argument)s" not in template_of(table, code) else f"{code}:<argument>"
    with translation.override(language):
        return text(full, data, texts=table)


@pytest.mark.parametrize(("name", "code"), CODES)
def test_every_code_has_an_english_and_a_spanish_text(name: str, code: str) -> None:
    table = TABLES[name]
    in_english, in_spanish = (written(table, code, language) for language in ("en", "es"))
    assert in_english != in_spanish
    for found in (in_english, in_spanish):
        assert found != code or code == "null"
        assert "%(" not in found
    for parameter in PLACEHOLDER.findall(template_of(table, code)):
        value = "7" if parameter == "count" else code.partition(":")[2] or f"<{parameter}>"
        assert value in in_english, parameter
        assert value in in_spanish, parameter


def test_a_text_of_an_earlier_release_and_a_code_of_a_later_one_are_shown_as_they_are() -> None:
    for stored in ("the body is not JSON (line 1, column 1)", "a-code-of-tomorrow", "pulsar is away", "", "x: y"):
        assert text(stored) == stored
    assert text("too-large", {"other": 1}) == "too-large", "a later release has other parameters"
    assert text("The service refused it: %(error)s") == "The service refused it: %(error)s"


def test_parameters_are_written_in_the_readers_language_too() -> None:
    found = reason("wrong-type", field="count", expected={"code": "an-integer"}, found={"code": "a-string"})
    assert str(found) == "count must be a 32-bit integer, but is a string"
    large, listed = reason("too-large", size=2_000_000, limit=1_048_576), reason("no-key", fields=["a", "b"])
    assert str(large) == "the body has 2,000,000 bytes; the limit is 1,048,576"
    with translation.override("es"):
        assert text(*found) == "count debe ser un entero de 32 bits, pero es un texto"
        assert "," not in text(*large)
        assert text(*listed).startswith("falta a y b:")
        assert english(*listed).startswith("a and b missing")


def test_a_nested_reason_is_written_out_and_only_the_text_of_a_service_is_payload() -> None:
    last = reason("refused-because", error="María %(x)s")
    found = reason("attempts", count=1, last=last.nested)
    assert command_reasons.text(*found) == "Failed after 1 attempt. The service refused it: María %(x)s"
    assert command_reasons.text(*found, payload=lambda _text: "[hidden]").endswith("refused it: [hidden]")
    cause = reason("failed-because", cause=Reason("pulsar:Timeout").nested)
    with translation.override("es"):
        assert command_reasons.text(*cause, payload=lambda _text: "").endswith("incorrecto): Timeout")


def test_the_notes_of_an_event_are_codes_too() -> None:
    stored = joined(["id-missing", "timestamp-missing"])
    assert stored == "id-missing; timestamp-missing"
    assert notes_text(stored).count("; ") == 1
    assert "position on the topic is used; the message has no timestamp" in notes_text(stored)
    assert notes_text("the message has no id: its position is used") == "the message has no id: its position is used"
    assert notes_text("") == ""
