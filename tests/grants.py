"""The grants that docs/security.md tells an administrator to give, as its own commands give them."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

from sagaproject import env

PAGE = env.ROOT / "docs" / "security.md"
# Stands for pulsar-admin: writes down what it is asked.
_STAND_IN = '#!/bin/sh\necho "$@"\n'


class Grant(NamedTuple):
    """What one role may do. `of`: a topic's full name, a namespace, or a namespace and a subscription of it."""

    kind: str  # topic, namespace or subscription
    of: str
    role: str
    action: str = ""

    def as_request(self) -> tuple[str, list[str]]:
        """Give the address and the body of the admin interface's POST that pulsar-admin makes of it."""
        if self.kind == "subscription":
            namespace, _, subscription = self.of.rpartition("/")
            return f"namespaces/{namespace}/permissions/subscription/{subscription}", [self.role]
        path = self.of.replace("://", "/") if self.kind == "topic" else f"namespaces/{self.of}"
        return f"{path}/permissions/{self.role}", [self.action]


class Commands(NamedTuple):
    """What the page's commands do: topics that they create, by their full names, and grants."""

    topics: list[str]
    grants: list[Grant]


def of_the_page(folder: Path, namespace: str) -> Commands:
    """Run the page's commands in a shell, with a stand-in for pulsar-admin in `folder`. Fails if one of them does."""
    program = folder / "pulsar-admin"
    program.write_text(_STAND_IN, encoding="utf-8")
    program.chmod(0o755)
    [commands] = re.findall(r"```sh\n(NS=.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    done = subprocess.run(
        ["/bin/sh", "-eu", "-c", commands.replace("NS=public/default", f"NS={namespace}", 1)],
        env={"PATH": f"{folder}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    asked = [line.split() for line in done.stdout.splitlines()]
    topics = [words[2] for words in asked if words[:2] == ["topics", "create"]]
    return Commands(list(dict.fromkeys(topics)), [_grant(words) for words in asked if words[1] != "create"])


def _grant(words: list[str]) -> Grant:
    match words:
        case ["topics", "grant-permission", of, "--role", role, "--actions", action]:
            return Grant("topic", of, role, action)
        case ["namespaces", "grant-permission", of, "--role", role, "--actions", action]:
            return Grant("namespace", of, role, action)
        case ["namespaces", "grant-subscription-permission", of, "--subscription", name, "--roles", role]:
            return Grant("subscription", f"{of}/{name}", role)
    raise AssertionError(f"pulsar-admin {words}: not a grant that the tests know")
