"""The messages of the three services: envelopes, topics and the fields of each event.

Written from the wire contract, not from the saga definition: the two must agree without sharing code.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from enum import Enum
from typing import Any

Fields = dict[str, Any]

TOPICS: Mapping[str, str] = {
    "RetrievalStarted": "retrieval-started",
    "RetrievalCompleted": "retrieval-completed",
    "RetrievalFailed": "retrieval-failed",
    "ImagesRetrieved": "images-retrieved",
    "ImageUploadFailed": "image-upload-failed",
    "ImageReadyForAnonymization": "image-anonymization",
    "AnonymizationRequested": "anonymization-requests",
    "AnonymizationCompleted": "anonymization-completed",
    "AnonymizationFailed": "anonymization-failed",
    "ImageReadyForProcessing": "image-processing",
    "AnonymizationRolledBack": "anonymization-anonymizationrolledback",
    "ProcessingStarted": "processing-started",
    "ProcessingCompleted": "image-processed",
    "ProcessingFailed": "processing-failed",
    "ImageDeletionCompleted": "retrieval-imagedeletioncompleted",
    "ImageDeletionFailed": "retrieval-imagedeletionfailed",
}
PROCESSING = {"ProcessingStarted": "started", "ProcessingCompleted": "completed", "ProcessingFailed": "failed"}
DASHED_REGIONS = ("usa", "latam")

DELETE = "DeleteRetrievedImage"
ROLLBACK = "RollbackAnonymization"
COMMAND_TOPICS: Mapping[str, str] = {DELETE: "data-retrieval-commands", ROLLBACK: "anonymization-commands"}

ECHO = "Tarea fallida por compensación de saga"
REVERSED = "Anonimización revertida"
LOCAL = timezone(timedelta(hours=-5))
MISSING = "None"  # how the services write a missing id
UNPROCESSED = "FAILED"  # the status of a ProcessingCompleted whose image was not processed


class Quirk(Enum):
    """What is unusual, but valid, about an envelope."""

    NONE = "none"
    ZULU = "zulu"  # the time ends with Z
    OFFSET = "offset"  # the time is local, with its UTC offset
    TIMELESS = "timeless"  # no timestamp
    NAMELESS = "nameless"  # no id
    SHOUTING = "shouting"  # UUIDs in upper case
    CHATTY = "chatty"  # unknown fields


@dataclass(frozen=True, slots=True)
class SimulatedEvent:
    """One event of a service. `late`: it is sent after all events of its wave that are not late.

    wave: all events of a wave are sent before those of the next: a task is started again after people saw its end, and
    its new images come after that.
    """

    type: str
    topic: str
    event_id: str
    at: datetime
    fields: Fields
    late: bool = False
    quirk: Quirk = Quirk.NONE
    wave: int = 0

    def body(self) -> bytes:
        """Return the message's bytes. The Processing service sends no type."""
        envelope: Fields = {"id": self.event_id, "timestamp": timestamp(self.at, self.quirk)}
        if self.type not in PROCESSING:
            envelope["type"] = self.type
        if self.quirk is Quirk.TIMELESS:
            del envelope["timestamp"]
        if self.quirk is Quirk.NAMELESS:
            del envelope["id"]
        return encode(envelope | _with_quirk(self.fields, self.quirk))


def encode(message: Fields) -> bytes:
    """Return the bytes of a JSON object."""
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()


def timestamp(at: datetime, quirk: Quirk = Quirk.NONE) -> str:
    """Return the time as the services write it: UTC without a zone, except for the quirks."""
    if quirk is Quirk.OFFSET:
        return at.astimezone(LOCAL).isoformat()
    naive = at.astimezone(UTC).replace(tzinfo=None).isoformat()
    return f"{naive}Z" if quirk is Quirk.ZULU else naive


def _with_quirk(fields: Fields, quirk: Quirk) -> Fields:
    if quirk is Quirk.CHATTY:
        return {**fields, "schema_version": 3, "trace": {"span": "b7ad6b7169203331", "flags": [1, None, "x"]}}
    if quirk is Quirk.SHOUTING:
        shouted = {key: fields[key].upper() for key in ("task_id", "image_id") if fields.get(key)}
        return fields | shouted
    return fields


@dataclass(frozen=True, slots=True)
class Task:
    """A retrieval task. `correlation_id` is empty if the services send none, which is the usual case."""

    task_id: str
    batch_id: str
    source: str
    location: str
    correlation_id: str = ""

    def named(self) -> Fields:
        """Return the fields that assign an event to this task."""
        named = {"task_id": self.task_id}
        return {**named, "correlation_id": self.correlation_id} if self.correlation_id else named


@dataclass(frozen=True, slots=True)
class Image:
    """An image. `own_task`: Processing's task id for it; `own_rollback`: the anonymizer's task id of its rollback."""

    image_id: str
    number: int
    modality: str
    region: str
    own_task: str
    own_rollback: str

    @property
    def image_type(self) -> str:
        return f"{self.modality}-{self.region}"


