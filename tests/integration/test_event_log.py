"""The one door: exactly once, in one piece, whatever comes."""

import json
import threading
from typing import Any

import pytest
from django.db import DataError, OperationalError, connection, models, transaction
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pytest_django import DjangoAssertNumQueries

from bridge import event_log, quarantine, routing, sql
from bridge.envelope import Envelope
from bridge.errors import AlreadyDecided, NotInQuarantine, StillUnreadable
from bridge.event_log import NewFact, StoreResult
from bridge.models import Duplicate, Event, Heartbeat, Pending, Quarantined
from bridge.reasons import Reason
from tests.integration.bridge_messages import CODEC, PUBLISHED, body, envelope, message, rejected
from tests.integration.history import rewrite

pytestmark = pytest.mark.django_db


def fact(event_id: str, **changes: Any) -> NewFact:
    plain = NewFact("operator", event_id, "orders", "Cancelled", "o-1", "", PUBLISHED, {"why": "so"}, "orders:o-1")
    return plain._replace(**changes)


# --- storing ---


def test_a_batch_becomes_events_that_wait() -> None:
    result = event_log.store_batch([envelope("e-2", item="i-1", more=[1, "ñ\\"]), envelope("e-1")])
    assert result == StoreResult(stored=2)
    first, second = Event.objects.order_by("event_id")
    assert (second.source, second.type, second.stream, second.key, second.entity) == (
        "pulsar",
        "OrderPlaced",
        "orders",
        "o-1",
        "i-1",
    )
    assert second.payload["more"] == [1, "ñ\\"]
    assert (second.topic, second.occurred_at, second.received_at) == ("orders", PUBLISHED, PUBLISHED)
    assert second.message_id
    assert dict(Pending.objects.values_list("pk", "key")) == {first.pk: "orders:o-1", second.pk: "orders:o-1"}


def test_the_producers_name_is_kept_with_the_event_and_the_quarantined_message() -> None:
    one, bad = envelope("e-1"), rejected()
    one = one._replace(message=one.message._replace(producer="pacs-7"))
    event_log.store_batch([one], [bad._replace(message=bad.message._replace(producer="x" * 200))])
    event_log.append([fact("d-1")])
    assert dict(Event.objects.values_list("event_id", "producer")) == {"e-1": "pacs-7", "d-1": ""}
    kept = Quarantined.objects.get()
    assert kept.producer == "x" * 200
    assert quarantine.message_of(kept).producer == kept.producer, "an event that is requeued has it too"


def test_an_event_without_a_key_waits_under_its_entity() -> None:
    event_log.store_batch([envelope("e-1", order=None, item="i-1")])
    assert Pending.objects.get().key == "orders:@i-1" == routing.routing_key("orders", "", "i-1")


def test_numbers_are_kept_digit_by_digit() -> None:
    raw = body("e-1", dose="X").replace(b'"X"', b"0.12345678901234567890")
    decoded = CODEC.decode(message(raw), PUBLISHED)
    assert isinstance(decoded, Envelope)
    event_log.store_batch([decoded])
    with connection.cursor() as cursor:
        cursor.execute("SELECT payload->>'dose' FROM bridge_event")
        assert cursor.fetchone()[0] == "0.12345678901234567890"


