"""Decode bytes to an Envelope, or to Rejected with the reason. Pure: clock, catalog and limits are arguments.

A message is accepted only if every later part can hold it: PostgreSQL's text and jsonb, the columns, the engine.
"""

import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, NamedTuple

import orjson
from django.conf import settings

from bridge import instants
from bridge.catalog import Catalog, EventType, OnTopic, Readers, get_catalog
from bridge.envelope import Envelope, Message, Rejected, TypeReading, content_hash
from bridge.models import QuarantineCode as Code
from bridge.reasons import Reason, joined, reason

MAX_DEPTH = 32
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
MAX_AHEAD = timedelta(days=1)

_CANONICAL_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").fullmatch
_ANY_UUID = re.compile(
    # ASCII: otherwise the dotless i of Turkish is an i, and uuid.UUID refuses what matched.
    r"(?:urn:uuid:)?\{?[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}\}?",
    re.IGNORECASE | re.ASCII,
).fullmatch
# How services write an id that they lack, such as Python's str(None): trimmed and in any case.
_NO_IDS = frozenset({"", "none", "null", "undefined", "nil", "nan"})
_PLAIN = frozenset({str, int, bool, type(None)})
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# The marks of UTF-16 and UTF-32, and the beginning of an object in UTF-16 without a mark.
_UTF_16 = (b"\xff\xfe", b"\xfe\xff", b"{\0", b"\0{", b"\0\0\0{", b"\0\0\xfe\xff")
# How bodies of other formats begin: a container or a single object of Avro and Confluent's header, or, as the first
# field of a record, a text of 36 characters that is a UUID.
_HEADERS = {b"Obj\x01": "Avro", b"\xc3\x01": "Avro"}
# A zero, and the number of a schema in four bytes.
_REGISTRY_HEADER = re.compile(rb"\0(?!\0{4})\0.{4}", re.DOTALL).match
_FIRST_FIELDS = {b"H": "Avro", b"\n$": "Protobuf"}
# orjson silently turns an integer over 64 bits into a float, so a float of that size may have been such an integer.
_MAX_FLOAT = 2.0**63
_MAX_INTEGER = 2**31


class _Unreadable(Exception):
    def __init__(self, code: Code, why: Reason) -> None:
        super().__init__(why.code)
        self.code = code
        self.reason = why


class _FieldCheck(NamedTuple):
    """The check of one known field.

    path: the object keys that lead to it. decides: whether the event's meaning depends on the field, so that a message
    with an invalid value is unreadable. expected: what it must be, as the code of a reason.
    """

    name: str
    path: tuple[str, ...]
    decides: bool
    is_valid: Callable[[Any], bool]
    code: Code
    expected: str


# What one saga type reads: key, entity, hash of the content, the checks that left an entry out of the body, and whether
# it is unclear. A plain tuple, and no NamedTuple: it is made for each message, and costs a tenth of that.
_Read = tuple[str, str, bytes, list[_FieldCheck], bool]


