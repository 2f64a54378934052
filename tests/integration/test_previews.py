"""Every dry run is true: it changes nothing, and the decision then does exactly what the dry run showed.

Decisions of every kind are drawn on random states of the service, on the real database. What a decision did is read
from the tables, after everything was applied that can be, and not from what the decision says of itself.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple
from unittest import mock

import pytest
from django.db import connection
from hypothesis import HealthCheck, Phase, event, given, note, settings
from hypothesis import strategies as st

from bridge.models import Pending
from compensation.models import Command
from sagas.actions import Action, ActionResult
from sagas.applying import route
from sagas.applying.apply import run_apply
from sagas.errors import DecisionError
from sagas.models import SagaLog
from tests.integration import random_worlds as worlds
from tests.integration.decided import request
from tests.integration.random_worlds import Choice

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(600)]

EXAMPLES = 15  # of each decision; more of those that carry events of any content into any saga
MANY = (Action.REQUEUE, Action.ATTACH, Action.ADOPT)
MAY_BE_SENT = ("planned", "waiting", "publishing", "published")
WAITING = ("planned", "waiting")


class State(NamedTuple):
    """What the database says of sagas and commands. A command: (name, status, may leave, held by, message)."""

    sagas: dict[str, str]
    commands: dict[uuid.UUID, tuple[str, str, bool, uuid.UUID | None, Mapping[str, Any]]]


def state() -> State:
    names = ("id", "name", "status", "released_at", "body", "held_by")
    rows = Command.objects.values_list(*names)
    return State(
        {str(saga): status for saga, status in SagaLog.objects.values_list("id", "status")},
        {
            row[0]: (row[1], row[2], row[2] in WAITING and row[3] is not None and not row[5], row[5], timeless(row[4]))
            for row in rows
        },
    )


def timeless(body: Mapping[str, Any] | None) -> dict[str, Any]:
    """A message without the time at which it was planned."""
    return {name: value for name, value in (body or {}).items() if name != "timestamp"}


def contents() -> dict[str, str]:
    """A digest of every row of every table."""
    found = {}
    with connection.cursor() as cursor:
        for table in worlds.tables():
            cursor.execute(f"SELECT md5(coalesce(string_agg(t::text, E'\\n' ORDER BY t::text), '')) FROM {table} t")
            found[table] = cursor.fetchone()[0]
    return found


def carried_out(choice: Choice, *, dry_run: bool) -> ActionResult | str:
    """The outcome, or the refusal."""
    try:
        return choice.decide(request(dry_run=dry_run))
    except DecisionError as error:
        return f"{type(error).__name__}: {error}"


@pytest.mark.parametrize("action", list(Action), ids=str)
def test_what_a_dry_run_shows_is_what_the_decision_does(action: Action) -> None:
    chosen = settings(
        max_examples=EXAMPLES * (3 if action in MANY else 1),
        deadline=None,
        print_blob=True,
        # Not the phase that varies what was found again and again: an example takes a quarter of a second.
        phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
    )

    @chosen
    @given(st.data())
    def holds(draw: st.DataObject) -> None:
        the_preview_is_true(draw, action)

    holds()


def the_preview_is_true(draw: st.DataObject, action: Action) -> None:
    # The id of a saga that starts is the only thing that a dry run cannot know.
    born = mock.patch.object(route, "new_saga_id", return_value=uuid.UUID(int=1))
    with worlds.worlds(draw) as world, born:
        choice = worlds.choose(draw, world, action)
        note(choice.name)
        before, rows = state(), contents()
        shown = carried_out(choice, dry_run=True)
        assert contents() == rows, "a dry run leaves nothing behind"
        worlds.publish() if choice.switches else None
        before = state()
        done = carried_out(choice, dry_run=False)
        if isinstance(shown, str) or isinstance(done, str):
            event(f"{choice.name}: refused")
            assert shown == done
            assert contents() == rows or choice.switches
            return
        event(f"{choice.name}: {'with' if shown.commands else 'without'} commands")
        same_answers(shown, done)
        assert not Pending.objects.exists(), "all that follows is applied with the decision"
        worlds.settle()
        if choice.switches:
            what_leaves_was_shown(shown)
        else:
            what_happened_was_shown(choice, shown, before, state())


def same_answers(shown: ActionResult, done: ActionResult) -> None:
    first, second = (
        [{**command.as_json(), "body": timeless(command.body)} for command in outcome.commands]
        for outcome in (shown, done)
    )
    assert first == second
    assert shown.effects == done.effects


def what_happened_was_shown(choice: Choice, shown: ActionResult, before: State, after: State) -> None:
    """The preview names each command that moved, came to be or was released, and no other."""
    happened, released = {}, Counter[str]()
    for identity, (name, status, leaves, held, body) in after.commands.items():
        _, was, left, held_before, _ = before.commands.get(identity, (name, None, False, None, body))
        if (was, left, held_before) != (status, leaves, held):
            happened[identity] = (was, status, leaves, held, body if status in MAY_BE_SENT else {})
            released[name] += was is not None and leaves and identity not in choice.commands
    assert happened == {
        command.id: (
            command.status_before,
            command.status_after,
            command.leaves,
            command.held_by,
            timeless(command.body),
        )
        for command in shown.commands
    }
    assert +released == Counter(shown.effects.get("released", {}))
    moved = {saga for saga, status in after.sagas.items() if before.sagas.get(saga) != status}
    if "status_counts" in shown.effects:
        assert sum(shown.effects["status_counts"].values()) <= shown.effects["sagas"]
        return
    told = {saga: item["status_after"] for saga, item in shown.effects.get("other_sagas", {}).items()}
    if "status_after" in shown.effects:
        own = moved - set(told)
        assert len(own) <= 1
        assert all(after.sagas[saga] == shown.effects["status_after"] for saga in own)
    else:
        assert moved <= set(told)
    assert all(after.sagas[saga] == status for saga, status in told.items())


def what_leaves_was_shown(shown: ActionResult) -> None:
    """A resumption names what is sent at once; a pause sends nothing."""
    assert worlds.publish() == {str(command.id) for command in shown.commands}
    assert Counter(command.name for command in shown.commands) == Counter(shown.effects.get("released", {}))


def test_nothing_waits_that_a_decision_left_undone() -> None:
    """The state that the property begins with has nothing to apply: else it would blame the decision for it."""
    assert run_apply() == 0
