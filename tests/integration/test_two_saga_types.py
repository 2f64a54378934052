"""One event that sagas of two types read: stored once, applied to both, and each state is the fold of its own log."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from bridge import readings
from bridge import retention as log
from bridge.envelope import Envelope, Rejected
from bridge.models import Duplicate, Event, EventReading, Pending, PrunedEvent, Quarantined
from compensation.models import Command
from sagas import queries, retention
from sagas.applying import sweeper, verify
from sagas.applying.apply import run_apply
from sagas.errors import Invalid
from sagas.models import Parked, PrunedKey, SagaEvent, SagaLog
from sagas.queries import parts
from sagas.retention import Pruned
from tests.integration import decided
from tests.integration import deciding as actions
from tests.integration.api import Api, operator, viewer
from tests.integration.connections import InThread
from tests.integration.decided import request
from tests.integration.history import rewrite
from tests.integration.terminal import run
from tests.integration.test_compensation_races import until_somebody_waits_for_a_lock
from tests.integration.two_types import (
    LOYALTY,
    ORDERS,
    both_types,
    decode,
    loyalty_of,
    message,
    order_of,
    store,
    story,
    tell,
)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _both(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with both_types(monkeypatch):
        yield


def types_of(saga: SagaLog) -> list[str]:
    return [item.event.type for item in parts.event_page(parts.log(saga.id), 0, 100).items]


def all_are_the_fold() -> None:
    assert [verdict for verdict in verify.each(verify.all_ids()) if not verdict.well] == []


def prune(saga_type: str) -> Pruned:
    """Prune the ended sagas of a type, as if they had ended long ago, and no other."""
    now = timezone.now()
    SagaLog.objects.update(updated_at=now)
    old = now - timedelta(days=100)
    ended = SagaLog.objects.filter(saga_type=saga_type, end_time__isnull=False)
    ended.update(end_time=old, updated_at=old)
    return sum(retention.steps(retention.days_ago(30), retention.days_ago(90)), Pruned())


# --- storing and applying ---------------------------------------------------------------------------------------------


def test_an_event_is_stored_once_and_applied_to_a_saga_of_each_type() -> None:
    assert tell(*story("o-1", "c-1")).stored == Event.objects.count() == 5
    assert types_of(order_of("o-1")) == ["OrderPlaced", "OrderPaid", "OrderShipped"]
    # The readings of further saga types follow the events of their batch.
    assert types_of(loyalty_of("c-1")) == ["CustomerJoined", "CustomerLeft", "OrderPaid", "OrderShipped"]
    assert order_of("o-1").status == loyalty_of("c-1").status == "COMPLETED"
    assert (Pending.objects.count(), Parked.objects.count()) == (0, 0)
    paid = Event.objects.get(type="OrderPaid")
    assert (paid.stream, paid.key, paid.entity) == (ORDERS.name, "o-1", "")
    read = EventReading.objects.filter(event=paid).order_by("id").values_list("stream", "key", "entity")
    assert list(read) == [(ORDERS.name, "o-1", ""), (LOYALTY.name, "c-1", "o-1")]
    assert EventReading.objects.count() == 4, "two of each event that two types read, none of the others"
    all_are_the_fold()


@pytest.mark.parametrize("seed", range(12))
def test_each_state_is_the_fold_of_its_log_in_any_order_and_after_pruning_either(seed: int) -> None:
    chance = random.Random(seed)
    orders = [(f"o-{seed}-{number}", f"c-{seed}-{chance.randrange(3)}") for number in range(6)]
    customers = {customer for _, customer in orders}
    told = [message("CustomerJoined", customer=customer) for customer in customers]
    for order, customer in orders:
        told += [message("OrderPlaced", order), message("OrderPaid", order, customer)]
        ends_well = chance.random() < 0.6
        told.append(message("OrderShipped", order, customer) if ends_well else message("PaymentFailed", order))
        if not ends_well:
            told += [message("PaymentRefunded", order, customer), message("PointsTaken", order, customer)]
    told += [message("CustomerLeft", customer=customer) for customer in customers]
    told += chance.sample(told, 4)  # delivered again
    chance.shuffle(told)
    while told:
        size = chance.randint(1, 8)
        store(told[:size])
        del told[:size]
        if chance.random() < 0.7:
            run_apply()
    run_apply()
    sweeper.match_parked()
    run_apply()
    assert (Parked.objects.count(), Pending.objects.count()) == (0, 0)
    all_are_the_fold()
    for saga_type in chance.sample([ORDERS.name, LOYALTY.name], 2):
        ended = SagaLog.objects.filter(saga_type=saga_type, end_time__isnull=False).count()
        assert prune(saga_type).sagas == ended
        all_are_the_fold()
        logged = set(SagaEvent.objects.values_list("event", flat=True))
        assert set(readings.events(logged)) == logged, "no log names an event that is gone"
        kept = {one.pk for one in readings.events(logged).values()}
        assert set(Event.objects.values_list("pk", flat=True)) == kept, "no event stays that no log names"


def test_one_saga_type_costs_no_query_more() -> None:
    with CaptureQueriesContext(connection) as asked:
        tell(message("OrderPlaced", "o-1"), message("PaymentFailed", "o-1"))
    assert (SagaEvent.objects.count(), EventReading.objects.count()) == (2, 0)
    assert [one["sql"] for one in asked if "INTO bridge_event_reading" in one["sql"]] == []
    waiting = [one["sql"] for one in asked if "FROM bridge_pending p" in one["sql"]]
    assert waiting
    assert not any("bridge_event_reading" in sql for sql in waiting)


def test_several_types_share_a_topic_and_an_event_type_at_once() -> None:
    tell(*story("o-1", "c-1"), message("PointsSpent", "o-1", "c-1"))
    assert "PointsSpent" in types_of(loyalty_of("c-1"))
    assert "PointsSpent" not in types_of(order_of("o-1"))
    untyped = decode(message("OrderPaid", "o-2", "c-1")._replace(body=b'{"id": "e", "order_id": "o-2"}'))
    assert isinstance(untyped, Envelope)
    assert (untyped.type, untyped.stream, untyped.key) == ("OrderPaid", ORDERS.name, "o-2")
    assert [(one.stream, one.key, one.entity) for one in untyped.further] == [(LOYALTY.name, "", "o-2")]


def test_a_redelivery_is_one_duplicate_for_both_sagas() -> None:
    told = story("o-1", "c-1")
    tell(*told)
    again = store([told[2]])
    assert (again.stored, again.duplicates, Pending.objects.count()) == (0, 1, 0)
    assert queries.duplicates(order_of("o-1")) == queries.duplicates(loyalty_of("c-1")) == 1
    for saga in SagaLog.objects.all():
        [paid] = parts.event_page(parts.log(saga.id, type="OrderPaid"), 0, 10).items
        assert paid.duplicates == 1


# --- bodies that one type cannot use ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "reader", "note"),
    [
        ({"order": "o-1"}, ORDERS.name, ""),  # the other saga type finds its saga by the entity
        ({"customer": "c-1"}, LOYALTY.name, f"not-used-no-key:{ORDERS.name} (order_id)"),
        ({"order": "o-1", "customer": " c"}, ORDERS.name, f"not-used-bad-id:{LOYALTY.name} (customer_id)"),
    ],
)
def test_a_body_that_one_type_cannot_use_is_stored_with_a_note(more: dict[str, str], reader: str, note: str) -> None:
    tell(message("CustomerJoined", customer="c-1"), message("OrderPlaced", "o-1"))
    assert tell(message("OrderPaid", **more)).stored == 1
    stored = Event.objects.get(type="OrderPaid")
    assert (stored.stream, stored.note) == (reader, note)
    assert Quarantined.objects.count() == 0
    assert EventReading.objects.count() == (0 if note else 2)
    if note:
        assert "this saga type does not use it" in stored.note_text
    all_are_the_fold()


def test_a_body_that_no_type_can_use_goes_to_quarantine() -> None:
    found = decode(message("OrderPaid"))
    assert isinstance(found, Rejected)
    assert (found.code, found.reason.data) == ("no-key", {"fields": ["order_id"]}), "as the first type refuses it"
    assert tell(message("OrderPaid")).quarantined == 1


def test_a_requeued_message_reaches_the_sagas_of_both_types() -> None:
    tell(message("CustomerJoined", customer="c-1"), message("OrderPlaced", "o-1"))
    wrong = message("OrderPaid", "o-1", "c-1")
    store([wrong._replace(short_name="orders-shipped")])
    kept = Quarantined.objects.get()
    done = actions.requeue_message(kept.pk, request=request())
    assert done.effects["saga"] == str(order_of("o-1").id)
    assert "OrderPaid" in types_of(order_of("o-1"))
    assert "OrderPaid" in types_of(loyalty_of("c-1"))
    assert Pending.objects.count() == 0


# --- entities ---------------------------------------------------------------------------------------------------------


def test_two_sagas_of_different_types_know_an_entity_and_nothing_is_held() -> None:
    tell(*story("o-1", "c-1")[:3])
    tell(message("PaymentFailed", "o-1"), message("PaymentRefunded", "o-1", "c-1"))
    planned = dict(Command.objects.values_list("name", "held_since"))
    assert planned == {"RefundPayment": None, "CancelOrder": None, "TakePoints": None}
    tell(message("CustomerJoined", customer="c-2"), message("OrderPaid", "o-1", "c-2"))
    assert set(Command.objects.filter(held_since__isnull=False).values_list("name", flat=True)) == {"TakePoints"}


def test_a_saga_of_another_type_is_no_reason_to_keep_one() -> None:
    tell(*story("o-1", "c-1")[:3], message("CustomerJoined", customer="c-2"), message("OrderPaid", "o-1", "c-2"))
    tell(message("PaymentFailed", "o-1"), message("PaymentRefunded", "o-1", "c-2"))
    decided.published()  # CancelOrder: that it was sent is its confirmation
    run_apply()
    assert [command.name for command in Command.objects.filter(held_since__isnull=False)] == ["TakePoints"]
    assert order_of("o-1").status == "COMPENSATION_SUCCEEDED"
    assert prune(ORDERS.name).sagas == 1, "a saga that knows the order is a reason only if it is of the same type"


def test_unmatched_events_find_their_entity_among_sagas_of_their_type() -> None:
    tell(message("OrderPlaced", "o-1"), message("OrderPaid", "o-1"))  # the order's saga knows o-1, no customer does
    waiting = Parked.objects.get()
    assert (waiting.stream, waiting.key, waiting.entity, waiting.by_entity) == (LOYALTY.name, "", "o-1", True)
    assert sweeper.match_parked() == 0
    tell(message("CustomerJoined", customer="c-1"), message("OrderShipped", "o-1", "c-1"))
    run_apply()
    assert Parked.objects.count() == 0
    assert types_of(loyalty_of("c-1")) == ["CustomerJoined", "OrderShipped", "OrderPaid"]
    all_are_the_fold()


# --- unmatched events of two types ------------------------------------------------------------------------------------


def test_unmatched_events_are_attached_for_one_type_and_dismissed_for_another() -> None:
    [paid] = [message("OrderPaid", "x", "x")]
    tell(message("OrderPlaced", "o-1"), message("CustomerJoined", customer="c-1"), paid)
    assert set(Parked.objects.values_list("stream", "key")) == {(ORDERS.name, "x"), (LOYALTY.name, "x")}
    groups = queries.parked_groups().items
    assert {(group.stream, tuple(group.event_ids), tuple(group.types)) for group in groups} == {
        (name, (Event.objects.get(type="OrderPaid").event_id,), ("OrderPaid",)) for name in (ORDERS.name, LOYALTY.name)
    }
    api = Api(operator())
    with pytest.raises(Invalid, match="several saga types"):
        actions.adopt("x", request=request())
    assert api.post("parked/dismiss", {"key": "x", "saga_type": LOYALTY.name, "reason": "r"}).status_code == 202
    assert [row.stream for row in Parked.objects.filter(dismissed_at=None)] == [ORDERS.name]
    event_id = Event.objects.get(type="OrderPaid").event_id
    attached = actions.attach(saga_id=order_of("o-1").id, event=event_id, request=request())
    assert attached.effects["events"] == 1
    assert types_of(order_of("o-1")) == ["OrderPlaced", "OrderPaid"]
    assert [(row.stream, row.dismissed_at is None) for row in Parked.objects.all()] == [(LOYALTY.name, False)]
    actions.attach(saga_id=loyalty_of("c-1").id, key="x", request=request())
    assert types_of(loyalty_of("c-1")) == ["CustomerJoined", "OrderPaid"]
    assert [item.log.event for item in parts.event_page(parts.log(loyalty_of("c-1").id), 0, 9).items][1] != (
        Event.objects.get(type="OrderPaid").pk
    )
    all_are_the_fold()


def test_the_command_line_dismisses_for_one_type_or_for_all() -> None:
    tell(message("OrderPaid", "x", "y"))
    event_id = Event.objects.get().event_id
    assert run("dismiss", "--event", event_id, "--type", ORDERS.name, "--reason", "r", "--yes").code == 0
    assert [row.stream for row in Parked.objects.filter(dismissed_at=None)] == [LOYALTY.name]
    assert run("dismiss", "--event", event_id, "--reason", "r", "--yes").code == 0
    assert not Parked.objects.filter(dismissed_at=None).exists()
    assert run("dismiss", "--event", event_id, "--type", "image_processing", "--reason", "r", "--yes").code != 0


def test_a_saga_is_adopted_from_the_reading_of_its_type() -> None:
    tell(message("OrderPaid", "x", "y", at=7))
    adopted = actions.adopt("y", LOYALTY.name, request=request())
    saga = SagaLog.objects.get(id=adopted.effects["saga"])
    assert saga.start_time == Event.objects.get(type="OrderPaid").occurred_at
    assert (saga.saga_type, Parked.objects.get().stream) == (LOYALTY.name, ORDERS.name)
    all_are_the_fold()


def test_dismissed_events_leave_for_each_type_and_the_event_with_the_last() -> None:
    tell(message("OrderPaid", "x", "y"))
    for name in (ORDERS.name, LOYALTY.name):
        assert Event.objects.count() == 1
        old = timezone.now() - timedelta(days=100)
        Parked.objects.filter(stream=name).update(dismissed_at=old)
        assert prune("none").dismissed_events == 1
    assert (Event.objects.count(), EventReading.objects.count(), PrunedEvent.objects.count()) == (0, 0, 1)


# --- retention --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [ORDERS.name, LOYALTY.name])
def test_an_event_leaves_with_its_last_saga(first: str) -> None:
    told = story("o-1", "c-1")
    tell(*told)
    tell(told[2])
    [second] = {ORDERS.name, LOYALTY.name} - {first}
    assert prune(first).sagas == 1
    kept = set(Event.objects.values_list("type", flat=True))
    assert {"OrderPaid", "OrderShipped"} <= kept
    assert len(kept) == SagaEvent.objects.count()
    assert set(EventReading.objects.values_list("stream", flat=True)) == {second}
    assert (PrunedKey.objects.get().stream, Duplicate.objects.count()) == (first, 1)
    assert tell(*told).stored == 0, "pruned or stored, each is known"
    assert Parked.objects.count() == 0
    all_are_the_fold()
    left = SagaLog.objects.get()
    assert set(types_of(left)) == kept
    assert prune(second).sagas == 1
    for model in (Event, EventReading, SagaEvent, Duplicate, SagaLog, Parked):
        assert model._default_manager.count() == 0, model
    assert PrunedEvent.objects.count() == 5
    assert tell(*told).stored == 0


def test_two_that_prune_the_last_two_readings_at_once_delete_the_event() -> None:
    tell(*story("o-1", "c-1")[:3])
    paid = Event.objects.get(type="OrderPaid")
    own, other = EventReading.objects.order_by("id").values_list("id", flat=True)

    with transaction.atomic():
        log.forget([own], timezone.now())
        beside = InThread(transaction.atomic()(lambda: log.forget([other], timezone.now())))
        InThread(until_somebody_waits_for_a_lock).result()
        assert beside.running
        assert Event.objects.filter(pk=paid.pk).exists()
    assert beside.result() == 1
    assert not Event.objects.filter(pk=paid.pk).exists()
    assert not EventReading.objects.exists()


# --- what people see --------------------------------------------------------------------------------------------------


def test_api_lists_the_event_of_each_saga_as_its_type_reads_it() -> None:
    tell(*story("o-1", "c-1"))
    api = Api(viewer())
    for saga, key, entity in ((order_of("o-1"), "o-1", None), (loyalty_of("c-1"), "c-1", "o-1")):
        page = api.get(f"sagas/{saga.id}/events", {}).json()
        assert page["total"] == saga.events_count
        [paid] = [item for item in page["items"] if item["type"] == "OrderPaid"]
        assert (paid["task_id"], paid["entity_id"]) == (key, entity)
    assert parts.log(loyalty_of("c-1").id, entity="o-1").count() == 2
    assert parts.log(order_of("o-1").id, entity="o-1").count() == 0
    assert parts.log(order_of("o-1").id, type="OrderPaid").count() == 1
    paid_id = Event.objects.get(type="OrderPaid").event_id
    assert {saga.saga_type for saga in queries.of_event(paid_id)} == {ORDERS.name, LOYALTY.name}


def test_commands_show_verify_and_replay_sagas_of_both_types() -> None:
    tell(*story("o-1", "c-1"))
    assert run("verify_sagas").code == 0
    for saga, count in ((order_of("o-1"), 3), (loyalty_of("c-1"), 4)):
        shown = run("show_saga", str(saga.id), "--json").data
        entries = [item for item in shown["timeline"]["items"] if item["detail"].get("event_type")]
        assert len(entries) == count
        [paid] = [item for item in entries if item["detail"]["event_type"] == "OrderPaid"]
        assert paid["detail"]["task_id"] == saga.key
        assert run("replay_saga", str(saga.id)).code == 0
        SagaLog.objects.filter(id=saga.id).update(steps_count=77)
        assert run("verify_sagas", str(saga.id)).code != 0
        assert run("replay_saga", str(saga.id), "--apply", "--reason", "r", "--yes").code == 0
    all_are_the_fold()


def test_the_page_of_an_event_names_the_sagas_of_both_types() -> None:
    tell(*story("o-1", "c-1")[:3], message("OrderPaid", "o-2", "c-1"))
    client = Client()
    client.force_login(User.objects.create_superuser("ana"))
    first, second = Event.objects.filter(type="OrderPaid").order_by("pk")
    page = client.get(reverse("admin:bridge_event_change", args=[first.pk])).content.decode()
    assert str(order_of("o-1").id) in page
    assert str(loyalty_of("c-1").id) in page
    page = client.get(reverse("admin:bridge_event_change", args=[second.pk])).content.decode()
    assert str(loyalty_of("c-1").id) in page
    assert "No saga matches yet" in page
    found = client.get(reverse("admin:bridge_event_changelist"), {"q": "c-1"}).content.decode()
    assert first.event_id in found
    assert second.event_id in found
    for saga in SagaLog.objects.all():
        assert client.get(reverse("admin:sagas_sagalog_change", args=[saga.id])).status_code == 200
    listed = client.get(reverse("admin:sagas_sagalog_changelist"), {"q": first.event_id}).content.decode()
    assert str(order_of("o-1").id) in listed
    assert str(loyalty_of("c-1").id) in listed


def test_the_backlog_is_as_old_as_a_reading_that_waits() -> None:
    store(story("o-1", "c-1")[2:3])
    reading = EventReading.objects.order_by("id")[1]
    Pending.objects.exclude(id=reading.id).delete()
    assert readings.oldest_received_at() == Event.objects.get().received_at
    assert not sweeper.pending_too_long()
    rewrite("bridge_event", "UPDATE bridge_event SET received_at = received_at - interval '1 hour'")
    assert sweeper.pending_too_long()
    Pending.objects.all().delete()
    assert readings.oldest_received_at() is None
    assert not sweeper.pending_too_long()


# --- an earlier release beside this schema ----------------------------------------------------------------------------


def test_an_earlier_release_loses_nothing_of_a_further_reading() -> None:
    """The statements of the release before, on what this one stored."""
    store(story("o-1", "c-1")[:3])
    waiting = set(Pending.objects.values_list("id", flat=True))
    further = EventReading.objects.order_by("-id")[0].id
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT p.id FROM bridge_pending p JOIN bridge_event e ON e.id = p.id WHERE p.id = ANY(%s)", [list(waiting)]
        )
        read = {row[0] for row in cursor.fetchall()}
        assert read == waiting - {further}
        cursor.execute("DELETE FROM bridge_pending WHERE id = ANY(%s)", [list(read)])
    assert set(Pending.objects.values_list("id", flat=True)) == {further}
    store([message("CustomerJoined", customer="c-1")])
    run_apply()
    assert set(types_of(loyalty_of("c-1"))) == {"CustomerJoined", "OrderPaid"}
    paid = Event.objects.get(type="OrderPaid")
    with pytest.raises(IntegrityError), transaction.atomic(), log.deleting(), connection.cursor() as cursor:
        cursor.execute("DELETE FROM bridge_event WHERE id = %s", [paid.pk])
    all_are_the_fold()