class Codec:
    """Decode messages against one catalog. `max_body`: the longest body that is read, in bytes."""

    def __init__(self, catalog: Catalog, max_body: int) -> None:
        self._catalog = catalog
        self._max_body = max_body
        # By the identity of the type: its name alone is not unique, and a pair costs more to look up.
        self._checks = {id(one): _checks_of(one) for one in catalog.event_types}

    def decode(self, message: Message, now: datetime) -> Envelope | Rejected:
        """Decode a message that was received `now`. Never raises; the result depends on the arguments only."""
        try:
            return self._decode(message, now)
        except _Unreadable as found:
            return Rejected(message, now, found.code, found.reason)

    def _decode(self, message: Message, now: datetime) -> Envelope:
        if message.encrypted:
            raise _encrypted(message.encrypted)
        notes: list[str] = []
        raw = _without_mark(message.body, notes)
        body = self._parse(raw, message)
        event_types = self._event_types(body, message)
        event_id = _id_of(body, "id", notes) or _own_id(message, notes)
        own = event_types[0]
        further: tuple[TypeReading, ...] = ()
        collapse_after = own.collapse_after
        if len(event_types) == 1:
            key, entity, body_hash, changed, unclear = self._read(own, body, event_id, notes)
        else:
            read = self._read_by_all(event_types, body, event_id, notes)
            own, (key, entity, body_hash, _, _) = read[0]
            changed = [check for _, values in read for check in values[3]]
            unclear = any(values[4] for _, values in read)
            collapse_after = _collapse_after([event_type.collapse_after for event_type, _ in read])
            further = tuple(TypeReading(event_type.stream, *values[:2]) for event_type, values in read[1:])
        occurred_at = _occurred_at(body, message, now, notes)
        return Envelope(
            message=message,
            event_id=event_id,
            stream=own.stream,
            type=own.name,
            key=key,
            entity=entity,
            correlation_id=_id_of(body, "correlation_id", notes),
            occurred_at=occurred_at,
            received_at=now,
            note=joined(notes),
            body_hash=body_hash,
            payload=orjson.dumps(body) if changed else raw,
            unclear=unclear,
            collapse_after=collapse_after,
            further=further,
            day=None if body.get("timestamp") is None else occurred_at.date(),
        )

    def _read_by_all(
        self, event_types: Readers, body: dict[str, Any], event_id: str, notes: list[str]
    ) -> list[tuple[EventType, _Read]]:
        """Return what each saga type reads that can use the body, and note the others. Raises _Unreadable: none can."""
        found: list[tuple[EventType, _Read]] = []
        refused: list[_Unreadable] = []
        for event_type in event_types:
            try:
                found.append((event_type, self._read(event_type, body, event_id, notes)))
            except _Unreadable as error:
                refused.append(error)
                notes.append(_not_used(event_type.stream, error))
        if not found:
            raise refused[0]
        notes[:] = dict.fromkeys(notes)  # two saga types may note the same
        return found

    def _read(self, event_type: EventType, body: dict[str, Any], event_id: str, notes: list[str]) -> _Read:
        """Read the body as one saga type does. Raises _Unreadable if that type cannot use it."""
        key = _id_of(body, event_type.key_field, notes)
        entity = _id_of(body, event_type.entity_field, notes) if event_type.entity_field else ""
        if not key and (event_type.needs_key or not entity):
            instead = None if event_type.needs_key else event_type.entity_field
            raise _Unreadable(Code.NO_KEY, reason("no-key", fields=list(filter(None, (event_type.key_field, instead)))))
        about = entity if event_type.entity_field else key
        body_hash = _hash(body, event_type, event_id, key, entity)
        changed = [check for check in self._checks[id(event_type)] if _check_field(check, body, notes)]
        unclear = event_type.is_unclear is not None and event_type.is_unclear(body, about)
        return key, entity, body_hash, changed, unclear

    def _parse(self, body: bytes, message: Message) -> dict[str, Any]:
        """Return the object in the body, which has no byte order mark. Raises _Unreadable."""
        if len(body) > self._max_body:
            raise _Unreadable(Code.TOO_LARGE, reason("too-large", size=len(body), limit=self._max_body))
        try:
            value = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise _schema_error(body, message.has_schema) or _json_error(body, error) from None
        if type(value) is not dict:
            raise _Unreadable(Code.NOT_AN_OBJECT, reason("not-an-object", found=_kind(value)))
        # In JSON a NUL can only be written as an escape, so the strings of most bodies need no check.
        _inspect(value, escapes=b"\\u0000" in body)
        return value

    def _event_types(self, body: Mapping[str, Any], message: Message) -> Readers:
        """Return the type of the message, as each saga type declares it that reads its topic. Raises _Unreadable.

        A producer can only send the types of the topics that it may write to. The topic's default type applies where
        the message names no type, or names the topic itself.
        """
        here = self._catalog.on_topic(message.short_name)
        name = body.get("type")
        if name is None:
            if here.default is None:
                raise _Unreadable(Code.UNKNOWN_TYPE, reason("no-type", why=_why_no_default(here).nested))
            return here.default
        if type(name) is not str:
            raise _wrong_type("type", "a-string", name)
        found = here.by_name.get(name)
        if found is not None:
            return found
        elsewhere = self._catalog.name_on_any_topic(name)
        if elsewhere is not None:
            raise _Unreadable(Code.WRONG_TOPIC, _why_not_here(elsewhere, here))
        if name == message.short_name and here.types:
            raise _Unreadable(Code.UNKNOWN_TYPE, reason("topic-as-type", why=_why_no_default(here).nested))
        raise _Unreadable(Code.UNKNOWN_TYPE, reason("unknown-type"))


def _why_not_here(name: str, here: OnTopic) -> Reason:
    """Say why a type of another topic is not accepted, by the types that this topic carries."""
    if not here.types:
        return reason("wrong-topic-of-nothing", type=name)
    return reason("wrong-topic", type=name, types=here.names)


def _why_no_default(here: OnTopic) -> Reason:
    """Say why the topic has no default type."""
    if not here.types:
        return reason("topic-of-nothing")
    if len(here.names) == 1:
        return reason("topic-of-one-type", type=here.names[0])
    return reason("topic-without-default", count=len(here.names))


def _collapse_after(numbers: Sequence[int]) -> int:
    """Return how many equal events are stored if several saga types read them: as many as any of them needs."""
    return 0 if 0 in numbers else max(numbers)


