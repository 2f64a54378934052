"""What is left out of make test, or done there in part, is in make nightly."""

from __future__ import annotations

import os
import re
import subprocess
from functools import cache

import pytest

from sagaproject import env

# How a test is told to do all of it.
MORE = re.compile(r'os\.environ\.get\("(FUZZ_EXAMPLES|API_EXAMPLES|THOROUGH)"')


@cache
def commands_of(target: str) -> list[str]:
    """What a target of the Makefile would run."""
    # Not what the make that runs these tests was told, such as ARGS.
    alone = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    words = ["make", "-n", target]
    told = subprocess.run(words, cwd=env.ROOT, env=alone, capture_output=True, text=True, check=True).stdout
    return [line for line in told.replace("\\\n", " ").splitlines() if "pytest" in line]


def test_what_is_marked_is_left_out_of_the_suite_and_run_at_night() -> None:
    [suite] = commands_of("test")
    [left_out] = re.findall(r'-m "([^"]*)"', suite)
    assert left_out == "not apache and not rabbitmq and not nightly"
    at_night = commands_of("nightly")
    assert any(command.endswith("-m pytest -m nightly") for command in at_night)
    assert any("tests/apache" in command for command in at_night)
    assert any("tests/rabbitmq" in command for command in at_night)


@pytest.mark.parametrize("name", ["FUZZ_EXAMPLES", "API_EXAMPLES", "THOROUGH"])
def test_what_takes_a_few_examples_takes_many_at_night(name: str) -> None:
    files = [
        str(file.relative_to(env.ROOT))
        for file in sorted((env.ROOT / "tests").rglob("test_*.py"))
        if name in MORE.findall(file.read_text(encoding="utf-8"))
    ]
    assert files
    at_night = [command for command in commands_of("nightly") if f"{name}=" in command]
    assert [file for file in files if not any(file in command for command in at_night)] == []
