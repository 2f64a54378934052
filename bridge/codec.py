"""Bytes → Envelope, or Rejected with the reason. Pure: the clock, the catalog and the limits come in as arguments.

What is accepted is exactly what every later part can hold: PostgreSQL's text and jsonb, the columns, the engine.
"""

import re
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, NamedTuple

import orjson
from django.conf import settings

from bridge import instants
from bridge.catalog import Catalog, EventType, OnTopic, get_catalog
from bridge.envelope import Envelope, Message, Rejected, content_hash
from bridge.models import QuarantineCode as Code

MAX_DEPTH = 32
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
MAX_AHEAD = timedelta(days=1)

_ID_RULE = "an id is a text of 1 to 200 printable characters, with no space at either end"
_CANONICAL_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").fullmatch
_ANY_UUID = re.compile(
    r"(?:urn:uuid:)?\{?[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}\}?", re.IGNORECASE
).fullmatch
_PLAIN = frozenset({str, int, bool, type(None)})
# orjson turns a whole number over 64 bits into a float, silently; a float of that size may be such a number.
_MAX_FLOAT = 2.0**63
_MAX_INTEGER = 2**31


class _Unreadable(Exception):
    def __init__(self, code: Code, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class _FieldCheck(NamedTuple):
    """What one known field must be: `path` leads to it through objects."""

    name: str
    path: tuple[str, ...]
    holds: Callable[[Any], bool]
    code: Code
    rule: str


class Codec:
    """Decodes messages against one catalog. `max_body`: the longest body that is read, in bytes."""

    def __init__(self, catalog: Catalog, max_body: int) -> None:
        self._catalog = catalog
        self._max_body = max_body
        self._checks = {event_type.name: _checks_of(event_type) for event_type in catalog.event_types}

    def decode(self, message: Message, now: datetime) -> Envelope | Rejected:
        """Read a message that was received `now`. Never raises, whatever the bytes; the same bytes, the same answer."""
        try:
            return self._decode(message, now)
        except _Unreadable as found:
            return Rejected(message, now, found.code, found.reason)

    def _decode(self, message: Message, now: datetime) -> Envelope:
        if message.encrypted:
            raise _encrypted(message.encrypted)
        body = self._parse(message.body)
        notes: list[str] = []
        event_type = self._event_type(body, message)
        event_id = _id_of(body, "id") or _own_id(message, notes)
        key = _id_of(body, event_type.key_field)
        entity = _id_of(body, event_type.entity_field) if event_type.entity_field else ""
        if not key and not entity:
            named = " nor ".join(filter(None, (event_type.key_field, event_type.entity_field)))
            raise _Unreadable(Code.NO_KEY, f"the message names no {named}, so it belongs to nothing")
        correlation_id = _id_of(body, "correlation_id")
        for check in self._checks[event_type.name]:
            _hold(check, body)
        return Envelope(
            message=message,
            event_id=event_id,
            stream=event_type.stream,
            type=event_type.name,
            key=key,
            entity=entity,
            correlation_id=correlation_id,
            occurred_at=_occurred_at(body, message, now, notes),
            received_at=now,
            note="; ".join(notes),
            body_hash=_hash(body, event_type, event_id, key, entity),
        )

    def _parse(self, body: bytes) -> dict[str, Any]:
        if len(body) > self._max_body:
            raise _Unreadable(Code.TOO_LARGE, f"the body has {len(body):,} bytes, over the limit of {self._max_body:,}")
        try:
            value = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise _why_no_json(body, error) from None
        if type(value) is not dict:
            raise _Unreadable(Code.NOT_AN_OBJECT, f"the body is {_kind(value)}, not an object")
        # In JSON a NUL can only be written as an escape, so most bodies need no look at their texts.
        _inspect(value, escapes=b"\\u0000" in body)
        return value

    def _event_type(self, body: Mapping[str, Any], message: Message) -> EventType:
        """What the message is, as far as its topic may say so: whoever writes to one topic speaks for that one alone.

        The topic tells the type where the message names none, or names the topic itself. Raises _Unreadable.
        """
        here = self._catalog.on_topic(message.short_name)
        name = body.get("type")
        if name is None:
            if here.default is None:
                raise _Unreadable(Code.UNKNOWN_TYPE, f"the message has no type, and {_why_none(here)}")
            return here.default
        if type(name) is not str:
            raise _Unreadable(Code.WRONG_TYPE, f"the type must be a text, but is {_kind(name)}")
        found = here.said_as.get(name)
        if found is not None:
            return found
        elsewhere = self._catalog.meant_somewhere(name)
        if elsewhere is not None:
            raise _Unreadable(Code.WRONG_TOPIC, f"{elsewhere.name} is not accepted from {_only(here)}")
        if name == message.short_name and here.types:
            raise _Unreadable(Code.UNKNOWN_TYPE, f"the message names its topic as its type, and {_why_none(here)}")
        raise _Unreadable(Code.UNKNOWN_TYPE, "no saga type knows the type of event that the message names")


def _only(here: OnTopic) -> str:
    """The topic, by what may come on it."""
    if not here.types:
        return "this topic, which no saga type declares"
    return f"this topic, which is for {' and '.join(event_type.name for event_type in here.types)} only"


def _why_none(here: OnTopic) -> str:
    """Why its topic does not say which type a message without one is."""
    if not here.types:
        return "its topic tells none"
    if len(here.types) == 1:
        return f"messages of {here.types[0].name} always carry theirs"
    return f"its topic carries {len(here.types)} types, of which none is the default"


@cache
def get_codec() -> Codec:
    """The project's codec, from its catalog and the setting BRIDGE_MAX_BODY."""
    return Codec(get_catalog(), settings.BRIDGE_MAX_BODY)


def canonical_id(value: object) -> str | None:
    """The id as it is compared: a UUID in lower case with its dashes, anything else as it is; None if it is no id."""
    if type(value) is not str:
        return None
    if _CANONICAL_UUID(value):
        return value
    if not 1 <= len(value) <= 200 or not value.isprintable() or value != value.strip():
        return None
    return str(uuid.UUID(value.lower())) if _ANY_UUID(value) else value


def _id_of(body: Mapping[str, Any], name: str) -> str:
    """The canonical id in this field, "" if it is missing or null."""
    value = body.get(name)
    if value is None:
        return ""
    found = canonical_id(value)
    if found is None:
        raise _Unreadable(Code.BAD_ID, f"the field {name} holds no id: {_ID_RULE}")
    return found


def _own_id(message: Message, notes: list[str]) -> str:
    """An id from the message's place on its topic. The publish time tells places of the same number apart for ever."""
    notes.append("the message has no id: named by its place on the topic")
    return f"{message.topic}@{message.message_id}@{message.published_ms}"


def _occurred_at(body: Mapping[str, Any], message: Message, now: datetime, notes: list[str]) -> datetime:
    text = body.get("timestamp")
    if text is None:
        notes.append("the message has no timestamp: this is when it was published")
        when = message.published_at or now
    else:
        when = _timestamp(text)
    if when < EARLIEST:
        raise _Unreadable(Code.BAD_TIMESTAMP, "the event's time lies before the year 2000")
    if when - now > MAX_AHEAD:
        raise _Unreadable(Code.BAD_TIMESTAMP, "the event's time lies more than a day ahead of our clock")
    return when


def _timestamp(text: Any) -> datetime:
    if type(text) is not str:
        raise _Unreadable(Code.WRONG_TYPE, f"the timestamp must be a text, but is {_kind(text)}")
    try:
        return instants.parse(text)
    except ValueError:
        raise _Unreadable(
            Code.BAD_TIMESTAMP, f"the timestamp is not in an accepted format ({instants.ACCEPTED})"
        ) from None


def _hash(body: dict[str, Any], event_type: EventType, event_id: str, key: str, entity: str) -> bytes:
    """The hash of what the message says: neither spacing, nor the order of keys, nor how an id is written counts."""
    said = {"id": event_id, event_type.key_field: key, event_type.entity_field: entity}
    spelled = {name: value for name, value in said.items() if name and value and body.get(name, value) != value}
    return content_hash(event_type.name, {**body, **spelled} if spelled else body)


# --- what JSON allows and we cannot keep ------------------------------------------------------------------------------


def _inspect(body: dict[str, Any], escapes: bool) -> None:
    for value in body.values():
        if escapes or type(value) not in _PLAIN:
            _inspect_value(value, 2)
    if escapes:
        _inspect_keys(body)


def _inspect_value(value: Any, depth: int) -> None:
    kind = type(value)
    if kind is str:
        if "\0" in value:
            raise _Unreadable(Code.BAD_TEXT, "a text holds a NUL character, which PostgreSQL cannot keep")
    elif kind is float:
        if abs(value) >= _MAX_FLOAT:
            raise _Unreadable(Code.BAD_NUMBER, "a number is too large to be kept exactly")
    elif kind is dict or kind is list:
        if depth > MAX_DEPTH:
            raise _Unreadable(Code.TOO_DEEP, f"the message is nested more than {MAX_DEPTH} deep")
        if kind is dict:
            _inspect_keys(value)
        for item in value.values() if kind is dict else value:
            _inspect_value(item, depth + 1)


def _inspect_keys(value: dict[str, Any]) -> None:
    for name in value:
        _inspect_value(name, 1)


def _encrypted(count: int) -> _Unreadable:
    what = "the message is encrypted" if count == 1 else f"the body is a batch of {count} encrypted messages"
    return _Unreadable(Code.ENCRYPTED, f"{what}, and this service has no key")


def _why_no_json(body: bytes, error: orjson.JSONDecodeError) -> _Unreadable:
    """orjson says why in a sentence whose first words are stable; nothing of the body is in ours."""
    said = str(error)
    if not body.strip():
        return _Unreadable(Code.NOT_JSON, "the body is empty")
    if "depth" in said:
        return _Unreadable(Code.TOO_DEEP, f"the message is nested more than {MAX_DEPTH} deep")
    if "infinity" in said:
        return _Unreadable(Code.BAD_NUMBER, "a number is too large to be kept exactly")
    if "UTF-8" in said:
        return _Unreadable(Code.NOT_JSON, "the body is no text in UTF-8")
    if "surrogate" in said:
        return _Unreadable(Code.BAD_TEXT, "a text holds half a character (a lone surrogate)")
    return _Unreadable(Code.NOT_JSON, f"the body is not JSON (line {error.lineno}, column {error.colno})")


# --- known fields -----------------------------------------------------------------------------------------------------


def _checks_of(event_type: EventType) -> tuple[_FieldCheck, ...]:
    already = {event_type.key_field, event_type.entity_field}
    return tuple(
        _FieldCheck(name, tuple(name.split(".")), *_KINDS[kind])
        for name, kind in event_type.fields.items()
        if name not in already
    )


def _hold(check: _FieldCheck, body: Mapping[str, Any]) -> None:
    value: Any = body
    for step in check.path:
        value = value.get(step) if type(value) is dict else None
    if value is not None and not check.holds(value):
        raise _Unreadable(check.code, f"the field {check.name} must be {check.rule}, but is {_kind(value)}")


def _is_id(value: Any) -> bool:
    return canonical_id(value) is not None


def _is_list_of_ids(value: Any) -> bool:
    return type(value) is list and all(map(_is_id, value))


def _is_text(value: Any) -> bool:
    return type(value) is str


def _is_integer(value: Any) -> bool:
    return type(value) is int and -_MAX_INTEGER <= value < _MAX_INTEGER


def _is_object(value: Any) -> bool:
    return type(value) is dict


_KINDS: dict[str, tuple[Callable[[Any], bool], Code, str]] = {
    "id": (_is_id, Code.BAD_ID, f"an id ({_ID_RULE})"),
    "ids": (_is_list_of_ids, Code.BAD_ID, f"a list of ids ({_ID_RULE})"),
    "text": (_is_text, Code.WRONG_TYPE, "a text"),
    "integer": (_is_integer, Code.WRONG_TYPE, "a whole number that fits four bytes"),
    "object": (_is_object, Code.WRONG_TYPE, "an object"),
}


def _kind(value: Any) -> str:
    """What a JSON value is, in words; never what it says."""
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case list():
            return "a list"
        case _:
            return "an object"
