"""Tries the properties of the engine on as many examples as a given time allows, and says how many those were.

`python -m tests.properties.prove --seconds 600`: every core takes the properties in turn, a round of examples each,
from chance that no run has had before. The first example that breaks one is printed, as small as it can be made, and
ends it all with status 1.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import count
from multiprocessing import get_context
from typing import NamedTuple


class Tried(NamedTuple):
    """What one process tried, and what broke (empty when nothing did)."""

    examples: dict[str, int]
    broken: str = ""


def _round_and_round(until: float, share: float) -> Tried:
    """In a process of its own: a property, and the next, while there is time (of `time.time`).

    share: how far along the list it begins, so that short runs try different ones.
    """
    os.environ["HYPOTHESIS_PROFILE"] = "prove"
    from tests.properties import test_engine, test_runs, test_services  # noqa: F401 - what is imported is known
    from tests.properties.profiles import PROPERTIES
    from tests.properties.tried import TRIED

    properties = list(PROPERTIES.values())
    first = int(share * len(properties))
    for number in count(first):
        if number > first and time.time() >= until:
            return Tried(dict(TRIED))
        try:
            properties[number % len(properties)]()
        except BaseException:  # a group of failures is no Exception
            return Tried(dict(TRIED), traceback.format_exc())
    raise AssertionError("unreachable")


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the process's exit status."""
    parser = argparse.ArgumentParser(prog="prove", description="Try the engine's properties for a while.")
    parser.add_argument("--seconds", type=float, default=60, help="how long (60)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many processes (one a core)")
    said = parser.parse_args(arguments)
    started = time.time()
    with ProcessPoolExecutor(said.jobs, mp_context=get_context("spawn")) as pool:
        until = started + said.seconds
        found = list(pool.map(_round_and_round, [until] * said.jobs, [job / said.jobs for job in range(said.jobs)]))
    _tell(found, time.time() - started)
    return 1 if any(tried.broken for tried in found) else 0


def _tell(found: Sequence[Tried], seconds: float) -> None:
    total: Counter[str] = Counter()
    for tried in found:
        total.update(tried.examples)
        sys.stdout.write(tried.broken)
    for name, examples in sorted(total.items()):
        sys.stdout.write(f"{examples:>12,}  {name.removeprefix('test_').replace('_', ' ')}\n")
    words = "a property is broken" if any(tried.broken for tried in found) else "all hold"
    sys.stdout.write(
        f"{total.total():>12,}  examples of {len(total)} properties in {seconds:,.0f} s"
        f" ({total.total() / seconds:,.0f}/s): {words}\n"
    )


if __name__ == "__main__":
    sys.exit(main())
