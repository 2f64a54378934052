"""The finding of a check, and how checks are run: each with a timeout, and unable to abort the others."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from django.db import connection

# The timeout of a check. Checks of slow parts have their own, much shorter timeouts.
SECONDS = 20.0


class FindingLevel(StrEnum):
    """The severity of a finding. `skipped`: a setting that the check needs is missing, so nothing is known."""

    OK = "ok"
    SKIPPED = "skipped"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check. `says`: the finding. `do`: advice; empty if there is nothing to do."""

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
    """Run a check in a separate thread and wait for it at most `seconds`. Never raises.

    An exception becomes a finding with its class but not its text, which may quote data. A check that does not return
    keeps its thread, which ends with the process.
    """
    found: list[Finding] = []
    thread = threading.Thread(target=_run, args=(name, check, found), daemon=True, name=f"doctor: {name}")
    thread.start()
    thread.join(seconds)
    if found:
        return found[0]
    return error(name, f"No answer within {seconds:.0f} s.", "Check whether the part is overloaded or stopped.")


def unknown(name: str, missing: str = "the database") -> Finding:
    """Return the finding of a check that is meaningless while another part does not work."""
    return error(name, f"Not checked: it needs {missing}.", f"Fix {missing} first.")


def age(span: timedelta | None) -> str:
    """Format a duration in one unit."""
    seconds = int(span.total_seconds()) if span else 0
    return f"{seconds} s" if seconds < 120 else f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"


def first_line(failure: Exception) -> str:
    return (str(failure).strip() or type(failure).__name__).splitlines()[0][:200]


def listed(names: Iterable[str], most: int = 5) -> str:
    """Join the first names and say how many more there are."""
    unique = sorted(set(names))
    more = f" and {len(unique) - most} more" if len(unique) > most else ""
    return ", ".join(unique[:most]) + more


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
