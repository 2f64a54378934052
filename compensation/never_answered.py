"""Find kinds of commands that were sent and never answered: their service does not read the topic, or does not reply.

An answer is a confirmation or a refusal by an event. Neither an operator's decision is one, nor an event that confirmed
a command that was never sent: it shows that the service sends events, not that it reads our commands.
"""

from collections.abc import Iterable
from datetime import datetime
from itertools import starmap
from typing import NamedTuple

from compensation import statements

# How many of the open commands of a kind are examined for refusals: the first and as many of the last.
SAMPLE = 1000


class NeverAnswered(NamedTuple):
    """One kind of command. sent: how many open commands were sent. since: when the first of them was; latest: the last.

    Only commands count that an event has to confirm by their own kind.
    """

    service: str
    command: str
    topic: str
    sent: int
    since: datetime
    latest: datetime


def never_answered(kinds: Iterable[tuple[str, str]]) -> list[NeverAnswered]:
    """Return those of the kinds (service, command) of which one is past its deadline and none was ever answered.

    One query, and another if a kind was never confirmed. "Ever": among what retention has kept.
    """
    confirmed = set(statements.CONFIRMED_KINDS.rows())
    silent = [kind for kind in kinds if kind not in confirmed]
    if not silent:
        return []
    services, names = [service for service, _ in silent], [name for _, name in silent]
    rows = statements.SENT_WITHOUT_ANSWER.rows({"services": services, "names": names, "sample": SAMPLE})
    return list(starmap(NeverAnswered, rows))
