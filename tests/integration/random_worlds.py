"""Random states of the whole service for properties of decisions: sagas, parked events, messages, pauses, faults."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from django.apps import apps
from django.conf import settings
from django.db import connection
from django.test import override_settings
from django.utils import timezone
from hypothesis import strategies as st

from bridge import event_log, quarantine
from bridge.codec import get_codec
from bridge.envelope import Envelope, Message, Rejected
from bridge.models import Event, QuarantineCode, Quarantined
from bridge.reasons import Reason
from compensation import delivery, switches
from compensation.models import Command
from sagas.actions import Action, ActionRequest, ActionResult
from sagas.applying import route, sweeper
from sagas.applying.apply import run_apply
from sagas.definitions import image_processing, image_processing_v1
from sagas.definitions.registry import current
from sagas.engine.definition import Event as Spec
from sagas.engine.fold import Fold
from sagas.errors import DecisionError
from sagas.models import Lane, Parked, SagaLog
from tests.integration import deciding as actions
from tests.integration.commands import FakePublisher
from tests.integration.decided import NO_UUID, incident
from tests.integration.deciding import CommandSelection
from tests.integration.story import event, retrieval
from tests.integration.test_apply_is_the_fold import Cast, Plot, store, tell
from tests.properties.histories import to_images
from tests.stories import ECHO, REVERSED

SERVICES = (image_processing_v1.ANONYMIZATION, image_processing_v1.DATA_RETRIEVAL)
WORDS = ("broken", ECHO, REVERSED)
TYPES = image_processing.DEFINITION.events
OWN_KEY = [spec.type for spec in TYPES if spec.own_key]
TAMPERED = ("status", "command", "lane", "outbox")

Decide = Callable[[ActionRequest], ActionResult]


@dataclass(frozen=True, slots=True)
class Choice:
    """A decision on a target. `commands`: those that it is about; `switches`: it pauses or resumes publishing."""

    name: str
    decide: Decide
    commands: frozenset[uuid.UUID] = frozenset()
    switches: bool = False


@dataclass
class World:
    """The names of one example. `stranger` is a task that no saga has, `unborn` one whose start has not come yet."""

    cast: Cast
    other: Cast
    stranger: str = field(default_factory=lambda: str(uuid.uuid4()))
    unborn: str = field(default_factory=lambda: str(uuid.uuid4()))
    unseen: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def tasks(self) -> list[str]:
        return [self.cast.task, self.other.task, self.stranger, self.unborn]

    @property
    def images(self) -> list[str]:
        return [*self.cast.images, *self.other.images, self.unseen]


# --- how a world comes to be ----------------------------------------------------------------------------------------


@contextmanager
def worlds(draw: st.DataObject) -> Iterator[World]:
    """A world from nothing, with everything applied that can be."""
    empty_tables()
    attempts = draw.draw(st.sampled_from([1, 1, 3]), "attempts")
    scope = draw.draw(st.sampled_from(["lane", "saga"]), "failure scope")
    policy = {**settings.SAGA_RETRY, "initial_interval": 60.0, "maximum_attempts": attempts, "jitter": 0.0}
    with override_settings(SAGA_FAILURE_SCOPE=scope, SAGA_RETRY=policy):
        yield _world(draw)


def empty_tables() -> None:
    """Nothing is in any table, as before the first event."""
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {', '.join(tables())} CASCADE")


def tables() -> list[str]:
    """All tables of this service."""
    models = [model for name in ("bridge", "compensation", "sagas") for model in apps.get_app_config(name).get_models()]
    return sorted(model._meta.db_table for model in models)


def _world(draw: st.DataObject) -> World:
    images = draw.draw(st.sampled_from([1, 2, 2, 3]), "images")
    cast, other = Cast.of(images), Cast.of(1)
    if draw.draw(st.sampled_from([False, False, True]), "an id without a shape"):
        cast = cast._replace(images=(*cast.images[:-1], f"{NO_UUID}-{cast.task}"))
    if draw.draw(st.sampled_from([False, False, True]), "the other saga has the same image"):
        other = other._replace(images=cast.images[:1])
    world = World(cast, other)
    _pause(draw)
    _play(draw, world)
    for step in draw.draw(st.lists(st.sampled_from(sorted(_STEPS)), min_size=1, max_size=5)):
        _STEPS[step](draw, world)
        settle()
    for number in range(draw.draw(st.integers(1, 3), "messages")):
        _quarantined(draw, world, number)
    if draw.draw(st.sampled_from([False, False, True]), "somebody tampered"):
        _tamper(draw.draw(st.sampled_from(TAMPERED)), cast)
    return world


def settle() -> None:
    """All is applied that can be, as the workers and the sweeper do it."""
    before = None
    while before != (before := _parked_rows()):
        sweeper.match_parked()
        run_apply()


def _parked_rows() -> set[tuple[int, str]]:
    run_apply()
    return set(Parked.objects.values_list("event", "reason"))


def _pause(draw: st.DataObject) -> None:
    for service in draw.draw(st.sets(st.sampled_from([*SERVICES, "*"]), max_size=1), "paused"):
        switches.set_switch(service, True, "ana", "so")


def _play(draw: st.DataObject, world: World) -> None:
    cast = world.cast
    possible = len(to_images.__wrapped__(cast.images, cast.saga_id))
    what = st.tuples(st.integers(0, possible - 1), st.integers(0, 5))
    plot = Plot(len(cast.images), draw.draw(st.lists(what, max_size=12), "plot"))
    with mock.patch.object(route, "new_saga_id", return_value=uuid.UUID(cast.saga_id)):
        store(tell(plot, cast), cast)
        run_apply()
    if draw.draw(st.sampled_from([True, True, False]), "retrieved"):
        event_log.append(retrieval(cast.task, cast.images))
    if draw.draw(st.sampled_from([True, True, False]), "anonymized"):
        event_log.append([event("AnonymizationCompleted", cast.task, cast.images[0], seconds=9)])
    if draw.draw(st.sampled_from([True, False]), "failed"):
        event_log.append([event("RetrievalFailed", cast.task, seconds=20, error_message="disk full")])
    settle()


def publish(_draw: Any = None, _world: Any = None) -> set[str]:
    """What is due leaves; returns the ids."""
    publisher = FakePublisher()
    delivery.publish_due(publisher, "host:1")
    return {message.id for message in publisher.sent}


def _refuse(_draw: Any, world: World) -> None:
    task, images = world.cast.task, world.cast.images
    event_log.append([event("ImageDeletionFailed", task, image, seconds=30, error_message="no") for image in images])


def _other(draw: st.DataObject, world: World) -> None:
    event_log.append(retrieval(world.other.task, world.other.images))
    if draw.draw(st.sampled_from([True, False]), "the other failed"):
        event_log.append([event("RetrievalFailed", world.other.task, seconds=20, error_message="disk full")])


def _parked(draw: st.DataObject, world: World) -> None:
    """Events of tasks that nobody knows, of images that somebody may know later."""
    stranger = st.tuples(st.sampled_from(OWN_KEY), st.just(world.stranger), st.sampled_from(["", world.unseen]))
    late = st.tuples(
        st.sampled_from([spec.type for spec in TYPES if not spec.starts]),
        st.just(world.unborn),
        st.sampled_from(["", *world.images]),
    )
    for kind, task, entity in draw.draw(st.lists(stranger | late, min_size=1, max_size=4), "parked"):
        event_log.append([event(kind, task, entity, seconds=40, error_message="broken", image_ids=[world.unseen])])


def _fault(draw: st.DataObject, world: World) -> None:
    """An event that the engine cannot fold, once: it sets its saga aside."""
    key = draw.draw(st.sampled_from([world.cast.task, world.stranger]), "key of the fault")
    real = Fold.apply

    def apply_or_fail(self: Fold, fact: Any, said: Any = None) -> Any:
        if fact.content.get("error_message") == "a fault":
            raise KeyError("a fault")
        return real(self, fact, said)

    with mock.patch.object(Fold, "apply", apply_or_fail):
        event_log.append([event("AnonymizationFailed", key, world.cast.images[0], error_message="a fault")])
        run_apply()


def _quarantined(draw: st.DataObject, world: World, number: int) -> None:
    spec: Spec = draw.draw(st.sampled_from(TYPES), "type of the message")
    topic = spec.topics[0]
    fields: dict[str, Any] = {
        "id": str(uuid.uuid4()),
        "type": spec.type,
        "timestamp": "2026-03-01T12:00:30",
        "task_id": draw.draw(st.sampled_from(world.tasks), "its task"),
        "image_id": draw.draw(st.sampled_from(world.images), "its image"),
        "image_ids": draw.draw(st.lists(st.sampled_from(world.images), max_size=2), "its images"),
        "error_message": draw.draw(st.sampled_from(WORDS), "its error"),
    }
    if draw.draw(st.sampled_from([False, True]), "no image named"):
        del fields["image_id"]
    how = draw.draw(st.sampled_from(["well", "well", "well", "well", "unreadable", "known"]), "how it is")
    body = b"{" if how == "unreadable" else json.dumps(fields).encode()
    message = Message(topic, topic, f"1:{world.cast.task}:{number}", 1_772_366_400_000, body, {})
    if how == "known":
        decoded = get_codec().decode(message, timezone.now())
        event_log.store_batch([decoded] if isinstance(decoded, Envelope) else [])
        settle()
    quarantine.keep([Rejected(message, timezone.now(), QuarantineCode.NOT_JSON, Reason("empty"))])


def _tamper(how: str, cast: Cast) -> None:
    """What no code does, and what a replay mends."""
    saga = SagaLog.objects.filter(key=cast.task)
    if how == "status":
        saga.update(status="COMPLETED", error_message="tampered")
    elif how == "lane":
        Lane.objects.filter(saga__in=saga).update(outcome="open")
    elif how == "outbox":
        saga.update(error_message="tampered")
        Command.objects.filter(saga_id__in=saga.values("id"), status="planned").update(released_at=None, next_at=None)
    else:
        with connection.cursor() as cursor:
            cursor.execute(
                "DELETE FROM compensation_command c WHERE saga_id = %s AND NOT EXISTS"
                " (SELECT 1 FROM compensation_attempt WHERE command_id = c.id)",
                [cast.saga_id],
            )


_STEPS: dict[str, Callable[[st.DataObject, World], object]] = {
    "publish": publish,
    "refuse": _refuse,
    "other": _other,
    "parked": _parked,
    "fault": _fault,
}


# --- what can be decided in it --------------------------------------------------------------------------------------


def choose(draw: st.DataObject, world: World, action: Action) -> Choice:
    """A decision with its target, whether or not the state allows it."""
    return _ACTIONS[action](draw, world, action)


def _on_saga(draw: st.DataObject, world: World, action: Action) -> Choice:
    saga = _saga(draw, world)
    if action is Action.TERMINATE:
        return Choice("terminate", lambda ask: actions.terminate(saga, request=ask))
    if action is Action.RESUME:
        return Choice("resume", lambda ask: actions.resume(saga, request=ask))
    if action is Action.REPLAY:
        write = draw.draw(st.sampled_from([True, True, False]), "write")
        return Choice("replay", lambda ask: actions.replay(saga, write, request=ask))
    if action is Action.CLOSE_RETRIEVAL:
        images = draw.draw(st.integers(0, len(world.cast.images) + 1), "number of images")
        return Choice("close retrieval", lambda ask: actions.close_retrieval(saga, images, request=ask))
    lane = draw.draw(st.sampled_from([None, *world.images]), "lane")
    one = actions.cancel if action is Action.CANCEL else actions.force_compensation
    return Choice(action.value, lambda ask: one(saga, lane, request=ask))


def _saga(draw: st.DataObject, world: World) -> str:
    sagas = [str(one) for one in SagaLog.objects.order_by("created_at", "key").values_list("id", flat=True)]
    return draw.draw(st.sampled_from([world.cast.saga_id, world.cast.saga_id, *sagas]), "saga")


def _on_commands(draw: st.DataObject, world: World, action: Action) -> Choice:
    found = list(Command.objects.order_by("saga_id", "entity", "name").values_list("id", flat=True))
    how = draw.draw(st.sampled_from(["one", "one", "ids", "saga", "cut-over"]), "which commands")
    if how == "one" and found:
        one = draw.draw(st.sampled_from(found), "command")
        return Choice(f"{action} one", lambda ask: actions.decide_command(action, one, request=ask), frozenset({one}))
    if how == "saga":
        selection = CommandSelection(saga=world.cast.saga_id)
    elif how == "cut-over":
        selection = CommandSelection(planned_before=timezone.now())
    else:
        ids = draw.draw(st.sets(st.sampled_from([*found, uuid.UUID(int=7)]), min_size=1), "commands")
        selection = CommandSelection(ids=sorted(ids))
    try:
        targets = frozenset(selection.find(action))
    except DecisionError:
        targets = frozenset()
    return Choice(f"{action} by {how}", lambda ask: actions.decide_commands(action, selection, request=ask), targets)


def _attach(draw: st.DataObject, world: World, _action: Action) -> Choice:
    saga = _saga(draw, world)
    lane = draw.draw(st.sampled_from([None, *world.images]), "lane")
    events = _parked_events()
    if events and draw.draw(st.sampled_from([False, True]), "one event"):
        one = draw.draw(st.sampled_from(events), "event")
        return Choice("attach event", lambda ask: actions.attach(saga_id=saga, event=one, lane=lane, request=ask))
    key = draw.draw(st.sampled_from([world.stranger, world.unborn, *world.tasks]), "key")
    return Choice("attach key", lambda ask: actions.attach(saga_id=saga, key=key, lane=lane, request=ask))


def _adopt(draw: st.DataObject, world: World, _action: Action) -> Choice:
    key = draw.draw(st.sampled_from([world.unborn, world.unborn, *world.tasks]), "key")
    return Choice("adopt", lambda ask: actions.adopt(key, request=ask))


def _dismiss(draw: st.DataObject, world: World, _action: Action) -> Choice:
    events = _parked_events()
    if events and draw.draw(st.sampled_from([False, True]), "one event"):
        one = draw.draw(st.sampled_from(events), "event")
        return Choice("dismiss event", lambda ask: actions.dismiss(event=one, request=ask))
    key = draw.draw(st.sampled_from(world.tasks), "key")
    return Choice("dismiss key", lambda ask: actions.dismiss(key=key, request=ask))


def _parked_events() -> list[str]:
    parked = Parked.objects.values("event")
    return list(Event.objects.filter(id__in=parked).order_by("id").values_list("event_id", flat=True))


def _on_message(draw: st.DataObject, _world: World, action: Action) -> Choice:
    one = draw.draw(st.sampled_from(list(Quarantined.objects.order_by("id").values_list("id", flat=True))), "message")
    decide = actions.requeue_message if action is Action.REQUEUE else actions.dismiss_message
    return Choice(action.value, lambda ask: decide(one, request=ask))


def _on_publishing(draw: st.DataObject, _world: World, action: Action) -> Choice:
    service = draw.draw(st.sampled_from([None, *SERVICES]), "service")
    paused = action is Action.PAUSE_PUBLISHING
    return Choice(action.value, lambda ask: actions.set_publishing(paused, service, request=ask), switches=True)


def _on_incident(draw: st.DataObject, _world: World, action: Action) -> Choice:
    one = draw.draw(st.sampled_from([incident().id, uuid.UUID(int=8)]), "incident")
    return Choice(action.value, lambda ask: actions.decide(action, ask, incident=one))


_ACTIONS: dict[Action, Callable[[st.DataObject, World, Action], Choice]] = {
    Action.FORCE_COMPENSATION: _on_saga,
    Action.CANCEL: _on_saga,
    Action.TERMINATE: _on_saga,
    Action.RESUME: _on_saga,
    Action.REPLAY: _on_saga,
    Action.CLOSE_RETRIEVAL: _on_saga,
    Action.RETRY: _on_commands,
    Action.SKIP: _on_commands,
    Action.MARK_DONE: _on_commands,
    Action.WITHDRAW: _on_commands,
    Action.RELEASE: _on_commands,
    Action.ATTACH: _attach,
    Action.ADOPT: _adopt,
    Action.DISMISS: _dismiss,
    Action.REQUEUE: _on_message,
    Action.DISMISS_MESSAGE: _on_message,
    Action.PAUSE_PUBLISHING: _on_publishing,
    Action.RESUME_PUBLISHING: _on_publishing,
    Action.ACKNOWLEDGE_INCIDENT: _on_incident,
    Action.ASSIGN_INCIDENT: _on_incident,
    Action.NOTE_INCIDENT: _on_incident,
}
assert set(_ACTIONS) == set(Action)
assert current("image_processing") is image_processing.DEFINITION
