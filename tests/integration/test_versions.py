"""Two versions of one definition with sagas in flight, and workers of the old release beside those of the new one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bridge import event_log
from bridge.models import Pending
from compensation.models import Command
from sagas.apply import drain
from sagas.definitions import image_processing, registry
from sagas.engine.definition import Confirmation
from sagas.models import Parked, SagaLog
from sagas.replay import compare
from tests.integration.story import event, image_through, new_ids, retrieval
from tests.stories import DELETE, ROLLBACK

pytestmark = pytest.mark.django_db(transaction=True)

OLD = image_processing.DEFINITION
_rollback, _delete = OLD.compensations
# The next release undoes otherwise: no rollback, and that a deletion was sent is enough.
NEW = replace(OLD, version=2, compensations=(replace(_delete, after=(), confirmation=Confirmation.PUBLISHED),))


def saga(task: str) -> SagaLog:
    return SagaLog.objects.get(key=task)


def commands(task: str) -> dict[str, str]:
    """What is owed → how it is confirmed."""
    return dict(Command.objects.filter(saga_id=saga(task).id).values_list("name", "confirmation"))


def test_sagas_in_flight_stay_on_their_version_and_new_ones_take_the_new() -> None:
    begun, image, fresh, other = new_ids(4)
    event_log.append(retrieval(begun, [image]) + image_through(begun, image)[:3])
    drain()
    with registry.also(NEW):
        event_log.append(retrieval(fresh, [other]) + image_through(fresh, other)[:3])
        event_log.append([event("AnonymizationFailed", task, of) for task, of in ((begun, image), (fresh, other))])
        drain()
        assert (saga(begun).version, saga(fresh).version) == (1, 2)
        assert commands(begun) == {ROLLBACK: "event", DELETE: "event"}
        assert commands(fresh) == {DELETE: "published"}
        assert compare(saga(begun).id) == compare(saga(fresh).id) == []
        event_log.append(
            [event("AnonymizationRolledBack", begun, image), event("ImageDeletionCompleted", begun, image)]
        )
        event_log.append([event("ImageDeletionCompleted", fresh, other)])
        drain()
        assert saga(begun).status == saga(fresh).status == "COMPENSATION_SUCCEEDED"
        assert compare(saga(begun).id) == compare(saga(fresh).id) == []


def test_a_worker_of_the_old_release_leaves_what_it_does_not_know_to_the_new_one() -> None:
    begun, image, fresh, other = new_ids(4)
    event_log.append(retrieval(begun, [image]))
    drain()
    with registry.also(NEW):
        event_log.append(retrieval(fresh, [other]))
        drain()
    # From here on a worker of the old release drains.
    event_log.append(
        [
            event("AnonymizationFailed", fresh, other),
            event("AnonymizationFailed", begun, image),
            event("ProcessingStarted", new_ids(1)[0], other),
        ]
    )
    drain()
    assert saga(begun).status == "COMPENSATING"
    assert (saga(fresh).status, saga(fresh).set_aside_at) == ("STARTED", None)
    assert set(Pending.objects.values_list("key", flat=True)) == {f"image_processing:{fresh}"}
    assert Pending.objects.count() == 2
    assert not Parked.objects.exists()
    with registry.also(NEW):
        drain()
        assert saga(fresh).status == "COMPENSATING"
        assert commands(fresh) == {DELETE: "published"}
        assert not Pending.objects.exists()
        assert compare(saga(begun).id) == compare(saga(fresh).id) == []


def test_a_saga_born_in_a_rolling_deploy_has_the_version_of_the_worker_that_bore_it() -> None:
    by_old, image, by_new, other = new_ids(4)
    event_log.append(retrieval(by_old, [image])[:1])
    drain()
    with registry.also(NEW):
        event_log.append(retrieval(by_new, [other])[:1] + retrieval(by_old, [image])[1:])
        drain()
    assert (saga(by_old).version, saga(by_new).version) == (1, 2)
    assert saga(by_old).lanes_known == 1
