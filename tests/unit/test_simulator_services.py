"""How the services take our commands."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID, uuid4, uuid5

import pytest

from devtools.simulator import answers, naming, wire
from devtools.simulator.answers import Manner, ServiceAnswer, Voice
from devtools.simulator.options import Options
from devtools.simulator.predictor import CommandKey, Expectation
from devtools.simulator.scenario import Script, TaskScript
from devtools.simulator.services import Reply, Services
from devtools.simulator.wire import COMMAND_TOPICS, DELETE, ROLLBACK, Image, Task

BEGAN = datetime(2026, 1, 31, 15, 45, tzinfo=UTC)
NOW = BEGAN + timedelta(minutes=1)
IDS = Random(5)
TASK = Task(naming.task_id(BEGAN, IDS), "batch", "PACS", "Lima", "order-77")
ONE, TWO = (
    Image(str(UUID(int=n, version=4)), n, "CT", "usa", str(UUID(int=n + 10)), str(UUID(int=n + 20))) for n in (1, 2)
)


def services(
    taken: dict[CommandKey, ServiceAnswer] | None = None, *, owed: int = 2, answer_all: bool = False
) -> Services:
    images = (ONE, TWO)
    commands = {(name, image.image_id): frozenset({"confirmed"}) for image in images[:owed] for name in COMMAND_TOPICS}
    script = TaskScript(
        number=0,
        plot="retrieval_failed_midway",
        task=TASK,
        images=images,
        begins=BEGAN,
        events=(),
        answers=taken or {},
        expected=Expectation("COMPENSATION_SUCCEEDED", {}, commands, 0, {}),
        parked={},
    )
    return Services(Script("20260131T154500-aaaaaa", BEGAN, (script,)), answer_all=answer_all)


def command(name: str, image: Image = ONE, **changes: Any) -> bytes:
    message = {
        "type": name,
        "id": str(uuid5(UUID(int=0), f"{name}{image.image_id}")),
        "correlation_id": "order-77",
        "timestamp": "2026-01-31T15:46:00",
        "data": {"task_id": TASK.task_id, "image_id": image.image_id, "reason": "Saga compensation"},
    }
    return json.dumps(message | changes).encode()


def ask(played: Services, name: str, image: Image = ONE, **changes: Any) -> list[Reply]:
    return played.receive(COMMAND_TOPICS[name], command(name, image, **changes), NOW)


def types(replies: list[Reply]) -> list[str]:
    return [reply.event.type for reply in replies]


def test_a_deletion_is_confirmed() -> None:
    played = services()
    (reply,) = ask(played, DELETE)
    assert reply.event.topic == "retrieval-imagedeletioncompleted"
    assert reply.event.fields == {
        "image_id": ONE.image_id,
        "task_id": TASK.task_id,
        "reason": "Saga compensation",
    }
    assert (played.tally.received, played.tally.confirmed, played.complaints) == (1, 1, [])


def test_the_last_deletion_of_a_task_is_preceded_by_its_echo() -> None:
    played = services()
    ask(played, DELETE, ONE)
    replies = ask(played, DELETE, TWO)
    assert types(replies) == ["RetrievalFailed", "ImageDeletionCompleted"]
    assert replies[0].after < replies[1].after
    assert replies[0].event.fields["error_message"].startswith("Tarea fallida por compensación de saga")


def test_a_command_seen_again_is_answered_with_the_very_same_event() -> None:
    played = services()
    first, again = ask(played, DELETE), ask(played, DELETE)
    assert first[0].event == again[0].event
    assert (played.tally.received, played.tally.again, played.tally.confirmed) == (1, 1, 1)


def test_a_deletion_is_refused_so_often_and_then_done() -> None:
    played = services({(DELETE, ONE.image_id): ServiceAnswer(Manner.REFUSE, times=2)})
    seen = [types(ask(played, DELETE)) for _ in range(3)]
    assert seen == [["ImageDeletionFailed"], ["ImageDeletionFailed"], ["ImageDeletionCompleted"]]
    assert played.tally.refused == 2


def test_a_service_may_do_it_after_all_without_being_asked_again() -> None:
    played = services({(DELETE, ONE.image_id): ServiceAnswer(Manner.RELENT, times=1)})
    replies = ask(played, DELETE)
    assert types(replies) == ["ImageDeletionFailed", "ImageDeletionCompleted"]
    assert replies[0].after < replies[1].after


def test_a_stubborn_service_refuses_until_it_is_healed() -> None:
    played = services({(DELETE, ONE.image_id): ServiceAnswer(Manner.STUBBORN)})
    assert {tuple(types(ask(played, DELETE))) for _ in range(12)} == {("ImageDeletionFailed",)}
    played.heal()
    assert types(ask(played, DELETE)) == ["ImageDeletionCompleted"]


def test_a_silent_service_says_nothing_until_it_is_healed() -> None:
    played = services({(ROLLBACK, ONE.image_id): ServiceAnswer(Manner.SILENT)})
    assert [ask(played, ROLLBACK) for _ in range(3)] == [[], [], []]
    assert played.tally.unanswered == 1
    played.heal()
    assert types(ask(played, ROLLBACK)) == ["AnonymizationRolledBack"]


@pytest.mark.parametrize(
    ("voice", "kind", "task_id"),
    [
        (Voice.ROLLED_BACK, "AnonymizationRolledBack", TASK.task_id),
        (Voice.OWN_TASK, "AnonymizationRolledBack", ONE.own_rollback),
        (Voice.REVERSED, "AnonymizationFailed", TASK.task_id),
    ],
)
def test_the_anonymizer_confirms_in_several_ways(voice: Voice, kind: str, task_id: str) -> None:
    (reply,) = ask(services({(ROLLBACK, ONE.image_id): ServiceAnswer(voice=voice)}), ROLLBACK)
    assert (reply.event.type, reply.event.fields["task_id"]) == (kind, task_id)
    assert reply.event.fields["image_id"] == ONE.image_id
    reversal = reply.event.fields.get("error_message", "Anonimización revertida")
    assert reversal.startswith("Anonimización revertida")


@pytest.mark.parametrize(("voice", "key"), [(Voice.OWN_TASK, ONE.own_rollback), (Voice.ROLLED_BACK, TASK.task_id)])
def test_a_confirmation_that_names_no_image_is_counted_as_parked(voice: Voice, key: str) -> None:
    played = services({(ROLLBACK, ONE.image_id): ServiceAnswer(Manner.NAMELESS, voice=voice)})
    for _ in range(2):
        (reply,) = ask(played, ROLLBACK)
        assert reply.event.fields == {"task_id": key, "image_id": None, "reason": "Saga compensation"}
    assert played.tally.parked == {key: 2}


def test_answers_are_counted_as_facts_of_the_saga() -> None:
    played = services({(DELETE, ONE.image_id): ServiceAnswer(Manner.REFUSE, times=1)})
    for image in (ONE, ONE, TWO, TWO):
        ask(played, DELETE, image)
    # One refusal, two confirmations (one of them asked for twice), one echo.
    assert played.tally.answers == {TASK.task_id: 4}


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"\xff", b'{"type": "CreateRetrievalTask", "data": {}}', b'{"type": "DeleteRetrievedImage"}'],
)
def test_what_is_no_command_of_ours_is_left_alone(body: bytes) -> None:
    played = services()
    assert played.receive("data-retrieval-commands", body, NOW) == []
    assert played.complaints == []


def wrong_commands() -> Iterator[tuple[str, bytes]]:
    yield COMMAND_TOPICS[ROLLBACK], command(DELETE)
    yield COMMAND_TOPICS[DELETE], command(DELETE, extra=1)
    yield COMMAND_TOPICS[DELETE], command(DELETE, id="saga-1:image-1")
    yield COMMAND_TOPICS[DELETE], command(DELETE, correlation_id="order-78")
    yield COMMAND_TOPICS[DELETE], command(DELETE, data={"task_id": TASK.task_id, "image_id": ONE.image_id})
    yield (
        COMMAND_TOPICS[DELETE],
        command(DELETE, data={"task_id": TASK.task_id, "image_id": str(uuid4()), "reason": "Saga compensation"}),
    )


@pytest.mark.parametrize(("topic", "body"), list(wrong_commands()))
def test_a_command_of_the_wrong_shape_is_complained_of_and_not_done(topic: str, body: bytes) -> None:
    played = services()
    assert played.receive(topic, body, NOW) == []
    assert len(played.complaints) == 1


def test_a_command_that_is_not_required_is_complained_of() -> None:
    played = services(owed=1)
    ask(played, DELETE, ONE)
    assert played.complaints == []
    ask(played, DELETE, TWO)
    assert [complaint.expected for complaint in played.complaints] == ["no such command: it is not required"]


@pytest.mark.parametrize("changes", [{"id": str(uuid4())}, {"timestamp": "2026-01-31T15:47:00"}])
def test_a_command_that_changes_between_attempts_is_complained_of(changes: dict[str, Any]) -> None:
    played = services()
    ask(played, DELETE)
    ask(played, DELETE, **changes)
    assert len(played.complaints) == 1


def test_strangers_are_answered_only_where_all_are() -> None:
    data = {"task_id": str(uuid4()), "image_id": str(uuid4()), "reason": "Saga compensation"}
    assert ask(services(), DELETE, data=data) == []
    (reply,) = ask(services(answer_all=True), DELETE, data=data)
    assert reply.event.fields == data


def test_the_tasks_of_a_later_simulator_are_left_to_it() -> None:
    def asked(began: datetime) -> list[Reply]:
        data = {"task_id": naming.task_id(began, IDS), "image_id": str(uuid4()), "reason": "Saga compensation"}
        return ask(services(answer_all=True), DELETE, data=data)

    assert asked(BEGAN + timedelta(seconds=30)) == []
    assert types(asked(BEGAN - timedelta(days=2))) == ["ImageDeletionCompleted"]


def test_manners_come_at_their_rates() -> None:
    told = Options(refuse_rate=0.3, silence_rate=0.2, stubborn_rate=0.1)
    rng = Random(1)
    deletions = [answers.choose(DELETE, told, rng) for _ in range(4000)]
    rollbacks = [answers.choose(ROLLBACK, told, rng) for _ in range(4000)]

    def rate(chosen: list[ServiceAnswer], *manners: Manner) -> float:
        return sum(answer.manner in manners for answer in chosen) / len(chosen)

    assert rate(deletions, Manner.SILENT) == pytest.approx(0.2, abs=0.03)
    assert rate(deletions, Manner.STUBBORN) == pytest.approx(0.1, abs=0.03)
    assert rate(deletions, Manner.REFUSE, Manner.RELENT) == pytest.approx(0.3, abs=0.03)
    assert rate(rollbacks, Manner.SILENT, Manner.NAMELESS) == pytest.approx(0.2, abs=0.03)
    assert rate(rollbacks, Manner.CONFIRM) == pytest.approx(0.8, abs=0.03)


def test_wire_names_both_command_topics() -> None:
    assert wire.COMMAND_TOPICS == {
        "DeleteRetrievedImage": "data-retrieval-commands",
        "RollbackAnonymization": "anonymization-commands",
    }
