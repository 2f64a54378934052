"""One row for every kind of work: what sends messages leaves the other kinds alone, and what every row must satisfy."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import orjson
import pytest
from django.db import IntegrityError, connection, transaction

import bridge.retention
from bridge import clock
from bridge.models import Event, Heartbeat
from compensation import breaker, deadlines, delivery, outbox, queries, retention, statements, switches
from compensation.models import (
    MAXIMUM_RESULT_BYTES,
    Breaker,
    BreakerState,
    Command,
    CommandKind,
    CommandStatus,
    TripCause,
)
from compensation.outbox import NewCommand, Settlement
from tests.integration.commands import NOW, FakePublisher, attempts, later, new_command, remove, row

pytestmark = pytest.mark.django_db

OTHERS = [kind for kind in CommandKind.values if kind != CommandKind.PUBLISH]
OTHER = pytest.mark.parametrize("kind", OTHERS)


def plan(*commands: NewCommand) -> NewCommand:
    outbox.plan(commands)
    return commands[0]


def of_kind(kind: str, entity: str = "other", **changes: Any) -> Command:
    """Return the row of another kind of work, due at NOW: nothing of today plans one."""
    planned = row(plan(new_command(entity)))
    remove(Command.objects.filter(pk=planned.pk))
    for name, value in {"kind": kind, **changes}.items():
        setattr(planned, name, value)
    planned.save(force_insert=True)
    return planned


def claimed(kind: str, **changes: Any) -> Command:
    fields: dict[str, Any] = {"status": CommandStatus.PUBLISHING, "attempt": 1, "next_at": None, "claimed_at": NOW}
    return of_kind(kind, **(fields | changes))


# --- who takes what ---------------------------------------------------------------------------------------------------


@OTHER
def test_a_publisher_takes_messages_only(kind: str) -> None:
    other, message = of_kind(kind), plan(new_command())
    publisher = FakePublisher()
    delivery.publish_due(publisher, "host:1", clock=lambda: later(1))
    assert [sent.id for sent in publisher.sent] == [str(message.id)]
    assert row(other.pk).status == CommandStatus.PLANNED
    assert row(other.pk).attempt == 0


@OTHER
def test_what_is_due_of_another_kind_wakes_no_publisher(kind: str) -> None:
    of_kind(kind)
    assert not queries.is_anything_due(later(1), switches.read())
    assert queries.oldest_due_at(later(1), switches.read()) is None
    publisher = FakePublisher()
    assert delivery.publish_due(publisher, "host:1", clock=lambda: later(1)) is False
    assert publisher.probes == 0


@OTHER
def test_the_sweep_of_messages_leaves_answers_and_leases_of_another_kind_alone(kind: str) -> None:
    now = clock.now()
    Heartbeat.objects.create(
        name="bridge:host:1",
        kind="bridge",
        started_at=now,
        beat_at=now,
        connected=True,
        well_since=now - timedelta(days=1),
    )
    overdue = of_kind(kind, "overdue", status=CommandStatus.PUBLISHED, attempt=1, next_at=None, deadline_at=NOW)
    running = claimed(kind, entity="running")
    assert deadlines.pass_deadlines(now) == 0
    assert deadlines.recover_lost(now) == 0
    assert row(overdue.pk).status == CommandStatus.PUBLISHED
    assert row(running.pk).status == CommandStatus.PUBLISHING


@OTHER
def test_a_canary_is_made_of_messages(kind: str) -> None:
    of_kind(kind)
    message = plan(new_command())
    opened = {"changed_at": NOW, "changed_by": "system", "cause": TripCause.PLANNED, "planned": 9, "allowed": 1}
    Breaker.objects.create(service="DATA_RETRIEVAL", state=BreakerState.OPEN, **opened)
    resumed = breaker.resume("DATA_RETRIEVAL", "ana", "looked")
    assert resumed is not None
    assert resumed.canary == [message.id]


@OTHER
def test_a_decision_ends_the_lease_of_any_kind(kind: str) -> None:
    """A row whose claim ended has no lease, whoever ended it: the constraint would refuse the decision."""
    running = claimed(kind, lease_until=later(3600))
    outbox.settle([Settlement(command_id=running.pk, status="withdrawn", at=later(1), by_hand=True)])
    ended = row(running.pk)
    assert (ended.status, ended.claimed_at, ended.lease_until) == (CommandStatus.WITHDRAWN, None, None)


@OTHER
def test_retention_waits_for_every_kind_and_then_deletes_it(kind: str) -> None:
    open_row = of_kind(kind)
    assert retention.with_open_commands([open_row.saga_id]) == {open_row.saga_id}
    outbox.settle([Settlement(command_id=open_row.pk, status="confirmed", at=later(1), event_id="outcome")])
    Command.objects.filter(pk=open_row.pk).update(result={"risk": 0.5})
    assert retention.with_open_commands([open_row.saga_id]) == set()
    with bridge.retention.deleting():
        retention.forget([open_row.saga_id])
    assert not Command.objects.exists()


# --- a worker of the release before -----------------------------------------------------------------------------------

# The columns that it inserts.
EARLIER = (
    "id, saga_id, stream, key, routing_key, entity, name, service, confirmation, invalid, topic, body,"
    " initial_interval, backoff_coefficient, maximum_interval, maximum_attempts, jitter, non_retryable,"
    " confirmation_timeout, status, round, attempt, next_at, claimed_at, published_at, deadline_at, settled_at,"
    " by_hand, settled_event, confirmed_unsent_at, overtaken_at, exhausted_by, last_error, last_error_data, planned_at,"
    " released_at, held_since, held_by"
)
# How it looks for what is due.
EARLIER_CLAIM = """
    SELECT id FROM compensation_command
    WHERE status IN ('planned', 'waiting') AND released_at IS NOT NULL AND held_since IS NULL
      AND next_at <= %s AND service <> ALL(%s::text[])
    ORDER BY next_at LIMIT %s FOR NO KEY UPDATE SKIP LOCKED
