"""Facts as the bridge would have stored them, for tests of applying."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from bridge import routing
from bridge.event_log import NewFact

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


def event(
    kind: str, task: str = "", image: str = "", *, seconds: int = 0, stream: str = "image_processing", **body: Any
) -> NewFact:
    """A message of one of the services, as the log keeps it."""
    key = task
    return NewFact(
        source="pulsar",
        event_id=str(body.pop("id", uuid.uuid4())),
        stream=stream,
        type=kind,
        key=key,
        entity=image,
        occurred_at=START + timedelta(seconds=seconds),
        payload=body,
        routing_key=routing.routing_key(stream, key, image),
    )


def retrieval(task: str, images: Sequence[str], seconds: int = 0) -> list[NewFact]:
    """A retrieval that went well."""
    return [
        event("RetrievalStarted", task, seconds=seconds),
        event("ImagesRetrieved", task, seconds=seconds + 1, image_ids=list(images), number_of_images=len(images)),
        event("RetrievalCompleted", task, seconds=seconds + 2, result={"successful_images": len(images)}),
    ]


def image_through(task: str, image: str, seconds: int = 10) -> list[NewFact]:
    """An image that goes all the way."""
    kinds = (
        "ImageReadyForAnonymization",
        "AnonymizationRequested",
        "AnonymizationCompleted",
        "ImageReadyForProcessing",
        "ProcessingStarted",
        "ProcessingCompleted",
    )
    return [event(kind, task, image, seconds=seconds + number) for number, kind in enumerate(kinds)]


def new_ids(count: int) -> list[str]:
    return [str(uuid.uuid4()) for _ in range(count)]
