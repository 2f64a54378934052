"""The data that one apply transaction passes from step to step."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from sagas.applying.statements import NOTHING_STORED, EventRow, SagaRow, StoredLanes
from sagas.engine.change import SagaChange
from sagas.engine.decide import SagaIdentity
from sagas.engine.evolve import Interpretation
from sagas.engine.facts import Fact


@dataclass
class ApplyResult:
    """What one transaction did."""

    events: int = 0
    parked: int = 0
    rerouted: int = 0
    rerouted_to: set[str] = field(default_factory=set)  # routing keys of their sagas
    set_aside: list[str] = field(default_factory=list)  # saga ids
    opened: list[tuple[str, str]] = field(default_factory=list)  # (saga type, entity) of lanes that opened
    undone: list[tuple[str, str]] = field(default_factory=list)  # the same of lanes that were undone
    to_publish: bool = False
    uncounted: Counter[str] = field(
        default_factory=Counter
    )  # commands planned that no circuit breaker counted, by service

    @property
    def moved(self) -> int:
        """Return how many events were applied, parked or rerouted."""
        return self.events + self.parked + self.rerouted


@dataclass(slots=True)
class SagaBatch:
    """One saga of a page: its row as loaded, its events, and what they change."""

    row: SagaRow
    identity: SagaIdentity
    events: list[EventRow]
    born: bool = False
    upgraded: bool = False  # whether it moves to the version that continues its own
    interpreted: list[tuple[Fact, Interpretation]] = field(default_factory=list)  # the events as the engine reads them
    whole: bool = False  # whether one of them concerns all lanes
    stored: StoredLanes = NOTHING_STORED
    change: SagaChange = field(init=False, repr=False)  # what its events change; set when they are folded
    error: str = ""  # set if the saga must be set aside
