"""Messages that could not become events: kept with their bytes and the reason, until a person decides."""

import logging
from collections.abc import Sequence
from datetime import datetime
from hashlib import blake2b

from django.db import transaction
from django.utils import timezone

from bridge.envelope import Message, Rejected
from bridge.errors import AlreadyDecided, NotInQuarantine
from bridge.models import Quarantined, QuarantineStatus
from bridge.topics import get_topics

logger = logging.getLogger(__name__)


def keep(rejected: Sequence[Rejected]) -> None:
    """Keep the bytes and the reason. In the caller's transaction; a message that is kept already stays as it is."""
    for one in rejected:
        logger.warning("quarantined %s %s: %s", one.message.topic, one.message.message_id, one.code)
    # In one order for all writers, so that two of them cannot deadlock.
    rows = sorted(map(_row_of, rejected), key=lambda row: (row.topic, row.message_id, row.body_hash))
    Quarantined.objects.bulk_create(rows, ignore_conflicts=True)


def dismiss(quarantined_id: int, *, actor: str, why: str) -> None:
    """Hide a message from the open ones; its bytes stay, and `event_log.requeue` still takes it.

    In one transaction, the caller's if there is one. Raises NotInQuarantine or AlreadyDecided.
    """
    with transaction.atomic():
        row = lock(quarantined_id)
        if row.status != QuarantineStatus.OPEN:
            raise AlreadyDecided("this message has been decided on before")
        decide(row, QuarantineStatus.DISMISSED, timezone.now(), actor, why)


def lock(quarantined_id: int) -> Quarantined:
    """The row, locked for the rest of the caller's transaction. Raises NotInQuarantine."""
    row = Quarantined.objects.select_for_update().filter(pk=quarantined_id).first()
    if row is None:
        raise NotInQuarantine(f"no quarantined message {quarantined_id}")
    return row


def decide(row: Quarantined, status: QuarantineStatus, now: datetime, actor: str, why: str) -> None:
    """Note who decided what, and why, on a row that the caller has locked."""
    row.status, row.decided_at, row.decided_by, row.decided_why = status, now, actor, why
    row.save(update_fields=["status", "decided_at", "decided_by", "decided_why"])


def message_of(row: Quarantined) -> Message:
    """The message again, as Pulsar gave it."""
    names = get_topics().of_shown(row.topic)
    return Message(
        topic=names.shown,
        short_name=names.short,
        message_id=row.message_id,
        published_ms=round(row.published_at.timestamp() * 1000) if row.published_at else 0,
        body=bytes(row.body),
        properties=row.properties,
    )


def _row_of(one: Rejected) -> Quarantined:
    message = one.message
    return Quarantined(
        topic=message.topic,
        message_id=message.message_id,
        published_at=message.published_at,
        received_at=one.received_at,
        body=message.body,
        body_hash=blake2b(message.body, digest_size=16).digest(),
        properties={_storable(name): _storable(value) for name, value in message.properties.items()},
        code=one.code,
        reason=one.reason,
    )


def _storable(text: str) -> str:
    """Properties are only shown: what PostgreSQL cannot keep of them is replaced."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
