"""Folders of PostgreSQL outside of the stack's folder: their place, their owner, and their removal.

The embedded PostgreSQL of root runs as `nobody`, who cannot enter a private folder. Its data then go to a folder of
/var/tmp, which notes the folder that it stands for. `make clean` runs this file as a script, with or without .venv: it
needs the standard library alone, and imports nothing of the project.

Usage: outside.py VAR — removes what stands for folders in VAR; exit code 1, and nothing is removed, if a stack runs.
"""

import fcntl
import hashlib
import os
import shutil
import stat
import sys
from pathlib import Path

PARENT = Path("/var/tmp")  # noqa: S108 (make() checks whose folder it is)
PREFIX = "saga-postgres-"
NOTE = "belongs-to"


def home(folder: Path) -> Path:
    """Return the folder that stands for `folder`; it need not exist."""
    return PARENT / f"{PREFIX}{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}"


def make(folder: Path) -> Path:
    """Make the folder that stands for `folder` and give it; repeatable. Raises OSError if it is another user's."""
    made = home(folder)
    made.mkdir(mode=0o755, exist_ok=True)
    if not _is_ours(made):
        raise PermissionError(f"{made} belongs to another user")
    (made / NOTE).write_text(str(folder), encoding="utf-8")
    return made


def standing_for(var: Path) -> list[Path]:
    """Return the existing folders that stand for `var`/postgres or for any folder in `var`, such as a measurement's."""
    found = []
    for made in sorted(PARENT.glob(f"{PREFIX}*")):
        try:
            belongs_to = (made / NOTE).read_text(encoding="utf-8")
        except OSError:
            belongs_to = ""
        # A folder of an earlier version has no note: its name shows which one it is.
        ours = made == home(var / "postgres") or (belongs_to and var in Path(belongs_to).parents)
        if ours and _is_ours(made):
            found.append(made)
    return found


def running_in(var: Path) -> Path | None:
    """Return the folder of a stack that runs in `var` or below it, if there is one."""
    for folder, _, files in os.walk(var):
        if "stack.lock" in files and _is_locked(Path(folder) / "stack.lock"):
            return Path(folder)
    return None


def main(arguments: list[str]) -> None:
    var = Path(arguments[0]).resolve()
    folder = running_in(var)
    if folder is not None:
        sys.exit(f"A stack runs in {folder}: stop it first (Ctrl-C where it runs). Nothing was removed.")
    for made in standing_for(var):
        sys.stdout.write(f"removing {made}\n")
        shutil.rmtree(made)


def _is_ours(path: Path) -> bool:
    """Return whether the path is a folder of this user and not a link."""
    status = path.lstat()
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()


def _is_locked(lock: Path) -> bool:
    try:
        with lock.open() as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


if __name__ == "__main__":
    main(sys.argv[1:])