def retrieval_started(task: Task) -> Fields:
    source = {
        "source_type": "PACS",
        "source_name": task.source,
        "source_id": f"src-{task.batch_id[:8]}",
        "location": task.location,
        "retrieval_method": "DIRECT_UPLOAD",
    }
    return {**task.named(), "batch_id": task.batch_id, "source_metadata": source}


def retrieval_completed(task: Task, total: int, failed: int, *, counts_successes: bool = True) -> Fields:
    """Return the fields of RetrievalCompleted. `counts_successes`: include successful_images, which is optional."""
    result: Fields = {
        "status": "COMPLETED" if not failed else "PARTIAL",
        "message": f"{total - failed} of {total} images retrieved",
        "total_images": total,
        "failed_images": failed,
        "details": {"batch_id": task.batch_id},
    }
    if counts_successes:
        result["successful_images"] = total - failed
    return {**task.named(), "source": task.source, "location": task.location, "result": result}


def retrieval_failed(task: Task, message: str) -> Fields:
    return {**task.named(), "error_message": message, "source": task.source}


def images_retrieved(task: Task, images: list[Image]) -> Fields:
    return {
        **task.named(),
        "source": task.source,
        "number_of_images": len(images),
        "batch_id": task.batch_id,
        "image_ids": [image.image_id for image in images],
    }


def image_upload_failed(task: Task, number: int) -> Fields:
    return {
        **task.named(),
        "filename": f"study_{number:04d}.dcm",
        "error_message": "checksum of the uploaded file differs",
        "source": task.source,
        "format": "DICOM",
        "modality": "CT",
        "region": "CHEST",
        "stack_trace": None,
    }


def image_ready_for_anonymization(task: Task, image: Image) -> Fields:
    return {
        "image_id": image.image_id,
        **task.named(),
        "source": task.source,
        "modality": image.modality,
        "region": image.region,
        "file_path": f"/data/retrieval/{image.image_id}.dcm",
    }


def anonymization_requested(task: Task, image: Image) -> Fields:
    ready = image_ready_for_anonymization(task, image)
    return {**ready, "image_type": image.image_type, "destination_service": "anonymization"}


def anonymization_completed(task: Task, image: Image) -> Fields:
    return {
        "image_id": image.image_id,
        "task_id": task.task_id,
        "image_type": image.image_type,
        "result_file_path": f"/data/anonymized/{image.image_id}.dcm",
        "processing_time_ms": 180 + image.number * 7,
    }


def anonymization_failed(task: Task, image: Image, message: str) -> Fields:
    return {
        "image_id": image.image_id,
        "task_id": task.task_id,
        "image_type": image.image_type,
        "error_message": message,
    }


def anonymization_rolled_back(task_id: str, image_id: str | None, reason: str) -> Fields:
    return {"task_id": task_id, "image_id": image_id, "reason": reason}


def image_ready_for_processing(task: Task, image: Image) -> Fields:
    return {
        "image_id": image.image_id,
        "task_id": task.task_id,
        "image_type": image.image_type,
        "anonymized_file_path": f"/data/anonymized/{image.image_id}.dcm",
        "original_file_path": f"/data/retrieval/{image.image_id}.dcm",
        "source": task.source,
        "modality": image.modality,
        "region": image.region,
    }


def processing(kind: str, task_id: str, region: str, image: Image | None, *, status: str = "COMPLETED") -> Fields:
    """Return the fields of a Processing event (`kind` is its type); without `image` it has no image id."""
    named = {"task_id": task_id, "region": region}
    if image is not None:
        named["image_id"] = image.image_id
    if kind == "ProcessingStarted":
        return {**named, "image_type": image.image_type if image else "CT-CHEST"}
    if kind == "ProcessingCompleted":
        message = "3 findings, none urgent" if status == "COMPLETED" else "the model was not available"
        return {**named, "status": status, "message": message}
    return {**named, "error_message": "the model gave no result within its time"}


def processing_topics(kind: str, region: str) -> tuple[str, ...]:
    """Return the topics on which a Processing event of a region may come: all of them are in use."""
    word = PROCESSING[kind]
    dashed = (f"{region}-processing-{word}",) if region in DASHED_REGIONS else ()
    return (TOPICS[kind], *dashed, f"processing.{region}.{word}")


def image_deletion_completed(task_id: str, image_id: str, reason: str) -> Fields:
    return {"image_id": image_id, "task_id": task_id, "reason": reason}


def image_deletion_failed(task_id: str, image_id: str, reason: str) -> Fields:
    return {
        "image_id": image_id,
        "task_id": task_id,
        "error_message": "the archive holds a lock on the file",
        "reason": reason,
    }
