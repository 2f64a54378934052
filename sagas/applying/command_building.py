"""Build commands for the compensation package from a definition and, where it has no value, from the settings."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.conf import settings

from compensation.outbox import NewCommand
from compensation.retry import RetryPolicy
from sagas.engine.decide import NO_FACTS, SagaIdentity, command_id, command_state, shape_problem
from sagas.engine.definition import Compensation, Retry
from sagas.engine.state import CommandState, LaneState, SagaState, least


def new_command(
    identity: SagaIdentity, saga: SagaState, lane: LaneState, item: Compensation, *, released: bool, now: datetime
) -> NewCommand:
    """Build a required command. Its message and its retry policy are fixed here and never change afterwards."""
    command_uuid = command_id(identity.saga_id, lane.entity, item.command)
    correlation = saga.correlation.text if saga.correlation else identity.key
    state = command_state(identity, saga, lane, item)
    facts = lane.commands.get(item.command, NO_FACTS)
    mark = least(facts.confirmed, facts.by_hand) or facts.published
    return NewCommand(
        id=UUID(command_uuid),
        saga_id=UUID(identity.saga_id),
        stream=identity.definition.name,
        key=identity.key,
        routing_key=f"{identity.definition.name}:{identity.key}",
        entity=lane.entity,
        name=item.command,
        service=item.service,
        topic=item.topic,
        body=command_body(item, command_uuid, correlation, lane.entity, identity.key, now),
        confirmation=item.confirmation.value,
        policy=retry_policy(item.retry),
        confirmation_timeout=item.retry.confirmation_timeout or settings.SAGA_CONFIRMATION_TIMEOUT,
        released=released,
        planned_at=now,
        invalid=shape_problem(item, lane.entity, identity.key),
        confirmed=(mark.occurred_at, mark.event_id) if state is CommandState.CONFIRMED and mark else None,
        confirmed_by_service=mark is not None and mark == facts.confirmed,
        withdrawn=state in (CommandState.WITHDRAWN, CommandState.SKIPPED),
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
