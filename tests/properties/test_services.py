"""A model of the three services at work, over wires that lose, repeat and delay, until all is quiet.

The engine folds what arrives, an outbox sends what it owes, people decide now and then. The model knows what truly
became of every image; when it is quiet, the saga must say so, in the words of the status table.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from sagas.engine import facts
from sagas.engine.decide import SAGA_SCOPE, SagaIdentity, command_id
from sagas.engine.facts import Fact
from sagas.engine.fold import replay
from tests.properties import table
from tests.properties.histories import IMAGES, SCOPES, SENDING_IS_ENOUGH
from tests.properties.profiles import CHOSEN, PROPERTIES
from tests.properties.store import Store
from tests.properties.tried import TRIED
from tests.stories import (
    DELETE,
    ECHO,
    MIDNIGHT,
    REVERSED,
    ROLLBACK,
    SAGA_ID,
    TASK,
    all_that_shows,
    image,
    outcome_of,
    owed_in,
)

# Not how fast this machine is, but whether it ends. Counting lines would take most of its time, and the tests that
# name what they expect go through all of them.
pytestmark = [pytest.mark.timeout(600), pytest.mark.no_cover]

ATTEMPTS = 3
QUIET_AFTER = 20  # turns; each answers all that is owed, and only a rollback's answer lets more go

QUIET_FIRST_AFTER = 10  # facts

_UP_TO_PROCESSING = [
    "ImageReadyForAnonymization",
    "AnonymizationRequested",
    "AnonymizationCompleted",
    "ImageReadyForProcessing",
    "ProcessingStarted",
]
# What may become of an image, as the services tell it.
FATES = {
    "not retrieved": [],
    "forgotten": _UP_TO_PROCESSING[:2],
    "not anonymized": [*_UP_TO_PROCESSING[:2], "AnonymizationFailed"],
    "not processed": [*_UP_TO_PROCESSING, "ProcessingFailed"],
    "processed": [*_UP_TO_PROCESSING, "ProcessingCompleted"],
    "fails late": [*_UP_TO_PROCESSING, "ProcessingCompleted", "ProcessingFailed"],
}

Undo = tuple[str, str]  # (entity, command)
picks = st.integers(0, 999)


class Services(RuleBasedStateMachine):
    """What happens between quiet and quiet."""

    def __init__(self) -> None:
        super().__init__()
        TRIED["services"] += 1
        self.log: list[Fact] = []  # all that was folded
        self.wire: list[Fact] = []  # on its way to us
        self.orders: list[Undo] = []  # on their way to the services
        self.todo: dict[str, list[str]] = {}  # what each image has before it
        self.kept: set[str] = set()  # images that Data Retrieval has
        self.copies: set[str] = set()  # images of which Anonymization has a copy
        self.attempts: dict[Undo, int] = {}  # in the current round
        self.rounds: dict[Undo, int] = {}
        self.number = 0
        # What the model knows and the engine must come to know.
        self.broken: set[str] = set()
        self.anonymized: set[str] = set()
        self.processed: set[str] = set()
        self.uploads_failed = False
        self.saga_broken = False
        self.terminated: set[Undo] | None = None
        self.given_up: set[Undo] = set()
        self.exhausted: dict[Undo, int] = {}
        self.done: set[Undo] = set()  # by hand, or by sending where that is enough

    @initialize(
        scope=st.sampled_from(SCOPES),
        sending_is_enough=st.booleans(),
        silent=st.sampled_from(["", "", "", DELETE, ROLLBACK]),
        fates=st.lists(st.sampled_from([*sorted(FATES), *["processed"] * 6]), min_size=1, max_size=8),
    )
    def a_task_begins(self, scope: str, sending_is_enough: bool, silent: str, fates: list[str]) -> None:
        self.silent = silent  # the command that its service never heeds
        self.identity = identity = SagaIdentity(
            SENDING_IS_ENOUGH if sending_is_enough else IMAGES, scope, SAGA_ID, TASK
        )
        self.store = Store(identity)
        self.fold = self.store.load()
        self.ids = [image(number) for number, fate in enumerate(fates) if fate != "not retrieved"]
        lost = len(fates) - len(self.ids)
        for number, fate in enumerate(fates):
            if fate != "not retrieved":
                self.todo[image(number)] = list(FATES[fate])
        self.kept.update(self.ids)
        self.says("RetrievalStarted")
        if self.ids:
            self.says("ImagesRetrieved", image_ids=self.ids)
        for _ in range(lost):
            self.says("ImageUploadFailed", error_message="too big")
        self.uploads_failed = lost > 0
        self.says("RetrievalCompleted", result={"total_images": len(fates), "failed_images": lost})

    # --- the services ---

    @precondition(lambda self: any(self.todo.values()))
    @rule(pick=picks)
    def a_service_works(self, pick: int) -> None:
        """The next thing happens to an image, whether or not it is still wanted."""
        entity = _picked([entity for entity, before in self.todo.items() if before], pick)
        type_ = self.todo[entity].pop(0)
        if type_ == "AnonymizationCompleted":
            self.copies.add(entity)
            self.anonymized.add(entity)
        if type_ == "ProcessingCompleted":
            self.processed.add(entity)
        if type_.endswith("Failed"):
            self.broken.add(entity)
        self.says(
            type_, entity, error_message="broken", **({"status": "COMPLETED"} if type_ == "ProcessingCompleted" else {})
        )

    @precondition(lambda self: self.orders)
    @rule(pick=picks, how=st.sampled_from(["answers", "answers", "answers twice", "is not heard", "refuses"]))
    def a_service_obeys(self, pick: int, how: str) -> None:
        """It undoes its step, also for the second time; that it did so may be lost."""
        entity, name = order = _picked(self.orders, pick)
        self.orders.remove(order)
        if name == self.silent:
            return
        if how == "refuses":
            if name == DELETE:
                self.says("ImageDeletionFailed", entity, error_message="bucket locked")
            return
        (self.kept if name == DELETE else self.copies).discard(entity)
        if name == DELETE and not self.kept:
            self.says("RetrievalFailed", error_message=ECHO)
        for _ in range({"answers": 1, "answers twice": 2}.get(how, 0)):
            self.answers(order)

    def answers(self, order: Undo) -> None:
        entity, name = order
        self.done.add(order)
        if name == DELETE:
            self.says("ImageDeletionCompleted", entity)
        elif self.number % 2:
            self.says("AnonymizationRolledBack", entity)
        else:
            self.says("AnonymizationFailed", entity, error_message=REVERSED)

    # --- ourselves ---

    @precondition(lambda self: self.wire)
    @rule(chosen=st.lists(picks, min_size=1, max_size=6), acknowledged=st.booleans())
    def messages_arrive(self, chosen: list[int], acknowledged: bool) -> None:
        """Some of what is on its way, in any order; without an acknowledgement they come again."""
        batch = [_picked(self.wire, pick) for pick in chosen]
        if acknowledged:
            self.wire = [fact for fact in self.wire if fact not in batch]
        self.apply(batch)

    @precondition(lambda self: self.may_be_sent())
    @rule(pick=picks, how=st.sampled_from(["arrives", "arrives twice", "is lost", "is lost"]))
    def a_command_is_sent(self, pick: int, how: str) -> None:
        self.send(_picked(self.may_be_sent(), pick), how)

    def send(self, undo: Undo, how: str) -> None:
        self.attempts[undo] = self.attempts.get(undo, 0) + 1
        self.orders += [undo] * {"arrives": 1, "arrives twice": 2}.get(how, 0)
        if self.identity.definition is SENDING_IS_ENOUGH and undo[1] == DELETE:
            self.done.add(undo)
            self.own(facts.COMMAND_PUBLISHED, facts.COMPENSATION, undo[0], name=undo[1], round=self.rounds.get(undo, 1))

    @precondition(lambda self: self.unanswered())
    @rule(pick=picks)
    def a_command_runs_out_of_attempts(self, pick: int) -> None:
        """Its deadline passed for the last time. The answer may still come."""
        self.run_out(_picked(self.unanswered(), pick))

    def run_out(self, undo: Undo) -> None:
        number = self.rounds.get(undo, 1)
        self.exhausted[undo] = number
        self.own(facts.COMMAND_EXHAUSTED, facts.COMPENSATION, undo[0], name=undo[1], round=number)

    # --- people ---

    @precondition(lambda self: self.required())
    @rule(pick=picks, what=st.sampled_from([*["nothing"] * 4, "retry", "skip", "mark done", "withdraw"]))
    def a_person_decides_on_a_command(self, pick: int, what: str) -> None:
        undo, held = _picked(list(self.required().items()), pick)
        refused = held not in ("on_the_way", "exhausted") or (what == "retry" and held != "exhausted")
        if what == "nothing" or refused:
            return
        number = self.rounds.get(undo, 1)
        if what == "retry":
            self.rounds[undo] = number = number + 1
            self.attempts.pop(undo, None)
        elif what == "mark done":
            self.done.add(undo)
        else:
            self.given_up.add(undo)
        types = {
            "retry": facts.COMMANDS_RETRIED,
            "skip": facts.COMMANDS_SKIPPED,
            "mark done": facts.COMMANDS_MARKED_DONE,
            "withdraw": facts.COMMANDS_WITHDRAWN,
        }
        self.own(types[what], facts.OPERATOR, reason="why", commands=[[*undo, number]])

    @rule(pick=picks, what=st.sampled_from([*["nothing"] * 30, "force a lane", "force a lane", "cancel", "terminate"]))
    def a_person_decides_on_the_saga(self, pick: int, what: str) -> None:
        known = [entity for entity, lane in self.fold.lanes.items() if lane.known]
        if what == "force a lane" and known:
            entity = _picked(known, pick)
            self.broken.add(entity)
            self.own(facts.COMPENSATION_FORCED, facts.OPERATOR, entity, reason="why")
        if what == "cancel":
            self.saga_broken = True
            self.own(facts.SAGA_CANCELLED, facts.OPERATOR, reason="why")
        if what == "terminate":
            self.saga_broken = True
            claimed = set(self.unanswered())
            self.terminated = claimed if self.terminated is None else self.terminated & claimed
            ids = sorted(command_id(SAGA_ID, *undo) for undo in claimed)
            self.own(facts.SAGA_TERMINATED, facts.OPERATOR, reason="why", claimed=ids)

    # --- what holds at every moment ---

    @invariant()
    def each_undo_was_planned_once(self) -> None:
        for entity, planned in self.store.planned.items():
            assert len(planned) == len(set(planned)), entity

    @invariant()
    def nothing_of_a_healthy_image_is_undone(self) -> None:
        fold = self.fold
        for entity in self.ids:
            if entity not in self.kept:
                assert outcome_of(fold, entity) in (table.UNDOING, table.UNDONE, table.SETTLED)

    @invariant()
    def success_is_never_claimed_of_what_was_not_done(self) -> None:
        if self.fold.status == "COMPENSATION_SUCCEEDED":
            assert set(self.required()) <= self.done

    # --- until it is quiet ---

    @precondition(lambda self: len(self.log) > QUIET_FIRST_AFTER)
    @rule(truly=st.integers(0, 9))
    def all_falls_quiet_for_a_while(self, truly: int) -> None:
        """What comes after is late."""
        if truly == 0:
            self.all_falls_quiet()

    def all_falls_quiet(self) -> None:
        """Nothing is lost any more: every service works and answers. What people did not decide stays undecided."""
        for _ in range(QUIET_AFTER):
            while any(self.todo.values()):
                self.a_service_works(0)
            while self.wire:
                self.messages_arrive([0], acknowledged=True)
            for undo in self.may_be_sent():
                self.try_again(undo)
            if not self.orders and not self.wire and not self.may_be_sent():
                break
            while self.orders:
                self.a_service_obeys(0, "answers")
        assert not self.wire
        assert not self.may_be_sent()
        assert all_that_shows(self.fold) == all_that_shows(replay(self.identity, self.log))
        assert self.fold.status == self.true_status()
        for entity in self.ids:
            if outcome_of(self.fold, entity) in (table.OPEN, table.PROCESSED):
                assert entity in self.kept

    def try_again(self, undo: Undo) -> None:
        if self.attempts.get(undo, 0) < ATTEMPTS or undo[1] != self.silent:
            self.send(undo, "arrives")
        else:
            self.run_out(undo)

    def teardown(self) -> None:
        if self.log or self.wire:
            self.all_falls_quiet()

    # --- what is, by the model's own knowledge ---

    def true_status(self) -> str:
        failed = {entity: self.saga_truly_failed() or entity in self.broken for entity in self.ids}
        held = {entity: self.truly_held(entity) if failed[entity] else [] for entity in self.ids}
        return table.status_of(
            table.Whole(
                failed=self.saga_truly_failed(),
                over=True,
                echoed=False,
                announced=len(self.ids),
                upload_failed=self.uploads_failed,
                outcomes=[table.outcome_of(failed[e], e in self.processed, held[e]) for e in self.ids],
                commands=[word for words in held.values() for word in words],
            )
        )

    def saga_truly_failed(self) -> bool:
        by_one = self.identity.scope == SAGA_SCOPE and (self.uploads_failed or bool(self.broken))
        return self.saga_broken or by_one

    def truly_held(self, entity: str) -> list[str]:
        names = [DELETE, ROLLBACK] if entity in self.anonymized else [DELETE]
        return [self.truly_holds((entity, name)) for name in names]

    def truly_holds(self, undo: Undo) -> str:
        if undo in self.done:
            return table.CONFIRMED
        if undo in self.given_up or (self.terminated is not None and undo not in self.terminated):
            return table.GIVEN_UP
        return table.EXHAUSTED if self.exhausted.get(undo, 0) >= self.rounds.get(undo, 1) else table.ON_ITS_WAY

    # --- what the engine says ---

    def apply(self, batch: list[Fact]) -> None:
        self.store.fold(batch)
        self.log += batch
        self.fold = self.store.load()

    def required(self) -> dict[Undo, str]:
        return {(entity, name): held for entity in self.ids for name, held in self.owed_by(entity).items()}

    def owed_by(self, entity: str) -> dict[str, str]:
        return owed_in(self.fold, entity) if entity in self.fold.lanes else {}

    def on_the_way(self) -> list[Undo]:
        return [undo for undo, held in self.required().items() if held == "on_the_way"]

    def unanswered(self) -> list[Undo]:
        return [undo for undo in self.on_the_way() if undo in self.attempts]

    def may_be_sent(self) -> list[Undo]:
        """As the outbox asks: on its way, and not held back by another of its lane."""
        found = []
        for entity in dict.fromkeys(entity for entity, _ in self.on_the_way()):
            free = self.fold.view(entity).released
            found += [
                (entity, name) for name, held in self.owed_by(entity).items() if held == "on_the_way" and name in free
            ]
        return found

    # --- facts ---

    def says(self, type_: str, entity: str = "", **content: Any) -> None:
        """A message sets out. Pulsar loses none: it may be late, and it may come again."""
        self.wire.append(self.fact(type_, facts.WIRE, entity, content))

    def own(self, type_: str, source: str, entity: str = "", **content: Any) -> None:
        """A fact of our own needs no wire."""
        self.apply([self.fact(type_, source, entity, content)])

    def fact(self, type_: str, source: str, entity: str, content: dict[str, Any]) -> Fact:
        self.number += 1
        when = MIDNIGHT + timedelta(seconds=self.number)
        return Fact(f"{self.number:04}", type_, when, source, entity, content=content)


def _picked(some: list[Any], pick: int) -> Any:
    return some[pick % len(some)]


def test_services_that_answer_in_the_end_leave_the_saga_as_the_table_has_it() -> None:
    run_state_machine_as_test(Services, settings=CHOSEN)


PROPERTIES["services"] = test_services_that_answer_in_the_end_leave_the_saga_as_the_table_has_it
