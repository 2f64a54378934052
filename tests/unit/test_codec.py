"""What becomes of the bytes of a message. No database: the codec is pure."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from bridge.catalog import Catalog, EventType
from bridge.codec import MAX_DEPTH, Codec, canonical_id
from bridge.envelope import Envelope, Message, Rejected
from bridge.reasons import notes_text
from sagaproject.composition import bridge_catalog
from sagas.definitions.image_processing import DEFINITION
from sagas.engine.definition import Event

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PUBLISHED_MS = 1_772_366_400_000  # 2026-03-01 12:00 UTC
UUID = "6f1d5c0e-5b1b-4a57-9f0e-3d7f0c6f2a11"
LIMIT = 4096

CATALOG = Catalog(
    (
        EventType(
            name="OrderPlaced",
            stream="orders",
            topics=("orders", "orders.{region}.placed"),
            key_field="order",
            entity_field="item",
            fields={
                "order": "id",
                "items": "ids",
                "customer": "id",
                "remark": "text",
                "count": "integer",
                "result": "object",
                "result.total": "integer",
                "status": "text",
                "result.unread": "text",
            },
            deciding=frozenset({"result", "result.total", "status"}),
            is_unclear=lambda body, entity: body.get("status") == "?" and not entity,
            collapse_after=10,
        ),
        EventType(name="OrderClosed", stream="orders", topics=("closed",), key_field="order", aliases=("order-done",)),
        EventType(name="OrderMoved", stream="orders", topics=("closed", "moves"), key_field="order", always_typed=True),
        EventType(
            name="OrderOpened",
            stream="orders",
            topics=("opened",),
            key_field="order",
            entity_field="item",
            needs_key=True,
        ),
        EventType(name="OrderLost", stream="orders", topics=("moves", "lost"), key_field="order", always_typed=True),
    )
)
CODEC = Codec(CATALOG, LIMIT)
PAID = EventType(
    name="OrderPaid",
    stream="orders",
    topics=("paid",),
    key_field="order",
    fields={"order": "id", "status": "text", "items": "ids"},
    deciding=frozenset({"status"}),
    is_unclear=lambda body, entity: body.get("status") == "?",
    collapse_after=3,
)
# The same event as another saga type reads it: by the customer, with the order as the entity.
POINTS = replace(
    PAID,
    stream="points",
    key_field="customer",
    entity_field="order",
    needs_key=True,
    fields={"order": "id", "customer": "id", "amount": "integer", "items": "ids"},
    deciding=frozenset({"amount"}),
    is_unclear=None,
    collapse_after=5,
)
BOTH = Codec(Catalog((PAID, POINTS)), LIMIT)


def message(body: bytes, topic: str = "orders", published_ms: int = PUBLISHED_MS) -> Message:
    return Message(topic, topic, "7:3:-1:0", published_ms, body, {})


def body(**fields: Any) -> bytes:
    whole = {"id": "e-1", "timestamp": "2026-03-01T11:59:00", "type": "OrderPlaced", "order": "o-1", **fields}
    return json.dumps({name: value for name, value in whole.items() if value is not ...}).encode()


def read(raw: bytes, topic: str = "orders", published_ms: int = PUBLISHED_MS) -> Envelope:
    found = CODEC.decode(message(raw, topic, published_ms), NOW)
    assert isinstance(found, Envelope), found
    return found


def refuse(raw: bytes, topic: str = "orders", published_ms: int = PUBLISHED_MS) -> Rejected:
    found = CODEC.decode(message(raw, topic, published_ms), NOW)
    assert isinstance(found, Rejected), found
    return found


def test_a_plain_event_fills_the_columns() -> None:
    event = read(body(item="i-1", correlation_id="c-1", something_new={"kept": True}))
    assert (event.event_id, event.stream, event.type, event.key, event.entity) == (
        "e-1",
        "orders",
        "OrderPlaced",
        "o-1",
        "i-1",
    )
    assert event.correlation_id == "c-1"
    assert event.occurred_at == datetime(2026, 3, 1, 11, 59, tzinfo=UTC)
    assert event.received_at == NOW
    assert event.note == ""


@pytest.mark.parametrize("missing", [..., None])
def test_the_topic_shows_the_type_if_the_message_does_not(missing: Any) -> None:
    assert read(body(type=missing), "closed").type == "OrderClosed"
    assert read(body(type=missing), "orders.usa.placed").type == "OrderPlaced"


def test_the_topic_shows_the_type_if_the_message_names_the_topic() -> None:
    """Its short name, with the region in its place: so the services write it."""
    assert read(body(type="closed"), "closed").type == "OrderClosed", "the default, as for a message without a type"
    assert read(body(type="orders"), "orders").type == "OrderPlaced"
    assert read(body(type="orders.usa.placed"), "orders.usa.placed").type == "OrderPlaced"
    for name in ("orders.{region}.placed", "orders.latam.placed", "orders", "ORDERS.USA.PLACED"):
        assert refuse(body(type=name), "orders.usa.placed").code == "unknown-type"
    assert refuse(body(type="elsewhere"), "elsewhere").code == "unknown-type"


@pytest.mark.parametrize(
    ("topic", "why"),
    [("moves", "its topic carries 2 types without a default"), ("lost", "every OrderLost message must have")],
)
def test_the_name_of_a_topic_without_a_default_is_no_type(topic: str, why: str) -> None:
    found = refuse(body(type=topic), topic)
    assert found.code == "unknown-type"
    assert str(found.reason).startswith(f"the message gives its topic as its type, and {why}")


def test_an_alias_means_its_type_on_the_topics_of_that_type_alone() -> None:
    event = read(body(type="order-done"), "closed")
    assert (event.type, event.note) == ("OrderClosed", "")
    found = refuse(body(type="order-done"), "moves")
    assert (found.code, str(found.reason)) == (
        "wrong-topic",
        "OrderClosed is not accepted from this topic, which carries only OrderMoved and OrderLost",
    )


@pytest.mark.parametrize("topic", ["closed", "moves", "lost", "elsewhere", "orders.placed", ""])
def test_a_type_is_not_accepted_from_a_topic_that_does_not_declare_it(topic: str) -> None:
    found = refuse(body(), topic)
    assert found.code == "wrong-topic"
    assert "OrderPlaced is not accepted from this topic" in str(found.reason)


def test_a_topic_carries_only_its_own_types() -> None:
    texts = [..., None, *CATALOG.topics, "order-done", *(other.name for other in CATALOG.event_types)]
    for topic in ("orders", "orders.usa.placed", "closed", "moves", "lost", "elsewhere"):
        for text in texts:
            found = CODEC.decode(message(body(type=text), topic), NOW)
            if isinstance(found, Envelope):
                assert found.type in {kind.name for kind in CATALOG.on_topic(topic).types}
            else:
                assert found.code in ("wrong-topic", "unknown-type")


@pytest.mark.parametrize("missing", [..., None])
def test_of_several_types_on_a_topic_the_message_says_which(missing: Any) -> None:
    for name in ("OrderClosed", "OrderMoved"):
        event = read(body(type=name), "closed")
        assert (event.type, event.note) == (name, "")
    assert read(body(type=missing), "closed").type == "OrderClosed", "the one that may lack its type"
    found = refuse(body(type=missing), "moves")
    assert (found.code, str(found.reason)) == (
        "unknown-type",
        "the message has no type, and its topic carries 2 types without a default",
    )
    assert str(refuse(body(type=missing), "lost").reason) == (
        "the message has no type, and every OrderLost message must have its type"
    )


@pytest.mark.parametrize("missing", [..., None])
def test_without_an_id_its_place_and_publish_time_name_it(missing: Any) -> None:
    event = read(body(id=missing))
    assert event.event_id == f"orders@7:3:-1:0@{PUBLISHED_MS}"
    assert event.note
    assert read(body(id=missing), published_ms=PUBLISHED_MS + 1).event_id != event.event_id


@pytest.mark.parametrize("missing", [..., None])
def test_without_a_timestamp_the_publish_time_holds(missing: Any) -> None:
    assert read(body(timestamp=missing)).occurred_at == datetime.fromtimestamp(PUBLISHED_MS / 1000, UTC)
    assert read(body(timestamp=missing), published_ms=0).occurred_at == NOW
    assert read(body(timestamp=missing), published_ms=2**63).occurred_at == NOW


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2026-03-01T10:00:00", "2026-03-01T10:00:00+00:00"),
        ("2026-03-01T10:00:00.123456", "2026-03-01T10:00:00.123456+00:00"),
        ("2026-03-01T10:00:00Z", "2026-03-01T10:00:00+00:00"),
        ("2026-03-01T10:00:00-05:00", "2026-03-01T15:00:00+00:00"),
        ("2000-01-01T00:00:00", "2000-01-01T00:00:00+00:00"),
        ("20260301053045-0500", "2026-03-01T10:30:45+00:00"),
        ("20260301053045.123-0500", "2026-03-01T10:30:45.123+00:00"),
        ("2026-03-02T12:00:00", "2026-03-02T12:00:00+00:00"),
    ],
)
def test_times_are_utc(written: str, meant: str) -> None:
    assert read(body(timestamp=written)).occurred_at == datetime.fromisoformat(meant)


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        (UUID, UUID),
        (UUID.upper(), UUID),
        (UUID.replace("-", ""), UUID),
        ("{" + UUID.upper() + "}", UUID),
        ("URN:UUID:" + UUID, UUID),
        # Capital and small i of Turkish, which match an i where case is ignored in all of Unicode.
        ("urn:uu\u0130d:" + UUID, "urn:uu\u0130d:" + UUID),
        ("urn:uu\u0131d:" + UUID, "urn:uu\u0131d:" + UUID),
        ("order-123", "order-123"),
        ("Order-123", "Order-123"),
        ("ñ 1", "ñ 1"),
        ("x" * 200, "x" * 200),
        ("x" * 201, None),
        ("", None),
        (" a", None),
        ("a ", None),
        ("a\nb", None),
        ("a\0b", None),
        ("a\u200bb", None),
        ("\ud800", None),
        (7, None),
        (True, None),
        (["a"], None),
        (None, None),
    ],
)
def test_ids(written: object, canonical: str | None) -> None:
    assert canonical_id(written) == canonical


def test_ids_are_compared_in_canonical_form() -> None:
    event = read(body(id=UUID.upper(), order=UUID.upper(), item=UUID.upper()))
    assert event.event_id == event.key == event.entity == UUID


@pytest.mark.parametrize(
    "known", ["type", "id", "timestamp", "item", "correlation_id", "items", "customer", "remark", "count", "result"]
)
def test_null_counts_as_missing(known: str) -> None:
    assert read(body(**{known: None})).type == "OrderPlaced"


def test_one_of_key_and_entity_is_enough() -> None:
    assert read(body(order=None, item="i-1")).key == ""
    assert read(body(order=None, item="i-1")).entity == "i-1"


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "not-json"),
        (b"  ", "not-json"),
        (b"{", "not-json"),
        (b"hello", "not-json"),
        (b'{"id": NaN}', "not-json"),
        (b'{"id": Infinity}', "not-json"),
        (b'{"id": "\xff"}', "not-json"),
        (b"\x80\x02}q\x00.", "not-json"),
        (b"[]", "not-an-object"),
        (b"null", "not-an-object"),
        (b'"text"', "not-an-object"),
        (b"7", "not-an-object"),
        (b'{"pad": "' + b"x" * LIMIT + b'"}', "too-large"),
        (b"[" * 2000 + b"]" * 2000, "too-deep"),
        (body(deep=json.loads("[" * MAX_DEPTH + "]" * MAX_DEPTH)), "too-deep"),
        (body(extra=["fine", {"a": "nul \0 here"}]), "bad-text"),
        (body(**{"nul \0 here": 1}), "bad-text"),
        (body(extra={"nul \0": 1}), "bad-text"),
        (body(id="nul \0"), "bad-text"),
        (body(extra="X").replace(b"X", rb"\ud800"), "bad-text"),
        (body(extra="X").replace(b'"X"', b"1" * 30), "bad-number"),
        (body(extra="X").replace(b'"X"', b"1e400"), "bad-number"),
        (body(extra=[1.5, {"n": 1e300}]), "bad-number"),
        (body(type="Unheard"), "unknown-type"),
        (body(type=""), "unknown-type"),
        (body(type=7), "wrong-type"),
        (body(id=7), "bad-id"),
        (body(order="x" * 201), "bad-id"),
        (body(item=["i"]), "bad-id"),
        (body(correlation_id={"a": 1}), "bad-id"),
        (body(customer=7), "bad-id"),
        (body(items="i-1"), "bad-id"),
        (body(order=None), "no-key"),
        (body(order=...), "no-key"),
        (body(timestamp=1_772_366_400), "wrong-type"),
        (body(timestamp="yesterday"), "bad-timestamp"),
        (body(timestamp=""), "bad-timestamp"),
        (body(timestamp="2026-03-01"), "bad-timestamp"),
        (body(timestamp="20260301"), "bad-timestamp"),
        (body(timestamp="2026-W09-7T10:00:00"), "bad-timestamp"),
        (body(timestamp="1999-12-31T23:59:59"), "bad-timestamp"),
        (body(timestamp="0001-01-01T00:00:00+05:00"), "bad-timestamp"),
        (body(timestamp="2026-03-02T12:00:01"), "bad-timestamp"),
        (body(status=7), "wrong-type"),
        (body(status={"status": "COMPLETED"}), "wrong-type"),
        (body(items=["i-1", 7]), "bad-id"),
        (body(items={"i-1": "None"}), "bad-id"),
        (body(result="fine"), "wrong-type"),
        (body(result={"total": "3"}), "wrong-type"),
    ],
)
def test_what_cannot_become_an_event(raw: bytes, code: str) -> None:
    found = refuse(raw)
    assert found.code == code
    assert str(found.reason)[0].islower()
    assert found.message.body == raw


def test_a_topic_that_shows_nothing_needs_a_type() -> None:
    assert refuse(body(type=...), "elsewhere").code == "unknown-type"
    assert refuse(body(), "elsewhere").code == "wrong-topic"


def test_a_publish_time_that_cannot_be_right() -> None:
    assert refuse(body(timestamp=...), published_ms=1).code == "bad-timestamp"


def test_no_reason_quotes_the_message() -> None:
    secret = "Jane-Doe-1970"
    spoiled: list[bytes] = [
        body(**{name: secret + "\n"})
        for name in ("id", "order", "item", "correlation_id", "type", "timestamp", "customer")
    ]
    spoiled += [body(status=[secret]), body(items=[secret, 7]), body(**{secret + "\0": 1}), body() + secret.encode()]
    for raw in spoiled:
        found = refuse(raw).reason
        assert secret not in str(found)
        assert secret not in repr(found.data)


@pytest.mark.parametrize("text", [r"a \\u0000 that is spelled out", r"tab \t, quote \", emoji 😀, pair 😀", "ñ"])
def test_texts_that_only_look_dangerous_are_kept(text: str) -> None:
    read(body(remark="X").replace(b"X", text.encode()))


def test_nesting_up_to_the_limit_is_kept() -> None:
    read(body(deep=json.loads("[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1))))


@pytest.mark.parametrize(
    "again",
    [
        body(item="i", remark="r"),
        json.dumps(dict(reversed(json.loads(body(item="i", remark="r")).items())), indent=3).encode(),
    ],
)
def test_neither_spacing_nor_the_order_of_keys_makes_another_event(again: bytes) -> None:
    assert read(again).body_hash == read(body(item="i", remark="r")).body_hash


def test_how_an_id_is_written_makes_no_other_event() -> None:
    assert read(body(id=UUID, order=UUID.upper())).body_hash == read(body(id=UUID.upper(), order=UUID)).body_hash


def test_other_content_or_another_type_is_another_event() -> None:
    assert read(body(remark="a")).body_hash != read(body(remark="b")).body_hash
    assert read(body(type=...), "orders").body_hash != read(body(type=...), "closed").body_hash


# --- what the services write where they have nothing to say --------------------------------------------------------

NO_IDS = ["", " ", "None", "none", "NONE", " None ", "null", "undefined", "nil", "NaN", "\tnull\n"]


@pytest.mark.parametrize("text", NO_IDS)
def test_a_text_that_stands_for_no_id_counts_as_missing(text: str) -> None:
    own = read(body(id=text))
    assert own.event_id == f"orders@7:3:-1:0@{PUBLISHED_MS}"
    assert "id has a text that stands for no id" in notes_text(own.note)
    event = read(body(order=text, item="i-1", correlation_id=text, customer=text))
    assert (event.key, event.entity, event.correlation_id) == ("", "i-1", "")
    assert event.note == "stands-for-no-id:order; stands-for-no-id:correlation_id"
    assert read(body(item=text)).entity == ""
    assert refuse(body(order=text)).code == "no-key"
    assert refuse(body(order=text, item=text)).code == "no-key"
    assert canonical_id(text) is None


@pytest.mark.parametrize("missing", [..., None, *NO_IDS])
def test_a_type_that_needs_its_key_is_not_accepted_by_its_entity(missing: Any) -> None:
    found = refuse(body(type="OrderOpened", order=missing, item="i-1"), "opened")
    assert found.code == "no-key"
    assert str(found.reason) == "order missing: the message cannot be assigned to a saga"
    assert read(body(type="OrderOpened"), "opened").key == "o-1"


@pytest.mark.parametrize("missing", [..., None, *NO_IDS])
@pytest.mark.parametrize("kind", DEFINITION.events, ids=lambda kind: kind.type)
def test_of_the_services_only_events_about_one_image_may_lack_their_task(kind: Event, missing: Any) -> None:
    fields = {"order": ..., "type": kind.type, "task_id": missing, "image_id": "i-1", "status": "COMPLETED"}
    topic = kind.topics[0]
    found = Codec(bridge_catalog(), LIMIT).decode(message(body(**fields), topic), NOW)
    if kind.type in (
        "RetrievalStarted",
        "RetrievalCompleted",
        "RetrievalFailed",
        "ImagesRetrieved",
        "ImageUploadFailed",
    ):
        assert isinstance(found, Rejected)
        assert found.code == "no-key"
    else:
        assert isinstance(found, Envelope)
        assert (found.key, found.entity) == ("", "i-1")


@pytest.mark.parametrize("text", ["None-1", "nulls", "nonE of these", "n/a", "-", "0"])
def test_other_texts_are_ids(text: str) -> None:
    assert read(body(order=text)).key == text


def test_a_missing_entry_of_a_list_is_left_out_with_a_note() -> None:
    raw = body(items=["i-1", None, "None", "", "i-2"], other=[None, "None"])
    event = read(raw)
    stored = json.loads(event.payload)
    assert stored == {**json.loads(raw), "items": ["i-1", "i-2"]}
    assert notes_text(event.note) == "items has entries that stand for no id: they were left out"
    assert json.loads(read(body(items=[None])).payload)["items"] == []
    whole = body(items=["i-1", UUID.upper()])
    assert read(whole).payload == whole
    assert read(whole).note == ""


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ({"remark": 7}, "remark is ignored: it must be a string"),
        ({"count": "7"}, "count is ignored: it must be a 32-bit integer"),
        ({"count": True}, "count is ignored: it must be a 32-bit integer"),
        ({"count": 2**31}, "count is ignored: it must be a 32-bit integer"),
        ({"result": {"unread": []}}, "result.unread is ignored: it must be a string"),
    ],
)
def test_a_field_that_decides_nothing_may_be_malformed(wrong: dict[str, Any], what: str) -> None:
    raw = body(**wrong)
    assert notes_text(read(raw).note) == what
    assert read(raw).payload == raw


def test_an_event_that_does_not_say_what_happened_is_marked() -> None:
    assert read(body(status="?")).unclear
    assert not read(body(status="?", item="i-1")).unclear
    assert not read(body(status="COMPLETED")).unclear
    assert not read(body(type="OrderClosed"), "closed").unclear
    assert [read(body()).collapse_after, read(body(type="OrderClosed"), "closed").collapse_after] == [10, 0]


# --- other encodings and formats -----------------------------------------------------------------------------------


def test_a_byte_order_mark_is_skipped() -> None:
    raw = b"\xef\xbb\xbf" + body()
    event = read(raw)
    assert event.payload == body()
    assert event.message.body == raw
    assert event.note == "byte-order-mark"
    assert event.body_hash == read(body()).body_hash
    assert str(refuse(b"\xef\xbb\xbf").reason) == "the body is empty"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
def test_other_encodings_are_named(encoding: str) -> None:
    found = refuse(body().decode().encode(encoding))
    assert found.code == "not-json"
    assert str(found.reason) == "the body is text in UTF-16 or UTF-32: the producer must send JSON text in UTF-8"


@pytest.mark.parametrize(
    ("raw", "has_schema", "named"),
    [
        (b"Obj\x01\x04\x14avro.codec", False, "Avro"),
        (b"\xc3\x01" + b"8" * 8 + b"H" + UUID.encode(), False, "Avro"),
        (b"H" + UUID.encode() + b"\x02", False, "Avro"),
        (b"H" + UUID.upper().encode() + b"\x02", True, "Avro"),
        (b"\n$" + UUID.encode() + b"\x12\x01a", False, "Protobuf"),
        (b"\0\0\0\0\x07H" + UUID.encode(), False, "Avro or Protobuf with a schema registry's header"),
        (b"\x02\x06abc", True, "of a format with a Pulsar schema, such as Avro or Protobuf"),
        (b"text", True, "of a format with a Pulsar schema, such as Avro or Protobuf"),
    ],
)
def test_a_body_of_a_format_with_a_schema_is_named_with_what_the_producer_must_change(
    raw: bytes, has_schema: bool, named: str
) -> None:
    found = CODEC.decode(message(raw)._replace(has_schema=has_schema), NOW)
    assert isinstance(found, Rejected)
    assert found.code == "schema-typed"
    assert str(found.reason) == f"the body is {named}: the producer must send JSON text in UTF-8"


@pytest.mark.parametrize("raw", [b"", b"{", b" {", b"\x02\x06abc", b"Hello", b"\n$", b"\0" * 64, b"\0\0\0\0\7"])
def test_what_does_not_look_so_is_just_not_json(raw: bytes) -> None:
    assert refuse(raw).code == "not-json"


def test_json_with_a_schema_is_read_as_json() -> None:
    assert isinstance(CODEC.decode(message(body())._replace(has_schema=True), NOW), Envelope)
    found = CODEC.decode(message(b"{")._replace(has_schema=True), NOW)
    assert isinstance(found, Rejected)
    assert found.code == "not-json"


# --- events that two saga types read ----------------------------------------------------------------------------------


def paid(**fields: Any) -> Envelope | Rejected:
    return BOTH.decode(message(body(**{"type": ..., "customer": "c-1", **fields}), "paid"), NOW)


def stored(**fields: Any) -> Envelope:
    found = paid(**fields)
    assert isinstance(found, Envelope), found
    return found


def test_each_saga_type_has_its_own_key_and_entity() -> None:
    found = stored()
    assert [tuple(one) for one in found.readings] == [("orders", "o-1", ""), ("points", "c-1", "o-1")]
    assert (found.stream, found.key, found.entity, found.type, found.note) == ("orders", "o-1", "", "OrderPaid", "")
    assert [tuple(one) for one in read(body()).readings] == [("orders", "o-1", "")]


@pytest.mark.parametrize(
    ("fields", "reader", "note"),
    [
        ({"order": ...}, "points", "not-used-no-key:orders (order)"),
        ({"customer": ...}, "orders", "not-used-no-key:points (customer)"),
        ({"customer": "None"}, "orders", "stands-for-no-id:customer; not-used-no-key:points (customer)"),
        ({"customer": 7}, "orders", "not-used-bad-id:points (customer)"),
        ({"amount": "many"}, "orders", "not-used-wrong-type:points (amount)"),
        ({"status": 7}, "points", "not-used-wrong-type:orders (status)"),
    ],
)
def test_what_one_saga_type_cannot_use_is_the_others_with_a_note(
    fields: dict[str, Any], reader: str, note: str
) -> None:
    found = stored(**fields)
    assert (found.stream, found.further, found.note) == (reader, (), note)
    assert f"{'points' if reader == 'orders' else 'orders'} (" in notes_text(found.note)


def test_what_no_saga_type_can_use_is_refused_as_the_first_refuses_it() -> None:
    found = paid(order=..., customer=...)
    assert isinstance(found, Rejected)
    assert (found.code, str(found.reason)) == ("no-key", "order missing: the message cannot be assigned to a saga")
    assert isinstance(paid(status=7, amount="many"), Rejected)
    assert isinstance(paid(items=7), Rejected), "both read it"
    assert isinstance(paid(correlation_id=7), Rejected), "what concerns the event concerns all that read it"


def test_what_both_note_is_noted_once() -> None:
    found = stored(items=["i-1", None])
    assert (found.note, json.loads(found.payload)["items"]) == ("entries-left-out:items", ["i-1"])
    assert stored(order="None").note == "stands-for-no-id:order; not-used-no-key:orders (order)"


def test_another_saga_type_does_not_change_the_hash_of_what_is_stored() -> None:
    alone = Codec(Catalog((PAID,)), LIMIT)
    for fields in ({}, {"order": UUID.upper()}, {"customer": UUID.upper()}, {"items": ["i-1", None]}):
        raw = message(body(**{"type": ..., "customer": "c-1", **fields}), "paid")
        before, after = alone.decode(raw, NOW), BOTH.decode(raw, NOW)
        assert isinstance(before, Envelope)
        assert isinstance(after, Envelope)
        assert before.body_hash == after.body_hash


def test_an_event_is_unclear_if_it_is_to_one_and_collapses_if_it_does_for_all() -> None:
    assert stored(status="?").unclear
    assert not stored(status="fine").unclear
    assert stored().collapse_after == 5
    keeping = Codec(Catalog((PAID, replace(POINTS, collapse_after=0))), LIMIT)
    found = keeping.decode(message(body(type=..., customer="c-1"), "paid"), NOW)
    assert isinstance(found, Envelope)
    assert found.collapse_after == 0
