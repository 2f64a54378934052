"""How much of the write-ahead log is about each table and index, and how many pages of it are logged whole."""

import re
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import TypedDict

from devtools.embedded import postgres
from sagaproject import env
from tests.bench.rig import Rig

# A record, its size with its pages, and the first relation that it names; and each page that is logged whole.
_RECORD = re.compile(r"len \(rec/tot\): +\d+/ *(\d+),.*?blkref #0: rel \d+/\d+/(\d+)")
_WHOLE_PAGE = re.compile(r"rel \d+/\d+/(\d+)(?: fork \w+)? blk \d+ FPW")


class Written(TypedDict):
    """What was written about one table or index."""

    bytes: int
    whole_pages: int


def by_relation(running: Rig, start: str, end: str) -> dict[str, Written]:
    """Return what the log holds between two positions, by the name of the table or index; "" for all others.

    Empty where the log's files are not on this machine.
    """
    folder = Path(running.one("SHOW data_directory")) / "pg_wal"
    if not folder.exists():
        return {}
    names = {str(node): name for node, name in running.ask("SELECT pg_relation_filenode(oid), relname FROM pg_class")}
    found: dict[str, Written] = defaultdict(lambda: Written(bytes=0, whole_pages=0))
    binaries = env.postgres_binaries() or postgres.wheel_binaries()
    command = [str(binaries / "pg_waldump"), "--path", str(folder), "--start", start, "--end", end]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as dump:
        for line in dump.stdout or ():
            record = _RECORD.search(line)
            if record:
                found[names.get(record[2], "")]["bytes"] += int(record[1])
                for node in _WHOLE_PAGE.findall(line):
                    found[names.get(node, "")]["whole_pages"] += 1
    return dict(found)
