"""What belongs to an incident: which rows are its cases, what they have in common, and since when each is one.

The other kinds have few items, each of which is an incident of its own (`sagas.incidents.groups`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from django.conf import settings
from django.db.models import Func, OuterRef, QuerySet, Subquery, UUIDField

from bridge.models import Event, Quarantined, QuarantineStatus
from compensation.models import Command, CommandStatus
from compensation.queries import held
from sagas.models import Lane, LaneOutcome, Parked, SagaLog, SagaStatusChoice, SagaStep
from sagas.queries.attention_items import of_commands, of_messages, of_sagas


def failure_fingerprint() -> Func:
    """Return the fingerprint of a command that needs a decision: an indexed function, defined in migration 0021."""
    columns = ("service", "name", "exhausted_by", "last_error", "last_error_data")
    return Func(*columns, function="sagas_failure_fingerprint", output_field=UUIDField())


CaseTarget = Literal["commands", "sagas", "messages", "parked"]


@dataclass(frozen=True, slots=True)
class Cases:
    """The cases of one kind.

    rows: all of them now. at: the column with the time from which it counts. by: the columns whose values the cases of
    one incident share; a change gives incidents new ids. saga: the column with the saga's id; empty if there is none.
    after: how long after `at` a row becomes a case. target: what people decide on, and find in a list.
    """

    rows: Callable[[datetime], QuerySet[Any, Any]]
    at: str
    by: tuple[str, ...]
    saga: str = ""
    after: timedelta = timedelta(0)
    target: CaseTarget = "commands"


def _exhausted(_now: datetime) -> QuerySet[Any, Any]:
    return Command.objects.filter(status=CommandStatus.EXHAUSTED).alias(fingerprint=failure_fingerprint())


def _held(_now: datetime) -> QuerySet[Any, Any]:
    return held()


def _set_aside(_now: datetime) -> QuerySet[Any, Any]:
    return SagaLog.objects.filter(set_aside_at__isnull=False)


def _quarantined(_now: datetime) -> QuerySet[Any, Any]:
    return Quarantined.objects.filter(status=QuarantineStatus.OPEN)


def _unclear(now: datetime) -> QuerySet[Any, Any]:
    return of_sagas.unclear_log(now).annotate(type=_type_of("event"))


def _parked(now: datetime) -> QuerySet[Any, Any]:
    rows = Parked.objects.filter(dismissed_at__isnull=True, since__lt=now - of_messages.PARKED_AFTER)
    return rows.annotate(type=_type_of("event"))


def _type_of(column: str) -> Subquery:
    return Subquery(Event.objects.filter(pk=OuterRef(column)).values("type"))


def stage_limit() -> timedelta:
    """Return after which time without a step a lane is overdue; zero: never."""
    return timedelta(seconds=settings.SAGA_STAGE_OVERDUE)


def _late_stages(now: datetime) -> QuerySet[Any, Any]:
    """Return open lanes without a new step for too long, in sagas that otherwise make progress.

    A saga that makes none at all is a case of `stalled`, and its lanes are not counted once more.
    """
    limit = stage_limit()
    if not limit:
        return Lane.objects.none()
    last = SagaStep.objects.filter(saga=OuterRef("saga_id"), entity=OuterRef("entity")).order_by("-occurred_at", "-id")
    lanes = Lane.objects.filter(
        known=True,
        outcome=LaneOutcome.OPEN,
        saga__status=SagaStatusChoice.STARTED,
        saga__lanes_open__gt=0,
        saga__start_time__lt=now - limit,
        saga__last_event_at__gte=now - of_sagas.STALLED_AFTER,
        saga__set_aside_at__isnull=True,
    )
    found = lanes.annotate(
        step_at=Subquery(last.values("occurred_at")[:1]),
        step_type=Subquery(last.values("step_type")[:1]),
        step_service=Subquery(last.values("service")[:1]),
    )
    return found.filter(step_at__lt=now - limit)


CASES: Mapping[str, Cases] = {
    "exhausted": Cases(_exhausted, "settled_at", ("fingerprint",), "saga_id"),
    "held": Cases(_held, "held_since", ("service", "name"), "saga_id"),
    "overdue": Cases(of_commands.late, "deadline_at", ("service", "name"), "saga_id", of_commands.OVERDUE_AFTER),
    "confirmed_unsent": Cases(of_commands.never_sent, "confirmed_unsent_at", ("service", "name"), "saga_id"),
    "overtaken": Cases(of_commands.overtaken_commands, "overtaken_at", ("service", "name"), "saga_id"),
    "set_aside": Cases(_set_aside, "set_aside_at", ("saga_type", "set_aside_error"), "id", target="sagas"),
    "stalled": Cases(
        of_sagas.without_progress, "last_event_at", ("saga_type", "status"), "id", of_sagas.STALLED_AFTER, "sagas"
    ),
    "unclear": Cases(_unclear, "applied_at", ("type",), "saga_id", target="sagas"),
    "late_stage": Cases(
        _late_stages, "step_at", ("saga__saga_type", "step_service", "step_type"), "saga_id", target="sagas"
    ),
    "quarantined": Cases(_quarantined, "received_at", ("code", "topic"), target="messages"),
    "parked": Cases(_parked, "since", ("stream", "type"), after=of_messages.PARKED_AFTER, target="parked"),
}


def cases_of(kind: str, facets: Mapping[str, Any], now: datetime) -> QuerySet[Any, Any]:
    """Return the rows that are the cases of an incident now, unordered. kind: one of CASES.

    Commands, sagas, lanes, rows of sagas' logs, quarantined messages or unmatched events, by the kind.
    """
    cases = CASES[kind]
    return cases.rows(now).filter(**{name: facets[name] for name in cases.by}).order_by()


def target_of(kind: str) -> CaseTarget | None:
    """Return what the cases of a kind are to people; None for a kind that is not grouped."""
    return CASES[kind].target if kind in CASES else None


def targets_of(kind: str, facets: Mapping[str, Any], now: datetime) -> QuerySet[Any, Any]:
    """Return the ids of what the cases of an incident are to people, for a query or a list; a saga may be repeated."""
    cases = CASES[kind]
    column = cases.saga if cases.target == "sagas" else "pk"
    return cases_of(kind, facets, now).values_list(column, flat=True)
