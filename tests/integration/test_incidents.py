"""Incidents: problems of one cause are one, with exact numbers; what is written about one stays when it comes again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext

from bridge import clock, event_log, heartbeats
from bridge.heartbeats import UnreadTopic
from bridge.models import Event, Quarantined, QuarantineStatus
from compensation import outbox
from compensation.models import Breaker, Command, CommandStatus, Switch
from sagas import actions, incidents
from sagas.actions import Action, ActionRequest, ActionResult
from sagas.applying.apply import run_apply
from sagas.errors import Invalid, NotFound, Refused
from sagas.incidents import groups
from sagas.incidents.groups import groups_of
from sagas.incidents.kinds import KINDS
from sagas.incidents.listing import direction
from sagas.models import Decision, Incident, IncidentNote, Lane, Parked, SagaLog
from sagas.queries.throughput import throughput
from tests.integration import decided
from tests.integration.bridge_messages import rejected
from tests.integration.commands import new_command
from tests.integration.history import rewrite
from tests.integration.story import event, image_through, new_ids, retrieval

pytestmark = pytest.mark.django_db

LOCKED = "archive holds a lock on {}"


def fail(count: int = 1, text: str = LOCKED, *, sagas: int | None = None, **columns: Any) -> list[Command]:
    """Commands that need a decision: the service refused each, with a text that names its image."""
    ids = [uuid4() for _ in range(sagas or count)]
    made = [
        new_command(id=uuid4(), saga_id=ids[number % len(ids)], entity=f"image {number} {uuid4()}")
        for number in range(count)
    ]
    outbox.plan(made)
    rows = list(Command.objects.filter(id__in=[one.id for one in made]))
    for row in rows:
        row.status, row.settled_at, row.exhausted_by = CommandStatus.EXHAUSTED, clock.now(), "attempts"
        row.next_at, row.last_error = None, "attempts"
        row.last_error_data = {"count": 3, "last": {"code": "refused-because", "error": text.format(row.entity)}}
        for name, value in columns.items():
            setattr(row, name, value)
    names = ["status", "settled_at", "exhausted_by", "next_at", "last_error", "last_error_data", *columns]
    Command.objects.bulk_update(rows, list(dict.fromkeys(names)))
    return rows


def one(kind: str, **reads: Any) -> incidents.ShownIncident:
    [found] = incidents.listed(kind=kind, **reads).items
    return found


def decide(action: str, incident: UUID, reason: str = "because", **values: Any) -> ActionResult:
    request = ActionRequest(actor="ana", door="api", reason=reason, dry_run=values.pop("dry_run", False))
    return actions.get(action).decide({"incident": incident, **values}, request)


# --- failed commands --------------------------------------------------------------------------------------------------


def test_a_thousand_failures_of_one_cause_are_one_incident() -> None:
    fail(1000, sagas=700)
    found = one("exhausted")
    assert (found.count, found.sagas) == (1000, 700)
    assert found.title == "Data Retrieval refuses DeleteRetrievedImage"
    assert "1000 commands in 700 sagas" in found.sentence
    assert found.direction == "rising"
    assert sum(found.trend) == 1000
    assert incidents.cases_of("exhausted", found.facets, clock.now()).count() == 1000


def test_another_cause_is_another_incident_and_the_numbers_are_exact() -> None:
    fail(3)
    fail(2, "disk {} is full")
    fail(1, exhausted_by="manual", last_error="no-confirmation", last_error_data=None)
    found = incidents.listed().items
    assert sorted(line.count for line in found) == [1, 2, 3]
    assert len({line.title for line in found}) == 2  # two are refused
    assert incidents.listed().by_kind["exhausted"] == 3
    Command.objects.filter(last_error="no-confirmation").update(status=CommandStatus.SKIPPED)
    assert sorted(line.count for line in incidents.listed().items) == [2, 3]


def test_the_text_of_the_service_is_only_for_those_who_may_see_payload() -> None:
    fail(2, "Anna's scan is locked")
    seen, masked = one("exhausted", payload=True), one("exhausted")
    assert "Anna's scan is locked" in seen.error
    assert "Anna" not in masked.error
    assert "[text, 21 characters]" in masked.error
    assert "Anna" not in masked.sentence + masked.title + str(masked.facets)
    incidents.record()
    assert "Anna" not in str(Incident.objects.values())


def test_a_text_of_an_earlier_release_is_not_in_what_is_stored() -> None:
    fail(1, last_error="Failed after 3 attempts. The service refused it: Anna is locked", last_error_data=None)
    found = one("exhausted")
    assert "Anna" not in found.error + str(found.facets)
    incidents.record()
    assert "Anna" not in str(Incident.objects.values())


def test_texts_that_differ_in_every_case_do_not_make_the_list_endless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "MOST_FAILURES", 3)
    for text in ("locked", "full", "gone", "busy", "broken"):
        fail(1, text)
    assert len(groups.groups_of("exhausted", clock.now())) == 3


def test_a_failure_that_is_retried_leaves_its_incident_at_once() -> None:
    first, *_ = fail(3)
    Command.objects.filter(id=first.id).update(status=CommandStatus.WAITING, next_at=clock.now())
    assert one("exhausted").count == 2


# --- every other kind -------------------------------------------------------------------------------------------------


def quarantine(topics: int) -> None:
    for number in range(topics):
        made = rejected(b"not json %d" % number)
        event_log.store_batch([], [made])


def test_quarantine_is_grouped_by_code_and_topic() -> None:
    event_log.store_batch([], [rejected(b"one"), rejected(b"two")])
    row = Quarantined.objects.order_by("id")[0]
    found = one("quarantined")
    assert found.count == 2
    assert found.facets == {"code": row.code, "topic": row.topic}
    assert found.amount == "2 messages"
    Quarantined.objects.filter(id=row.id).update(status=QuarantineStatus.DISMISSED)
    assert one("quarantined").count == 1


def test_unmatched_events_are_grouped_by_type() -> None:
    decided.parked(("ProcessingStarted", "ProcessingCompleted"))
    decided.parked(("ProcessingStarted",))
    assert incidents.listed(kind="parked").items == []
    Parked.objects.update(since=clock.now() - timedelta(minutes=6))
    found = {line.facets["type"]: line for line in incidents.listed(kind="parked").items}
    assert {kind: line.count for kind, line in found.items()} == {"ProcessingStarted": 2, "ProcessingCompleted": 1}
    assert found["ProcessingStarted"].title == "ProcessingStarted does not match any saga"
    assert found["ProcessingStarted"].direction == "rising"


def test_blocked_and_stalled_sagas_are_grouped(monkeypatch: pytest.MonkeyPatch) -> None:
    decided.set_aside(monkeypatch)
    monkeypatch.undo()
    found = one("set_aside")
    assert (found.count, found.sagas, found.kind.red) == (1, 1, True)
    assert found.amount == "1 saga"
    old = clock.now() - timedelta(hours=2)
    for _ in range(2):
        saga, _names = decided.running()
        SagaLog.objects.filter(id=saga.id).update(start_time=old, last_event_at=old, updated_at=old)
    assert one("stalled").amount == "2 sagas"


def test_breakers_pauses_and_topics_are_incidents_of_their_own() -> None:
    outbox.plan([new_command()])
    service = Command.objects.get().service
    now = clock.now()
    Breaker.objects.create(
        service=service, state="open", changed_at=now, changed_by="", cause="planned", planned=9, allowed=5
    )
    Switch.objects.create(service=service, paused=True, changed_at=now, changed_by="ana", reason="x")
    detail = {"unread_topics": [UnreadTopic("image-processing", now, "ConsumerBusy")._asdict()]}
    heartbeats.beat("bridge:1", "bridge", connected=True, well=False, detail=detail)
    assert one("breaker").facets == {"service": service}
    assert one("paused").count == 1
    assert one("unread").facets == {"topic": "image-processing"}
    assert one("breaker").id != one("paused").id


def late_lane() -> Lane:
    """One of two images has had no step for an hour; the other one goes on."""
    task, late, other = new_ids(3)
    event_log.append([*retrieval(task, [late, other]), *image_through(task, other)])
    run_apply()
    saga = SagaLog.objects.get(key=task)
    now = clock.now()
    SagaLog.objects.filter(id=saga.id).update(start_time=now - timedelta(hours=2), last_event_at=now, status="STARTED")
    saga.steps.filter(entity=late).update(occurred_at=now - timedelta(hours=1))
    saga.steps.filter(entity=other).update(occurred_at=now)
    return Lane.objects.get(saga=saga, entity=late)


def test_a_stage_that_is_overdue_is_an_incident_although_its_saga_goes_on(settings: Any) -> None:
    lane = late_lane()
    found = one("late_stage")
    assert (found.count, found.sagas) == (1, 1)
    assert list(incidents.cases_of("late_stage", found.facets, clock.now())) == [lane]
    settings.SAGA_STAGE_OVERDUE = 7200.0
    assert incidents.listed(kind="late_stage").items == []
    settings.SAGA_STAGE_OVERDUE = 0.0
    assert incidents.listed(kind="late_stage").items == []


def test_the_stages_of_a_saga_without_any_progress_are_not_counted_twice() -> None:
    lane = late_lane()
    old = clock.now() - timedelta(hours=1)
    SagaLog.objects.filter(id=lane.saga_id).update(last_event_at=old, updated_at=old)
    assert incidents.listed(kind="late_stage").items == []
    assert one("stalled").count == 1


def test_every_kind_can_be_read_and_recorded() -> None:
    now = clock.now()
    assert {kind.name: groups_of(kind.name, now) for kind in KINDS} == {kind.name: [] for kind in KINDS}
    assert incidents.record()
    assert not Incident.objects.exists()


# --- order ------------------------------------------------------------------------------------------------------------


def test_red_is_before_yellow_and_the_newest_burst_on_top() -> None:
    event_log.store_batch([], [rejected(b"yellow, and newest")])
    fail(1, "older", settled_at=clock.now() - timedelta(hours=2))
    fail(1, "newer", settled_at=clock.now() - timedelta(hours=1))
    found = incidents.listed(payload=True).items
    assert [line.kind.name for line in found] == ["exhausted", "exhausted", "quarantined"]
    assert "newer" in found[0].error


def test_what_is_acknowledged_is_last_and_not_counted() -> None:
    event_log.store_batch([], [rejected()])
    fail(1)
    incidents.record()
    page = incidents.listed()
    assert page.open == 2
    decide(Action.ACKNOWLEDGE_INCIDENT, page.items[0].id, until=clock.now() + timedelta(hours=1))
    page = incidents.listed()
    assert [line.kind.name for line in page.items] == ["quarantined", "exhausted"]
    assert (page.open, page.total) == (1, 2)
    Incident.objects.update(acknowledged_until=clock.now() - timedelta(seconds=1))
    assert incidents.listed().open == 2


@pytest.mark.parametrize(
    ("trend", "word"),
    [
        ((), ""),
        ((9, 0, 0, 0, 0), "quiet"),
        ((0, 0, 0, 0, 1), "rising"),
        ((0, 2, 0, 1, 1), "steady"),
        ((0, 2, 1, 0, 1), "falling"),
    ],
)
def test_the_direction_compares_the_last_ten_minutes_with_the_ten_before(trend: tuple[int, ...], word: str) -> None:
    assert direction(trend) == word


def test_pages_are_parts_of_one_list() -> None:
    for text in ("locked", "full", "gone"):
        fail(1, text)
    whole = [line.id for line in incidents.listed().items]
    assert [line.id for line in incidents.listed(0, 2).items] == whole[:2]
    assert [line.id for line in incidents.listed(2, 2).items] == whole[2:]
    assert incidents.listed(0, 2).total == 3


def test_a_reader_sees_the_kinds_of_the_own_rights_only() -> None:
    fail(1)
    event_log.store_batch([], [rejected()])
    incidents.record()
    page = incidents.listed(kinds={"quarantined"})
    assert [line.kind.name for line in page.items] == ["quarantined"]
    assert page.by_kind == {"quarantined": 1}
    hidden = one("exhausted").id
    assert incidents.find(hidden, kinds={"quarantined"}) is None
    assert incidents.find(hidden) is not None


# --- what is stored ---------------------------------------------------------------------------------------------------


def test_an_incident_that_ends_and_comes_again_keeps_owner_and_notes_but_is_not_acknowledged() -> None:
    User.objects.create_user("ana")
    rows = fail(3)
    incidents.record()
    first = one("exhausted")
    decide(Action.ASSIGN_INCIDENT, first.id, owner="ana")
    decide(Action.NOTE_INCIDENT, first.id, "called the archive")
    decide(Action.ACKNOWLEDGE_INCIDENT, first.id, until=clock.now() + timedelta(hours=1))
    Command.objects.update(status=CommandStatus.WITHDRAWN)
    ending = incidents.find(first.id)
    assert ending is not None
    assert (ending.count, ending.ended_at is not None) == (0, True)
    incidents.record()
    assert incidents.listed().items == []
    [gone] = incidents.ended().items
    assert (gone.id, gone.most, gone.times, gone.owner) == (first.id, 3, 1, "ana")
    Command.objects.filter(id=rows[0].id).update(status=CommandStatus.EXHAUSTED, settled_at=clock.now())
    for _ in range(2):  # before it is recorded, and after
        again = one("exhausted")
        assert (again.id, again.count, again.times, again.owner, again.most) == (first.id, 1, 2, "ana", 1)
        assert again.acknowledged_until is None
        assert again.note is not None
        incidents.record()
    assert incidents.ended().items == []
    assert Incident.objects.get().times == 2


def test_recording_again_changes_nothing_and_writes_nothing() -> None:
    fail(2)
    incidents.record()
    before = Incident.objects.values().get()
    with CaptureQueriesContext(connection) as captured:
        assert incidents.record()
    assert Incident.objects.values().get() == before
    written = [query["sql"] for query in captured if query["sql"].startswith(("INSERT", "UPDATE"))]
    assert written == []


def test_the_first_case_and_the_most_at_once_are_of_the_whole_incident() -> None:
    early = clock.now() - timedelta(hours=3)
    old, *_ = fail(1, settled_at=early)
    fail(2)
    incidents.record()
    Command.objects.filter(id=old.id).update(status=CommandStatus.SKIPPED)
    incidents.record()
    found = one("exhausted")
    assert (found.first_at, found.count, found.most) == (early, 2, 3)


def test_old_incidents_are_forgotten_unless_somebody_wrote_about_them() -> None:
    fail(1, "locked")
    fail(1, "full")
    incidents.record()
    kept = one_of("locked")
    decide(Action.NOTE_INCIDENT, kept, "see the log of the archive")
    Command.objects.update(status=CommandStatus.SKIPPED)
    incidents.record()
    Incident.objects.update(ended_at=clock.now() - timedelta(days=91))
    incidents.record()
    assert [row.id for row in Incident.objects.all()] == [kept]


def one_of(text: str) -> UUID:
    return next(line.id for line in incidents.listed(payload=True).items if text in line.error)


@pytest.mark.django_db(transaction=True)
def test_two_workers_at_once_record_an_incident_once() -> None:
    rows = fail(5)
    incidents.record()
    Command.objects.update(status=CommandStatus.SKIPPED)
    incidents.record()
    Command.objects.filter(id__in=[row.id for row in rows]).update(status=CommandStatus.EXHAUSTED)
    together(incidents.record, 4)
    assert Incident.objects.values_list("times", "cases").get() == (2, 5)


def together(work: Callable[[], Any], times: int) -> None:
    barrier = threading.Barrier(times)

    def run() -> None:
        try:
            barrier.wait(timeout=30)
            work()
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)


def test_failing_takes_no_statement_for_incidents(settings: Any) -> None:
    """The hot path does not know them: applying refusals reads and writes no row of an incident."""
    with CaptureQueriesContext(connection) as captured:
        decided.exhausted(settings, images=3)
    assert one("exhausted").count == 3
    assert [query["sql"] for query in captured if "incident" in query["sql"]] == []


# --- decisions --------------------------------------------------------------------------------------------------------


def test_decisions_on_incidents_are_in_the_audit_and_among_its_notes() -> None:
    User.objects.create_user("bo")
    fail(1)
    incident = incidents.recorded(one("exhausted").id)
    decide(Action.ASSIGN_INCIDENT, incident, "on call", owner="bo")
    decide(Action.NOTE_INCIDENT, incident, "called the archive")
    until = clock.now() + timedelta(hours=1)
    decide(Action.ACKNOWLEDGE_INCIDENT, incident, "waits for them", until=until)
    notes = list(IncidentNote.objects.order_by("id").values_list("entry", "author", "text"))
    assert notes == [
        ("assign", "ana", "on call"),
        ("note", "ana", "called the archive"),
        ("acknowledge", "ana", "waits for them"),
    ]
    audit = Decision.objects.order_by("decided_at").values_list("action", "target", "actor", "reason")
    assert [row[0] for row in audit] == ["assign_incident", "note_incident", "acknowledge_incident"]
    assert {row[1] for row in audit} == {f"incident {incident}"}
    found = one("exhausted")
    assert (found.owner, found.acknowledged_until, found.acknowledged_by) == ("bo", until, "ana")
    assert found.note is not None
    assert found.note.text == "waits for them"
    decide(Action.ACKNOWLEDGE_INCIDENT, incident, until=None)
    decide(Action.ASSIGN_INCIDENT, incident, owner=None)
    assert (one("exhausted").owner, one("exhausted").acknowledged_until) == ("", None)


def test_a_preview_changes_nothing() -> None:
    fail(1)
    incident = incidents.recorded(one("exhausted").id)
    decide(Action.NOTE_INCIDENT, incident, dry_run=True)
    assert not IncidentNote.objects.exists()
    assert not Decision.objects.exists()


def test_what_decisions_refuse() -> None:
    fail(1)
    incident = incidents.recorded(one("exhausted").id)
    with pytest.raises(Invalid, match="future"):
        decide(Action.ACKNOWLEDGE_INCIDENT, incident, until=clock.now() - timedelta(seconds=1))
    with pytest.raises(Invalid, match="no active login nobody"):
        decide(Action.ASSIGN_INCIDENT, incident, owner="nobody")
    with pytest.raises(NotFound):
        decide(Action.NOTE_INCIDENT, uuid4())
    with pytest.raises(NotFound):
        incidents.recorded(uuid4())
    Command.objects.update(status=CommandStatus.SKIPPED)
    incidents.record()
    with pytest.raises(Refused, match="has ended"):
        decide(Action.ACKNOWLEDGE_INCIDENT, incident, until=clock.now() + timedelta(hours=1))
    decide(Action.NOTE_INCIDENT, incident, "it was the lock")


# --- throughput -------------------------------------------------------------------------------------------------------


def test_the_throughput_counts_the_events_and_ends_of_each_minute() -> None:
    assert throughput().oldest is None
    task, image = new_ids(2)
    event_log.append(retrieval(task, [image]) + image_through(task, image))
    found = throughput()
    assert sum(found.events) == Event.objects.count() == found.backlog
    assert found.oldest is not None
    run_apply()
    SagaLog.objects.update(end_time=found.now, status="COMPLETED")
    found = throughput()
    assert (sum(found.ended), found.backlog, found.oldest) == (1, 0, None)
    assert len(found.events) == len(found.ended) == 60


def test_each_event_is_counted_in_its_minute_and_those_of_an_earlier_hour_in_none() -> None:
    for _ in range(7):
        event_log.append([event("RetrievalStarted", new_ids(1)[0])])
    ids = list(Event.objects.order_by("id").values_list("id", flat=True))
    now = throughput().now
    for number, minutes in enumerate((300, 90, 61, 30, 30, 5, 0)):
        moved = [now - timedelta(minutes=minutes), ids[number]]
        rewrite("bridge_event", "UPDATE bridge_event SET received_at = %s WHERE id = %s", moved)
    found = throughput().events
    whole = [count for count in found if count]
    assert whole == [2, 1, 1]
