"""Ids entered by people and clients, normalized as the event log stores them."""

from __future__ import annotations

import uuid

from bridge.codec import canonical_id


def spelled(text: str) -> str | None:
    """Return the id as the event log spells it (UUIDs in lower case); None if no event can carry it."""
    return canonical_id(text.strip())


def saga_id(text: str) -> uuid.UUID | None:
    """Parse a saga id in any usual UUID notation; return None for any other text."""
    try:
        return uuid.UUID(text.strip())
    except ValueError:
        return None


def is_storable(text: str) -> bool:
    """Return whether PostgreSQL accepts the text as a parameter: not empty, no NUL, no lone surrogate."""
    return bool(text) and "\x00" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)
