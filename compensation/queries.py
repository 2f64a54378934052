"""Read-only queries on commands and attempts. Nothing here locks or changes a row."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import Count, Min, Q, QuerySet

from compensation.models import OPEN, UNSENT, Attempt, Command, CommandKind, CommandStatus
from compensation.switches import Switches


@dataclass(frozen=True, slots=True)
class ServiceLoad:
    """The numbers of unsettled commands of one service.

    `due`: to be sent now. `later`: released, but the next attempt is not due yet. `held`: not released yet, or held
    until a person decides. `sent`: being sent, or waiting for the answer. `exhausted`: needs a decision by a person.
    """

    service: str
    due: int
    later: int
    held: int
    sent: int
    exhausted: int
    oldest_due_at: datetime | None
    paused: bool


def due(now: datetime) -> QuerySet[Command]:
    """Return the messages that are to be published now, if nothing is paused."""
    return released().filter(next_at__lte=now)


def released() -> QuerySet[Command]:
    """Return the unsent messages that are released and not held, due now or later."""
    is_released = Q(status__in=UNSENT, released_at__isnull=False, held_since__isnull=True)
    return Command.objects.filter(is_released, kind=CommandKind.PUBLISH)


def held() -> QuerySet[Command]:
    """Return the commands that are held until a person decides, because another saga has the same entity."""
    # By status too: before the first statistics, the planner knows nothing of a column that is nearly always empty.
    return Command.objects.filter(status=CommandStatus.PLANNED, held_since__isnull=False)


def sendable(now: datetime, switches: Switches) -> QuerySet[Command]:
    """Return the messages that are to be published now and that no switch and no circuit breaker stops."""
    if switches.everything_paused:
        return Command.objects.none()
    found = due(now).exclude(service__in=switches.paused)
    for breaker in switches.canaries:
        found = found.filter(~Q(service=breaker.service) | Q(id__in=breaker.canary))
    return found


def is_anything_due(now: datetime, switches: Switches) -> bool:
    """Return whether a publisher would find work."""
    return sendable(now, switches).exists()


def oldest_due_at(now: datetime, switches: Switches) -> datetime | None:
    """Return the due time of the oldest sendable command: how far the publishers are behind. None if there is none."""
    return sendable(now, switches).order_by("next_at").values_list("next_at", flat=True).first()


def load_by_service(now: datetime, switches: Switches) -> list[ServiceLoad]:
    """Return the unsettled commands by service. One query, whose cost does not depend on settled commands."""
    is_released = Q(status__in=UNSENT, released_at__isnull=False, held_since__isnull=True)
    is_due = is_released & Q(next_at__lte=now)
    is_later = is_released & Q(next_at__gt=now)
    counted = (
        Command.objects.filter(status__in=OPEN)
        .values("service")
        .annotate(
            due=Count("id", filter=is_due),
            later=Count("id", filter=is_later),
            held=Count("id", filter=Q(status__in=UNSENT) & ~is_released),
            sent=Count("id", filter=Q(status__in=(CommandStatus.PUBLISHING, CommandStatus.PUBLISHED))),
            exhausted=Count("id", filter=Q(status=CommandStatus.EXHAUSTED)),
            oldest_due_at=Min("next_at", filter=is_due),
        )
        .order_by("service")
    )
    return [ServiceLoad(**row, paused=switches.is_paused(row["service"])) for row in counted]


def exhausted() -> QuerySet[Command]:
    """Return the commands that need a decision by a person, the longest waiting first."""
    return Command.objects.filter(status=CommandStatus.EXHAUSTED).order_by("settled_at", "id")


def commands_of_saga(saga_id: UUID) -> QuerySet[Command]:
    """Return all commands of a saga, by entity and name."""
    return Command.objects.filter(saga_id=saga_id).order_by("entity", "name")


def attempts_of(command_ids: Iterable[UUID]) -> dict[UUID, list[Attempt]]:
    """Return the attempts of each command, the oldest first, in one query; commands without attempts are omitted."""
    found: dict[UUID, list[Attempt]] = {}
    for attempt in Attempt.objects.filter(command__in=list(command_ids)).order_by("id"):
        found.setdefault(attempt.command_id, []).append(attempt)
    return found


def attempts_of_saga(saga_id: UUID) -> QuerySet[Attempt]:
    """Return every attempt of a saga with its command, the oldest first."""
    return Attempt.objects.filter(command__saga_id=saga_id).select_related("command").order_by("started_at", "id")


def planned_before(cut_over: datetime, services: Sequence[str] = ()) -> QuerySet[Command]:
    """Return the unsent commands that were planned before a time, the oldest first; of these services, or of all."""
    commands = Command.objects.filter(status__in=UNSENT, planned_at__lt=cut_over)
    return (commands.filter(service__in=services) if services else commands).order_by("planned_at", "id")