"""


def test_what_an_earlier_worker_plans_is_a_message() -> None:
    command = plan(new_command())
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TEMP TABLE earlier ON COMMIT DROP AS SELECT {EARLIER} FROM compensation_command")
        remove(Command.objects.all())
        cursor.execute(f"INSERT INTO compensation_command ({EARLIER}) SELECT * FROM earlier")
    assert row(command).kind == CommandKind.PUBLISH
    publisher = FakePublisher()
    delivery.publish_due(publisher, "host:1", clock=lambda: later(1))
    assert [sent.id for sent in publisher.sent] == [str(command.id)]
    assert attempts(command) == [(1, 1, "published", True, False)]


# --- plans ------------------------------------------------------------------------------------------------------------

# Many rows of another kind that are due before every message, and more that are settled.
FILLED = """
    INSERT INTO compensation_command
        (id, kind, saga_id, stream, key, routing_key, entity, name, service, confirmation, invalid, topic, body,
         initial_interval, backoff_coefficient, maximum_interval, maximum_attempts, jitter, non_retryable,
         confirmation_timeout, status, round, attempt, next_at, settled_at, by_hand, settled_event, exhausted_by,
         last_error, planned_at, released_at)
    SELECT gen_random_uuid(), %(kind)s, gen_random_uuid(), 'image_processing', n, n, n, 'DeleteRetrievedImage',
           'DATA_RETRIEVAL', 'event', '', 'data-retrieval-commands', '{}', 1, 2, 100, 10, 0, '[]', 300, %(status)s, 1,
           0, CASE %(status)s WHEN 'planned' THEN %(at)s::timestamptz + n * interval '1 ms' END,
           CASE %(status)s WHEN 'confirmed' THEN %(at)s::timestamptz END, false, '', '', '', %(at)s, %(at)s
    FROM generate_series(1, %(rows)s) AS n
