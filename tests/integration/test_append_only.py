"""History cannot be rewritten: no way of the ORM and no SQL changes or deletes a row of an append-only table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.apps import apps
from django.db import DatabaseError, connection, models, transaction
from django.utils import timezone

from bridge import event_log, quarantine, retention
from bridge.append_only import AppendOnly
from bridge.errors import HistoryIsAppendOnly
from bridge.models import Duplicate, Event, EventReading, Quarantined
from compensation import outbox
from compensation.models import Attempt, Command
from sagas.applying.apply import run_apply
from sagas.models import Decision, IncidentNote, SagaEvent, SagaLog
from tests.integration import decided
from tests.integration import deciding as actions
from tests.integration.decided import request
from tests.integration.story import event

pytestmark = pytest.mark.django_db(transaction=True)

# Each with a column that never changes, and a value for it.
HISTORY: dict[type[AppendOnly], tuple[str, Any]] = {
    Event: ("note", "x"),
    EventReading: ("key", "x"),
    Duplicate: ("topic", "x"),
    Quarantined: ("body", b"x"),
    Attempt: ("worker", "x"),
    SagaEvent: ("seq", 77),
    Decision: ("reason", "x"),
    IncidentNote: ("text", "x"),
}
ANY = pytest.mark.parametrize("model", HISTORY, ids=lambda model: model.__name__)


@pytest.fixture(autouse=True)
def _rows() -> None:
    """One row at least of each kind."""
    saga, _ = decided.failed(1)
    decided.published()
    decided.quarantined()
    read = Event.objects.order_by("id")[0]
    EventReading.objects.create(id=read.pk, event=read, stream=read.stream, key=read.key, entity=read.entity)
    Duplicate.objects.create(event=Event.objects.all()[0].pk, received_at=timezone.now())
    actions.set_publishing(True, request=request())
    note = {"entry": "note", "author": "ana", "written_at": timezone.now(), "text": "x"}
    IncidentNote.objects.create(incident=decided.incident(), **note)
    assert SagaEvent.objects.filter(saga=saga).exists()


def table(model: type[models.Model]) -> str:
    return model._meta.db_table


def rows(model: type[models.Model]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT t::text FROM {table(model)} t ORDER BY 1")
        return list(cursor.fetchall())


def test_every_append_only_model_is_tried_here() -> None:
    assert {model for model in apps.get_models() if issubclass(model, AppendOnly)} == set(HISTORY)


def _all(model: type[AppendOnly]) -> Any:
    return model._default_manager.all()


def _changed(model: type[AppendOnly]) -> Any:
    one = _all(model)[0]
    name, value = HISTORY[model]
    setattr(one, name, value)
    return one


def _change(model: type[AppendOnly]) -> dict[str, Any]:
    name, value = HISTORY[model]
    return {name: value}


def _awaited(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    async def wait() -> Any:
        return await call(*args, **kwargs)

    return async_to_sync(wait)()


WAYS: dict[str, Callable[[type[AppendOnly]], Any]] = {
    "save": lambda model: _changed(model).save(),
    "save a column": lambda model: _changed(model).save(update_fields=list(_change(model))),
    "save with force": lambda model: _changed(model).save(force_update=True),
    "save as a fixture": lambda model: models.Model.save_base(_changed(model), raw=True),
    "delete": lambda model: _changed(model).delete(),
    "update": lambda model: model._default_manager.update(**_change(model)),
    "update some": lambda model: _all(model).filter(pk__isnull=False).update(**_change(model)),
    "update by the base manager": lambda model: model._base_manager.update(**_change(model)),
    "update nothing": lambda model: _all(model).update(),
    "delete all": lambda model: _all(model).delete(),
    "delete raw": lambda model: _all(model)._raw_delete("default"),
    "bulk_update": lambda model: _all(model).bulk_update([_changed(model)], list(_change(model))),
    "update_or_create": lambda model: _all(model).update_or_create(pk=_changed(model).pk, defaults=_change(model)),
    "bulk_create over it": lambda model: _all(model).bulk_create(
        [_changed(model)], update_conflicts=True, update_fields=list(_change(model)), unique_fields=["pk"]
    ),
    "asave": lambda model: _awaited(_changed(model).asave),
    "aupdate": lambda model: _awaited(_all(model).aupdate, **_change(model)),
    "adelete": lambda model: _awaited(_all(model).adelete),
    "abulk_update": lambda model: _awaited(_all(model).abulk_update, [_changed(model)], list(_change(model))),
    "aupdate_or_create": lambda model: _awaited(
        _all(model).aupdate_or_create, pk=_changed(model).pk, defaults=_change(model)
    ),
}


@ANY
def test_no_way_of_the_orm_changes_or_deletes_a_row(model: type[AppendOnly]) -> None:
    before = rows(model)
    assert before
    for way, rewrite in WAYS.items():
        with pytest.raises(HistoryIsAppendOnly):
            rewrite(model)
        assert rows(model) == before, way


STATEMENTS = {
    "update": "UPDATE {table} SET {column} = {column}",
    "update what is not there": "UPDATE {table} SET {column} = {column} WHERE false",
    "upsert": "INSERT INTO {table} SELECT * FROM {table} ON CONFLICT ({pk}) DO UPDATE SET {column} = EXCLUDED.{column}",
    "merge": (
        "MERGE INTO {table} t USING {table} s ON t.{pk} = s.{pk} WHEN MATCHED THEN UPDATE SET {column} = s.{column}"
    ),
    "delete": "DELETE FROM {table}",
    "delete using": "DELETE FROM {table} t USING {table} s WHERE t.{pk} = s.{pk}",
    "truncate": "TRUNCATE {table} CASCADE",
}


@ANY
def test_no_sql_changes_or_deletes_a_row(model: type[AppendOnly]) -> None:
    before = rows(model)
    names = {"table": table(model), "column": HISTORY[model][0], "pk": model._meta.pk.column}
    for statement in STATEMENTS.values():
        refused(statement.format(**names))
        assert rows(model) == before, statement


def refused(statement: str, parameters: Sequence[Any] = ()) -> None:
    """The database refuses a statement of a session that does not empty tables for tests."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL bridge.truncate = 'off'")
        with pytest.raises(DatabaseError, match="only ever added"), transaction.atomic():
            cursor.execute(statement, list(parameters))


