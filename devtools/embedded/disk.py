"""Check whether the disk has room for the stack, and report it if not.

PostgreSQL stops with a panic on a full disk and does so again at each start. So a stack begins with room to spare, and
stops in order while there is still some left.
"""

import errno
import os
from collections.abc import Iterable
from pathlib import Path

MEGABYTE = 1_000_000
# A new stack writes some 90 MB in its first minute, and for root below a private folder copies 40 MB of programs.
TO_START = 300 * MEGABYTE
# PostgreSQL takes log files of 16 MB each, and needs one to stop in order.
TO_RUN = 64 * MEGABYTE
_FULL = (errno.ENOSPC, errno.EDQUOT)
_PROBE = ".disk-probe"
_PROBE_BYTES = 1 << 16


def shortage(folders: Iterable[Path], least: int) -> str:
    """Return the folder whose disk is full; empty if each has room for `least` bytes. A folder need not exist yet."""
    for folder in folders:
        status = os.statvfs(next(path for path in (folder, *folder.parents) if path.exists()))
        free = status.f_bavail * status.f_frsize
        if free < least:
            return (
                f"The disk of {folder} is full: {free // MEGABYTE} MB are free, and the stack needs "
                f"{least // MEGABYTE} MB. Free some space, then start again."
            )
        if status.f_files and not status.f_favail:
            return f"The disk of {folder} is full: it can hold no more files. Remove some, then start again."
    return ""


def refusal(folder: Path) -> str:
    """Write a little to the folder, which shows a quota or a read-only disk too; return the problem, or ""."""
    probe = folder / _PROBE
    try:
        try:
            probe.write_bytes(bytes(_PROBE_BYTES))
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        return complaint(error, folder)
    return ""


def complaint(error: OSError, folder: Path) -> str:
    """Return a sentence on what could not be written."""
    where = error.filename or folder
    if error.errno in _FULL:
        return f"The disk of {where} is full ({error.strerror}). Free some space, then start again."
    return f"{where}: {error.strerror or error}"
