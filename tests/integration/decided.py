"""Sagas in every state that a person may find them in, for tests of decisions and of their doors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest
from django.utils import timezone

from bridge import event_log, quarantine
from bridge.envelope import Message, Rejected
from bridge.models import QuarantineCode, Quarantined
from bridge.reasons import Reason
from compensation import delivery
from compensation.models import Command
from sagas.actions import ActionRequest
from sagas.applying.apply import run_apply
from sagas.engine.fold import Fold
from sagas.models import Incident, SagaLog
from tests.integration.commands import FakePublisher
from tests.integration.story import event, image_through, new_ids, retrieval

NO_UUID = "a-scan-without-a-uuid"


def request(reason: str = "because", **more: Any) -> ActionRequest:
    return ActionRequest(actor=more.pop("actor", "ana"), door=more.pop("door", "api"), reason=reason, **more)


def running(images: int = 2) -> tuple[SagaLog, list[str]]:
    """A saga that still runs: its images are retrieved, the first is anonymized."""
    task, *names = new_ids(images + 1)
    event_log.append([*retrieval(task, names), event("AnonymizationCompleted", task, names[0], seconds=9)])
    run_apply()
    return SagaLog.objects.get(key=task), names


def completed() -> tuple[SagaLog, str]:
    task, image = new_ids(2)
    event_log.append(retrieval(task, [image]) + image_through(task, image))
    run_apply()
    return SagaLog.objects.get(key=task), image


def failed(images: int = 2) -> tuple[SagaLog, list[str]]:
    """A saga that failed and is being undone: two commands for the first image, one for each other."""
    saga, names = running(images)
    event_log.append([event("RetrievalFailed", saga.key, seconds=20, error_message="disk full")])
    run_apply()
    saga.refresh_from_db()
    return saga, names


def unfit() -> tuple[SagaLog, Command]:
    """A saga with one command, exhausted for ever: the image's id has no shape that the service takes."""
    [task] = new_ids(1)
    event_log.append([*retrieval(task, [NO_UUID]), event("RetrievalFailed", task, seconds=20, error_message="no")])
    run_apply()
    run_apply()
    return SagaLog.objects.get(key=task), Command.objects.get(saga_id=SagaLog.objects.get(key=task).id)


def shared(images: int = 1) -> tuple[SagaLog, SagaLog, list[str]]:
    """A failed saga whose commands are held, because a completed one has its images too; then the completed one."""
    victim, failing, *names = new_ids(images + 2)
    event_log.append([*retrieval(victim, names), *(fact for name in names for fact in image_through(victim, name))])
    run_apply()
    started = event("RetrievalStarted", failing, seconds=50)
    event_log.append([started, *(event("ProcessingFailed", failing, name, seconds=51) for name in names)])
    run_apply()
    return SagaLog.objects.get(key=failing), SagaLog.objects.get(key=victim), names


def published() -> None:
    """Everything that is due leaves."""
    delivery.publish_due(FakePublisher(), "host:1")


def exhausted(settings: Any, images: int = 1) -> tuple[SagaLog, list[Command]]:
    """A saga whose deletions were each refused once, which is as often as they may be."""
    settings.SAGA_RETRY = {**settings.SAGA_RETRY, "maximum_attempts": 1}
    task, *names = new_ids(images + 1)
    event_log.append([*retrieval(task, names), event("RetrievalFailed", task, seconds=20, error_message="disk full")])
    run_apply()
    refuse_all(task, names)
    saga = SagaLog.objects.get(key=task)
    return saga, list(Command.objects.filter(saga_id=saga.id).order_by("id"))


def refuse_all(task: str, images: Sequence[str]) -> None:
    published()
    event_log.append(
        [event("ImageDeletionFailed", task, image, seconds=30, error_message="locked") for image in images]
    )
    run_apply()
    run_apply()


def parked(
    kinds: Sequence[str] = ("ProcessingStarted", "ProcessingCompleted"), image: str = ""
) -> tuple[str, list[str]]:
    """Events of a task that nobody knows; returns it and their ids."""
    [key] = new_ids(1)
    facts = [event(kind, key, image, seconds=40 + number) for number, kind in enumerate(kinds)]
    event_log.append(facts)
    run_apply()
    return key, [fact.event_id for fact in facts]


def set_aside(patch: pytest.MonkeyPatch) -> SagaLog:
    """A saga that an engine's fault has set aside. The fault stays until the patch is undone."""
    task, image = new_ids(2)
    event_log.append(retrieval(task, [image]))
    run_apply()
    real = Fold.apply

    def apply(self: Fold, fact: Any) -> Any:
        if self.identity.key == task and fact.type == "AnonymizationFailed":
            raise KeyError("a fault")
        return real(self, fact)

    patch.setattr(Fold, "apply", apply)
    event_log.append([event("AnonymizationFailed", task, image, seconds=8, error_message="noise")])
    run_apply()
    return SagaLog.objects.get(key=task)


def quarantined(body: bytes | None = None) -> Quarantined:
    """A message that could not be read once; by today's rules it can, unless `body` says otherwise."""
    [task] = new_ids(1)
    good = {"id": new_ids(1)[0], "type": "RetrievalStarted", "task_id": task, "timestamp": "2026-03-01T12:00:00"}
    message = Message(
        topic="retrieval-started",
        short_name="retrieval-started",
        message_id=f"1:{task}",
        published_ms=1_772_366_400_000,
        body=json.dumps(good).encode() if body is None else body,
        properties={},
    )
    quarantine.keep([Rejected(message, timezone.now(), QuarantineCode.NOT_JSON, Reason("empty"))])
    return Quarantined.objects.get(message_id=f"1:{task}")


def unread(kind: str, topic: str, task: str, image: str = "", **fields: Any) -> Quarantined:
    """A message of a service that could not be read once, and can by today's rules."""
    body = {"id": new_ids(1)[0], "type": kind, "task_id": task, "timestamp": "2026-03-01T12:00:50", **fields}
    if image:
        body["image_id"] = image
    message = Message(topic, topic, f"2:{body['id']}", 1_772_366_400_000, json.dumps(body).encode(), {})
    quarantine.keep([Rejected(message, timezone.now(), QuarantineCode.NOT_JSON, Reason("empty"))])
    return Quarantined.objects.get(message_id=f"2:{body['id']}")


def incident(identity: UUID | None = None, **columns: Any) -> Incident:
    """An incident as it is stored, whether or not it has cases."""
    now = timezone.now()
    facets = {"saga_type": "image_processing", "status": "STARTED", **columns.pop("facets", {})}
    known = {"kind": "stalled", "facets": facets, "first_at": now, "last_at": now, "cases": 1, "most_cases": 1}
    return Incident.objects.get_or_create(id=identity or UUID(int=7), defaults={**known, **columns})[0]


def requarantined(row: Quarantined) -> Quarantined:
    """The same message, once more, as a second delivery would be."""
    again = Message(row.topic, row.topic, f"{row.message_id}:again", 1_772_366_400_000, bytes(row.body), {})
    quarantine.keep([Rejected(again, timezone.now(), QuarantineCode.NOT_JSON, Reason("empty"))])
    return Quarantined.objects.get(message_id=again.message_id)
