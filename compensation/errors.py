"""How much of an error's text is kept."""

MAXIMUM_ERROR_CHARACTERS = 500


def bounded(text: str) -> str:
    """The text as it may be stored: without NUL, which PostgreSQL refuses, and not longer than the limit."""
    clean = text.replace("\x00", "")
    return clean if len(clean) <= MAXIMUM_ERROR_CHARACTERS else clean[: MAXIMUM_ERROR_CHARACTERS - 1] + "…"
