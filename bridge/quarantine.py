"""Keep messages that could not become events, with their bytes and the reason, until a person decides.

A service that sends only such messages must not fill the database: the bytes kept of one message are limited, and so
are the messages kept of one topic in an hour. Messages beyond that quota are only counted (`QuarantineCount`).
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import blake2b, sha256
from typing import Any

from django.conf import settings
from django.contrib.postgres.aggregates import ArrayAgg
from django.db import transaction
from django.db.models import DateTimeField, Exists, ExpressionWrapper, F, Max, Min, OuterRef, Sum
from django.db.models.functions import Coalesce

from bridge import clock, sql, statements
from bridge.envelope import Message, Rejected
from bridge.errors import AlreadyDecided, NotInQuarantine, StillUnreadable
from bridge.models import QuarantineCode, QuarantineCount, Quarantined, QuarantineStatus
from bridge.reasons import reason
from bridge.topics import get_topics

logger = logging.getLogger(__name__)

# How much is kept of a body over the limit (setting BRIDGE_MAX_BODY).
KEPT_BYTES = 64 * 1024
# A message's properties are only shown: their number and length are limited.
_PROPERTIES, _PROPERTY_LENGTH = 100, 1000

_Place = tuple[str, datetime]  # topic and hour


def keep(rejected: Sequence[Rejected]) -> None:
    """Keep each message with its reason, or count it if it is beyond its topic's quota of the hour.

    Needs the caller's transaction. May run twice: a message that is kept already is neither changed nor counted.
    """
    if not rejected:
        return
    # The same order for all writers, so that two of them cannot deadlock.
    rows = sorted(map(_row_of, rejected), key=_identity)
    by_place: dict[_Place, list[Quarantined]] = defaultdict(list)
    for row in rows:
        by_place[row.topic, _hour(row.received_at)].append(row)
    kept_before = _lock_counts(sorted(by_place))
    known = _kept_already(rows)
    chosen: list[Quarantined] = []
    for place, found in by_place.items():
        new = [row for row in {_identity(row): row for row in found}.values() if _identity(row) not in known]
        room = max(0, settings.BRIDGE_QUARANTINE_PER_HOUR - kept_before[place])
        _count(place, new[:room], new[room:])
        chosen += new[:room]
    for row in chosen:
        logger.warning("quarantined %s %s: %s", row.topic, row.message_id, row.code)
    Quarantined.objects.bulk_create(chosen, ignore_conflicts=True)


def counted_beside_open() -> list[dict[str, Any]]:
    """Return what was only counted, by topic: topic, number, first_at, last_at, last_code, last_reason; oldest first.

    Covers the hours in which a kept message of the topic is still open: a decision on the kept messages also settles
    those that were only counted. One query.
    """
    rows = (
        QuarantineCount.objects.filter(with_open_message(), counted__gt=0)
        .order_by()
        .values("topic")
        .annotate(
            number=Sum("counted"),
            first_at=Min("first_at"),
            codes=ArrayAgg("last_code", order_by="-last_at"),
            reasons=ArrayAgg("last_reason", order_by="-last_at"),
            last_at=Max("last_at"),
        )
        .order_by("first_at", "topic")
    )
    return [
        {
            "topic": row["topic"],
            "number": row["number"],
            "first_at": row["first_at"],
            "last_at": row["last_at"],
            "last_code": row["codes"][0],
            "last_reason": row["reasons"][0],
        }
        for row in rows
    ]


def with_open_message() -> Exists:
    """Return the condition on a QuarantineCount that a kept message of its topic and hour is still open."""
    hour = OuterRef("hour")
    return Exists(
        Quarantined.objects.filter(
            status=QuarantineStatus.OPEN,
            topic=OuterRef("topic"),
            received_at__gte=hour,
            received_at__lt=ExpressionWrapper(hour + timedelta(hours=1), DateTimeField()),
        )
    )


def dismiss(quarantined_id: int, *, actor: str, why: str) -> None:
    """Mark a message as dismissed; its bytes stay, and `event_log.requeue` still accepts it.

    In one transaction, the caller's if there is one. Raises NotInQuarantine or AlreadyDecided.
    """
    with transaction.atomic():
        row = lock(quarantined_id)
        if row.status != QuarantineStatus.OPEN:
            raise AlreadyDecided("this message has already been requeued or dismissed")
        decide(row, QuarantineStatus.DISMISSED, clock.now(), actor, why)


def lock(quarantined_id: int) -> Quarantined:
    """Return the row, locked for the rest of the caller's transaction. Raises NotInQuarantine."""
    row = Quarantined.objects.select_for_update().filter(pk=quarantined_id).first()
    if row is None:
        raise NotInQuarantine(f"no quarantined message {quarantined_id}")
    return row


