"""Templates have one tag a line, so that a change of one shows as one line: djlint indents, but breaks no line."""

import re

from sagaproject import env

BLOCK = re.compile(r"<(?:div|p|dl|dt|dd|table|thead|tbody|tr|th|td|h\d|nav|form|ul|details|summary)\b")
UNTOUCHED = re.compile(r"\{# djlint:off #\}.*?\{# djlint:on #\}", re.DOTALL)


def crowded(text: str) -> list[str]:
    return [line.strip()[:80] for line in UNTOUCHED.sub("", text).splitlines() if len(BLOCK.findall(line)) > 1]


def test_no_line_of_a_template_opens_two_elements() -> None:
    files = sorted((env.ROOT / "sagas" / "templates").rglob("*.html"))
    assert len(files) > 20
    assert {file.name: found for file in files if (found := crowded(file.read_text(encoding="utf-8")))} == {}


def test_two_elements_on_a_line_are_found() -> None:
    assert crowded("<tr>\n  <td>1</td><td>2</td>\n</tr>") == ["<td>1</td><td>2</td>"]
    assert crowded("<tr>\n  <td><b>1</b> <span>2</span></td>\n</tr>") == []
