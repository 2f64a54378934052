"""No statement that runs often reads a large table whole, at PostgreSQL's stock costs: each is explained as it runs.

Among as many sagas as a busy week brings (and a busy month, in make nightly), and among some thousand about which the
planner was misled: its statistics are of the moment at which one large saga was all there was, as after a first try on
an empty database. What reads much with good reason is named in ALLOWED, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoDbBlocker

from bridge import event_log, look_up, quarantine
from bridge.codec import get_codec
from bridge.envelope import Envelope, Message, Rejected
from bridge.event_log import NewFact
from bridge.models import Event, Heartbeat, HeartbeatKind, Pending
from compensation import deadlines, delivery, queries, switches
from compensation.models import Command, CommandStatus
from devtools.filling.fill import FillSpec
from sagas import incidents, retention
from sagas.actions import ActionRequest
from sagas.applying import apply, sweeper
from sagas.models import Incident, Lane, Parked, SagaEvent, SagaLog, SagaStatusChoice
from sagas.queries import pages as read_pages
from sagas.queries.events import of_key
from tests.integration import deciding as actions
from tests.integration.commands import FakePublisher
from tests.integration.deciding import CommandSelection
from tests.integration.filled import filled
from tests.integration.pages import Page, World, admin_pages, api_pages
from tests.integration.plans import Watch, watched
from tests.integration.story import event, image_through, new_ids, retrieval

# How many sagas each world has, and how many images the one that the planner remembers. NIGHTLY ones take minutes.
WORLDS = {"busy week": (40_000, 0), "misled": (10_000, 1_000)}
NIGHTLY = {"busy month": (200_000, 0), "badly misled": (20_000, 3_000)}

pytestmark = [pytest.mark.django_db, pytest.mark.timeout(1200)]


@pytest.fixture(
    scope="module",
    params=[
        *(pytest.param(world, id=name) for name, world in WORLDS.items()),
        *(pytest.param(world, id=name, marks=pytest.mark.nightly) for name, world in NIGHTLY.items()),
    ],
)
def world(request: pytest.FixtureRequest, django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[World]:
    now = timezone.now()
    since = now - timedelta(days=365)
    sagas, images = request.param
    with django_db_blocker.unblock():
        if images:
            with filled(FillSpec(1, (images, images), since, now)):
                pass
        with filled(FillSpec(sagas, (1, 1), since, now), analyzed=not images):
            yield World.look()


@pytest.fixture(autouse=True)
def stock_costs(world: World) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('random_page_cost', '4', true), current_setting('seq_page_cost')")
        assert cursor.fetchone() == ("4", "1")


def told(watch: Watch, *but: str) -> list[str]:
    """What was read whole, but for some tables."""
    assert watch.statements
    return [str(reading) for reading in watch.readings if reading.table not in but]


# --- the hot path -----------------------------------------------------------------------------------------------------


def a_page_of_everything() -> list[NewFact]:
    """Births, news for sagas of each status, facts that speak for a whole saga, and what only an image finds."""
    task, image, stranger = new_ids(3)
    facts = retrieval(task, [image]) + image_through(task, image)
    for status in SagaStatusChoice.values:
        lane = Lane.objects.select_related("saga").filter(known=True, saga__status=status).order_by("-id").first()
        if lane is None:  # most that failed had nothing to undo
            continue
        saga = lane.saga
        facts += [
            event("ImageReadyForProcessing", saga.key, lane.entity),
            event("RetrievalFailed", saga.key, error_message="no"),
            event("ProcessingFailed", str(stranger), lane.entity, error_message="no"),
        ]
    parked = Parked.objects.filter(dismissed_at__isnull=True, reason="no_saga").first()
    assert parked is not None
    return [*facts, event("RetrievalStarted", parked.key), event("ProcessingStarted", stranger)]


def test_storing_a_batch(world: World) -> None:
    taken = Event.objects.filter(source="pulsar").order_by("-id").exclude(message_id="")[:50]
    messages = [_message(row.topic, orjson.dumps(row.payload), number) for number, row in enumerate(taken)]
    messages += [_message(message.topic, message.body.replace(b'"id":"', b'"id":"new-'), 100) for message in messages]
    read = [get_codec().decode(message, timezone.now()) for message in [*messages, _message("nowhere", b"{}", 200)]]
    with watched() as watch:
        done = event_log.store_batch(
            [one for one in read if isinstance(one, Envelope)], [one for one in read if isinstance(one, Rejected)]
        )
    assert done.stored >= 40
    assert done.quarantined >= 1
    assert told(watch) == []


def test_storing_what_is_stamped_again_across_midnight(world: World) -> None:
    taken = Event.objects.filter(day__isnull=False).order_by("-id")[:50]
    read = [get_codec().decode(_message(row.topic, orjson.dumps(row.payload), 1), timezone.now()) for row in taken]
    batch = [
        each._replace(day=midnight.date(), occurred_at=midnight)
        for each in read
        if isinstance(each, Envelope)
        if (midnight := each.occurred_at.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1))
    ]
    with watched() as watch:
        event_log.store_batch(batch)
    assert told(watch) == []


def test_looking_events_up(world: World) -> None:
    row = Event.objects.filter(day__isnull=False).exclude(message_id="").order_by("id")[1000]
    own = Event.objects.filter(source="compensation").order_by("id")[10]
    with watched() as watch:
        assert look_up.by_event_id([row.event_id]) == [row.pk]
        assert look_up.by_event_id([own.event_id]) == [own.pk]
        assert row.pk in look_up.by_event_id_prefix(row.event_id[:6])
        assert row.pk in look_up.by_message_id(row.message_id)
        assert row.pk in look_up.by_message_id(row.message_id[:-2])
        assert row.pk in of_key([row.key])
    assert {"bridge_event_once_a_day", "bridge_event_once_no_day", "bridge_event_message"} <= watch.indexes
    assert told(watch) == []


def _message(topic: str, body: bytes, number: int) -> Message:
    return Message(topic, topic, f"7:{number}:-1:0", 1_700_000_000_000, body, {})


def test_applying_a_page_of_everything(world: World) -> None:
    event_log.append(a_page_of_everything())
    before = SagaEvent.objects.count()
    with watched() as watch:
        apply.run_apply()
    assert not Pending.objects.exists()
    assert SagaEvent.objects.count() >= before + 24
    assert told(watch) == []


def test_a_full_page_of_events_for_old_sagas(world: World) -> None:
    """As many as one transaction takes: with many keys a planner may come to prefer the whole table."""
    keys = list(
        SagaLog.objects.filter(status=SagaStatusChoice.COMPLETED, id__gt=world.saga.id).values_list("key", flat=True)[
            :2000
        ]
    )
    assert len(keys) == 2000
    lanes = dict(Lane.objects.filter(saga__key__in=keys).values_list("saga__key", "entity"))
    event_log.append([event("ProcessingStarted", key, lanes.get(key, "")) for key in keys if key in lanes])
    with watched() as watch:
        apply.run_apply()
    assert not Pending.objects.exists()
    assert told(watch) == []


def test_a_full_page_of_events_that_only_their_image_finds(world: World) -> None:
    images = list(Lane.objects.filter(saga__id__gt=world.saga.id).values_list("entity", flat=True)[:1000])
    event_log.append([event("ProcessingStarted", key, image) for key, image in zip(new_ids(1000), images, strict=True)])
    with watched() as watch:
        apply.run_apply()
    assert not Pending.objects.exists()
    assert told(watch) == []


def test_births_of_what_is_parked(world: World) -> None:
    keys = list(Parked.objects.filter(reason="no_saga").values_list("key", flat=True).distinct()[:50])
    event_log.append([event("RetrievalStarted", key) for key in keys])
    with watched() as watch:
        apply.run_apply()
    assert SagaLog.objects.filter(key__in=keys).count() == len(keys)
    assert told(watch) == []


def test_publishing_what_is_due(world: World) -> None:
    Command.objects.filter(status=CommandStatus.PUBLISHED).update(
        status=CommandStatus.WAITING, next_at=timezone.now(), deadline_at=None
    )
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE compensation_attempt SET ended_at = started_at, outcome = 'deadline' WHERE ended_at IS NULL"
        )
    publisher = FakePublisher()
    with watched() as watch:
        delivery.publish_due(publisher, "plans")
    assert publisher.sent
    assert told(watch) == []


def test_deadlines_and_lost_claims(world: World) -> None:
    now = datetime.now(UTC) + timedelta(days=400)
    here = datetime.now(UTC)  # a heartbeat is of today, and its age is what counts
    well = {"beat_at": here, "started_at": here, "connected": True, "well_since": here - timedelta(hours=1)}
    Heartbeat.objects.create(name="bridge:plans", kind=HeartbeatKind.BRIDGE, **well)
    lost = Command.objects.filter(status=CommandStatus.PUBLISHED).order_by("id")[:3].values("id")
    Command.objects.filter(id__in=lost).update(status=CommandStatus.PUBLISHING, claimed_at=now, deadline_at=None)
    with watched() as watch:
        assert deadlines.pass_deadlines(now) > 0
        assert deadlines.recover_lost(now + timedelta(hours=1)) > 0
    assert told(watch) == []


def test_what_sweepers_and_checks_ask_again_and_again(world: World) -> None:
    standing, now = switches.read(), timezone.now()
    with watched() as watch:
        sweeper.sweep()
        queries.is_anything_due(now, standing)
        queries.oldest_due_at(now, standing)
        queries.load_by_service(now, standing)
    # The car park is matched page by page.
    assert told(watch, "sagas_parked") == []


def test_recording_incidents(world: World) -> None:
    Incident.objects.all().delete()
    with watched() as watch:
        assert incidents.record()
    assert Incident.objects.exists()
    assert "command_failure" in watch.indexes
    # Each unmatched event's type is looked up, of which there is little.
    assert told(watch, "sagas_parked") == []


def test_pruning(world: World) -> None:
    with watched() as watch:
        done = list(retention.steps(world.middle, world.middle, limit=300))
    assert sum(step.sagas for step in done) == 300
    # All that a person dismissed, page by page, of which there is little.
    assert told(watch, "sagas_parked") == []


def test_putting_a_message_aside(world: World) -> None:
    rejected = get_codec().decode(_message("nowhere", b"{}", 300), timezone.now())
    assert isinstance(rejected, Rejected)
    with watched() as watch:
        quarantine.keep([rejected])
    assert told(watch) == []


def test_what_people_decide(world: World) -> None:
    request = ActionRequest(actor="ana", door="api", reason="because", dry_run=True)
    exhausted = Command.objects.filter(status=CommandStatus.EXHAUSTED)[:1].get()
    running = SagaLog.objects.filter(status=SagaStatusChoice.STARTED).order_by("-start_time")[0]
    orphan = world.parked.key
    with watched() as watch:
        actions.force_compensation(running.id, request=request)
        actions.cancel(running.id, request=request)
        actions.terminate(exhausted.saga_id, request=request)
        actions.replay(world.saga.id, request=request)
        actions.decide_command("retry", exhausted.id, request=request)
        actions.decide_commands("mark_done", CommandSelection(saga=exhausted.saga_id), request=request)
        actions.decide_commands("withdraw", CommandSelection(planned_before=timezone.now()), request=request)
        actions.attach(saga_id=running.id, key=orphan, request=request)
        actions.adopt(orphan, request=request)
        actions.dismiss(key=orphan, request=request)
    assert told(watch) == []


# --- what people and machines look at ---------------------------------------------------------------------------------

# Page → table → why it may read much of it.
ALLOWED: dict[str, tuple[str, str]] = {
    "sagas": ("sagas_saga", "the exact number of all sagas, remembered for some seconds"),
    "sagas deep": ("sagas_saga", "the same"),
    "admin sagas_sagalog last page": ("sagas_saga", "half of the table by either way, where statistics know one saga"),
    "sagas from": ("sagas_saga", "the exact number of what started in a span of time, by index alone"),
    "sagas to": ("sagas_saga", "the same"),
    "sagas COMPLETED": ("sagas_saga", "the exact number of a status that most have, by index alone"),
    "sagas type": ("sagas_saga", "the exact number of a type that most have, by index alone"),
    "sagas type deep": ("sagas_saga", "the same"),
    "sagas type COMPLETED": ("sagas_saga", "the exact number of a type and a status that most have"),
    "sagas COMPLETED deep": ("sagas_saga", "the same"),
}


@pytest.fixture
def staff(world: World) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("ana", "ana@example.org", "x"))
    return client


def test_every_page(world: World, staff: Client) -> None:
    pages = [*api_pages(world), *admin_pages(world)]
    assert len(pages) > 120
    found = [f"{page.name}: {reading}" for page in pages for reading in look(staff, page)]
    assert not found, "\n".join(found)


def look(staff: Client, page: Page) -> list[str]:
    """What drawing a page reads whole. Nothing is remembered from the page before."""
    read_pages._known.clear()
    cache.clear()
    with watched() as watch:
        answer = staff.get(page.address, headers={"accept": "application/json, text/html"})
    assert answer.status_code in (200, 503 if page.name == "health" else 200), (page, answer.content[:300])
    table, _why = ALLOWED.get(page.name, ("", ""))
    return told(watch, table)