def decide(row: Quarantined, status: QuarantineStatus, now: datetime, actor: str, why: str) -> None:
    """Record a decision with its actor and reason on a row that the caller has locked."""
    row.status, row.decided_at, row.decided_by, row.decided_why = status, now, actor, why
    row.save(update_fields=["status", "decided_at", "decided_by", "decided_why"])


def message_of(row: Quarantined) -> Message:
    """Return the message as Pulsar delivered it. Raises StillUnreadable for one that was not kept whole."""
    if row.is_cut:
        raise StillUnreadable(reason("kept-in-part", kept=len(row.body), size=row.full_size))
    names = get_topics().of_shown(row.topic)
    return Message(
        topic=names.shown,
        short_name=names.short,
        message_id=row.message_id,
        published_ms=round(row.published_at.timestamp() * 1000) if row.published_at else 0,
        body=bytes(row.body),
        properties=row.properties,
        encrypted=int(row.code == QuarantineCode.ENCRYPTED),
        producer=row.producer,
    )


def _row_of(one: Rejected) -> Quarantined:
    message = one.message
    return Quarantined(
        topic=message.topic,
        message_id=message.message_id,
        published_at=message.published_at,
        received_at=one.received_at,
        body=message.body[:KEPT_BYTES] if len(message.body) > settings.BRIDGE_MAX_BODY else message.body,
        body_hash=blake2b(message.body, digest_size=16).digest(),
        size=len(message.body),
        sha256=sha256(message.body).digest(),
        properties=_properties(message.properties),
        producer=message.producer,
        code=one.code,
        reason=one.reason.code,
        reason_data=one.reason.data,
    )


def _identity(row: Quarantined) -> tuple[str, str, bytes]:
    return row.topic, row.message_id, bytes(row.body_hash)


def _hour(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _lock_counts(places: Iterable[_Place]) -> dict[_Place, int]:
    """Lock the counts of these topics and hours until the caller's transaction ends; return how many were kept."""
    rows = ({"topic": topic, "hour": hour} for topic, hour in places)
    found = statements.LOCK_COUNTS.rows(sql.dump(statements.HOUR, rows))
    return {(topic, _hour(hour)): kept for topic, hour, kept in found}


def _kept_already(rows: Sequence[Quarantined]) -> set[tuple[str, str, bytes]]:
    columns = statements.PLACE
    wanted = sql.dump(columns, (dict(zip(columns, _identity(row), strict=True)) for row in rows))
    found = statements.KEPT_ALREADY.rows(wanted)
    return {(topic, message_id, bytes(body_hash)) for topic, message_id, body_hash in found}


def _count(place: _Place, kept: Sequence[Quarantined], counted: Sequence[Quarantined]) -> None:
    topic, hour = place
    row = QuarantineCount.objects.filter(topic=topic, hour=hour)
    if kept:
        row.update(kept=F("kept") + len(kept))
    if counted:
        last = max(counted, key=lambda one: one.received_at)
        logger.warning("%d messages of %s exceed the quota of the hour: only counted", len(counted), topic)
        row.update(
            counted=F("counted") + len(counted),
            first_at=Coalesce(F("first_at"), min(one.received_at for one in counted)),
            last_at=last.received_at,
            last_code=last.code,
            last_reason=last.reason,
        )


def _properties(properties: Mapping[str, str]) -> dict[str, str]:
    """Return the part of a message's properties that is kept; a producer may send any number of any length."""
    return {
        _storable(name[:_PROPERTY_LENGTH]): _storable(value[:_PROPERTY_LENGTH])
        for name, value in list(properties.items())[:_PROPERTIES]
    }


def _storable(text: str) -> str:
    """Replace the characters that PostgreSQL cannot store; the properties are only shown."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
