"""The runs of a saga, as people see them: numbered from 1, and named only where there are several."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from django.utils.translation import gettext as _

from sagas.engine.state import SagaState, lane_from, saga_from
from sagas.models import Lane, SagaLog
from sagas.queries.holding import when


def number_of_runs(saga: SagaLog) -> int:
    """Return how many runs a saga has."""
    return len(_state(saga).runs)


def run_text(saga: SagaLog) -> str:
    """Return which run is the latest one, and since when; "" if there is only one."""
    state = _state(saga)
    if len(state.runs) == 1:
        return ""
    count = len(state.runs)
    return _("Run %(run)d of %(runs)d since %(since)s") % {
        "run": count,
        "runs": count,
        "since": when(state.latest.began),
    }


def runs_of_lanes(saga: SagaLog, lanes: Sequence[Lane]) -> list[int]:
    """Return the number of each lane's run, in the same order. Reads the lanes' state if there are several runs."""
    state = _state(saga)
    return [1 if len(state.runs) == 1 else _run_of(state, lane) for lane in lanes]


def runs_of_entities(saga: SagaLog, entities: Iterable[str]) -> Mapping[str, int]:
    """Return the number of each entity's run; nothing if there is only one run. At most one query."""
    state = _state(saga)
    if len(state.runs) == 1:
        return {}
    lanes = Lane.objects.filter(saga=saga.id, entity__in=set(entities))
    return {lane.entity: _run_of(state, lane) for lane in lanes}


def _state(saga: SagaLog) -> SagaState:
    return saga_from(saga.state)


def _run_of(state: SagaState, lane: Lane) -> int:
    return state.run_of(lane_from(lane.entity, lane.known, lane.state, {})) + 1
