"""A corpus of bad messages: everything that a broken or hostile producer may put on a topic, by class.

`python -m tests.corpus.bad` counts them. Every message is made from an event as the services send it, of a task of its
own, and is always the same but for its ids: a class is a function that yields them.
"""

import gzip
import json
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from devtools.simulator import wire
from devtools.simulator.wire import Image, Task

Body = dict[str, Any]

# Words that do harm where somebody reads them as more than words. HARM must never come out of a page as it went in.
HARM = "<script>alert('saga')</script>"
SQL = "'); DROP TABLE bridge_event; --"
TEXTS = (HARM, SQL, '"><img src=x onerror=alert(1)>', "{{ 7*7 }}{% debug %}", "%s %(x)s {0} ${jndi:ldap://x/y}", "\\")
LIMIT = 1_048_576  # bytes: BRIDGE_MAX_BODY's default
LARGEST = 5_000_000
OPEN = b'{"id":"%s","timestamp":"%s","type":"RetrievalFailed","task_id":"%s","error_message":"e","note":'


class Fate(StrEnum):
    """Where a message must end."""

    QUARANTINE = "quarantine"
    LOG = "log"
    EITHER = "either"


@dataclass(frozen=True, slots=True)
class Bad:
    """A bad message: its class, what is bad about it, topic (short name), bytes, task, and where it must end.

    task: of which a saga is told beside it, whatever the message itself says.
    """

    kind: str
    words: str
    topic: str
    body: bytes
    task: Task
    fate: Fate = Fate.EITHER


@dataclass(slots=True)
class Original:
    """A good event of a task of its own, to be spoilt."""

    type: str
    topic: str
    fields: Body
    task: Task

    def spoilt(self, kind: str, words: str, body: bytes | Body, fate: Fate = Fate.EITHER, topic: str = "") -> Bad:
        raw = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
        return Bad(kind, f"{self.type}: {words}", topic or self.topic, raw, self.task, fate)

    def with_(self, kind: str, path: tuple[str, ...], value: Any, words: str, fate: Fate = Fate.EITHER) -> Bad:
        """The same with another value in a place."""
        body: Body = json.loads(json.dumps(self.fields))
        inner = body
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = value
        return self.spoilt(kind, f"{'.'.join(path)} is {words}", body, fate)


def corpus() -> list[Bad]:
    """All of them, in an order that mixes nothing: class after class."""
    return [bad for make in CLASSES for bad in make()]


def original(kind: str) -> Original:
    """One good event of this type, with everything that an envelope may have."""
    task = Task(_id(), _id(), "hospital-central", "bogota", correlation_id=_id())
    image = Image(_id(), 0, "CT", "CHEST", own_task=_id(), own_rollback=_id())
    envelope = {"id": _id(), "timestamp": _at(), "type": kind, "correlation_id": task.correlation_id}
    return Original(kind, wire.TOPICS[kind], {**envelope, **_FIELDS[kind](task, image)}, task)


_FIELDS: dict[str, Callable[[Task, Image], Body]] = {
    "RetrievalStarted": lambda task, _: wire.retrieval_started(task),
    "RetrievalCompleted": lambda task, _: wire.retrieval_completed(task, 3, 1),
    "RetrievalFailed": lambda task, _: wire.retrieval_failed(task, "the archive closed the association"),
    "ImagesRetrieved": lambda task, image: wire.images_retrieved(task, [image]),
    "ImageUploadFailed": lambda task, _: wire.image_upload_failed(task, 1),
    "ImageReadyForAnonymization": wire.image_ready_for_anonymization,
    "AnonymizationRequested": wire.anonymization_requested,
    "AnonymizationCompleted": wire.anonymization_completed,
    "AnonymizationFailed": lambda task, image: wire.anonymization_failed(task, image, "no face found"),
    "ImageReadyForProcessing": wire.image_ready_for_processing,
    "AnonymizationRolledBack": lambda t, i: wire.anonymization_rolled_back(t.task_id, i.image_id, "Saga compensation"),
    "ProcessingStarted": lambda t, i: wire.processing("ProcessingStarted", t.task_id, "usa", i),
    "ProcessingCompleted": lambda t, i: wire.processing("ProcessingCompleted", t.task_id, "usa", i),
    "ProcessingFailed": lambda t, i: wire.processing("ProcessingFailed", t.task_id, "usa", i),
    "ImageDeletionCompleted": lambda t, i: wire.image_deletion_completed(t.task_id, i.image_id, "Saga compensation"),
    "ImageDeletionFailed": lambda t, i: wire.image_deletion_failed(t.task_id, i.image_id, "Saga compensation"),
}
KINDS = tuple(_FIELDS)
IDS = ("id", "task_id", "image_id", "correlation_id")


