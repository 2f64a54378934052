"""Counts the instructions that the service's own code takes for an event, where valgrind is installed.

Times tell how fast the machine was, too; on a busy one they differ by half from run to run. Instructions of one process
do not: two counts of the same commit differ by less than a thousandth. What waits for others and PostgreSQL's own
part is not in them.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from devtools.embedded import postgres

STEPS = ("decode", "store", "apply")
_SAGAS = 100
_SCRIPT = Path(__file__).with_name("counted.py")
_DUMP = re.compile(r"^desc: Trigger: dump (\w+)$.*^totals: (\d+)$", re.MULTILINE | re.DOTALL)


def is_possible() -> bool:
    """Whether valgrind with callgrind is installed."""
    return bool(shutil.which("valgrind") and shutil.which("callgrind_control"))


def count(tree: Path, folder: Path) -> dict[str, float]:
    """Give the instructions an event by step, of the commit that is checked out in `tree`. Takes a minute.

    folder: for the numbers and a database of its own; it must be empty. Raises CalledProcessError.
    """
    with postgres.temporary(folder / "server") as url:
        environment = {
            **os.environ,
            "DATABASE_URL": url,
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "PYTHONPATH": str(tree),
            "PYTHONHASHSEED": "0",
        }
        environment.pop("CELERY_BROKER_URL", None)
        ended = subprocess.run(
            [
                *("valgrind", "-q", "--tool=callgrind", "--instr-atstart=no"),
                f"--callgrind-out-file={folder / 'counts'}",
                *(sys.executable, "-P", str(_SCRIPT), str(_SAGAS)),
            ],
            cwd=tree,
            env=environment,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
    return by_step([path.read_text(encoding="utf-8") for path in folder.glob("counts.*")], int(ended.stdout))


def by_step(dumps: Iterable[str], events: int) -> dict[str, float]:
    """Give the instructions an event of each step from callgrind's dumps, without what making a dump takes itself."""
    found = [_DUMP.search(dump) for dump in dumps]
    totals = {match[1]: int(match[2]) for match in found if match}
    return {name: (totals[name] - totals["nothing"]) / events for name in STEPS}
