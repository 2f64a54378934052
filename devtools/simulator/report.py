"""The report of a run: one JSON object, documented in docs/operations.md."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Unexpected:
    """One result that differs from the script. `task` is empty if it does not concern a single task."""

    task: str
    saga: str | None
    plot: str
    what: str
    expected: str
    seen: str


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of a run.

    sagas: the expected number. events: distinct events sent, answers included. by_status: sagas as the API
    shows them. commands: received and answered by the services, and `exhausted` as the API shows it.
    messages: number sent to Pulsar. waiting: parked and quarantined messages, expected and seen.
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
        """Whether every saga ended as the script predicts."""
        return not self.unexpected and not self.interrupted

    def as_json(self) -> dict[str, object]:
        """Return the report as an object of plain values."""
        return asdict(self)
