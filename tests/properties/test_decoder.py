"""The decoder, fuzzed: bytes, spoilt messages, JSON trees. It gives what PostgreSQL takes or a reason, nothing else.

`FUZZ_EXAMPLES` says how many of each (make nightly: many); CI's number takes some twenty seconds.
"""

import json
import math
import os
import string
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from types import FrameType
from typing import Any

import orjson
import pytest
from django.db import connection
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from bridge.catalog import get_catalog
from bridge.codec import EARLIEST, MAX_AHEAD, Codec, get_codec
from bridge.envelope import Envelope, Message, Rejected
from bridge.models import QuarantineCode
from tests.corpus.bad import KINDS, corpus, original

pytestmark = pytest.mark.timeout(3600)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "600"))
FUZZ = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)

TOPICS = st.sampled_from(sorted({original(kind).topic for kind in KINDS} | {"elsewhere", ""}))
CLOCKS = st.sampled_from([0, 1, 1_772_366_400_000, 2**63, -1])
ODD = st.sampled_from(
    ["\0", "\ud800", "\udfff", "\u202e", "\ufeff", "\u0301", "😀", "\x7f", "\x85", "\uffff", "'", '"', "\\", "<", "%"]
)
TEXTS = st.text(st.one_of(ODD, st.characters())) | st.text(string.printable, max_size=210)
IDS = st.uuids().map(str) | TEXTS | st.sampled_from(["order-1", "", " ", "x" * 200, "x" * 201])
TIMES = st.datetimes().map(datetime.isoformat) | st.datetimes(timezones=st.timezones()).map(datetime.isoformat) | TEXTS
NUMBERS = st.integers() | st.floats() | st.sampled_from([2**31, 2**63, 2**64, 10**400, -(2**63) - 1, 1e308])
TREES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXTS, inner, max_size=5),
    max_leaves=30,
)


def decode(body: bytes, topic: str = "retrieval-failed", published: int = 1_772_366_400_000) -> Envelope | Rejected:
    """Decode, and hold what came of it against what the codec promises."""
    message = Message(topic, topic, "1:2:-1:-1", published, body, {})
    found = get_codec().decode(message, NOW)
    assert get_codec().decode(message, NOW) == found
    if isinstance(found, Rejected):
        assert found.code in QuarantineCode
        assert str(found.reason).isprintable()
        assert len(str(found.reason)) < 200
        return found
    for text in (found.event_id, found.stream, found.type, found.key, found.entity, found.correlation_id, found.note):
        assert "\0" not in text
        text.encode()
    assert all(len(text) <= 300 for text in (found.event_id, found.key, found.entity, found.correlation_id))
    assert found.type in {declared.name for declared in get_catalog().on_topic(topic).types}
    assert found.event_id
    assert found.key or found.entity
    assert EARLIEST <= found.occurred_at <= NOW + MAX_AHEAD
    return found


def written(value: Any) -> bytes:
    """JSON as Python writes it: with surrogates, NaN and numbers of any length."""
    return json.dumps(value).encode()


@FUZZ
@given(st.binary(), TOPICS, CLOCKS)
def test_any_bytes(body: bytes, topic: str, published: int) -> None:
    decode(body, topic, published)


@FUZZ
@given(TREES, TOPICS)
def test_any_json(tree: Any, topic: str) -> None:
    decode(written(tree), topic)


@st.composite
def spoilt(draw: st.DrawFn) -> tuple[bytes, str]:
    """A good message with other values in some of its fields, and fields that nobody knows."""
    base = original(draw(st.sampled_from(KINDS)))
    body: dict[str, Any] = {**base.fields}
    for name in draw(st.lists(st.sampled_from(sorted(body)), max_size=3, unique=True)):
        kinds = {"timestamp": TIMES, "type": TEXTS | TOPICS | st.sampled_from(KINDS)}
        likely = IDS if name.endswith("id") else st.lists(IDS, max_size=4) if name == "image_ids" else TEXTS
        body[name] = draw(st.one_of(kinds.get(name, likely), TREES))
    for name in draw(st.lists(TEXTS, max_size=2)):
        body.setdefault(name, draw(TREES))
    return written(body), draw(st.just(base.topic) | TOPICS)


