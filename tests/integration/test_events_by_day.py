"""One event has one id on one day by its own clock: what counts as a repeat, around midnight and further apart."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import orjson
import pytest
from django.db import connection, transaction

from bridge import clock, event_log, look_up, retention
from bridge.codec import get_codec
from bridge.envelope import Envelope, Message
from bridge.errors import StillUnreadable
from bridge.event_log import NewFact, StoreResult
from bridge.models import Duplicate, Event, PrunedEvent, Quarantined, Source
from bridge.once import midnight_near
from sagas.applying import apply, verify
from sagas.models import SagaEvent, SagaLog, SagaStep
from tests.bench.load import Teller
from tests.integration.bridge_messages import CODEC, PUBLISHED, body, envelope, message
from tests.integration.connections import InThread

pytestmark = pytest.mark.django_db

MIDNIGHT = datetime(2026, 3, 1, tzinfo=UTC)
STORED, SAME, CONFLICT = StoreResult(stored=1), StoreResult(duplicates=1), StoreResult(quarantined=1)


def at(minutes: float, event_id: str = "e-1", **fields: Any) -> Envelope:
    """An event so many minutes after midnight by its own clock."""
    when = (MIDNIGHT + timedelta(minutes=minutes)).replace(tzinfo=None).isoformat()
    return envelope(event_id, timestamp=when, **fields)


def timeless(**fields: Any) -> Envelope:
    """An event whose body has no time."""
    return envelope("e-1", timestamp=None, **fields)


def store(*envelopes: Envelope) -> StoreResult:
    return event_log.store_batch(envelopes)


# --- the day ----------------------------------------------------------------------------------------------------------


def test_the_day_is_that_of_the_body_in_utc() -> None:
    store(envelope("e-1", timestamp="2026-02-28T23:30:00-02:00"), envelope("e-2", timestamp="2026-02-28T12:00:00"))
    event_log.append([NewFact("operator", "o-1", "orders", "Cancelled", "o-1", "", PUBLISHED, {}, "orders:o-1")])
    store(timeless(id="e-3"))
    days = {event_id: day and str(day) for event_id, day in Event.objects.values_list("event_id", "day")}
    assert days == {"e-1": "2026-03-01", "e-2": "2026-02-28", "o-1": None, "e-3": None}


def test_a_redelivery_received_on_a_later_day_is_a_repeat() -> None:
    first, again = at(5), at(5)._replace(received_at=PUBLISHED + timedelta(days=3))
    assert (store(first), store(again)) == (STORED, SAME)
    assert Duplicate.objects.count() == 1


def test_an_event_without_a_time_of_its_own_is_known_whenever_it_comes() -> None:
    raw = body("e-1", timestamp=None)
    days = [CODEC.decode(message(raw, when), when) for when in (PUBLISHED, PUBLISHED + timedelta(days=9))]
    assert [store(each) for each in days if isinstance(each, Envelope)] == [STORED, SAME]
    assert store(timeless(count=2)) == CONFLICT


def test_a_fact_of_our_own_is_appended_once_and_may_share_an_id_with_another_source() -> None:
    fact = NewFact("operator", "e-1", "orders", "Cancelled", "o-1", "", PUBLISHED, {}, "orders:o-1")
    assert len(event_log.append([fact, fact._replace(source=Source.SAGAS)])) == 2
    assert event_log.append([fact]) == []
    assert store(at(0), timeless()) == StoreResult(stored=2)


# --- around midnight --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("minutes", "other"),
    [(0, -1), (9.9, -1), (10, 0), (720, 0), (1429.9, 0), (1430, 1), (1439.9, 1)],
)
def test_which_times_are_close_to_midnight(minutes: float, other: int) -> None:
    when = MIDNIGHT + timedelta(minutes=minutes)
    found = midnight_near(when.date(), when)
    assert ((found and (found.other_day - when.date()).days) or 0) == other
    assert midnight_near(None, when) is None
    # A time that does not belong to the day is close to none of its midnights.
    assert midnight_near(when.date() - timedelta(days=9), when) is None
    assert midnight_near(when.date() + timedelta(days=9), when) is None


@pytest.mark.parametrize("pair", [(-5, 5), (5, -5)])
@pytest.mark.parametrize("one_batch", [True, False])
def test_an_event_that_is_stamped_again_across_midnight_is_the_same_event(
    pair: tuple[float, float], one_batch: bool
) -> None:
    """As before the day was part of the key: its content differs, if only by the time, so a person looks."""
    first, second = map(at, pair)
    others = at(-5, "e-2"), at(400, "e-3")
    if one_batch:
        assert store(first, second, *others) == StoreResult(stored=3, quarantined=1)
    else:
        assert (store(first), store(second, *others)) == (STORED, StoreResult(stored=2, quarantined=1))
    assert Event.objects.get(event_id="e-1").occurred_at == first.occurred_at
    kept = Quarantined.objects.get()
    assert (kept.code, bytes(kept.body)) == ("conflicting-content", second.message.body)
    with pytest.raises(StillUnreadable):
        event_log.requeue(kept.pk)


@pytest.mark.django_db(transaction=True)
def test_two_bridges_that_receive_both_at_once_store_one(monkeypatch: pytest.MonkeyPatch) -> None:
    inserted, go_on = threading.Event(), threading.Event()

    def first() -> StoreResult:
        with transaction.atomic():
            done = store(at(-5))
            inserted.set()
            assert go_on.wait(30)
        return done

    one = InThread(first)
    assert inserted.wait(30)
    other = InThread(lambda: store(at(5)))
    _wait_for_a_waiting_lock()
    go_on.set()
    assert (one.result(), other.result()) == (STORED, CONFLICT)
    assert Event.objects.count() == 1


def _wait_for_a_waiting_lock() -> None:
    deadline = clock.now() + timedelta(seconds=30)
    with connection.cursor() as cursor:
        while True:
            cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
            if cursor.fetchone()[0]:
                return
            assert clock.now() < deadline, "the other bridge does not wait"


# --- further apart ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pair", [*permutations((-5, 11)), *permutations((-720, 720)), *permutations((0, -10.1))])
@pytest.mark.parametrize("one_batch", [True, False])
def test_an_id_used_again_further_apart_is_another_event(pair: tuple[float, float], one_batch: bool) -> None:
    first, second = map(at, pair)
    done = [store(first, second)] if one_batch else [store(first), store(second)]
    assert sum(done, StoreResult()) == StoreResult(stored=2)
    assert store(first, second) == StoreResult(duplicates=2), "each is known from then on"
    assert len(look_up.by_event_id(["e-1"])) == 2


def test_what_becomes_of_a_saga_whose_service_uses_an_id_again_days_later() -> None:
    """Both are facts of the saga: the second one, of which the first day's key knows nothing, fails an image."""
    teller = Teller(1)
    image = teller.images[0]
    told = [*teller.begins(), *teller.anonymized(image), teller.completed()]
    again = orjson.loads(teller.processed("ProcessingFailed", image)[1])
    again["id"] = orjson.loads(told[2][1])["id"]
    later = (clock.now() - timedelta(days=3)).replace(tzinfo=None)
    for number, (topic, raw) in enumerate(told):
        when = (later + timedelta(seconds=number)).isoformat()
        told[number] = topic, orjson.dumps({**orjson.loads(raw), "timestamp": when})
    event_log.store_batch([_decoded(*each) for each in told])
    apply.run_apply()
    saga = SagaLog.objects.get()
    assert saga.failed_steps_count == 0

    failure = _decoded(teller.processed("ProcessingFailed", image)[0], orjson.dumps(again))
    assert event_log.store_batch([failure]) == STORED
    apply.run_apply()
    saga.refresh_from_db()
    assert SagaEvent.objects.filter(saga=saga).count() == len(told) + 1
    assert saga.failed_steps_count == 1, "the id is not what tells the two apart"
    assert SagaStep.objects.filter(saga=saga, event_id=failure.event_id).count() == 2
    assert not Quarantined.objects.exists()
    assert [verdict.differences for verdict in verify.each([saga.id])] == [()]


