"""Two readings of one design: what the simulator foresees is what the engine makes of the same story.

They share no code. Every story is told in an order of its own, and our commands go to the simulator's services, whose
answers come back in between.
"""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from devtools.simulator import predictor, scenario
from devtools.simulator.options import Options
from devtools.simulator.scenario import Script, TaskScript
from devtools.simulator.services import Services
from devtools.simulator.wire import COMMAND_TOPICS, SimulatedEvent
from sagas.definitions.image_processing import DEFINITION
from sagas.engine.decide import SagaIdentity, command_id
from sagas.engine.facts import COMMAND_EXHAUSTED, COMPENSATION, INTAKE_SILENT, OPERATOR, WIRE, Fact
from sagas.engine.fold import Fold
from sagas.engine.state import CommandState, SagaState
from sagas.engine.status import latest_counts, status

NOW = datetime(2026, 1, 31, 16, 0, tzinfo=UTC)
ATTEMPTS = 4
SAGAS = 150


class Telling:
    """One saga folded by the engine while the services answer its commands."""

    def __init__(self, task: TaskScript, services: Services, scope: str, rng: Random) -> None:
        self.task, self.services, self.rng = task, services, rng
        self.identity = SagaIdentity(DEFINITION, scope, "5f0c7f0e-0000-4000-8000-000000000001", task.task.task_id)
        self.fold = Fold(self.identity, SagaState(), {})
        self.attempts = Counter[str]()
        self.log: set[str] = set()
        self.events: list[Fact] = []
        mine, _ = predictor.route(task.task.task_id, task.events)
        self.coming = mine

    def tell(self) -> None:
        while self.coming or self.commands_due():
            if self.coming and self.rng.random() < 0.9:
                wave = min(event.wave for event in self.coming)
                event = self.rng.choice([event for event in self.coming if event.wave == wave])
                self.coming.remove(event)
                self.apply(_fact(event))
            else:
                self.send_commands()

    def fall_silent(self) -> None:
        """Nothing comes any more: if all images have ended, the intake has."""
        counts, latest = latest_counts(self.fold.saga), self.fold.saga.latest
        if counts.known and not counts.open and not counts.undoing:
            own = [fact for fact in self.events if latest.began is None or fact.occurred_at >= latest.began]
            named = max(own, key=lambda fact: (fact.occurred_at, fact.id))
            content = {"after": [named.occurred_at.isoformat(), named.id], "seconds": 5}
            at = named.occurred_at + timedelta(seconds=5)
            self.fold.apply(Fact("silence", INTAKE_SILENT, at, OPERATOR, content=content))

    def apply(self, fact: Fact) -> None:
        self.log.add(fact.id)
        self.fold.apply(fact)
        if fact.source == WIRE:
            self.events.append(fact)

    def commands_due(self) -> list[tuple[str, str]]:
        due = []
        for entity in self.fold.lanes:
            held = self.fold.view(entity).commands
            for item in self.fold.view(entity).required:
                released = all(
                    held.get(first, CommandState.CONFIRMED) is CommandState.CONFIRMED for first in item.after
                )
                if held[item.command] is CommandState.PENDING and released:
                    due.append((item.command, entity))
        return due

    def send_commands(self) -> None:
        for name, entity in self.commands_due():
            command = command_id(self.identity.saga_id, entity, name)
            if self.attempts[command] == ATTEMPTS:
                content = {"name": name, "round": 1}
                self.apply(
                    Fact(f"{command}:exhausted:1", COMMAND_EXHAUSTED, NOW, COMPENSATION, entity, content=content)
                )
                continue
            self.attempts[command] += 1
            for reply in self.services.receive(COMMAND_TOPICS[name], self.body(name, entity, command), NOW):
                if reply.event.fields.get("image_id") or reply.event.type == "RetrievalFailed":
                    self.coming.append(reply.event)

    def body(self, name: str, entity: str, command: str) -> bytes:
        key = self.task.task.task_id
        data = {"task_id": key, "image_id": entity, "reason": "Saga compensation"}
        message = {"type": name, "id": command, "correlation_id": key, "timestamp": NOW.isoformat(), "data": data}
        return json.dumps(message).encode()


def _fact(event: SimulatedEvent) -> Fact:
    image = event.fields.get("image_id") or ""
    return Fact(event.event_id, event.type, event.at, entity=image, content=event.fields)


def _seen(telling: Telling) -> dict[str, str]:
    fold = telling.fold
    return {entity: fold.view(entity).status.value for entity, lane in fold.lanes.items() if lane.known}


PLATFORM = {"complete_rate": 0.4, "restart_rate": 0.4, "none_rate": 0.2, "intake_silence": 5.0}


def _script(seed: int, scope: str, **platform: float) -> Script:
    options = Options(
        sagas=SAGAS,
        images=(0, 4),
        failure_rate=0.8,
        refuse_rate=0.3,
        silence_rate=0.08,
        stubborn_rate=0.05,
        own_task_rate=0.1,
        seed=seed,
        failure_scope=scope,
        **platform,  # type: ignore[arg-type]
    )
    return scenario.write_script(options, "20260131T154500-test")


@pytest.mark.parametrize("scope", ["lane", "saga"])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("platform", [{}, PLATFORM], ids=["as documented", "as it is"])
def test_every_story_ends_as_foreseen(platform: dict[str, float], seed: int, scope: str) -> None:
    script = _script(seed, scope, **platform)
    services = Services(script)
    for task in script.tasks:
        telling = Telling(task, services, scope, Random(f"{seed}/{task.number}"))
        telling.tell()
        if platform:
            telling.fall_silent()
        expected = task.expected
        assert expected is not None
        where = f"seed {seed}, task {task.number}: {task.plot}"
        assert status(telling.identity, telling.fold.saga).value == expected.status, where
        assert _seen(telling) == dict(expected.lanes), where
        required = {
            (command, entity): state.value
            for entity in telling.fold.lanes
            for command, state in telling.fold.view(entity).commands.items()
        }
        assert required.keys() == expected.commands.keys(), where
        for key, held in required.items():
            # A command that waits behind an exhausted one is planned.
            assert {"on_the_way": "planned"}.get(held, held) in expected.commands[key], (where, key)
        exhausted = sum(":exhausted:" in fact for fact in telling.log)
        assert len(telling.log) == expected.events + services.tally.answers[task.task.task_id] + exhausted, where
    assert services.complaints == []