@pytest.mark.parametrize("model", [SagaLog, Command])
def test_no_cascade_takes_history_with_it(model: type[models.Model]) -> None:
    kept = {history: rows(history) for history in HISTORY}
    with pytest.raises((HistoryIsAppendOnly, DatabaseError)), transaction.atomic():
        model._default_manager.all().delete()
    with pytest.raises((HistoryIsAppendOnly, DatabaseError)), transaction.atomic():
        model._default_manager.all()[0].delete()
    assert {history: rows(history) for history in HISTORY} == kept


def test_retention_may_delete_all_but_the_audit_and_only_while_it_does() -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        with retention.deleting():
            with retention.deleting():
                cursor.execute("DELETE FROM bridge_duplicate")
            cursor.execute("DELETE FROM sagas_saga_event")
            with pytest.raises(DatabaseError, match="only ever added"), transaction.atomic():
                cursor.execute("DELETE FROM sagas_decision")
            with pytest.raises(DatabaseError, match="only ever added"), transaction.atomic():
                cursor.execute("UPDATE sagas_saga_event SET seq = 1")
        with pytest.raises(DatabaseError, match="only ever added"), transaction.atomic():
            cursor.execute("DELETE FROM compensation_attempt")
        transaction.set_rollback(True)


# --- what may be filled in later ------------------------------------------------------------------------------------


def test_a_quarantined_message_takes_its_decision_and_nothing_else() -> None:
    row = Quarantined.objects.get()
    quarantine.dismiss(row.pk, actor="ana", why="a test message")
    assert Quarantined.objects.filter(pk=row.pk).update(decided_why="another") == 1
    assert Quarantined.objects.get().decided_why == "another"


