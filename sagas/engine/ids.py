"""Ids as the engine compares them: in the form in which bridge.codec stores the ids of an event."""

from __future__ import annotations

import re
import uuid

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII).fullmatch
_ANY_UUID = re.compile(
    r"(?:urn:uuid:)?\{?[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}\}?", re.IGNORECASE | re.ASCII
).fullmatch


def is_uuid(text: str) -> bool:
    """Return whether an id is a UUID with dashes, in any case."""
    return _UUID(text) is not None


def canonical_id(text: str) -> str:
    """Return a UUID in lower case with dashes, whatever its spelling, and any other id as it is."""
    return str(uuid.UUID(text.lower())) if _ANY_UUID(text) else text
