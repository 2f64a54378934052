"""What passes through the edge: a message as Pulsar gave it, and what the codec made of it."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any, NamedTuple

import orjson

from bridge.models import QuarantineCode

MAX_PRODUCER_NAME = 200


class Message(NamedTuple):
    """A message as it came.

    topic: as people know it: without tenant and namespace where they are ours, without the partition.
    short_name: the catalog's name of that topic, before any override.
    message_id: ledger:entry:partition:batch index.
    published_ms: the publish time, milliseconds since 1970; 0 if Pulsar gave none.
    encrypted: how many encrypted messages the body holds: a batch of them arrives as one. 0 if it is not encrypted.
    producer: the name that the producer gave itself, see `producer_name`; it proves nothing.
    """

    topic: str
    short_name: str
    message_id: str
    published_ms: int
    body: bytes
    properties: Mapping[str, str]
    encrypted: int = 0
    producer: str = ""

    @property
    def published_at(self) -> datetime | None:
        """None also for a time that no clock shows: a producer may say what it likes."""
        try:
            return datetime.fromtimestamp(self.published_ms / 1000, UTC) if self.published_ms else None
        except (ValueError, OverflowError, OSError):
            return None


class Envelope(NamedTuple):
    """An event, decoded and checked: ready for the event log. Ids are canonical, times are aware, UTC."""

    message: Message
    event_id: str
    stream: str
    type: str
    key: str
    entity: str
    correlation_id: str
    occurred_at: datetime
    received_at: datetime
    note: str
    body_hash: bytes


class Rejected(NamedTuple):
    """A message that cannot become an event, and why: `reason` is for people and quotes nothing of the message."""

    message: Message
    received_at: datetime
    code: QuarantineCode
    reason: str


def producer_name(claimed: str) -> str:
    """A producer's name as it is stored and shown: at most 200 characters, each printable. Takes any text."""
    name = claimed[:MAX_PRODUCER_NAME]
    return name if name.isprintable() else "".join(each if each.isprintable() else "\ufffd" for each in name)


def content_hash(event_type: str, payload: Mapping[str, Any]) -> bytes:
    """What tells a repeat from another event under the same id: neither spacing nor the order of keys counts."""
    canonical = orjson.dumps(payload, option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(canonical, digest_size=16, person=_person(event_type)).digest()


@cache
def _person(event_type: str) -> bytes:
    """The type is part of the content: on a topic that tells the type, equal bytes can be two events."""
    return hashlib.blake2b(event_type.encode(), digest_size=16).digest()
