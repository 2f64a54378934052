"""The routing key: under it events wait, and it is the name of the lock of the saga that takes them."""


def routing_key(stream: str, key: str, entity: str = "") -> str:
    """Return the key under which an event waits: that of its saga, or, if the event has no key, of its entity.

    SQL that builds the same text is in sagas/applying; tests/architecture names those places.
    """
    return f"{stream}:{key}" if key else f"{stream}:@{entity}"


def split(routed: str) -> tuple[str, str]:
    """Return (stream, key) of a routing key. The key is "@" and the entity for an event without a key."""
    stream, _, key = routed.partition(":")
    return stream, key
