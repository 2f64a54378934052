"""Where the simulator's choices and ids come from, and task ids that tell one run from another.

A simulator that answers everybody must leave the tasks of a later simulator to that one. A task id begins with the
second at which its run began and ends with a check digit over the rest, in the shape of any other random UUID.
"""

import zlib
from datetime import datetime
from random import Random
from uuid import UUID


def dice(name: str) -> Random:
    """Give a source of numbers; the same name gives the same ones, on every machine."""
    return Random(name)  # noqa: S311 (for stories, not for secrets)


def task_id(began: datetime, ids: Random) -> str:
    """Make a task id of the run that began at `began`."""
    middle = UUID(int=ids.getrandbits(128), version=4).bytes[4:14]
    head = int(began.timestamp()).to_bytes(4, "big") + middle
    return str(UUID(bytes=head + _check(head)))


def began(task: str) -> int | None:
    """Give the second at which the run of this task began, or None if it is no simulator's task."""
    try:
        data = UUID(task).bytes
    except ValueError:
        return None
    return int.from_bytes(data[:4], "big") if data[14:] == _check(data[:14]) else None


def _check(head: bytes) -> bytes:
    return (zlib.crc32(head) & 0xFFFF).to_bytes(2, "big")
