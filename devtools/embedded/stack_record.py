"""Write var/stack.json and hold the stack's lock. sagaproject.stack_file reads both and says what they mean."""

import fcntl
import json
import os
from pathlib import Path
from typing import IO, Any

from sagaproject.stack_file import json_path, lock_path


def take_lock(folder: Path) -> IO[str] | None:
    """Take the stack's lock for the life of this process; None if another stack has it."""
    handle = lock_path(folder).open("a")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.close()
        return None
    return handle


def write(folder: Path, content: dict[str, Any]) -> None:
    """Replace stack.json atomically; only its owner may read it, because it contains passwords."""
    target = json_path(folder)
    fresh = target.with_suffix(".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
        json.dump(content, handle, indent=2)
    fresh.replace(target)


def remove(folder: Path) -> None:
    json_path(folder).unlink(missing_ok=True)
