"""Runs: the engine against a second reading of the rules, and the one exception to monotonicity."""

from __future__ import annotations

import pytest

from sagas.engine.decide import command_id, run_failure
from sagas.engine.fold import replay
from sagas.engine.status import announced_lanes, intake_over
from tests.properties import runs_oracle
from tests.properties.histories import BEFORE_RUNS, CONTINUED, Tale, image_tales, tales
from tests.properties.profiles import holds_for
from tests.properties.table import CONFIRMED, EXHAUSTED, GIVEN_UP, ON_ITS_WAY
from tests.stories import folded

pytestmark = [pytest.mark.timeout(600), pytest.mark.no_cover]

HOLDS = {
    "on_the_way": ON_ITS_WAY,
    "exhausted": EXHAUSTED,
    "confirmed": CONFIRMED,
    "skipped": GIVEN_UP,
    "withdrawn": GIVEN_UP,
}


def told(tale: Tale) -> runs_oracle.Told:
    """What the oracle reads in a tale."""
    identity = tale.identity
    return runs_oracle.tell(identity.definition, identity.scope, identity.key, identity.saga_id, tale.facts, command_id)


@holds_for(tales())
def test_the_engine_reads_the_rules_as_the_oracle_does(tale: Tale) -> None:
    shown, read = folded(*tale), told(tale)
    owed = {entity: {name: HOLDS[held] for name, held in of_lane.items()} for entity, of_lane in shown["owed"].items()}
    assert owed == read.required
    assert shown["outcomes"] == read.outcomes
    assert shown["status"] == read.status
    fold = replay(*tale)
    assert [run.began for run in fold.saga.runs] == read.begins
    assert {entity: fold.saga.run_of(lane) for entity, lane in fold.lanes.items() if lane.known} == read.run_of
    failures = [run_failure(tale.identity, run) is not None for run in fold.saga.runs]
    assert failures == read.failed_runs
    assert {(entity, name) for entity in fold.lanes for name in fold.view(entity).overtaken} == read.overtaken
    assert intake_over(tale.identity.definition, fold.saga.latest) == read.over
    assert announced_lanes(tale.identity.definition, fold.saga.latest) == read.announced


@holds_for(image_tales())
def test_a_saga_that_moves_to_runs_undoes_nothing_that_its_version_would_not(tale: Tale) -> None:
    """Whatever was told, and whatever it says of its success: a restart only ever takes requirements away."""
    before = replay(tale.identity._replace(definition=BEFORE_RUNS), tale.facts)
    after = replay(tale.identity._replace(definition=CONTINUED), tale.facts)
    for entity in after.lanes:
        assert set(after.view(entity).commands) <= set(before.view(entity).commands)
        assert after.lanes[entity].processed == before.lanes[entity].processed