def _not_used(stream: str, error: _Unreadable) -> str:
    """Return the note that a saga type cannot use the body. It quotes nothing of the body."""
    data = error.reason.data or {}
    fields = ", ".join(data.get("fields") or [data["field"]])
    return f"not-used-{error.code}:{stream} ({fields})"


@cache
def get_codec() -> Codec:
    """Return the project's codec, made from its catalog and the setting BRIDGE_MAX_BODY."""
    return Codec(get_catalog(), settings.BRIDGE_MAX_BODY)


def canonical_id(value: object) -> str | None:
    """Return the id in the form that is compared, or None if it is malformed or a text that stands for no id.

    A UUID becomes lower case with dashes; any other id stays as it is.
    """
    if type(value) is not str:
        return None
    if _CANONICAL_UUID(value):
        return value
    if not 1 <= len(value) <= 200 or not value.isprintable() or value != value.strip() or is_no_id(value):
        return None
    return str(uuid.UUID(value.lower())) if _ANY_UUID(value) else value


def is_no_id(value: object) -> bool:
    """Return whether the value of an id field says that there is no id: null, empty, or a text such as "None"."""
    return value is None or (type(value) is str and value.strip().lower() in _NO_IDS)


def _id_of(body: Mapping[str, Any], name: str, notes: list[str]) -> str:
    """Return the canonical id in this field, "" if there is none. Raises _Unreadable for a malformed id."""
    value = body.get(name)
    if value is None:
        return ""
    found = canonical_id(value)
    if found is not None:
        return found
    if not is_no_id(value):
        raise _Unreadable(Code.BAD_ID, reason("bad-id", field=name))
    notes.append(f"stands-for-no-id:{name}")
    return ""


def _without_mark(body: bytes, notes: list[str]) -> bytes:
    """Return the body without the byte order mark of UTF-8, and note it. Raises _Unreadable for another encoding."""
    if body.startswith(_BYTE_ORDER_MARK):
        notes.append("byte-order-mark")
        return body[len(_BYTE_ORDER_MARK) :]
    if body.startswith(_UTF_16):
        raise _Unreadable(Code.NOT_JSON, reason("utf-16"))
    return body


def _own_id(message: Message, notes: list[str]) -> str:
    """Return an id made of the message's position on its topic, and note that.

    The publish time keeps such ids unique permanently: positions repeat when a topic is deleted and created again.
    """
    notes.append("id-missing")
    return f"{message.topic}@{message.message_id}@{message.published_ms}"


def _occurred_at(body: Mapping[str, Any], message: Message, now: datetime, notes: list[str]) -> datetime:
    text = body.get("timestamp")
    if text is None:
        notes.append("timestamp-missing")
        when = message.published_at or now
    else:
        when = _timestamp(text)
    if when < EARLIEST:
        raise _Unreadable(Code.BAD_TIMESTAMP, reason("timestamp-too-early"))
    if when - now > MAX_AHEAD:
        raise _Unreadable(Code.BAD_TIMESTAMP, reason("timestamp-in-the-future"))
    return when


def _timestamp(text: Any) -> datetime:
    if type(text) is not str:
        raise _wrong_type("timestamp", "a-string", text)
    try:
        return instants.parse(text)
    except ValueError:
        raise _Unreadable(Code.BAD_TIMESTAMP, reason("timestamp-format")) from None


def _hash(body: dict[str, Any], event_type: EventType, event_id: str, key: str, entity: str) -> bytes:
    """Hash the content. Spacing, the order of keys and the spelling of ids make no difference."""
    ids = {"id": event_id, event_type.key_field: key, event_type.entity_field: entity}
    canonical = {name: value for name, value in ids.items() if name and value and body.get(name, value) != value}
    return content_hash(event_type.name, {**body, **canonical} if canonical else body)


# --- valid JSON that cannot be stored ---------------------------------------------------------------------------------


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
            raise _Unreadable(Code.BAD_TEXT, reason("nul"))
    elif kind is float:
        if abs(value) >= _MAX_FLOAT:
            raise _Unreadable(Code.BAD_NUMBER, reason("number-too-large"))
    elif kind is dict or kind is list:
        if depth > MAX_DEPTH:
            raise _Unreadable(Code.TOO_DEEP, reason("too-deep", levels=MAX_DEPTH))
        if kind is dict:
            _inspect_keys(value)
        for item in value.values() if kind is dict else value:
            _inspect_value(item, depth + 1)


def _inspect_keys(value: dict[str, Any]) -> None:
    for name in value:
        _inspect_value(name, 1)