def _decoded(topic: str, raw: bytes) -> Envelope:
    found = get_codec().decode(Message(topic, topic, f"1:{len(raw)}:-1:0", 1_700_000_000_000, raw, {}), clock.now())
    assert isinstance(found, Envelope), found
    return found


# --- pruned events ----------------------------------------------------------------------------------------------------


def prune() -> None:
    with transaction.atomic():
        retention.forget(list(Event.objects.values_list("id", flat=True)), PUBLISHED + timedelta(days=9))


def test_a_pruned_event_is_known_on_its_day_and_across_midnight_and_not_on_another() -> None:
    late = timedelta(days=9)
    store(at(-5), at(700, "e-2"), timeless(id="e-3"))
    prune()
    assert not Event.objects.exists()
    again = [at(-5), at(700, "e-2"), timeless(id="e-3")]
    assert store(*[each._replace(received_at=PUBLISHED + late) for each in again]) == StoreResult(duplicates=3)
    assert store(at(5)._replace(received_at=PUBLISHED + late)) == CONFLICT
    assert store(at(700)._replace(received_at=PUBLISHED + late)) == STORED


def test_both_events_of_an_id_stay_known_when_they_were_pruned() -> None:
    store(at(-700), at(700))
    prune()
    assert PrunedEvent.objects.count() == 2
    late = [each._replace(received_at=PUBLISHED + timedelta(days=9)) for each in (at(-700), at(700))]
    assert store(*late) == StoreResult(duplicates=2)


