"""Random numbers for the simulator's choices and ids, and task ids that identify their run.

A simulator with --answer-all must not answer for the tasks of a later run. A task id begins with the second at which
its run began and ends with a checksum of the rest, in the form of an ordinary random UUID.
"""

import zlib
from datetime import datetime
from random import Random
from uuid import UUID


def dice(name: str) -> Random:
    """Return a random generator; the same name gives the same numbers on every machine."""
    return Random(name)  # noqa: S311 (for test data, not for secrets)


def task_id(began: datetime, ids: Random) -> str:
    """Make a task id of the run that began at `began`."""
    middle = UUID(int=ids.getrandbits(128), version=4).bytes[4:14]
    head = int(began.timestamp()).to_bytes(4, "big") + middle
    return str(UUID(bytes=head + _check(head)))


def began(task: str) -> int | None:
    """Return the second at which the run of this task began, or None if no simulator made the task id."""
    try:
        data = UUID(task).bytes
    except ValueError:
        return None
    return int.from_bytes(data[:4], "big") if data[14:] == _check(data[:14]) else None


def _check(head: bytes) -> bytes:
    return (zlib.crc32(head) & 0xFFFF).to_bytes(2, "big")