def _encrypted(count: int) -> _Unreadable:
    why = reason("encrypted") if count == 1 else reason("encrypted-batch", count=count)
    return _Unreadable(Code.ENCRYPTED, why)


def _schema_error(body: bytes, has_schema: bool) -> _Unreadable | None:
    """Return the error for a body that is not JSON but of a format with a schema; None if it does not look so."""
    found = next((name for header, name in _HEADERS.items() if body.startswith(header)), "")
    if _REGISTRY_HEADER(body):
        found = "registry"
    for header, name in _FIRST_FIELDS.items():
        text = body[len(header) : len(header) + 36].decode("latin-1").lower()
        if body.startswith(header) and _CANONICAL_UUID(text):
            found = name
    if not found and has_schema and body and not body.lstrip().startswith(b"{"):
        found = "pulsar"
    return _Unreadable(Code.SCHEMA_TYPED, Reason(f"schema-typed:{found}")) if found else None


def _json_error(body: bytes, error: orjson.JSONDecodeError) -> _Unreadable:
    """Translate orjson's error, whose first words are stable, to a reason that quotes nothing of the body."""
    text = str(error)
    if not body.strip():
        return _Unreadable(Code.NOT_JSON, reason("empty"))
    if "depth" in text:
        return _Unreadable(Code.TOO_DEEP, reason("too-deep", levels=MAX_DEPTH))
    if "infinity" in text:
        return _Unreadable(Code.BAD_NUMBER, reason("number-too-large"))
    if "UTF-8" in text:
        return _Unreadable(Code.NOT_JSON, reason("not-utf8"))
    if "surrogate" in text:
        return _Unreadable(Code.BAD_TEXT, reason("surrogate"))
    return _Unreadable(Code.NOT_JSON, reason("not-json", line=error.lineno, column=error.colno))


# --- known fields -----------------------------------------------------------------------------------------------------


def _checks_of(event_type: EventType) -> tuple[_FieldCheck, ...]:
    checked_as_ids = {event_type.key_field, event_type.entity_field}
    return tuple(
        _FieldCheck(name, tuple(name.split(".")), kind in _IDS or name in event_type.deciding, *_KINDS[kind])
        for name, kind in event_type.fields.items()
        if name not in checked_as_ids
    )


def _check_field(check: _FieldCheck, body: dict[str, Any], notes: list[str]) -> bool:
    """Check one field of the body; return whether the body was changed. Raises _Unreadable.

    Missing entries of a list of ids are removed. A field that decides nothing may be invalid: it is only noted.
    """
    value: Any = body
    parent: Any = body
    for step in check.path:
        parent, value = value, value.get(step) if type(value) is dict else None
    if value is None or check.is_valid(value):
        return False
    if check.is_valid is _is_list_of_ids and type(value) is list:
        present = [item for item in value if not is_no_id(item)]
        if _is_list_of_ids(present):
            notes.append(f"entries-left-out:{check.name}")
            parent[check.path[-1]] = present
            return True
    if check.decides:
        raise _wrong_type(check.name, check.expected, value, check.code)
    notes.append(f"ignored-{check.expected}:{check.name}")
    return False


def _is_id(value: Any) -> bool:
    return is_no_id(value) or canonical_id(value) is not None


def _is_list_of_ids(value: Any) -> bool:
    return type(value) is list and all(canonical_id(item) is not None for item in value)


def _is_text(value: Any) -> bool:
    return type(value) is str


def _is_integer(value: Any) -> bool:
    return type(value) is int and -_MAX_INTEGER <= value < _MAX_INTEGER


def _is_object(value: Any) -> bool:
    return type(value) is dict


_IDS = frozenset({"id", "ids"})
_KINDS: dict[str, tuple[Callable[[Any], bool], Code, str]] = {
    "id": (_is_id, Code.BAD_ID, "an-id"),
    "ids": (_is_list_of_ids, Code.BAD_ID, "a-list-of-ids"),
    "text": (_is_text, Code.WRONG_TYPE, "a-string"),
    "integer": (_is_integer, Code.WRONG_TYPE, "an-integer"),
    "object": (_is_object, Code.WRONG_TYPE, "an-object"),
}


def _wrong_type(field: str, expected: str, value: Any, code: Code = Code.WRONG_TYPE) -> _Unreadable:
    return _Unreadable(code, reason("wrong-type", field=field, expected={"code": expected}, found=_kind(value)))


def _kind(value: Any) -> dict[str, str]:
    """Name the JSON type of a value, never its content; as the parameter of a reason."""
    return {"code": _code_of_kind(value)}


def _code_of_kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a-boolean"
        case int() | float():
            return "a-number"
        case str():
            return "a-string"
        case list():
            return "a-list"
        case _:
            return "an-object"
