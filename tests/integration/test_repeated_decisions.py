"""When a request is answered as repeated: only if the same decision was taken, and still holds."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from bridge import event_log, routing
from bridge.event_log import NewFact
from sagas import actions
from sagas.admin import refusals
from sagas.applying.apply import run_apply
from sagas.engine import facts
from sagas.engine.state import saga_from
from sagas.errors import Refused
from sagas.models import Decision, SagaLog
from tests.integration.decided import request
from tests.integration.deciding import cancel, close_retrieval, force_compensation
from tests.integration.story import event, image_through, new_ids

pytestmark = pytest.mark.django_db(transaction=True)


def happens(*found: Any) -> None:
    for fact in found:
        event_log.append([fact])
        run_apply()


def saga(task: str) -> SagaLog:
    return SagaLog.objects.get(key=task)


def runs(task: str) -> int:
    return len(saga_from(saga(task).state).runs)


def started(task: str, seconds: int) -> NewFact:
    return event("RetrievalStarted", task, seconds=seconds)


def failed(task: str, seconds: int) -> NewFact:
    return event("RetrievalFailed", task, seconds=seconds, error_message="no network")


def silence(task: str, after: NewFact) -> NewFact:
    """No event came for 900 seconds."""
    return NewFact(
        source=facts.SAGAS,
        event_id=f"silence of {task}",
        stream="image_processing",
        type=facts.INTAKE_SILENT,
        key=task,
        entity="",
        occurred_at=after.occurred_at + timedelta(seconds=900),
        payload={"after": [after.occurred_at.isoformat(), after.event_id], "seconds": 900},
        routing_key=routing.routing_key("image_processing", task),
    )


@pytest.mark.parametrize("decide", [cancel, force_compensation])
def test_the_number_of_runs_does_not_name_a_decision(decide: Any) -> None:
    """Two runs, a decision; the silence that divided them is broken, so they are one; a third start opens a second."""
    task, image = new_ids(2)
    through = image_through(task, image, 2)
    happens(started(task, 0), event("ImagesRetrieved", task, seconds=1, image_ids=[image]), *through)
    happens(silence(task, through[-1]), started(task, 2000))
    first = decide(saga(task).id, request=request())
    happens(event("ProcessingStarted", task, image, seconds=1500))
    assert runs(task) == 1
    assert decide(saga(task).id, request=request()).decision_id == first.decision_id
    happens(started(task, 3000))
    assert (runs(task), saga(task).status) == (2, "COMPENSATING")
    second = decide(saga(task).id, request=request("the new images too"))
    assert (second.repeated, second.decision_id == first.decision_id) == (False, False)
    assert second.effects["status_after"] != "STARTED"


def test_a_decision_is_a_repeat_however_many_runs_are_found_before_its_own() -> None:
    [task] = new_ids(1)
    happens(started(task, 0), failed(task, 5), started(task, 10))
    first = cancel(saga(task).id, request=request())
    happens(failed(task, 2), started(task, 3))
    assert runs(task) == 3
    again = cancel(saga(task).id, request=request())
    assert (again.repeated, again.decision_id) == (True, first.decision_id)


def test_events_that_wait_are_applied_before_a_request_counts_as_repeated() -> None:
    [task] = new_ids(1)
    happens(started(task, 0))
    first = cancel(saga(task).id, request=request())
    event_log.append([started(task, 10)])
    second = cancel(saga(task).id, request=request("the new run"))
    assert (second.repeated, second.decision_id == first.decision_id) == (False, False)
    assert Decision.objects.filter(action="cancel").count() == 2


def test_a_decision_is_a_repeat_while_events_of_its_run_arrive() -> None:
    [task] = new_ids(1)
    happens(started(task, 0))
    first = cancel(saga(task).id, request=request())
    event_log.append([event("ImagesRetrieved", task, seconds=20, image_ids=new_ids(1))])
    again = cancel(saga(task).id, request=request())
    assert (again.repeated, again.decision_id) == (True, first.decision_id)
    assert saga(task).lanes_known == 1, "the waiting event was applied with it"


def test_a_refused_decision_is_not_explained_by_one_on_an_earlier_run() -> None:
    [task] = new_ids(1)
    happens(started(task, 0))
    cancel(saga(task).id, request=request())
    cancel_again = refusals.explain(actions.get("cancel"), {"saga": saga(task).id}, Refused("it failed"))
    assert cancel_again.sentence.startswith("already cancelled by ana")
    happens(started(task, 10), failed(task, 20))
    why = refusals.explain(actions.get("cancel"), {"saga": saga(task).id}, Refused("it failed"))
    assert why.sentence == "it failed"


def test_an_idempotency_key_is_not_answered_for_another_number() -> None:
    task, image = new_ids(2)
    happens(started(task, 0), event("ImagesRetrieved", task, seconds=1, image_ids=[image]))
    keyed = request(idempotency_key="k")
    first = close_retrieval(saga(task).id, 5, request=keyed)
    assert close_retrieval(saga(task).id, 5, request=keyed).decision_id == first.decision_id
    with pytest.raises(Refused, match="already used for another decision"):
        close_retrieval(saga(task).id, 4, request=keyed)


def test_an_idempotency_key_stands_for_every_value_that_was_asked_for() -> None:
    keyed, resume = request(idempotency_key="k"), actions.get("resume_publishing")
    service = sorted(actions.services())[0]
    resume.decide({"service": service}, keyed)
    assert resume.decide({"service": service}, keyed).repeated
    with pytest.raises(Refused, match="already used for another decision"):
        resume.decide({"service": service, "only": "switch"}, keyed)