# --- classes ----------------------------------------------------------------------------------------------------------


def wrong_types() -> Iterator[Bad]:
    """Every field of every event, each kind of value that it is not."""
    others: list[tuple[str, Any]] = [
        ("a number", 17),
        ("true", True),
        ("a list", ["a", None, 3]),
        ("an object", {"id": "x", "": []}),
        ("a text", HARM),
    ]
    for kind in KINDS:
        for path, value in _places(original(kind).fields):
            strict = path[-1] in ("id", "timestamp", "type", "task_id", "image_id", "correlation_id", "batch_id")
            for words, other in others:
                if type(other) is type(value) or (words == "true" and not strict):
                    continue
                known = strict and not (path[-1] == "batch_id" and kind == "RetrievalCompleted")
                fate = Fate.QUARANTINE if known and words != "a text" else Fate.EITHER
                yield original(kind).with_("wrong types", path, other, words, fate)


def missing_fields() -> Iterator[Bad]:
    """Every field of every event left out, or null."""
    for kind in KINDS:
        for path, _ in _places(original(kind).fields):
            yield original(kind).with_("missing fields", path, None, "null")


def not_json() -> Iterator[Bad]:
    whole = original("RetrievalStarted")
    text = json.dumps(whole.fields)
    raws: dict[str, bytes] = {
        "nothing": b"",
        "a space": b" ",
        "line ends": b"\r\n\n",
        "NULs": b"\0" * 64,
        "cut off": text[:-1].encode(),
        "cut off in a key": text[:7].encode(),
        "cut off in an escape": (text[:-1] + ', "x": "\\u00').encode(),
        "two objects": (text + text).encode(),
        "rubbish behind it": (text + "x").encode(),
        "single quotes": text.replace('"', "'").encode(),
        "a comma too many": (text[:-1] + ",}").encode(),
        "a comment": ("/* hello */" + text).encode(),
        "keys without quotes": b"{id: 1, task_id: 2}",
        "NaN": (text[:-1] + ', "x": NaN}').encode(),
        "Infinity": (text[:-1] + ', "x": -Infinity}').encode(),
        "a leading zero": (text[:-1] + ', "x": 017}').encode(),
        "hexadecimal": (text[:-1] + ', "x": 0x11}').encode(),
        "a tab in a text": (text[:-1] + ', "x": "a\tb"}').encode(),
        "a line end in a text": (text[:-1] + ', "x": "a\nb"}').encode(),
        "a raw NUL in a text": (text[:-1] + ', "x": "a\0b"}').encode(),
        "a BOM": b"\xef\xbb\xbf" + text.encode(),
        "UTF-16": text.encode("utf-16"),
        "UTF-32": text.encode("utf-32"),
        "Latin-1": text.replace("bogota", "Bogotá").encode("latin-1"),
        "overlong UTF-8": text.replace("bogota", "X").encode().replace(b"X", b"\xc0\xaf"),
        "a surrogate in UTF-8": text.replace("bogota", "X").encode().replace(b"X", b"\xed\xa0\x80"),
        "a lone byte": text.replace("bogota", "X").encode().replace(b"X", b"\x80"),
        "five bytes of UTF-8": text.replace("bogota", "X").encode().replace(b"X", b"\xf8\x88\x80\x80\x80"),
        "beyond Unicode": text.replace("bogota", "X").encode().replace(b"X", b"\xf4\x90\x80\x80"),
        "gzip": gzip.compress(text.encode(), mtime=0),
        "a PNG": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
        "a protocol buffer": bytes([10, 36]) + _id().encode() + bytes([16, 150, 1]),
        "every byte": bytes(range(256)) * 4,
        "XML": b"<?xml version='1.0'?><!DOCTYPE x [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><x>&a;</x>",
        "HTML": HARM.encode(),
        "YAML": b"id: !!python/object/apply:os.system ['true']",
        "a pickle": b"cos\nsystem\n(S'true'\ntR.",
        "SQL": SQL.encode(),
        "a list": b"[" + text.encode() + b"]",
        "an empty list": b"[]",
        "a text": json.dumps(text).encode(),
        "a number": b"17",
        "a huge number": b"9" * 10_000,
        "null": b"null",
        "true": b"true",
        "an empty object": b"{}",
        "an object that says nothing of itself": b'{"hello": "world"}',
    }
    for words, raw in raws.items():
        fate = Fate.LOG if words == "a BOM" else Fate.QUARANTINE
        yield original("RetrievalStarted").spoilt("not JSON", words, raw, fate)


