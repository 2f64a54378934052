"""The values of the bridge: a message as Pulsar delivered it, and the codec's result."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, date, datetime
from functools import cache
from typing import Any, NamedTuple

import orjson

from bridge.models import QuarantineCode
from bridge.once import Midnight, Once, midnight_near
from bridge.reasons import Reason

MAX_PRODUCER_NAME = 200


class Message(NamedTuple):
    """A message as Pulsar delivered it.

    topic: the name that people know: without our own tenant and namespace, without the partition.
    short_name: the catalog's name of that topic, before any override.
    message_id: ledger:entry:partition:batch index.
    published_ms: the publish time, milliseconds since 1970; 0 if Pulsar gave none.
    encrypted: the number of encrypted messages in the body (a batch of them arrives as one); 0 if not encrypted.
    producer: the name that the producer claims, see `producer_name`; not verified.
    has_schema: whether the producer registered a Pulsar schema, as Avro and Protobuf producers do, and JSON ones may.
    """

    topic: str
    short_name: str
    message_id: str
    published_ms: int
    body: bytes
    properties: Mapping[str, str]
    encrypted: int = 0
    producer: str = ""
    has_schema: bool = False

    @property
    def published_at(self) -> datetime | None:
        """The publish time; None if there is none or it is out of range, since producers may send any number."""
        try:
            return datetime.fromtimestamp(self.published_ms / 1000, UTC) if self.published_ms else None
        except (ValueError, OverflowError, OSError):
            return None


class TypeReading(NamedTuple):
    """An event as one saga type reads it: the key and the entity that it has there."""

    stream: str
    key: str
    entity: str


class Envelope(NamedTuple):
    """A decoded and checked event, ready for the event log. Ids are canonical; times are aware and in UTC.

    stream, key, entity: as the first saga type reads it that can use it. further: as further saga types read it.
    payload: the JSON that is stored. These are the bytes of the body, except for what the note says was left out.
    unclear: whether the body does not say what happened, so that the event changes nothing and a person must look.
    collapse_after: of events like this one, how many are stored before the others are only counted; 0: all are stored.
    day: the UTC day of `occurred_at`; None if the body has no time of its own.
    """

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
    payload: bytes
    unclear: bool = False
    collapse_after: int = 0
    further: tuple[TypeReading, ...] = ()
    day: date | None = None

    @property
    def readings(self) -> tuple[TypeReading, ...]:
        """The event as each saga type reads it that can use it, its own reading first."""
        return (TypeReading(self.stream, self.key, self.entity), *self.further)

    @property
    def once(self) -> Once:
        """The key under which the event is stored once."""
        return Once(self.day, self.event_id)

    @property
    def midnight(self) -> Midnight | None:
        """The midnight close to which it occurred; None if there is none."""
        return midnight_near(self.day, self.occurred_at)


class Rejected(NamedTuple):
    """A message that cannot become an event. `reason` quotes nothing of the message."""

    message: Message
    received_at: datetime
    code: QuarantineCode
    reason: Reason


def producer_name(claimed: str) -> str:
    """Return a producer's name as it is stored and shown: at most 200 characters, each printable."""
    name = claimed[:MAX_PRODUCER_NAME]
    return name if name.isprintable() else "".join(each if each.isprintable() else "\ufffd" for each in name)


def content_hash(event_type: str, payload: Mapping[str, Any]) -> bytes:
    """Hash type and payload, to tell a duplicate from another event with the same id.

    Spacing and the order of keys make no difference.
    """
    canonical = orjson.dumps(payload, option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(canonical, digest_size=16, person=_person(event_type)).digest()


@cache
def _person(event_type: str) -> bytes:
    """Return the type as a key of the hash: on a topic with a default type, equal bytes can be two different events."""
    return hashlib.blake2b(event_type.encode(), digest_size=16).digest()