"""


@pytest.fixture
def filled() -> None:
    """20,000 messages that are confirmed, 10,000 calls that were due an hour ago, and 2,000 messages that are due."""
    hour_ago = NOW - timedelta(hours=1)
    with connection.cursor() as cursor:
        for kind, status, at, rows in (
            ("publish", "confirmed", hour_ago, 20_000),
            ("call", "planned", hour_ago, 10_000),
            ("publish", "planned", NOW, 2_000),
        ):
            cursor.execute(FILLED, {"kind": kind, "status": status, "at": at, "rows": rows})


def scans(statement: str, parameters: Any) -> list[dict[str, Any]]:
    """Run a statement; return the nodes of its plan that read commands, with what they really read."""
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters)
        [(found,)] = cursor.fetchall()
    plan = (found if isinstance(found, list) else orjson.loads(found))[0]["Plan"]
    return [
        node
        for node in _nodes(plan)
        if node.get("Relation Name") == "compensation_command" and "Scan" in node["Node Type"]
    ]


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", []):
        yield from _nodes(child)


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("analyzed", [True, False], ids=["analyzed", "without statistics"])
def test_a_claim_reads_no_row_of_another_kind(analyzed: bool) -> None:
    if analyzed:
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE compensation_command")
    values = {"now": later(10), "paused": [], "worker": "host:1", "limit": 500}
    due, *_ = scans(statements.CLAIM_COMMANDS.text, values)
    assert due["Index Name"] == "command_due_by_kind"
    assert "kind" in due["Index Cond"]
    assert due["Actual Rows"] <= 500
    assert due.get("Rows Removed by Filter", 0) == 0
    sendable = queries.sendable(later(10), switches.read()).order_by("next_at").values_list("id")[:10]
    text, parameters = sendable.query.sql_with_params()
    [first] = scans(text, parameters)
    assert first["Index Name"] == "command_due_by_kind"
    assert first["Actual Rows"] <= 10
    assert first.get("Rows Removed by Filter", 0) == 0


@pytest.mark.usefixtures("filled")
def test_an_earlier_workers_claim_reads_by_index_too() -> None:
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE compensation_command")
    due, *_ = scans(EARLIER_CLAIM, [later(10), [], 500])
    assert due["Node Type"] in ("Bitmap Heap Scan", "Index Scan")
    assert due["Actual Rows"] <= 12_000, "what is due of every kind, and nothing that is settled"


# --- what every row satisfies -----------------------------------------------------------------------------------------

RESULT = {"risk": 0.25}
SETTLED: dict[str, Any] = {
    "status": CommandStatus.CONFIRMED,
    "next_at": None,
    "settled_at": NOW,
    "settled_event": "an outcome",
}


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("command_kind", {"kind": "shout"}),
        ("command_lease_is_claimed", {"kind": "call", "lease_until": NOW}),
        ("command_result_has_outcome", {"kind": "call", "result": RESULT}),
        ("command_result_has_outcome", {"kind": "publish", "result": RESULT, **SETTLED}),
        ("command_result_is_bounded", {"kind": "call", "result": "x" * MAXIMUM_RESULT_BYTES, **SETTLED}),
        # Bytes, not characters.
        ("command_result_is_bounded", {"kind": "call", "result": "ñ" * (MAXIMUM_RESULT_BYTES // 2), **SETTLED}),
    ],
)
def test_a_row_that_contradicts_itself_is_refused(name: str, changes: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError, match=name), transaction.atomic():
        of_kind(**changes)
    assert _validated(name)


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "call", "result": RESULT, **SETTLED},
        {"kind": "ask", "result": "x" * (MAXIMUM_RESULT_BYTES - 2), **SETTLED},
        {"kind": "wait", **SETTLED},
    ],
    ids=["a call", "as much as there may be", "no result"],
)
def test_a_row_of_another_kind_keeps_its_result(changes: dict[str, Any]) -> None:
    assert row(of_kind(**changes).pk).result == changes.get("result")


def _validated(name: str) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT convalidated FROM pg_constraint WHERE conname = %s", [name])
        [(validated,)] = cursor.fetchall()
    return bool(validated)


# --- one outcome ------------------------------------------------------------------------------------------------------


def test_a_row_has_one_outcome_whatever_rounds_it_had() -> None:
    """A person's retry crosses the fact that the message was sent: the second sending only ends its attempt."""
    command = plan(new_command(confirmation="published"))
    publisher = FakePublisher()
    delivery.publish_due(publisher, "host:1", clock=lambda: later(1))
    outbox.settle([Settlement(command_id=command.id, status="retried", round=2, at=later(2))])
    delivery.publish_due(publisher, "host:1", clock=lambda: later(3))
    assert len(publisher.sent) == 2
    [outcome] = Event.objects.all()
    assert (outcome.event_id, outcome.occurred_at) == (f"{command.id}:outcome", later(1))
    outbox.settle([Settlement(command_id=command.id, status="confirmed", at=later(1), event_id=outcome.event_id)])
    assert (row(command).status, row(command).settled_event) == (CommandStatus.CONFIRMED, outcome.event_id)
    assert [attempt[:3] for attempt in attempts(command)] == [(1, 1, "superseded"), (2, 1, "confirmed")]