def nesting() -> Iterator[Bad]:
    for depth in (31, 32, 33, 100, 1_000, 1_023, 1_024, 1_025, 5_000, 100_000, 500_000):
        shapes = {
            "lists": b"[" * depth + b"]" * depth,
            "objects": b'{"a":' * depth + b"1" + b"}" * depth,
            "lists that never close": b"[" * depth,
            "both": b'[{"a":' * (depth // 2) + b"1" + b"}]" * (depth // 2),
        }
        for words, inner in shapes.items():
            bad = original("RetrievalFailed")
            raw = _opened(bad) + inner + b"}"
            if len(raw) <= LIMIT * 4:
                fate = Fate.QUARANTINE if depth > 32 or "never" in words else Fate.EITHER
                yield bad.spoilt("nesting", f"{words}, {depth} deep", raw, fate)


def numbers() -> Iterator[Bad]:
    written = [
        b"9223372036854775807",
        b"9223372036854775808",
        b"18446744073709551615",
        b"18446744073709551616",
        b"-9223372036854775809",
        b"1e308",
        b"1e309",
        b"-1e400",
        b"1e-400",
        b"1E+999999999",
        b"9" * 400,
        b"9" * 100_000,
        b"0." + b"1" * 100_000,
        b"-0",
        b"-0.0",
        b"1.7976931348623157e308",
    ]
    for number in written:
        bad = original("RetrievalFailed")
        yield bad.spoilt("numbers", f"an unknown field is {_short(number)}", _opened(bad) + number + b"}")
        bad = original("RetrievalFailed")
        inner = b'{"a":[' + number + b"]}}"
        yield bad.spoilt("numbers", f"deep in an unknown field is {_short(number)}", _opened(bad) + inner)
    for field in ("total_images", "successful_images", "failed_images"):
        for count in (-1, 2**31 - 1, 2**31, 2**63, 2**64, 1e300, 2.5, -0.0, "3", ""):
            yield original("RetrievalCompleted").with_("numbers", ("result", field), count, repr(count))
    for count in (-1, 2**31 - 1, 2**31, 0):
        yield original("ImagesRetrieved").with_("numbers", ("number_of_images",), count, repr(count))


def halves_of_characters() -> Iterator[Bad]:
    """What JSON can say and PostgreSQL's text cannot: NUL, and surrogates alone; and what it can, though it is odd."""
    written = {
        "NUL": "\\u0000",
        "a high surrogate": "\\ud800",
        "a low surrogate": "\\udfff",
        "two the wrong way round": "\\udc00\\ud800",
        "a pair, escaped": "\\ud83d\\ude00",
        "a control character": "\\u0001",
        "no character": "\\uffff",
        "delete": "\\u007f",
        "the next line of C1": "\\u0085",
        "line separators": "\\u2028\\u2029",
    }
    for words, escape in written.items():
        bad_text = "NUL" in words or ("surrogate" in words) or "wrong way" in words
        fate = Fate.QUARANTINE if bad_text else Fate.EITHER
        for kind in KINDS:
            base = original(kind)
            texts = [path for path, value in _places(base.fields) if isinstance(value, str)]
            path = texts[KINDS.index(kind) % len(texts)]
            marked = base.with_("halves of characters", path, "@MARK@", words)
            raw = marked.body.replace(b"@MARK@", f"a{escape}b".encode())
            yield base.spoilt("halves of characters", f"{'.'.join(path)} holds {words}", raw, fate)
        base = original("RetrievalFailed")
        raw = _opened(base) + f'{{"a{escape}": 1}}}}'.encode()
        yield base.spoilt("halves of characters", f"a key holds {words}", raw, fate)


def large() -> Iterator[Bad]:
    def filled(size: int, start: bytes, filler: bytes, end: bytes) -> Iterator[tuple[Original, bytes]]:
        base = original("RetrievalFailed")
        opened = _opened(base) + start
        room = size - len(opened) - len(end) - 1
        yield base, opened + (filler * (room // len(filler) + 1))[:room] + end + b"}"

    for size in (LIMIT - 1, LIMIT, LIMIT + 1, 2 * LIMIT, LARGEST):
        fate = Fate.QUARANTINE if size > LIMIT else Fate.LOG
        for base, raw in filled(size, b'"', b"x", b'"'):
            yield base.spoilt("large", f"{size:,} bytes of text", raw, fate)
        for base, raw in filled(size, b"[1", b",1", b""):
            closed = raw[:-1].rstrip(b",") + b"]}"
            yield base.spoilt("large", f"{size:,} bytes of numbers", closed)
    many = original("ImagesRetrieved")
    body = {**many.fields, "image_ids": [_id() for _ in range(20_000)], "number_of_images": 20_000}
    yield many.spoilt("large", "20,000 images", body, Fate.LOG)
    many = original("ImagesRetrieved")
    yield many.spoilt("large", "the same image 20,000 times", {**many.fields, "image_ids": [_id()] * 20_000}, Fate.LOG)
    many = original("RetrievalFailed")
    yield many.spoilt("large", "30,000 unknown fields", {**many.fields, **{f"f{n}": n for n in range(30_000)}})
    many = original("RetrievalFailed")
    yield many.spoilt("large", "a key of 500,000 letters", {**many.fields, "k" * 500_000: 1})
    many = original("RetrievalFailed")
    yield many.spoilt("large", "an error message of 900,000 letters", {**many.fields, "error_message": "é" * 450_000})


def wrong_topics() -> Iterator[Bad]:
    """Every event on another event's topic, with its type and without it, and types that are none."""
    for number, kind in enumerate(KINDS):
        other = wire.TOPICS[KINDS[(number + 5) % len(KINDS)]]
        base = original(kind)
        yield base.spoilt("wrong topics", f"on {other}", base.fields, Fate.QUARANTINE, topic=other)
        base = original(kind)
        typeless = {name: value for name, value in base.fields.items() if name != "type"}
        yield base.spoilt("wrong topics", f"on {other}, without a type", typeless, topic=other)
    for name in ("SagaEnded", "retrievalstarted", "", " RetrievalStarted", "CommandExhausted", "Terminated", HARM, SQL):
        base = original("RetrievalStarted")
        yield base.spoilt("wrong topics", f"a type of {name[:20]!r}", {**base.fields, "type": name}, Fate.QUARANTINE)
    for number, kind in enumerate(KINDS):
        other = wire.TOPICS[KINDS[(number + 5) % len(KINDS)]]
        base = original(kind)
        named = {**base.fields, "type": other}
        yield base.spoilt("wrong topics", "another topic's name as its type", named, Fate.QUARANTINE)
        base = original(kind)
        yield base.spoilt("wrong topics", "its topic's name as its type", {**base.fields, "type": base.topic}, Fate.LOG)
    for kind in wire.PROCESSING:
        for region in ("usa", "latam", "processing"):
            topic = f"{region}-processing-{wire.PROCESSING[kind]}" if region != "processing" else wire.TOPICS[kind]
            base = original("RetrievalFailed")
            yield base.spoilt("wrong topics", f"on {topic}", base.fields, Fate.QUARANTINE, topic=topic)


def clocks() -> Iterator[Bad]:
    ahead = (datetime.now(UTC) + timedelta(hours=25)).isoformat()
    beyond: dict[str, Fate] = {
        "1970-01-01T00:00:00": Fate.QUARANTINE,
        "1999-12-31T23:59:59.999999": Fate.QUARANTINE,
        "0001-01-01T00:00:00": Fate.QUARANTINE,
        "0001-01-01T00:00:00+14:00": Fate.QUARANTINE,
        "0000-00-00T00:00:00": Fate.QUARANTINE,
        "-2026-01-01T00:00:00": Fate.QUARANTINE,
        "9999-12-31T23:59:59.999999": Fate.QUARANTINE,
        "9999-12-31T23:59:59-14:00": Fate.QUARANTINE,
        "10000-01-01T00:00:00": Fate.QUARANTINE,
        "2038-01-19T03:14:08": Fate.QUARANTINE,
        ahead: Fate.QUARANTINE,
        "2026-02-30T12:00:00": Fate.QUARANTINE,
        "2026-03-01T25:00:00": Fate.QUARANTINE,
        "2026-03-01T23:59:60": Fate.QUARANTINE,
        "2026-03-01T12:00:00+24:00": Fate.QUARANTINE,
        "2026-03-01T12:00:00+99:99": Fate.QUARANTINE,
        "2026-03-01T12:00:00 America/Bogota": Fate.QUARANTINE,
        "2026-03-01T12:00:00z": Fate.EITHER,
        "2026-03-01T12:00:00.123456789Z": Fate.EITHER,
        "2026-03-01T12:00:00,5": Fate.EITHER,
        "20260301T120000Z": Fate.EITHER,
        "2026-W09-7": Fate.EITHER,
        "2026-03-01": Fate.EITHER,
        "2026-03-01 12:00": Fate.EITHER,
        "２０２６-03-01T12:00:00": Fate.EITHER,
        "٢٠٢٦-03-01T12:00:00": Fate.EITHER,
        "2026-03-01T12:00:00 ": Fate.EITHER,
        "1772366400": Fate.QUARANTINE,
        "Sun, 01 Mar 2026 12:00:00 GMT": Fate.QUARANTINE,
        "01/03/2026": Fate.QUARANTINE,
        "now": Fate.QUARANTINE,
        "infinity": Fate.QUARANTINE,
        "": Fate.QUARANTINE,
        "2026-03-01T12:00:00" + "0" * 100_000: Fate.QUARANTINE,
        HARM: Fate.QUARANTINE,
        SQL: Fate.QUARANTINE,
    }
    for written, fate in beyond.items():
        for kind in ("RetrievalFailed", "ProcessingStarted"):
            yield original(kind).with_("clocks", ("timestamp",), written, repr(written[:40]), fate)
    for number in (0, 1_772_366_400, 1_772_366_400_000, -1, 1e18):
        yield original("RetrievalFailed").with_("clocks", ("timestamp",), number, repr(number), Fate.QUARANTINE)


def shapes_of_ids() -> Iterator[Bad]:
    one = uuid.uuid4()
    shapes: dict[str, Fate] = {
        # No ids: the event has another one, of its key or its entity.
        **dict.fromkeys(("", " ", "None", "null", " NaN\n", "undefined"), Fate.LOG),
        "x" * 200: Fate.EITHER,
        "x" * 201: Fate.QUARANTINE,
        "x" * 100_000: Fate.QUARANTINE,
        " order-1": Fate.QUARANTINE,
        "order-1\n": Fate.QUARANTINE,
        "a\tb": Fate.QUARANTINE,
        str(one).upper(): Fate.EITHER,
        f"{{{one}}}": Fate.EITHER,
        f"urn:uuid:{one}": Fate.EITHER,
        one.hex: Fate.EITHER,
        f"{one}x": Fate.EITHER,
        str(one)[:-1] + "g": Fate.EITHER,
        "00000000-0000-0000-0000-000000000000": Fate.EITHER,
        "order-123": Fate.EITHER,
        "0": Fate.EITHER,
        ".": Fate.EITHER,
        "../../etc/passwd": Fate.EITHER,
        "a/b?c=d#e&f=%2F": Fate.EITHER,
        "%00": Fate.EITHER,
        "a:b@c:@": Fate.EITHER,
        "*": Fate.EITHER,
        "a'b\"c`d": Fate.EITHER,
        '=HYPERLINK("http://x")': Fate.EITHER,
        HARM: Fate.EITHER,
        SQL: Fate.EITHER,
    }
    yield from _in_ids("shapes of ids", shapes)


def tricks_of_unicode() -> Iterator[Bad]:
    tricks: dict[str, Fate] = {
        "a\u202eb": Fate.QUARANTINE,  # turns the line around
        "a\u200bb": Fate.QUARANTINE,  # a space of no width
        "a\u200db": Fate.QUARANTINE,
        "a\ufeffb": Fate.QUARANTINE,
        "a\u00adb": Fate.QUARANTINE,  # a hyphen that does not show
        "a\u00a0b": Fate.QUARANTINE,  # a space that does not look like one to a machine
        "a\u2028b": Fate.QUARANTINE,
        "a\ue000b": Fate.QUARANTINE,  # anybody's own
        "a\U000e0041b": Fate.QUARANTINE,  # a tag
        "cafe\u0301": Fate.EITHER,
        "café": Fate.EITHER,
        "a" + "\u0301" * 150: Fate.EITHER,
        "\u0430dmin": Fate.EITHER,  # Cyrillic
        "İ": Fate.EITHER,
        "ß": Fate.EITHER,
        "ſ": Fate.EITHER,
        "ﬁ": Fate.EITHER,
        "１２３": Fate.EITHER,
        "٣": Fate.EITHER,
        "😀" * 200: Fate.EITHER,
        "😀" * 201: Fate.QUARANTINE,
        "שלום": Fate.EITHER,
        "𝓪": Fate.EITHER,
        "12345678-1234-1234-1234-12345678901２": Fate.EITHER,
    }
    yield from _in_ids("tricks of Unicode", tricks)


def harm_in_texts() -> Iterator[Bad]:
    """SQL, HTML and templates in every text of every event."""
    for number, kind in enumerate(KINDS):
        for offset, (path, value) in enumerate(_places(original(kind).fields)):
            if isinstance(value, str) or value is None:
                text = TEXTS[(number + offset) % len(TEXTS)]
                yield original(kind).with_("harm in texts", path, text, repr(text))
        base = original(kind)
        body = {**base.fields, HARM: HARM, "__proto__": {"x": 1}, "constructor": SQL, "": ""}
        yield base.spoilt("harm in texts", "in unknown fields and their names", body, Fate.LOG)
        base = original(kind)
        everything = {
            name: HARM if isinstance(value, str) and name not in _ENVELOPE else value for name, value in body.items()
        }
        own = {name: base.fields[name] for name in _ENVELOPE if name in base.fields}
        yield base.spoilt("harm in texts", "in all of them", {**everything, **own})


def twins() -> Iterator[Bad]:
    """Keys twice in one object, and one id for two contents."""
    for name in ("id", "task_id", "type", "timestamp"):
        base = original("RetrievalFailed")
        raw = json.dumps(base.fields).encode()[:-1] + b', "%s": "twice"}' % name.encode()
        yield base.spoilt("twins", f"{name} twice", raw)
    for kind in KINDS:
        base = original(kind)
        yield base.spoilt("twins", "the first of an id", base.fields)
        yield base.spoilt("twins", "another under its id", {**base.fields, "altered": True}, Fate.QUARANTINE)


CLASSES: tuple[Callable[[], Iterator[Bad]], ...] = (
    wrong_types,
    missing_fields,
    not_json,
    nesting,
    numbers,
    halves_of_characters,
    large,
    wrong_topics,
    clocks,
    shapes_of_ids,
    tricks_of_unicode,
    harm_in_texts,
    twins,
)
_ENVELOPE = ("id", "timestamp", "type", "correlation_id", "task_id", "image_id", "image_ids", "batch_id", "result")


def _in_ids(kind: str, values: dict[str, Fate]) -> Iterator[Bad]:
    for name in IDS:
        for value, fate in values.items():
            yield original("AnonymizationCompleted").with_(kind, (name,), value, repr(value[:40]), fate)


def _places(fields: Body, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Where something is said, in objects inside objects too, with what is said."""
    for name, value in fields.items():
        yield (*path, name), value
        if isinstance(value, dict):
            yield from _places(value, (*path, name))


def _opened(base: Original) -> bytes:
    fields = base.fields
    return OPEN % (fields["id"].encode(), fields["timestamp"].encode(), fields["task_id"].encode())


def _short(number: bytes) -> str:
    return number.decode() if len(number) <= 25 else f"{number[:6].decode()}… ({len(number):,} digits)"


def _id() -> str:
    return str(uuid.uuid4())


def _at() -> str:
    return wire.timestamp(datetime.now(UTC) - timedelta(seconds=30))


if __name__ == "__main__":
    counted = Counter(bad.kind for bad in corpus())
    for name, count in counted.items():
        print(f"{count:5}  {name}")  # noqa: T201
    print(f"{counted.total():5}  in all")  # noqa: T201
