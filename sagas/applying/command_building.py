"""Build what is passed to the compensation package: commands, from a definition and the settings, and their answers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.conf import settings

from bridge import routing
from compensation.outbox import CommandRefusal, NewCommand, Settlement
from compensation.retry import RetryPolicy
from sagas import confirmations
from sagas.engine.change import CommandAnswer, Refusal, RequiredCommand, SagaChange
from sagas.engine.definition import Compensation, Retry
from sagas.engine.state import CommandState


def new_command(change: SagaChange, command: RequiredCommand, now: datetime) -> NewCommand:
    """Build a required command. Its message, retry policy and confirmation kind are fixed here and never change."""
    identity, item, mark = change.identity, command.compensation, command.confirmed
    return NewCommand(
        id=UUID(command.id),
        saga_id=UUID(identity.saga_id),
        stream=identity.definition.name,
        key=identity.key,
        routing_key=routing.routing_key(identity.definition.name, identity.key),
        entity=command.entity,
        name=item.command,
        service=item.service,
        topic=item.topic,
        body=command_body(item, command.id, change.correlation, command.entity, identity.key, now),
        confirmation=confirmations.kind_of(item).value,
        policy=retry_policy(item.retry),
        confirmation_timeout=item.retry.confirmation_timeout or settings.SAGA_CONFIRMATION_TIMEOUT,
        released=command.released,
        planned_at=now,
        invalid=command.problem,
        confirmed=(mark.occurred_at, mark.event_id) if mark else None,
        confirmed_by_service=command.confirmed_by_service,
        withdrawn=command.state in (CommandState.WITHDRAWN, CommandState.SKIPPED),
        exhausted=command.state is CommandState.EXHAUSTED,
    )


def settlement(answer: CommandAnswer) -> Settlement:
    """Return what a fact reports about a command that is planned already."""
    return Settlement(
        command_id=UUID(answer.command_id),
        status=answer.status,
        at=answer.at,
        by_hand=answer.by_hand,
        event_id=answer.event_id,
        round=answer.round,
    )


def command_refusal(refusal: Refusal) -> CommandRefusal:
    """Return a service's refusal of a command."""
    return CommandRefusal(
        command_id=UUID(refusal.command_id), error=refusal.error, at=refusal.at, event_id=refusal.event_id
    )


def command_body(
    item: Compensation, command_uuid: str, correlation: str, entity: str, key: str, now: datetime
) -> dict[str, Any]:
    """Return the message as the service reads it. Its time is naive UTC, like all times in messages on Pulsar."""
    values = {"entity": entity, "key": key}
    return {
        "type": item.command,
        "id": command_uuid,
        "correlation_id": correlation,
        "timestamp": now.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds"),
        "data": {name: source[1:] if source.startswith("=") else values[source] for name, source in item.data.items()},
    }


def retry_policy(retry: Retry) -> RetryPolicy:
    """Return the retry policy of a command: the values of the definition where it has them, else of the environment."""
    defaults: Mapping[str, Any] = settings.SAGA_RETRY
    initial = float(_value(retry.initial_interval, defaults["initial_interval"]))
    return RetryPolicy(
        initial_interval=initial,
        backoff_coefficient=_value(retry.backoff_coefficient, defaults["backoff_coefficient"]),
        # A definition that overrides only one interval must not contradict the other one from the environment.
        maximum_interval=max(initial, _value(retry.maximum_interval, defaults["maximum_interval"])),
        maximum_attempts=int(_value(retry.maximum_attempts, defaults["maximum_attempts"])),
        jitter=defaults["jitter"],
        non_retryable_errors=retry.non_retryable_errors,
    )


def _value(override: float | None, default: float) -> float:
    return default if override is None else override