def test_a_batch_is_one_statement_and_its_transaction(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    batch = [envelope(f"e-{number}")._replace(occurred_at=timezone.now()) for number in range(50)]
    with django_assert_num_queries(3):  # savepoint, insert, release
        event_log.store_batch(batch)


def test_a_batch_with_what_is_old_is_one_statement_more(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    now = timezone.now()
    batch = [envelope("e-1")._replace(occurred_at=now), envelope("e-2")._replace(received_at=now)]
    with django_assert_num_queries(4):  # … and whether one of them was pruned
        event_log.store_batch(batch)


def test_repeats_are_kept_as_narrow_rows_and_never_applied_again() -> None:
    event_log.store_batch([envelope("e-1")])
    Pending.objects.all().delete()
    assert event_log.store_batch([envelope("e-1"), envelope("e-1"), envelope("e-2")]) == StoreResult(1, 2, 0)
    assert Event.objects.count() == 2
    assert Duplicate.objects.filter(event=Event.objects.get(event_id="e-1").pk).count() == 2
    assert Pending.objects.count() == 1


def test_repeats_within_one_batch() -> None:
    assert event_log.store_batch([envelope("e-1"), envelope("e-1")]) == StoreResult(1, 1, 0)


def test_the_same_id_with_other_content_is_quarantined_not_dropped() -> None:
    event_log.store_batch([envelope("e-1", count=1)])
    other, within = envelope("e-1", count=2), [envelope("e-2", count=1), envelope("e-2", count=2)]
    assert event_log.store_batch([other, *within]) == StoreResult(1, 0, 2)
    kept = Quarantined.objects.order_by("pk").first()
    assert kept is not None
    assert kept.code == "conflicting-content"
    assert bytes(kept.body) == other.message.body
    assert Event.objects.get(event_id="e-2").payload["count"] == 1


def test_no_message_passes_for_a_fact_of_our_own() -> None:
    event_log.append([fact("e-1")])
    assert event_log.store_batch([envelope("e-1")]).stored == 1


def test_what_cannot_be_read_is_kept_with_its_bytes_once() -> None:
    bad = rejected(b"\xff\0 bytes")
    assert event_log.store_batch([envelope("e-1")], [bad, bad]).quarantined == 2
    event_log.store_batch([], [bad])
    kept = Quarantined.objects.get()
    assert bytes(kept.body) == b"\xff\0 bytes"
    assert (kept.topic, kept.message_id, kept.code, kept.status) == (
        "orders",
        bad.message.message_id,
        "not-json",
        "open",
    )
    assert kept.published_at == PUBLISHED
    assert kept.properties == {"k": "v\ufffd"}
    assert Event.objects.count() == 1


@pytest.mark.parametrize("size", [1, 2, 7])
def test_what_the_database_refuses_costs_no_neighbour(size: int) -> None:
    batch = [envelope(f"e-{number}") for number in range(size)]
    offender = batch[size // 2]
    # Past the codec, by a hole that it does not have.
    batch[size // 2] = offender._replace(payload=offender.payload.replace(b"o-1", rb"o-1\u0000"))
    assert event_log.store_batch(batch, [rejected()]) == StoreResult(size - 1, 0, 2)
    assert set(Quarantined.objects.values_list("code", flat=True)) == {"not-json", "refused-by-database"}
    assert "o-1" not in Quarantined.objects.get(code="refused-by-database").reason


def test_half_a_character_past_the_codec_costs_no_neighbour() -> None:
    assert event_log.store_batch([envelope("e-1"), envelope("e-2")._replace(key="\ud800")]) == StoreResult(1, 0, 1)


def test_other_errors_are_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise OperationalError("away")

    monkeypatch.setattr(event_log, "_store", away)
    with pytest.raises(OperationalError):
        event_log.store_batch([envelope("e-1"), envelope("e-2")])


@pytest.mark.django_db(transaction=True)
def test_two_writers_with_the_same_events_in_opposite_orders() -> None:
    ids = [f"e-{number:03}" for number in range(200)]
    batches = [[envelope(event_id) for event_id in order] for order in (ids, ids[::-1])] * 3
    results: list[StoreResult] = []
    barrier = threading.Barrier(len(batches))

    def write(batch: list[Envelope]) -> None:
        barrier.wait()
        try:
            results.append(event_log.store_batch(batch, [rejected(b"a"), rejected(b"b")]))
        finally:
            connection.close()

    threads = [threading.Thread(target=write, args=(batch,)) for batch in batches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total = sum(results, StoreResult())
    assert (total.stored, total.duplicates) == (200, 1000)
    assert Event.objects.count() == Pending.objects.count() == 200


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("code", ["40P01", "40001"])
def test_a_deadlock_is_tried_again(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    real, tries = event_log._store, []

    def once_a_victim(*args: Any) -> StoreResult:
        tries.append(args)
        if len(tries) == 1:
            error = OperationalError("victim")
            error.__cause__ = type("Victim", (Exception,), {"pgcode": code})()
            raise error
        return real(*args)

    monkeypatch.setattr(event_log, "_store", once_a_victim)
    assert event_log.store_batch([envelope("e-1")]).stored == 1


# --- our own facts ---


def test_our_own_facts_are_appended_once() -> None:
    first = event_log.append([fact("d-2"), fact("d-1", lane="i-1")])
    assert len(first) == 2
    assert event_log.append([fact("d-1"), fact("d-3")]) == [Event.objects.get(event_id="d-3").pk]
    assert Pending.objects.get(pk=Event.objects.get(event_id="d-1").pk).lane == "i-1"
    assert event_log.append([]) == []


def test_our_own_facts_come_and_go_with_the_callers_transaction() -> None:
    with transaction.atomic():
        event_log.append([fact("d-1")])
        transaction.set_rollback(True)
    assert not Event.objects.exists()
    assert not Pending.objects.exists()


def test_a_fact_that_the_database_refuses_is_the_callers_error() -> None:
    with pytest.raises(DataError), transaction.atomic():
        event_log.append([fact("nul \0")])


# --- quarantine ---


@pytest.fixture
def own_codec(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_log, "get_codec", lambda: CODEC)


def quarantined(raw: bytes) -> Quarantined:
    bad = rejected()
    event_log.store_batch([], [bad._replace(message=bad.message._replace(body=raw))])
    return Quarantined.objects.get()


@pytest.mark.usefixtures("own_codec")
def test_a_message_that_can_be_read_by_now_is_requeued(django_capture_on_commit_callbacks: Any) -> None:
    row = quarantined(body("e-1"))
    with django_capture_on_commit_callbacks() as nudges:
        pk = event_log.requeue(row.pk, actor="ana", why="mended")
    assert len(nudges) == 1
    event = Event.objects.get()
    assert (event.pk, event.event_id, event.message_id) == (pk, "e-1", row.message_id)
    assert Pending.objects.get().pk == pk
    row.refresh_from_db()
    assert (row.status, row.decided_by, row.decided_why) == ("requeued", "ana", "mended")
    assert row.decided_at is not None
    with pytest.raises(AlreadyDecided):
        event_log.requeue(row.pk)


@pytest.mark.usefixtures("own_codec")
def test_an_event_without_an_id_keeps_its_name_when_requeued() -> None:
    row = quarantined(body("x").replace(b'"id"', b'"no"'))
    event_log.requeue(row.pk)
    assert Event.objects.get().event_id == f"orders@{row.message_id}@{round(PUBLISHED.timestamp() * 1000)}"


@pytest.mark.usefixtures("own_codec")
def test_what_still_cannot_be_read_stays_in_quarantine() -> None:
    row = quarantined(b"still not json")
    with pytest.raises(StillUnreadable, match="not JSON"):
        event_log.requeue(row.pk)
    row.refresh_from_db()
    assert row.status == "open"


@pytest.mark.usefixtures("own_codec")
def test_a_type_on_the_wrong_topic_is_not_requeued_either() -> None:
    bad = rejected()
    moved = bad.message._replace(topic="payments", short_name="payments", body=body("e-1", type="OrderPlaced"))
    event_log.store_batch([], [bad._replace(message=moved)])
    row = Quarantined.objects.get()
    with pytest.raises(StillUnreadable, match="OrderPlaced is not accepted from this topic"):
        event_log.requeue(row.pk)
    assert event_log.unreadable(row)
    assert event_log.routing_of(row.pk) == []
    assert not Event.objects.exists()


@pytest.mark.usefixtures("own_codec")
def test_a_conflict_stays_a_conflict_and_a_repeat_is_a_success() -> None:
    event_log.store_batch([envelope("e-1", count=1)])
    row = quarantined(body("e-1", count=2))
    with pytest.raises(StillUnreadable, match="an event with this id and different content"):
        event_log.requeue(row.pk)
    assert event_log.unreadable(row) == Reason("conflicting-content"), "so that nobody is offered to requeue it"
    rewrite("bridge_quarantined", "DELETE FROM bridge_quarantined")
    repeat = quarantined(body("e-1", count=1))
    assert event_log.unreadable(repeat) is None
    assert event_log.requeue(repeat.pk) == Event.objects.get().pk


@pytest.mark.usefixtures("own_codec")
def test_dismissal_only_hides() -> None:
    row = quarantined(body("e-1"))
    quarantine.dismiss(row.pk, actor="ana", why="a test message")
    row.refresh_from_db()
    assert (row.status, row.decided_by) == ("dismissed", "ana")
    with pytest.raises(AlreadyDecided):
        quarantine.dismiss(row.pk, actor="ana", why="again")
    assert event_log.requeue(row.pk) == Event.objects.get().pk


def test_there_is_no_such_message() -> None:
    with pytest.raises(NotInQuarantine):
        event_log.requeue(7)
    with pytest.raises(NotInQuarantine):
        quarantine.dismiss(7, actor="ana", why="so")


# --- the helper ---


def test_columns_come_from_the_model_and_agree_with_the_database() -> None:
    for model in (Event, Pending, Duplicate, Quarantined, Heartbeat):
        fields = [field for field in model._meta.get_fields() if isinstance(field, models.Field)]
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = %s",
                [model._meta.db_table],
            )
            assert sql.columns_of(model, *(field.name for field in fields)) == dict(cursor.fetchall())


def test_rows_travel_as_one_array_a_column() -> None:
    columns = {"a": "text", "b": "bytea", "c": "timestamptz", "d": "jsonb"}
    rows: list[dict[str, Any]] = [
        {"a": "1' \\", "b": b"\0\xff", "c": PUBLISHED, "d": {"x": [1]}},
        {"a": None},
        {"a": "b", "d": b'{"as": "it \\"came\\",\\n"\n}'},
    ]
    with connection.cursor() as cursor:
        names = sql.names(columns, "r")
        cursor.execute(f"SELECT {names} FROM {sql.recordset(columns)}", sql.dump(columns, rows))
        first, second, third = cursor.fetchall()
        cursor.execute(f"SELECT {names} FROM {sql.recordset(columns)}", sql.dump(columns, []))
        assert cursor.fetchall() == []
    assert (first[0], bytes(first[1]), first[2], json.loads(first[3])) == ("1' \\", b"\0\xff", PUBLISHED, {"x": [1]})
    assert second == (None, None, None, None)
    assert json.loads(third[3]) == {"as": 'it "came",\n'}
    with pytest.raises(TypeError):
        sql.dump({"a": "text"}, [{"a": object()}])


@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {
                "text": st.none() | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
                "flag": st.none() | st.booleans(),
                "number": st.none() | st.integers(-(2**63), 2**63 - 1),
                "share": st.none() | st.floats(allow_nan=False, allow_infinity=False),
                "data": st.none() | st.dictionaries(st.text("a\"\\{},\n '"), st.text("a\"\\{},\n '")),
            }
        ),
        min_size=1,
    )
)
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_row_holds_arrives_as_it_was(rows: list[dict[str, Any]]) -> None:
    columns = {"text": "text", "flag": "boolean", "number": "bigint", "share": "float8", "data": "jsonb"}
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT r.* FROM {sql.recordset(columns)}", sql.dump(columns, rows))
        arrived = [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]
    for row in arrived:
        row["data"] = row["data"] and json.loads(row["data"])
    assert arrived == rows
