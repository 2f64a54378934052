"""What a check found, and how a check is run: bounded in time, and unable to end the others."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from django.db import connection

# No check may wait longer than this. Checks that talk to slow parts have time-outs of their own well below it.
SECONDS = 20.0


class FindingLevel(StrEnum):
    """How bad it is. `skipped`: a setting that this check needs is not there, so nothing is known."""

    OK = "ok"
    SKIPPED = "skipped"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found. `do` is empty if there is nothing to do."""

    name: str
    level: FindingLevel
    says: str
    do: str = ""

    @property
    def well(self) -> bool:
        return self.level in (FindingLevel.OK, FindingLevel.SKIPPED)

    def as_json(self) -> dict[str, Any]:
        return {"name": self.name, "well": self.well, "level": self.level.value, "says": self.says, "do": self.do}


def ok(name: str, says: str) -> Finding:
    return Finding(name, FindingLevel.OK, says)


def skipped(name: str, says: str, do: str = "") -> Finding:
    return Finding(name, FindingLevel.SKIPPED, says, do)


def warning(name: str, says: str, do: str) -> Finding:
    return Finding(name, FindingLevel.WARNING, says, do)


def error(name: str, says: str, do: str) -> Finding:
    return Finding(name, FindingLevel.ERROR, says, do)


def bounded(name: str, check: Callable[[], Finding], seconds: float = SECONDS) -> Finding:
    """Run a check in a thread of its own and wait for it at most so long. Never raises.

    What it raises becomes a finding with the class of the exception and nothing of its text, which may quote data. A
    check that does not come back keeps its thread, which ends with the process.
    """
    found: list[Finding] = []
    thread = threading.Thread(target=_run, args=(name, check, found), daemon=True, name=f"doctor: {name}")
    thread.start()
    thread.join(seconds)
    if found:
        return found[0]
    return error(name, f"No answer within {seconds:.0f} s.", "See whether what it asks is overloaded or stopped.")


def unknown(name: str, because: str = "the database") -> Finding:
    """A check that makes no sense while another part does not work."""
    return error(name, f"Not known without {because}.", f"Fix {because} first.")


def age(span: timedelta | None) -> str:
    """A span in one unit."""
    seconds = int(span.total_seconds()) if span else 0
    return f"{seconds} s" if seconds < 120 else f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"


def first_line(failure: Exception) -> str:
    return (str(failure).strip() or type(failure).__name__).splitlines()[0][:200]


def listed(names: Iterable[str], most: int = 5) -> str:
    """Some names, and how many more there are."""
    every = sorted(set(names))
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more


def _run(name: str, check: Callable[[], Finding], found: list[Finding]) -> None:
    try:
        found.append(check())
    except Exception as failure:
        kind = type(failure).__name__
        found.append(
            error(name, f"The check itself failed ({kind}).", "Report this; the other checks are not affected.")
        )
    finally:
        connection.close()
