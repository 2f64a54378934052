"""manage.py fill: what it writes is what the service would have written, and the service goes on with it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.core.management import CommandError
from django.db import connection
from django.db.models import Count, F, Max, Min
from django.db.models.functions import TruncDate
from pytest_django import DjangoDbBlocker

from bridge import event_log
from bridge.models import Duplicate, Event, Pending, Quarantined
from compensation.models import Attempt, Command, CommandStatus
from devtools.filling import fill
from devtools.filling.fill import Filled
from devtools.filling.rehearsal import LEDGER
from devtools.filling.template import TABLES
from sagas.applying import apply, verify
from sagas.engine.decide import command_id
from sagas.models import Lane, Parked, SagaEvent, SagaKey, SagaLog, SagaStatusChoice, SagaStep
from tests.integration.filled import SINCE, UNTIL, filled, wish
from tests.integration.story import event
from tests.integration.terminal import run

SAGAS = 400


@pytest.fixture(scope="module")
def told(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[Filled]:
    with django_db_blocker.unblock(), filled(wish(SAGAS)) as told:
        yield told


@pytest.mark.django_db
def test_every_saga_is_what_its_log_folds_to(told: Filled) -> None:
    verdicts = list(verify.each(verify.all_ids()))
    assert len(verdicts) == SAGAS == told.sagas
    assert [verdict for verdict in verdicts if not verdict.well] == []


@pytest.mark.django_db
def test_every_status_is_there_as_requested(told: Filled) -> None:
    stored = dict(SagaLog.objects.order_by().values_list("status").annotate(Count("id")))
    assert stored == told.statuses
    assert set(stored) == set(SagaStatusChoice.values)
    assert stored[SagaStatusChoice.COMPLETED] > SAGAS / 2
    assert Event.objects.count() == told.events


@pytest.mark.django_db
def test_every_table_has_rows_and_every_row_its_owner(told: Filled) -> None:
    assert [table.name for table in TABLES if not table.model._base_manager.exists()] == []
    sagas = set(SagaLog.objects.values_list("id", flat=True))
    for model in (Lane, SagaStep, SagaEvent, SagaKey, Command):
        assert set(model._base_manager.values_list("saga_id", flat=True)) <= sagas
    assert set(Attempt.objects.values_list("command_id", flat=True)) <= set(
        Command.objects.values_list("id", flat=True)
    )
    events = set(Event.objects.values_list("id", flat=True))
    applied = set(SagaEvent.objects.values_list("event", flat=True))
    parked = set(Parked.objects.values_list("event", flat=True))
    assert applied | parked == events
    assert not applied & parked
    assert set(Duplicate.objects.values_list("event", flat=True)) <= events
    assert not Pending.objects.exists()


@pytest.mark.django_db
def test_it_happened_when_it_was_wanted(told: Filled) -> None:
    starts = SagaLog.objects.aggregate(first=Min("start_time"), last=Max("start_time"), born=Min("created_at"))
    assert SINCE <= starts["first"] <= starts["born"] < SINCE + timedelta(days=7)
    assert UNTIL - timedelta(minutes=10) < starts["last"] <= UNTIL
    assert not Event.objects.exclude(received_at__range=(SINCE, UNTIL + timedelta(minutes=5))).exists()
    assert not Event.objects.filter(day__isnull=False).exclude(day=TruncDate("occurred_at", tzinfo=UTC)).exists()
    assert Event.objects.filter(day__isnull=True).exclude(source="pulsar").exists()
    assert not Command.objects.filter(planned_at__lt=SINCE).exists()
    assert not Attempt.objects.filter(ended_at__lt=F("started_at")).exists()
    # By their age: what is under way began just now.
    open_ones = SagaLog.objects.filter(status=SagaStatusChoice.COMPENSATING)
    assert open_ones.aggregate(first=Min("start_time"))["first"] > UNTIL - timedelta(minutes=10)


@pytest.mark.django_db
def test_ids_are_new_and_made_as_everywhere(told: Filled) -> None:
    for id_, saga, entity, name in Command.objects.values_list("id", "saga_id", "entity", "name"):
        assert str(id_) == command_id(str(saga), entity, name)
    for command in Command.objects.all():
        assert command.body["id"] == str(command.id)
        assert command.body["data"]["image_id"] == command.entity
    keys = SagaLog.objects.values_list("key", flat=True)
    assert len(set(keys)) == len({UUID(key) for key in keys}) == SAGAS
    assert all(id_.version == 7 for id_ in SagaLog.objects.values_list("id", flat=True))
    shared = SagaLog.objects.exclude(correlation_id=F("key")).values("correlation_id").annotate(sagas=Count("id"))
    assert shared.count() > 1
    assert shared.filter(sagas__gt=1).exists()
    with connection.cursor() as cursor:
        for table in TABLES:
            cursor.execute(f"SELECT count(*) FROM {table.name} t WHERE t::text ~ '{LEDGER}|@event|2001-02-0'")
            assert cursor.fetchone() == (0,), f"{table.name} still shows the story behind it"


@pytest.mark.django_db
def test_trouble_is_there_too(told: Filled) -> None:
    assert set(Parked.objects.values_list("reason", flat=True)) >= {"no_saga"}
    assert Quarantined.objects.exists()
    assert Attempt.objects.filter(outcome="refused").exists() or Attempt.objects.filter(outcome="deadline").exists()
    assert SagaLog.objects.filter(status=SagaStatusChoice.COMPENSATION_FAILED, commands_exhausted__gt=0).exists()
    assert Command.objects.filter(status=CommandStatus.PUBLISHED).exists()


@pytest.mark.django_db(transaction=True)
def test_the_service_goes_on_with_what_is_under_way() -> None:
    with filled(wish(40, in_flight=0.5)):
        deletion = Command.objects.filter(
            status=CommandStatus.PUBLISHED,
            saga_id__in=SagaLog.objects.filter(status=SagaStatusChoice.COMPENSATING).values("id"),
        ).first()
        assert deletion is not None
        kind = {"DeleteRetrievedImage": "ImageDeletionCompleted", "RollbackAnonymization": "AnonymizationRolledBack"}
        event_log.append([event(kind[deletion.name], deletion.key, deletion.entity)])
        assert apply.run_apply() >= 1
        deletion.refresh_from_db()
        assert deletion.status == CommandStatus.CONFIRMED
        assert not Attempt.objects.filter(command=deletion, ended_at__isnull=True).exists()
        assert all(verdict.well for verdict in verify.each([deletion.saga_id]))


@pytest.mark.django_db(transaction=True)
def test_the_command_shows_what_it_wrote_and_adds_only_where_asked_to() -> None:
    with filled(wish(1, in_flight=0)):
        with pytest.raises(CommandError, match="--yes"):
            run("fill", "--sagas", "5")
        ran = run("fill", "--sagas", 5, "--images", "1-2", "--since", "2026-01-01", "--yes", "--json")
        assert ran.code == 0
        assert ran.data.keys() == {"sagas", "events", "statuses", "seconds"}
        assert ran.data["sagas"] == sum(ran.data["statuses"].values()) == 5
        assert SagaLog.objects.count() == 6
        assert SagaLog.objects.filter(start_time__gte="2026-01-01T00:00:00Z").count() >= 5
        assert all(verdict.well for verdict in verify.each(verify.all_ids()))


@pytest.mark.django_db
@pytest.mark.parametrize(
    "words", [("fill", "--sagas", "5"), ("fill", "--sagas", "5", "--yes"), ("simulate_services", "--once")]
)
def test_in_production_nothing_is_made_up(words: tuple[str, ...], settings: Any) -> None:
    settings.ENVIRONMENT = "prod"
    before = SagaLog.objects.count()
    with pytest.raises(CommandError, match="ENVIRONMENT=dev") as told:
        run(*words)
    assert told.value.returncode == 4
    assert SagaLog.objects.count() == before


@pytest.mark.parametrize(
    "words", [("--sagas", 0), ("--sagas", 1, "--writers", 0), ("--sagas", 1, "--since", "2999-01-01")]
)
def test_what_cannot_be_is_reported(words: tuple[object, ...]) -> None:
    with pytest.raises(CommandError) as told:
        run("fill", *words)
    assert told.value.returncode == 2


@pytest.mark.django_db(transaction=True)
def test_telling_the_planner_may_take_longer_than_a_statement_may() -> None:
    """Vacuuming the events of a million sagas takes longer than the 30 s after which a statement is given up."""
    with filled(wish(40), analyzed=False), connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = '1ms'")
        fill.analyze()
        cursor.execute("SELECT setting FROM pg_settings WHERE name = 'statement_timeout'")
        assert cursor.fetchone() != ("0",)
