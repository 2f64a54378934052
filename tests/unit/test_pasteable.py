"""Commands of the documents, and of what `make up` prints, can be pasted into bash and zsh as they stand."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from devtools.embedded.stack import Stack
from sagaproject import env

PAGES = [*sorted(env.ROOT.glob("README*.md")), *sorted((env.ROOT / "docs").glob("*.md"))]
COMMANDS = ("curl", "make", "python", "manage.py", ".venv/bin/", "export", "docker")
QUOTED = re.compile(r"""'[^']*'|"[^"]*\"""")


def blocks(page: Path) -> list[str]:
    """The page's blocks of shell commands."""
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    found = [block for language, block in fences if language in ("", "sh", "bash", "shell", "text")]
    return [block for block in found if any(line.startswith(COMMANDS) for line in block.splitlines())]


BLOCKS = [(page.name, block) for page in PAGES for block in blocks(page)]


def test_blocks_are_found() -> None:
    assert {"README.md", "README.es.md", "operations.md", "your-own-saga.md"} <= {name for name, _ in BLOCKS}


@pytest.mark.parametrize(("name", "block"), BLOCKS, ids=[name for name, _ in BLOCKS])
def test_each_line_is_one_that_every_shell_takes(name: str, block: str) -> None:
    for line in block.splitlines():
        bare = QUOTED.sub("", line)
        # An interactive zsh has no comments, and fails where a pattern matches no file.
        assert "#" not in bare, line
        assert "·" not in bare, line
        assert not line.startswith("manage.py"), f"no such program: {line}"
        if line.startswith(COMMANDS):
            assert not set("?*[]{}()<>~") & set(bare), line
    done = subprocess.run(["bash", "-n"], input=block, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def greeting() -> str:
    stack = Stack(Path("/nowhere"), print)
    stack.environment = {"API_HOST": "127.0.0.1", "API_PORT": "8123"}
    stack.login = {"username": "admin", "password": "x"}
    return stack.greeting()


@pytest.mark.parametrize("name", ["README.md", "README.es.md"])
def test_the_address_that_is_printed_and_the_calls_of_the_readme_work_together(name: str) -> None:
    [export] = [line for line in greeting().splitlines() if line.startswith("export API=")]
    calls = [line for page, block in BLOCKS if page == name for line in block.splitlines() if line.startswith("curl ")]
    assert asked([export, *calls]) == [
        "http://127.0.0.1:8123/api/v1/saga/sagas?status=COMPENSATING",
        "http://127.0.0.1:8123/api/v1/saga/sagas/SAGA_ID/timeline",
    ]


def asked(lines: list[str]) -> list[str]:
    """The addresses that curl would call, in a shell that fails as zsh does where a pattern matches no file."""
    script = ["shopt -s failglob", 'curl() { printf "%s\\n" "$@"; }', *lines]
    done = subprocess.run(["bash", "-c", "\n".join(script)], text=True, capture_output=True, check=False)
    assert done.stderr == ""
    return done.stdout.splitlines()
