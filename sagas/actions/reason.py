"""What counts as a reason: text with at least one visible character."""

from __future__ import annotations

import unicodedata

# Letters and symbols by category that are invisible: Hangul fillers, the blank Braille cell, the empty note head.
_BLANK = frozenset("\u115f\u1160\u3164\uffa0\u2800\U0001d159\ufffc")
# First letters of the Unicode categories that are visible alone: letters, numbers, punctuation, symbols. Marks are
# visible only on another character; separators, control and format characters and unassigned ones never are.
_VISIBLE = frozenset("LNPS")


def is_blank(text: str) -> bool:
    """Return whether a text is empty or has only white space, invisible characters and marks without a letter."""
    return not any(unicodedata.category(char)[0] in _VISIBLE and char not in _BLANK for char in text)
