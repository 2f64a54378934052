"""What a run comes to: one JSON object, documented in docs/operations.md."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Unexpected:
    """One thing that is not as the script foresaw. `task` is empty if it concerns no single task."""

    task: str
    saga: str | None
    plot: str
    what: str
    expected: str
    seen: str


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of a run.

    sagas: how many had to come to be. events: distinct events sent, answers included. by_status: sagas as the API
    shows them. commands: received and answered by the services, and `exhausted` as the API shows it.
    messages: what went over the wire. waiting: parked and quarantined messages, as expected and as seen.
    interrupted: stopped before the verdict. seconds: from the first event to the verdict.
    """

    run: str
    seed: int
    sagas: int
    events: int
    by_status: Mapping[str, int]
    commands: Mapping[str, int]
    messages: Mapping[str, int]
    waiting: Mapping[str, Mapping[str, int]]
    unexpected: Sequence[Unexpected]
    interrupted: bool
    seconds: float

    @property
    def as_foreseen(self) -> bool:
        """Whether every saga ended as the script says."""
        return not self.unexpected and not self.interrupted

    def as_json(self) -> dict[str, object]:
        """Give the report as an object of plain values."""
        return asdict(self)
