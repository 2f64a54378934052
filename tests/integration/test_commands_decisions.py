"""Each command that decides, once for real, and that it leaves the same rows as API and service."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from bridge import event_log
from bridge.models import Event, Quarantined
from compensation import switches
from compensation.models import Command
from sagas.applying.apply import run_apply
from sagas.applying.verify import all_ids, each
from sagas.models import Decision, Lane, Parked, SagaKey, SagaLog, SagaStep
from tests.integration import decided
from tests.integration import deciding as actions
from tests.integration.api import Api, operator
from tests.integration.story import event
from tests.integration.terminal import decide, run

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _every_saga_is_what_its_log_folds_to() -> Any:
    yield
    assert [verdict for verdict in each(all_ids()) if not verdict.well] == []


def status(saga: SagaLog) -> str:
    return SagaLog.objects.get(id=saga.id).status


def statuses(saga: SagaLog) -> set[str]:
    return set(Command.objects.filter(saga_id=saga.id).values_list("status", flat=True))


# --- sagas ------------------------------------------------------------------------------------------------------------


def test_force_compensation_of_one_lane_in_any_spelling() -> None:
    saga, images = decided.running()
    ran = decide("force_compensation", saga.key.upper(), "--image", images[1].upper())
    assert ran.code == 0
    assert [(command["entity"], command["name"]) for command in ran.data["commands"]] == [
        (images[1], "DeleteRetrievedImage")
    ]
    assert (ran.data["target"], ran.data["action"]) == (f"saga {saga.id} lane {images[1]}", "force_compensation")
    assert Lane.objects.get(saga=saga, failed=True).entity == images[1]
    assert decide("force_compensation", saga.id, "--image", images[1]).data["repeated"] is True
    assert decide("cancel_saga", saga.id, "--image", images[1]).code == 4


def test_cancel_saga() -> None:
    saga, _ = decided.running()
    ran = decide("cancel_saga", saga.id)
    assert (ran.code, len(ran.data["commands"]), status(saga)) == (0, 3, "COMPENSATING")
    assert ran.data["effects"] == {"status_before": "STARTED", "status_after": "COMPENSATING"}


def test_terminate_saga() -> None:
    saga, _ = decided.running()
    assert decide("terminate_saga", saga.id).code == 0
    assert (status(saga), statuses(saga)) == ("FAILED", {"withdrawn"})


def test_resume_saga(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        saga = decided.set_aside(patch)
        ran = decide("resume_saga", saga.id)
        assert ran.code == 4
        assert "still cannot be applied" in ran.data["error"]
        assert str(saga.id) in run("list_sagas", "--set-aside").out
    assert decide("resume_saga", saga.id).code == 0
    assert status(saga) == "COMPENSATING"
    assert not Parked.objects.exists()


def test_replay_saga_shows_a_difference_and_repairs_it_only_when_asked() -> None:
    saga, images = decided.failed()
    looked = run("replay_saga", saga.id)
    assert looked.code == 0
    assert "no difference" in looked.out
    assert decide("replay_saga", saga.id, "--apply").code == 4
    SagaStep.objects.filter(saga=saga, entity=images[0], step_type="ANONYMIZATION_COMPLETE").delete()
    SagaLog.objects.filter(id=saga.id).update(status="COMPLETED")
    looked = run("replay_saga", saga.id)
    assert looked.code == 1
    assert 'saga status: stored "COMPLETED", rebuilt from log "COMPENSATING"' in looked.out
    told = run("replay_saga", saga.id, "--json").data
    assert {item["what"] for item in told["effects"]["differences"]} == {
        "saga status",
        f"step ANONYMIZATION_COMPLETE by ANONYMIZATION of {images[0]}",
    }
    assert (told["exit_code"], told["dry_run"]) == (1, True)
    assert run("replay_saga", saga.id, "--apply", "--yes").code == 2  # no reason
    assert status(saga) == "COMPLETED"
    ran = decide("replay_saga", saga.id, "--apply")
    assert (ran.code, status(saga)) == (0, "COMPENSATING")
    assert Decision.objects.get().action == "replay"
    assert run("replay_saga", saga.id).code == 0


# --- commands ---------------------------------------------------------------------------------------------------------


def test_retry_command_opens_a_new_round(settings: Any) -> None:
    saga, commands = decided.exhausted(settings, 2)
    assert status(saga) == "COMPENSATION_FAILED"
    ran = decide("retry_command", commands[0].id)
    assert ran.code == 0
    assert ran.data["effects"]["status_before"] == "COMPENSATION_FAILED"
    rest = decide("retry_command", "--saga", saga.key)
    assert rest.code == 0
    assert rest.data["id"] == saga.key
    assert rest.data["effects"] == {
        "eligible": 1,
        "not_eligible": [],
        "sagas": 1,
        "status_counts": {"COMPENSATING": 1},
    }
    assert statuses(saga) == {"waiting"}
    assert set(Command.objects.values_list("round", flat=True)) == {2}


def test_skip_command_gives_up() -> None:
    saga, command = decided.unfit()
    ran = decide("skip_command", command.id)
    assert (ran.code, statuses(saga), status(saga)) == (0, {"skipped"}, "FAILED")
    assert decide("retry_command", command.id).code == 4


def test_mark_done_counts_as_confirmed_by_hand(settings: Any) -> None:
    saga, commands = decided.exhausted(settings, 2)
    ran = decide("mark_done", *(command.id for command in commands))
    assert (ran.code, len(ran.lines)) == (0, 2)
    assert status(saga) == "COMPENSATION_SUCCEEDED"
    assert set(Command.objects.values_list("status", "by_hand")) == {("confirmed", True)}


def test_withdraw_commands_before_a_cut_over() -> None:
    """As an operator goes live beside an earlier system: paused, and what is older than the cut-over never leaves."""
    assert decide("pause_publishing").code == 0
    early, _ = decided.failed(2)
    cut_over = timezone.now()
    Command.objects.update(planned_at=cut_over - timedelta(hours=1))
    late, _ = decided.failed(1)
    before = cut_over.isoformat()
    shown = run("withdraw_commands", "--before", before, "--dry-run", "--json").data
    assert shown["effects"]["eligible"] == 3
    assert "withdrawn" not in statuses(early)
    ran = decide("withdraw_commands", "--before", before)
    assert ran.code == 0
    assert ran.data["effects"]["eligible"] == 3
    assert {command["status_after"] for command in ran.data["commands"]} == {"withdrawn"}
    assert (statuses(early), status(early)) == ({"withdrawn"}, "FAILED")
    assert "withdrawn" not in statuses(late)
    assert decide("withdraw_commands", "--before", before).data["effects"]["eligible"] == 0
    one = Command.objects.filter(saga_id=late.id).order_by("name").last()
    assert one is not None
    assert decide("withdraw_commands", one.id).code == 0
    assert decide("withdraw_commands", "--saga", late.id).code == 0
    assert statuses(late) == {"withdrawn"}


def test_pause_and_resume_publishing() -> None:
    ran = decide("pause_publishing", "--service", "ANONYMIZATION")
    assert ran.data["effects"] == {"changed": True, "paused": ["ANONYMIZATION"]}
    assert ran.data["id"] == "ANONYMIZATION"
    assert switches.is_paused("ANONYMIZATION")
    assert not switches.is_paused("DATA_RETRIEVAL")
    again = decide("pause_publishing", "--service", "ANONYMIZATION")
    assert (again.code, again.data["effects"]["changed"]) == (0, False)
    everything = decide("pause_publishing")
    assert (everything.data["id"], everything.data["target"]) == ("*", "publishing")
    assert switches.is_paused("DATA_RETRIEVAL")
    assert decide("resume_publishing").code == 0
    assert switches.paused_services() == ["ANONYMIZATION"]
    assert run("resume_publishing", "--service", "ANONYMIZATION", "--dry-run").code == 0
    assert switches.paused_services() == ["ANONYMIZATION"]
    assert decide("resume_publishing", "--service", "ANONYMIZATION").code == 0
    assert switches.paused_services() == []


# --- parked events and quarantined messages ---------------------------------------------------------------------------


def test_attach_a_key_to_a_lane() -> None:
    saga, images = decided.running()
    key, _ = decided.parked()
    assert decide("attach", "--key", key, "--saga", saga.id, "--image", key).code == 3
    ran = decide("attach", "--key", key.upper(), "--saga", saga.key, "--image", images[0].upper())
    assert (ran.code, ran.data["effects"]["events"]) == (0, 2)
    assert ran.data["id"] == key
    assert not Parked.objects.exists()
    assert SagaKey.objects.get(key=key).saga_id == saga.id
    # The other name now finds the saga too.
    assert str(saga.id) in run("show_saga", key).out


def test_attach_one_event() -> None:
    saga, images = decided.running()
    _, [event_id, other] = decided.parked(("AnonymizationCompleted", "ProcessingStarted"))
    ran = decide("attach", "--event", event_id, "--saga", saga.id)
    assert ran.code == 4
    assert "specify the image" in ran.data["error"]
    assert decide("attach", "--event", event_id, "--saga", saga.id, "--image", images[0]).code == 0
    assert Parked.objects.get().event == Event.objects.get(event_id=other).id


def test_adopt_starts_a_saga() -> None:
    key, _ = decided.parked(("ImagesRetrieved",))
    ran = decide("adopt", key.upper(), "--type", "image_processing")
    assert (ran.code, ran.data["effects"]["events"] > 0) == (0, True)
    assert SagaLog.objects.get(key=key).id == uuid.UUID(ran.data["effects"]["saga"])
    assert decide("adopt", key, "--type", "tea_making").code == 3


def test_dismiss_hides_parked_events() -> None:
    key, [_, second] = decided.parked()
    ran = decide("dismiss", "--event", second.upper())
    assert (ran.code, ran.data["effects"]["events"]) == (0, 1)
    assert Parked.objects.filter(dismissed_at=None).count() == 1
    assert decide("dismiss", "--key", key).data["effects"]["events"] == 1
    assert Parked.objects.filter(dismissed_at=None).count() == 0


def test_requeue_and_dismiss_messages() -> None:
    good, bad, boring = decided.quarantined(), decided.quarantined(b"no json"), decided.quarantined(b"{")
    ran = decide("requeue_message", good.id, bad.id, 77)
    assert [(line["id"], line["exit_code"]) for line in ran.lines] == [(str(good.id), 0), (str(bad.id), 4), ("77", 3)]
    assert ran.code == 4
    assert ran.lines[0]["effects"]["type"] == "RetrievalStarted"
    run_apply()
    assert SagaLog.objects.count() == 1
    assert decide("dismiss_message", boring.id).code == 0
    assert dict(Quarantined.objects.values_list("id", "status")) == {
        good.id: "requeued",
        bad.id: "open",
        boring.id: "dismissed",
    }
    row = Quarantined.objects.get(id=boring.id)
    assert ((row.decided_by or "").startswith("cli:"), row.decided_why) == (True, "because")


# --- the same by every door -------------------------------------------------------------------------------------------


def left(saga: SagaLog, names: list[str]) -> dict[str, Any]:
    """What a decision left, in words that are the same for every saga of the same story."""
    saga.refresh_from_db()
    commands = list(Command.objects.filter(saga_id=saga.id))
    known = {saga.key: "task", str(saga.id): "saga"}
    known |= {name: f"image {number}" for number, name in enumerate(names)}
    known |= {str(command.id): command.name for command in commands}

    def plain(value: object) -> str:
        text = str(value)
        for name, word in known.items():
            text = text.replace(name, word)
        return text

    told = [(c.entity, c.name, c.status, c.round, c.released_at is None, c.by_hand, c.body["data"]) for c in commands]
    facts = Event.objects.filter(key=saga.key, source="operator")
    audit = Decision.objects.filter(saga=saga.id).order_by("decided_at")
    return {
        "saga": (saga.status, saga.events_count, saga.lanes_undoing, saga.commands_on_the_way, saga.commands_given_up),
        "lanes": sorted(
            plain((lane.entity, lane.failed, lane.outcome, sorted(lane.state))) for lane in saga.lanes.all()
        ),
        "steps": sorted(plain((step.entity, step.step_type, step.status)) for step in saga.steps.all()),
        "commands": sorted(map(plain, told)),
        "facts": sorted(plain((fact.type, fact.entity, sorted(fact.payload))) for fact in facts),
        "decisions": [plain((row.action, row.target, row.reason, row.once, row.answer["effects"])) for row in audit],
    }


Way = Callable[[SagaLog, list[str]], object]


def _by_service(saga: SagaLog, images: list[str]) -> None:
    actions.force_compensation(saga.id, images[0], request=decided.request())
    command = Command.objects.get(saga_id=saga.id, name="RollbackAnonymization")
    actions.decide_command("mark_done", command.id, request=decided.request())
    actions.terminate(saga.id, request=decided.request())


def _by_api(saga: SagaLog, images: list[str]) -> None:
    api = Api(operator())
    why = {"reason": "because"}
    assert api.post(f"sagas/{saga.id}/force-compensation", {"lane": images[0], **why}).status_code == 202
    command = Command.objects.get(saga_id=saga.id, name="RollbackAnonymization")
    assert api.post(f"commands/{command.id}/mark-done", why).status_code == 202
    assert api.post(f"sagas/{saga.id}/terminate", why).status_code == 202


def _by_command(saga: SagaLog, images: list[str]) -> None:
    assert decide("force_compensation", saga.id, "--image", images[0]).code == 0
    command = Command.objects.get(saga_id=saga.id, name="RollbackAnonymization")
    assert decide("mark_done", command.id).code == 0
    assert decide("terminate_saga", saga.id).code == 0


def test_the_same_decisions_by_service_api_and_command_leave_the_same_rows() -> None:
    found = []
    for way in (_by_service, _by_api, _by_command):
        saga, images = decided.running(2)
        way(saga, images)
        found.append(left(saga, images))
    assert found[0] == found[1] == found[2]
    assert len(found[0]["decisions"]) == len(found[0]["facts"]) == 3
    assert len(found[0]["commands"]) == 3
    assert sorted(set(Decision.objects.values_list("door", flat=True))) == ["api", "command"]


def test_what_the_three_doors_answer_is_the_same() -> None:
    told = []
    for ask in (
        lambda saga: actions.cancel(saga.id, request=decided.request(dry_run=True)).as_json(),
        lambda saga: Api(operator()).post(f"sagas/{saga.id}/cancel", {"dry_run": True, "reason": ""}).json(),
        lambda saga: run("cancel_saga", saga.id, "--dry-run", "--json").data,
    ):
        saga, _ = decided.running()
        told.append(set(ask(saga)))
    assert told[0] == told[1]
    assert told[2] - told[1] == {"id", "exit_code", "error"}


def test_what_comes_after_a_decision_by_command_is_taken_as_ever() -> None:
    saga, images = decided.running(1)
    decide("cancel_saga", saga.id)
    decided.published()
    event_log.append([event("AnonymizationRolledBack", saga.key, images[0], seconds=60)])
    run_apply()
    decided.published()
    event_log.append([event("ImageDeletionCompleted", saga.key, images[0], seconds=61)])
    run_apply()
    assert status(saga) == "COMPENSATION_SUCCEEDED"
    assert "because" in run("show_saga", saga.id).out