COMPLETIONS = {
    # name: (what the attempt is, what becomes of it, whether that is legal)
    "it was sent": ("open", "outcome = 'published', message_id = '1:1'", True),
    "it was sent and that ends it": ("open", "outcome = 'published', message_id = '1:1', ended_at = now()", True),
    "it could not be sent": ("open", "outcome = 'failed', error = 'no', ended_at = now()", True),
    "the broker is away": ("open", "outcome = 'unreachable', counted = false, ended_at = now()", True),
    "it is confirmed": ("published", "outcome = 'confirmed', ended_at = now()", True),
    "it is refused": ("published", "outcome = 'refused', error = 'locked', ended_at = now()", True),
    "its id comes late": ("ended", "message_id = '1:1'", True),
    "nothing changes": ("ended", "outcome = outcome, error = error, ended_at = ended_at", True),
    "it ends again": ("ended", "ended_at = now() + interval '1 second'", False),
    "it ends otherwise": ("ended", "outcome = 'confirmed'", False),
    "it is opened again": ("ended", "ended_at = NULL", False),
    "its error is another": ("ended", "error = 'another'", False),
    "it no longer counts": ("ended", "counted = false", False),
    "it no longer counts although it was sent": ("published", "counted = false, ended_at = now()", False),
    "it ends as nothing": ("open", "ended_at = now()", False),
    "it goes on as failed": ("open", "outcome = 'failed'", False),
    "it was not sent after all": ("published", "outcome = 'open'", False),
    "its id is another": ("published", "message_id = '9:9'", False),
    "its id is lost": ("published", "message_id = ''", False),
    "it is of another round": ("open", "round = round + 1", False),
    "it is of another worker": ("open", "worker = 'another'", False),
    "it began earlier": ("open", "started_at = now()", False),
}


@pytest.mark.parametrize("name", COMPLETIONS)
def test_an_attempt_is_completed_once(name: str) -> None:
    was, change, legal = COMPLETIONS[name]
    attempt = _attempt(was)
    before = rows(Attempt)
    statement = f"UPDATE compensation_attempt SET {change} WHERE id = %s"
    if legal:
        with connection.cursor() as cursor:
            cursor.execute(statement, [attempt.pk])
        return
    refused(statement, [attempt.pk])
    assert rows(Attempt) == before


def _attempt(was: str) -> Attempt:
    """The attempt of a command that has no other one."""
    saga, _ = decided.failed(1)
    began = timezone.now() - timedelta(minutes=1)
    return Attempt.objects.create(
        command=Command.objects.filter(saga_id=saga.id)[0],
        round=1,
        number=1,
        started_at=began,
        ended_at=began + timedelta(seconds=1) if was == "ended" else None,
        outcome={"ended": "deadline"}.get(was, was),
        message_id="0:0" if was == "published" else "",
    )


@pytest.mark.parametrize("column", ["kind", "body", "entity", "saga_id", "name", "topic", "routing_key"])
def test_a_command_keeps_its_identity_and_its_message(column: str) -> None:
    refused(f"UPDATE compensation_command SET {column} = {column}")


def test_the_service_itself_is_not_in_its_own_way() -> None:
    """All that moves attempts: sent, refused, sent again, confirmed before it is recorded, given up."""
    saga, [image] = decided.failed(1)
    actions.set_publishing(False, request=request())
    decided.published()
    event_log.append([event("AnonymizationRolledBack", saga.key, image, seconds=50)])
    run_apply()
    decided.published()
    event_log.append([event("ImageDeletionFailed", saga.key, image, seconds=60, error_message="locked")])
    run_apply()
    assert sorted(Attempt.objects.filter(command__saga_id=saga.id).values_list("outcome", flat=True)) == [
        "confirmed",
        "refused",
    ]
    assert outbox.claimed_ids(saga.id)
