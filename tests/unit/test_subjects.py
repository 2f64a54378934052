"""What the hook and CI say of commit subjects."""

import runpy
from typing import Any

import pytest

from sagaproject import env

RULES: dict[str, Any] = runpy.run_path(str(env.ROOT / ".ci/subjects"), run_name="rules")


@pytest.mark.parametrize(
    ("subject", "wrong"),
    [
        ("Raise max_wal_size on the embedded server", 0),
        ("Merge branch 'topics'", 0),
        ("x" * 60, 1),
        ("X" * 60, 0),
        ("X" * 61, 1),
        ("wip", 1),
        ("Added a hook", 1),
        ("Adds a hook.", 2),
        ("Feed the bridge", 0),
        ("", 1),
    ],
)
def test_a_subject_is_short_and_imperative(subject: str, wrong: int) -> None:
    assert len(RULES["problems"](subject)) == wrong


def test_the_hook_reads_the_first_line_that_is_no_comment(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    message = tmp_path / "message"
    message.write_text("# a comment\nAdded things\n\nA body of any length, with a full stop.\n", encoding="utf-8")
    assert RULES["main"](["--message", str(message)]) == 1
    assert "imperative" in capsys.readouterr().err
    message.write_text("Add things\n", encoding="utf-8")
    assert RULES["main"](["--message", str(message)]) == 0