def test_the_keys_of_events_pruned_by_an_earlier_release_are_known() -> None:
    first = at(700)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO bridge_pruned_event (id, body_hash, pruned_at) VALUES (md5('e-1')::uuid, %s, now())",
            [first.body_hash],
        )
    late = PUBLISHED + timedelta(days=9)
    assert store(first._replace(received_at=late)) == SAME
    assert store(at(700, count=2)._replace(received_at=late)) == CONFLICT


# --- look-up ----------------------------------------------------------------------------------------------------------


def test_events_are_found_by_their_id_whole_and_by_its_beginning() -> None:
    store(*(at(1440 * -day, f"event-{day}") for day in range(12)), timeless(id="event-t"))
    fact = NewFact("operator", "event-o", "orders", "Cancelled", "o-1", "", PUBLISHED, {}, "orders:o-1")
    event_log.append([fact])
    for event_id in ("event-0", "event-11", "event-t", "event-o"):
        assert look_up.by_event_id([event_id]) == [Event.objects.get(event_id=event_id).pk]
    assert len(look_up.by_event_id(["event-0", "event-o", "event-"])) == 2
    assert look_up.by_event_id(["event-o"], [Source.PULSAR]) == []
    assert len(look_up.by_event_id_prefix("event-")) == 14
    assert len(look_up.by_event_id_prefix("event-1")) == 3
    assert look_up.by_event_id_prefix("event") == []


def test_events_are_found_by_their_message_id_whole_and_by_its_beginning() -> None:
    found = [at(1, f"e-{entry}") for entry in range(3)]
    ids = ("123:4567:-1:0", "123:45671:-1:0", "123:4_67:-1:0")
    store(
        *(each._replace(message=each.message._replace(message_id=text)) for each, text in zip(found, ids, strict=True))
    )
    pks = dict(Event.objects.values_list("message_id", "pk"))
    assert look_up.by_message_id("123:4567:-1:0") == [pks["123:4567:-1:0"]]
    assert set(look_up.by_message_id("123:4567")) == {pks[text] for text in ids[:2]}
    assert look_up.by_message_id("123:4_67") == [pks[ids[2]]]
    assert look_up.by_message_id("123:4") == []


def test_an_empty_log_has_no_days() -> None:
    assert look_up.by_event_id(["e-1"]) == look_up.by_event_id_prefix("event-") == []
