"""Messages for the bridge's tests, and the small catalog that they belong to."""

import itertools
import json
from datetime import UTC, datetime
from typing import Any

from bridge.catalog import Catalog, EventType
from bridge.codec import Codec
from bridge.envelope import Envelope, Message, Rejected

CATALOG = Catalog(
    (EventType(name="OrderPlaced", stream="orders", topics=("orders",), key_field="order", entity_field="item"),)
)
CODEC = Codec(CATALOG, max_body=1_000_000)
PUBLISHED = datetime(2026, 3, 1, 12, tzinfo=UTC)

_entries = itertools.count()


def message(raw: bytes, published: datetime = PUBLISHED) -> Message:
    """A message of its own place on the topic."""
    return Message(
        "orders", "orders", f"1:{next(_entries)}:-1:-1", round(published.timestamp() * 1000), raw, {"k": "v\0"}
    )


def body(event_id: str, **fields: Any) -> bytes:
    return json.dumps({"id": event_id, "timestamp": "2026-03-01T12:00:00", "order": "o-1", **fields}).encode()


def envelope(event_id: str, **fields: Any) -> Envelope:
    found = CODEC.decode(message(body(event_id, **fields)), PUBLISHED)
    assert isinstance(found, Envelope), found
    return found


def rejected(raw: bytes = b"not json") -> Rejected:
    found = CODEC.decode(message(raw), PUBLISHED)
    assert isinstance(found, Rejected), found
    return found
