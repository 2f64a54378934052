"""The limit for stored error texts."""

MAXIMUM_ERROR_CHARACTERS = 500


def bounded(text: str) -> str:
    """Return the text in a form that can be stored: without NUL, which PostgreSQL refuses, and within the limit."""
    clean = text.replace("\x00", "")
    return clean if len(clean) <= MAXIMUM_ERROR_CHARACTERS else clean[: MAXIMUM_ERROR_CHARACTERS - 1] + "…"
