"""A saga whose events make the engine raise waits with the error; the others of the page go through."""

from __future__ import annotations

from typing import Any

import pytest

from bridge import event_log
from bridge.models import Pending
from sagas.actions import ActionRequest
from sagas.applying.apply import run_apply
from sagas.engine import evolve
from sagas.engine.fold import Fold
from sagas.errors import Refused
from sagas.models import Parked, SagaLog
from tests.integration import deciding as actions
from tests.integration.story import event, image_through, new_ids, retrieval

pytestmark = pytest.mark.django_db(transaction=True)

REQUEST = ActionRequest(actor="ana", door="api", reason="mended")


def break_engine(monkeypatch: pytest.MonkeyPatch, task: str) -> None:
    real = Fold.apply

    def apply(self: Fold, fact: Any, said: Any = None) -> Any:
        if self.identity.key == task and fact.type == "AnonymizationCompleted":
            raise KeyError("Müller, Anna")  # an engine bug's message may quote what is confidential
        return real(self, fact, said)

    monkeypatch.setattr(Fold, "apply", apply)


def test_one_broken_saga_does_not_stop_its_page(monkeypatch: pytest.MonkeyPatch) -> None:
    broken, sound, one, two = new_ids(4)
    for task, image in ((broken, one), (sound, two)):
        event_log.append(retrieval(task, [image]) + image_through(task, image))
    break_engine(monkeypatch, broken)
    run_apply()
    assert SagaLog.objects.get(key=sound).status == "COMPLETED"
    row = SagaLog.objects.get(key=broken)
    assert row.set_aside_at is not None
    assert "KeyError" in row.set_aside_error
    assert "Müller" not in row.set_aside_error
    assert Parked.objects.filter(reason="set_aside", suggestion=row.id).count() == 9
    event_log.append([event("ProcessingStarted", broken, one)])
    run_apply()
    assert Parked.objects.filter(reason="set_aside").count() == 10
    assert not Pending.objects.exists()


@pytest.mark.parametrize("type_", ["RetrievalStarted", "AnonymizationCompleted"], ids=["at its birth", "later"])
def test_an_event_that_cannot_be_understood_sets_its_saga_aside(type_: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broken, sound, one, two = new_ids(4)
    real = evolve.interpret

    def understand(identity: Any, fact: Any) -> Any:
        if identity.key == broken and fact.type == type_:
            raise KeyError("Müller, Anna")
        return real(identity, fact)

    monkeypatch.setattr("sagas.applying.fold.interpret", understand)
    for task, image in ((broken, one), (sound, two)):
        event_log.append(retrieval(task, [image]))
    run_apply()
    for task, image in ((broken, one), (sound, two)):
        event_log.append(image_through(task, image))
    run_apply()
    assert SagaLog.objects.get(key=sound).status == "COMPLETED"
    assert SagaLog.objects.get(key=broken).set_aside_error.startswith("KeyError (understand:")
    assert not Pending.objects.exists()


def test_it_is_resumed_by_a_decision_once_repaired(monkeypatch: pytest.MonkeyPatch) -> None:
    task, image = new_ids(2)
    event_log.append(retrieval(task, [image]))
    run_apply()
    with monkeypatch.context() as patch:
        break_engine(patch, task)
        event_log.append(image_through(task, image))
        run_apply()
        row = SagaLog.objects.get(key=task)
        assert (row.set_aside_at is not None, row.status, row.events_count) == (True, "STARTED", 3)
        with pytest.raises(Refused, match="KeyError"):
            actions.resume(row.id, request=REQUEST)
    outcome = actions.resume(row.id, request=REQUEST)
    assert (outcome.effects["events"], outcome.effects["status_after"]) == (6, "COMPLETED")
    row.refresh_from_db()
    assert row.set_aside_at is None
    assert not Parked.objects.exists()
