"""Commands and a publisher for tests."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from django.db import connection
from django.db.models import QuerySet

from bridge.errors import BrokerUnavailable
from bridge.publisher import OutgoingMessage, PublishResult
from compensation import reasons
from compensation.models import Attempt, Command
from compensation.outbox import NewCommand
from compensation.retry import RetryPolicy

NOW = datetime(2025, 3, 8, 14, 0, tzinfo=UTC)
SAGA = uuid5(NAMESPACE_URL, "saga")
POLICY = RetryPolicy(maximum_attempts=3, jitter=0, non_retryable_errors=("no such image",))


def remove(commands: QuerySet[Command]) -> None:
    """Remove commands as if they had never been planned. They must have no attempts, which nobody may delete."""
    with connection.cursor() as cursor:
        ids = list(commands.values_list("id", flat=True))
        cursor.execute("DELETE FROM compensation_command WHERE id = ANY(%s::uuid[])", [[str(id_) for id_ in ids]])


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def new_command(entity: str = "image", name: str = "DeleteRetrievedImage", **changes: Any) -> NewCommand:
    """A released command of the saga SAGA, planned at NOW."""
    saga_id = changes.get("saga_id", SAGA)
    id_ = uuid5(saga_id, f"{entity}:{name}")
    body = {
        "type": name,
        "id": str(id_),
        "correlation_id": str(saga_id),
        "timestamp": NOW.isoformat(),
        "data": {"image_id": entity, "task_id": "task", "reason": "the saga failed"},
    }
    fields: dict[str, Any] = {
        "id": id_,
        "saga_id": saga_id,
        "stream": "image_processing",
        "key": "task",
        "routing_key": "image_processing:task",
        "entity": entity,
        "name": name,
        "service": "DATA_RETRIEVAL",
        "topic": "data-retrieval-commands",
        "body": body,
        "confirmation": "event",
        "policy": POLICY,
        "confirmation_timeout": 300,
        "released": True,
        "planned_at": NOW,
    }
    return NewCommand(**(fields | changes))


def row(command: NewCommand | UUID) -> Command:
    return Command.objects.get(pk=command if isinstance(command, UUID) else command.id)


def error_of(command: NewCommand | UUID) -> str:
    """A command's last error as people read it."""
    found = row(command)
    return reasons.text(found.last_error, found.last_error_data)


def attempts(command: NewCommand) -> list[tuple[int, int, str, bool, bool]]:
    """(round, number, outcome, counted, ended) of each attempt, the oldest first."""
    found = Attempt.objects.filter(command=command.id).order_by("id")
    return [(a.round, a.number, a.outcome, a.counted, a.ended_at is not None) for a in found]


class FakePublisher:
    """Takes every message, unless told otherwise: by `answers` (command id → result) or by being `away`.

    `meanwhile` is called with the page while it is «on the wire».
    """

    def __init__(self) -> None:
        self.sent: list[OutgoingMessage] = []
        self.answers: dict[str, PublishResult] = {}
        self.away = False
        self.probes = 0
        self.meanwhile: Callable[[Sequence[OutgoingMessage]], object] = lambda page: None

    def probe(self) -> None:
        self.probes += 1
        if self.away:
            raise BrokerUnavailable("no answer within 3 seconds")

    def publish(self, page: Sequence[OutgoingMessage]) -> list[PublishResult]:
        self.meanwhile(page)
        if self.away:
            return [not_taken(UUID(message.id), "no answer", reachable=False) for message in page]
        results = [self.answers.get(message.id) or self._taken(message) for message in page]
        self.sent += [message for message, result in zip(page, results, strict=True) if result.error is None]
        return results

    def _taken(self, message: OutgoingMessage) -> PublishResult:
        number = len(self.sent)
        return PublishResult(id=message.id, message_id=f"1:{number}", error=None, reachable=True, permanent=False)


def not_taken(id_: UUID, error: str, *, reachable: bool = True, permanent: bool = False) -> PublishResult:
    return PublishResult(id=str(id_), message_id=None, error=error, reachable=reachable, permanent=permanent)
