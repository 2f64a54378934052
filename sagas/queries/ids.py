"""Ids that people and clients write, as the event log keeps them."""

from __future__ import annotations

import uuid

from bridge.codec import canonical_id


def spelled(text: str) -> str | None:
    """The id in the log's spelling (UUIDs in lower case); None where no event can carry it."""
    return canonical_id(text.strip())


def saga_id(text: str) -> uuid.UUID | None:
    """The saga id that a text spells in one of the usual ways; None where it spells none."""
    try:
        return uuid.UUID(text.strip())
    except ValueError:
        return None


def is_storable(text: str) -> bool:
    """Whether PostgreSQL can be asked for it at all."""
    return bool(text) and "\x00" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)