@pytest.mark.django_db
@FUZZ
@given(spoilt())
def test_a_spoilt_message_is_refused_or_kept_by_postgresql(message: tuple[bytes, str]) -> None:
    found = decode(*message)
    if isinstance(found, Envelope):
        _is_kept(found)


@FUZZ
@given(st.sampled_from(KINDS), st.data())
def test_a_good_message_with_some_bytes_changed(kind: str, data: st.DataObject) -> None:
    base = original(kind)
    raw = bytearray(written(base.fields))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        match data.draw(st.sampled_from(("change", "cut", "insert", "double"))):
            case "change":
                raw[at] = data.draw(st.integers(0, 255))
            case "cut":
                del raw[at : at + data.draw(st.integers(1, 8))]
            case "insert":
                raw[at:at] = data.draw(st.binary(min_size=1, max_size=6))
            case _:
                raw[at:at] = raw[at : at + data.draw(st.integers(1, 40))]
        assume(raw)
    decode(bytes(raw), base.topic)


@pytest.mark.django_db
def test_all_of_the_corpus_is_refused_or_kept_by_postgresql() -> None:
    for bad in corpus():
        found = decode(bad.body, bad.topic)
        if isinstance(found, Envelope) and len(bad.body) < 100_000:
            _is_kept(found)


def _is_kept(envelope: Envelope) -> None:
    """PostgreSQL takes it, and the payload is still what the message says."""
    texts = (envelope.event_id, envelope.key, envelope.entity, envelope.correlation_id, envelope.note)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT %s::text, %s::text, %s::text, %s::text, %s::text, %s::timestamptz, %s::jsonb #>> '{}'",
            [*texts, envelope.occurred_at, envelope.message.body.decode()],
        )
        *kept, occurred_at, payload = cursor.fetchone()
    assert tuple(kept) == texts
    assert occurred_at == envelope.occurred_at
    assert _close(json.loads(payload), orjson.loads(envelope.message.body))


def _close(one: Any, other: Any) -> bool:
    """The same but for the last digit of a float: jsonb keeps all digits that were written."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_close(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_close, one, other))
    if isinstance(one, float) or isinstance(other, float):
        return math.isclose(one, other)
    return bool(one == other)


# --- how much work ----------------------------------------------------------------------------------------------------


def test_twice_the_bytes_are_at_most_twice_the_work() -> None:
    for small, large in zip(_growing(20_000), _growing(40_000), strict=True):
        assert _calls(large) <= 2.2 * _calls(small) + 200, small[:60]


def _calls(body: bytes) -> int:
    """How many functions are called to decode it, Python's own among them: a clock would say nothing on a busy CPU."""
    count = 0

    def called(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    message = Message("retrieval-failed", "retrieval-failed", "1:2:-1:-1", 0, body, {})
    codec = Codec(get_catalog(), 1_048_576)
    sys.setprofile(called)
    try:
        codec.decode(message, NOW)
    finally:
        sys.setprofile(None)
    return count


def _growing(size: int) -> Iterator[bytes]:
    """Bodies that make careless readers slow, of about `size` bytes each."""
    base = original("RetrievalFailed").fields
    yield b"[" * size
    yield b'{"a":' * (size // 5)
    yield b'"' + b"\\" * size
    yield written({**base, "timestamp": "2026-03-01T12:00:00." + "1" * size})
    yield written({**base, "timestamp": "1" * size})
    yield written({**base, "id": "-" * size})
    yield written({**base, "task_id": "{" * size})
    yield written({**base, "task_id": "urn:uuid:" * (size // 9)})
    yield written({**base, "x": [[]] * (size // 4)})
    yield written({**base, **{f"k{number}": 1 for number in range(size // 10)}})
    yield base["id"].encode() + b"9" * size
    yield written({**base, "x": 0})[:-2] + b"9" * size + b"}"
    yield b" " * size
