"""Two versions of one definition with sagas in flight, and workers of the old release beside those of the new one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import orjson
import pytest
from django.conf import settings

from bridge import event_log
from bridge.codec import Codec
from bridge.envelope import Envelope, Message
from bridge.models import Event as WireEvent
from bridge.models import Pending
from bridge.topics import get_topics
from compensation.models import Command
from sagaproject.composition import bridge_catalog
from sagas.actions import ActionRequest
from sagas.applying.apply import run_apply
from sagas.applying.replay import compare
from sagas.checks import check_definitions
from sagas.definitions import image_processing, image_processing_v1, registry
from sagas.engine.definition import Confirmation, Entity, Event, Meaning, StepStatus
from sagas.models import Parked, SagaEvent, SagaLog
from tests.integration.deciding import adopt
from tests.integration.story import START, event, image_through, new_ids, retrieval
from tests.stories import DELETE, ROLLBACK

pytestmark = pytest.mark.django_db(transaction=True)

OLD = image_processing.DEFINITION
_rollback, _delete = OLD.compensations
# The next release undoes otherwise: no rollback, and that a deletion was sent is enough.
NEW = replace(
    OLD, version=OLD.version + 2, compensations=(replace(_delete, after=(), confirmation=Confirmation.PUBLISHED),)
)


def saga(task: str) -> SagaLog:
    return SagaLog.objects.get(key=task)


def commands(task: str) -> dict[str, str]:
    """What is owed → how it is confirmed."""
    return dict(Command.objects.filter(saga_id=saga(task).id).values_list("name", "confirmation"))


def test_sagas_in_flight_stay_on_their_version_and_new_ones_take_the_new() -> None:
    begun, image, fresh, other = new_ids(4)
    event_log.append(retrieval(begun, [image]) + image_through(begun, image)[:3])
    run_apply()
    with registry.also(NEW):
        event_log.append(retrieval(fresh, [other]) + image_through(fresh, other)[:3])
        event_log.append([event("AnonymizationFailed", task, of) for task, of in ((begun, image), (fresh, other))])
        run_apply()
        assert (saga(begun).version, saga(fresh).version) == (OLD.version, NEW.version)
        assert commands(begun) == {ROLLBACK: "event", DELETE: "event"}
        assert commands(fresh) == {DELETE: "published"}
        assert compare(saga(begun).id) == compare(saga(fresh).id) == []
        event_log.append(
            [event("AnonymizationRolledBack", begun, image), event("ImageDeletionCompleted", begun, image)]
        )
        event_log.append([event("ImageDeletionCompleted", fresh, other)])
        run_apply()
        assert saga(begun).status == saga(fresh).status == "COMPENSATION_SUCCEEDED"
        assert compare(saga(begun).id) == compare(saga(fresh).id) == []


def test_a_worker_of_the_old_release_leaves_what_it_does_not_know_to_the_new_one() -> None:
    begun, image, fresh, other = new_ids(4)
    event_log.append(retrieval(begun, [image]))
    run_apply()
    with registry.also(NEW):
        event_log.append(retrieval(fresh, [other]))
        run_apply()
    # From here on a worker of the old release drains.
    event_log.append(
        [
            event("AnonymizationFailed", fresh, other),
            event("AnonymizationFailed", begun, image),
            event("ProcessingStarted", new_ids(1)[0], other),
        ]
    )
    run_apply()
    assert saga(begun).status == "COMPENSATING"
    assert (saga(fresh).status, saga(fresh).set_aside_at) == ("STARTED", None)
    assert set(Pending.objects.values_list("key", flat=True)) == {f"image_processing:{fresh}"}
    assert Pending.objects.count() == 2
    assert not Parked.objects.exists()
    with registry.also(NEW):
        run_apply()
        assert saga(fresh).status == "COMPENSATING"
        assert commands(fresh) == {DELETE: "published"}
        assert not Pending.objects.exists()
        assert compare(saga(begun).id) == compare(saga(fresh).id) == []


def test_a_saga_born_in_a_rolling_deploy_has_the_version_of_the_worker_that_bore_it() -> None:
    by_old, image, by_new, other = new_ids(4)
    event_log.append(retrieval(by_old, [image])[:1])
    run_apply()
    with registry.also(NEW):
        event_log.append(retrieval(by_new, [other])[:1] + retrieval(by_old, [image])[1:])
        run_apply()
    assert (saga(by_old).version, saga(by_new).version) == (OLD.version, NEW.version)
    assert saga(by_old).lanes_known == 1


# --- the bridge's side: what only one of the versions knows still comes in --------------------------------------------

# The release after that: Processing reports by another type on another topic, and tasks begin by another event.
REPLACED = {"ProcessingCompleted": "ImageProcessed", "RetrievalStarted": "TaskOpened"}
RENAMED = replace(
    OLD,
    version=OLD.version + 2,
    events=tuple(
        replace(item, type=REPLACED[item.type], topics=(f"v3-{item.topics[0]}",)) if item.type in REPLACED else item
        for item in OLD.events
    ),
)


@contextmanager
def release(*definitions: Any) -> Iterator[None]:
    """The project with further definitions, which its check finds nothing wrong with."""
    with registry.also(*definitions):
        assert check_definitions(None) == []
        yield


def receive(kind: str, topic: str, seconds: int = 0, **fields: Any) -> None:
    """A message on its topic, by way of subscription, decoder, store and apply."""
    catalog, topics = bridge_catalog(), get_topics()
    full = topics.full(topic)
    assert full in topics.subscriptions(catalog.topics).topics, "the bridge is not subscribed"
    names = topics.names(full)
    [event_id] = new_ids(1)
    when = START + timedelta(seconds=seconds)
    raw = orjson.dumps({"id": event_id, "type": kind, "timestamp": when.isoformat(), **fields})
    found = Codec(catalog, settings.BRIDGE_MAX_BODY).decode(
        Message(names.shown, names.short, event_id, 0, raw, {}), when
    )
    assert isinstance(found, Envelope), found
    event_log.store_batch([found])
    run_apply()


def log_of(task: str) -> list[str]:
    ids = SagaEvent.objects.filter(saga__key=task).order_by("seq").values_list("event", flat=True)
    types = dict(WireEvent.objects.filter(pk__in=list(ids)).values_list("pk", "type"))
    return [types[pk] for pk in ids]


def test_a_saga_in_flight_ends_by_events_that_only_its_own_version_knows() -> None:
    task, image, fresh, other = new_ids(4)
    event_log.append(retrieval(task, [image]) + image_through(task, image)[:5])
    run_apply()
    with release(RENAMED):
        receive("TaskOpened", "v3-retrieval-started", task_id=fresh)
        event_log.append(retrieval(fresh, [other])[1:] + image_through(fresh, other)[:5])
        run_apply()
        assert (saga(task).version, saga(fresh).version) == (OLD.version, RENAMED.version)
        receive("ProcessingCompleted", "image-processed", 20, task_id=task, image_id=image, status="COMPLETED")
        receive("ImageProcessed", "v3-image-processed", 20, task_id=fresh, image_id=other, status="COMPLETED")
        assert saga(task).status == saga(fresh).status == "COMPLETED"
        assert compare(saga(task).id) == compare(saga(fresh).id) == []


@pytest.mark.parametrize("found_by", ["key", "entity"])
def test_an_event_that_only_another_version_knows_is_kept_and_changes_nothing(found_by: str) -> None:
    task, image, fresh, other, own = new_ids(5)
    event_log.append(retrieval(task, [image]) + image_through(task, image)[:5])
    run_apply()
    with release(RENAMED):
        event_log.append([event("TaskOpened", fresh), *retrieval(fresh, [other])[1:], *image_through(fresh, other)[:5]])
        run_apply()
        for of, entity, kind, topic in (
            (fresh, other, "ProcessingCompleted", "image-processed"),
            (task, image, "ImageProcessed", "v3-image-processed"),
        ):
            before = saga(of)
            receive(kind, topic, 20, task_id=of if found_by == "key" else own, image_id=entity)
            after = saga(of)
            assert (after.status, after.set_aside_at, after.lanes_open) == ("STARTED", None, 1)
            assert (after.state, after.steps_count) == (before.state, before.steps_count)
            assert log_of(of)[-1] == kind, "its log and its timeline show it"
            assert compare(after.id) == []
        assert not Parked.objects.exists()
        assert not Pending.objects.exists()


def test_a_start_that_only_an_older_version_knows_is_parked_and_can_be_adopted() -> None:
    task, image = new_ids(2)
    with release(RENAMED):
        receive("RetrievalStarted", "retrieval-started", task_id=task)
        assert not SagaLog.objects.exists()
        [parked] = Parked.objects.all()
        assert (parked.key, parked.reason) == (task, "no_saga")
        adopt(task, request=ActionRequest(actor="ana", door="api", reason="it runs"))
        assert (saga(task).version, saga(task).set_aside_at) == (RENAMED.version, None)
        assert "RetrievalStarted" in log_of(task)
        receive("ImagesRetrieved", "images-retrieved", 1, task_id=task, image_ids=[image])
        assert saga(task).lanes_known == 1


def test_an_event_comes_on_the_topics_of_every_version() -> None:
    task, image, fresh, other = new_ids(4)
    moved = replace(
        OLD,
        version=OLD.version + 3,
        events=tuple(replace(item, topics=(f"v4-{item.topics[0]}",)) for item in OLD.events),
    )
    with release(moved):
        for of, entity, prefix in ((task, image, ""), (fresh, other, "v4-")):
            receive("RetrievalStarted", f"{prefix}retrieval-started", task_id=of)
            receive("ImagesRetrieved", f"{prefix}images-retrieved", 1, task_id=of, image_ids=[entity])
            assert saga(of).lanes_known == 1


def test_two_types_on_one_topic_are_distinguished_by_the_message() -> None:
    task, image = new_ids(2)
    checked = Event(
        type="RetrievalChecked",
        topics=("retrieval-completed",),
        entity=Entity.SAGA,
        means=Meaning(step=image_processing_v1.CREATE, becomes=StepStatus.COMPLETED),
        always_typed=True,
    )
    with release(replace(OLD, version=OLD.version + 4, events=(*OLD.events, checked))):
        event_log.append(retrieval(task, [image])[:2])
        run_apply()
        receive("RetrievalChecked", "retrieval-completed", 2, task_id=task)
        assert log_of(task)[-1] == "RetrievalChecked"
        for kind in ("RetrievalCompleted", None):
            receive(kind, "retrieval-completed", 3, task_id=task, result={"successful_images": 1})  # type: ignore[arg-type]
            assert log_of(task)[-1] == "RetrievalCompleted"
