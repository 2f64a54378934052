"""Find a running embedded stack by its description, var/stack.json. devtools.embedded.stack_record writes it.

The supervisor holds a lock on var/stack.lock as long as it lives. The kernel releases the lock with the process, so a
stale file of a killed stack is never mistaken for a running one, whatever process has its pid now.
"""

import fcntl
import json
import os
import pwd
from pathlib import Path
from typing import Any


def lock_path(folder: Path) -> Path:
    return folder / "stack.lock"


def json_path(folder: Path) -> Path:
    return folder / "stack.json"


def read(folder: Path) -> dict[str, Any] | None:
    """Return stack.json, whether its stack runs or not; None if there is no readable one."""
    try:
        content = json.loads(json_path(folder).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def running(folder: Path) -> dict[str, Any] | None:
    """Return stack.json if its stack runs now and belongs to the current user."""
    if _owner(json_path(folder)) != os.getuid() or not _is_locked(folder):
        return None
    return read(folder)


def why_not_running(folder: Path) -> str:
    """Return one line that says why `running` returns None for this folder, and how to get a stack.

    It contains the folder and, for another user's stack, its owner, but nothing of stack.json.
    """
    if _is_closed(folder):
        return (
            f"No stack of yours is running: you may not read {folder}. Set STACK_DIR to a folder of your own, "
            "then run `make up`."
        )
    owners = {_owner(json_path(folder)), _owner(lock_path(folder))} - {None, os.getuid()}
    locked = _is_locked(folder)
    if owners and (locked or json_path(folder).exists()):
        name = _name_of(min(uid for uid in owners if uid is not None))
        return (
            f"No stack of yours is running: the one in {folder} belongs to {name}. Run the command as {name}, "
            "or set STACK_DIR to a folder of your own, then run `make up`."
        )
    if locked:
        return f"No stack is running yet in {folder}: one is starting. Wait until `make up` has printed the addresses."
    if json_path(folder).exists():
        return f"No stack is running in {folder}: the last one was killed. `make up` starts one."
    return f"No stack is running in {folder}: `make up` starts one."


def _is_closed(folder: Path) -> bool:
    """Whether the folder exists and this user may not access its files."""
    try:
        folder.stat()
    except PermissionError:
        return True
    except OSError:
        return False
    return not os.access(folder, os.X_OK)


def _owner(path: Path) -> int | None:
    try:
        return path.stat().st_uid
    except OSError:
        return None


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _is_locked(folder: Path) -> bool:
    try:
        handle = lock_path(folder).open()
    except OSError:
        return False
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False
