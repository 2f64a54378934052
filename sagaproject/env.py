"""Read and validate the environment. No other module of the project reads it.

`load()` returns every setting, typed and checked, or raises ConfigurationError with a text for each problem.
`sagaproject.environment` declares the settings; docs/configuration.md describes them for people.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints

from sagaproject import stack_file
from sagaproject.env_reader import Reader
from sagaproject.environment import Environment, StackSettings
from sagaproject.setting import read_group

ROOT = Path(__file__).resolve().parent.parent
CONNECTIONS = ("DATABASE_URL", "CELERY_BROKER_URL", "PULSAR_SERVICE_URL")


class ConfigurationError(Exception):
    """The environment is invalid. `problems`: one text for each problem.

    `no_stack`: why no embedded stack can be used, if the command may have been meant for one; the error text begins
    with it. `is_empty`: nothing is configured at all; the error text then omits the problems.
    """

    def __init__(self, problems: list[str], no_stack: str = "", is_empty: bool = False) -> None:
        self.problems = problems
        count = "one problem" if len(problems) == 1 else f"{len(problems)} problems"
        if no_stack and is_empty:
            lines = [no_stack, "For production, set ENVIRONMENT=prod and the settings in docs/configuration.md."]
        else:
            head = f"As a production configuration, the environment has {count}:" if no_stack else ""
            lines = [no_stack, "\n  - ".join([head or f"The configuration has {count}:", *problems])]
            lines.append("(docs/configuration.md describes every setting.)")
        super().__init__("\n".join(line for line in lines if line))


def load() -> Environment:
    """Read the process's environment, completed by that of a running embedded stack. Raises ConfigurationError."""
    source = dict(os.environ)
    if not _may_use_a_stack(source):
        return read(source)
    folder = stack_folder(source)
    stack = stack_file.running(folder)
    if stack is not None:
        sys.stderr.write(f"Using the running stack of {stack_file.json_path(folder)} (ENVIRONMENT is dev).\n")
        return read({**stack.get("environment", {}), **source, "ENVIRONMENT": "dev"})
    no_stack = stack_file.why_not_running(folder)
    try:
        return replace(read(source), no_stack=no_stack)
    except ConfigurationError as error:
        if source.get("ENVIRONMENT"):
            raise
        is_empty = not any(source.get(name) for name in names())
        raise ConfigurationError(error.problems, no_stack, is_empty) from None


def read(source: Mapping[str, str]) -> Environment:
    """Read the settings from `source`. Raises ConfigurationError with every problem in it."""
    reader = Reader(source)
    environment = _read(reader)
    reader.misspelled("SAGA_")
    reader.misspelled("BRIDGE_")
    if reader.problems:
        raise ConfigurationError(reader.problems)
    return environment


def _read(reader: Reader) -> Environment:
    dev = reader.text("ENVIRONMENT") == "dev"
    hints: dict[str, Any] = get_type_hints(Environment)
    names_of_groups = [name for name, hint in hints.items() if is_dataclass(hint)]
    groups: dict[str, Any] = {name: read_group(hints[name], reader, dev) for name in names_of_groups}
    for group in groups.values():
        for problem in getattr(group, "problems", tuple)():
            reader.problem(problem)
    return Environment(**groups)


def stack_folder(source: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of the embedded stack's data, logs and stack.json (STACK_DIR, else var/ beside manage.py)."""
    return Path(_stack(source).folder or ROOT / "var").resolve()


def postgres_binaries() -> Path | None:
    """Return the folder of PostgreSQL's programs for the embedded stack (PG_BIN), if it is set."""
    folder = _stack(os.environ).postgres_programs
    return Path(folder).resolve() if folder else None


def has_devtools() -> bool:
    """Whether this is a checkout with the development tools. The image and the wheel do not contain them."""
    return (ROOT / "devtools" / "embedded").is_dir()


def names() -> frozenset[str]:
    """Return every name that the service reads."""
    reader = Reader({"ENVIRONMENT": "dev"})
    _read(reader)
    return frozenset(reader.known)


def snapshot() -> dict[str, str]:
    """Return a copy of the environment, for the processes that this one starts."""
    return dict(os.environ)


def _may_use_a_stack(source: Mapping[str, str]) -> bool:
    """Whether this is a checkout, and the environment names no server and is not for production.

    Without the development tools no stack is looked for, and no text advises `make up`, which does not exist there.
    """
    named = any(source.get(name) or source.get(f"{name}_FILE") for name in CONNECTIONS)
    return has_devtools() and not named and (source.get("ENVIRONMENT") or "dev") == "dev"


def _stack(source: Mapping[str, str]) -> StackSettings:
    return read_group(StackSettings, Reader(source), dev=True)
