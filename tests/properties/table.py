"""The status table of the design, read a second time: from its sentences alone. It asks the engine nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

CONFIRMED, GIVEN_UP, EXHAUSTED, ON_ITS_WAY = "confirmed", "given up", "exhausted", "on its way"
OPEN, PROCESSED, UNDOING, UNDONE, SETTLED = "open", "processed", "undoing", "undone", "settled"


class Whole(NamedTuple):
    """A saga, as the table asks for it. `outcomes` has one word a known lane, `commands` one a command owed."""

    failed: bool  # a fact or a person said so, or in the scope of the saga a lane or an upload did
    over: bool  # the retrieval
    echoed: bool  # the services told of our own deletions
    announced: int
    upload_failed: bool
    outcomes: Sequence[str]
    commands: Sequence[str]


def status_of(saga: Whole) -> str:
    """The first line that holds."""
    known = len(saga.outcomes)
    enough = known >= saga.announced
    all_failed = known > 0 and not {OPEN, PROCESSED} & set(saga.outcomes)
    if EXHAUSTED in saga.commands:
        return "COMPENSATION_FAILED"
    if ON_ITS_WAY in saga.commands:
        return "COMPENSATING"
    if saga.failed or ((saga.over or saga.echoed) and enough and all_failed):
        return "COMPENSATION_SUCCEEDED" if set(saga.commands) == {CONFIRMED} else "FAILED"
    if saga.over and saga.announced == known == 0:
        return "FAILED" if saga.upload_failed else "COMPLETED"
    if saga.over and enough and OPEN not in saga.outcomes and PROCESSED in saga.outcomes:
        return "COMPLETED"
    return "STARTED"


def outcome_of(failed: bool, processed: bool, held: Sequence[str]) -> str:
    """What became of a lane that failed or did not, whose commands stand so."""
    if not failed:
        return PROCESSED if processed else OPEN
    if {ON_ITS_WAY, EXHAUSTED} & set(held):
        return UNDOING
    return UNDONE if set(held) == {CONFIRMED} else SETTLED
