"""What counts as a reason: text in which a person can see something."""

from __future__ import annotations

import unicodedata

# Letters and symbols by their category that leave no ink: Hangul fillers, the blank Braille cell, the empty note head.
_BLANK = frozenset("\u115f\u1160\u3164\uffa0\u2800\U0001d159\ufffc")
# First letters of the Unicode categories that show by themselves: letters, numbers, punctuation, symbols. Marks show
# only on something else; separators, control and format characters, and what is not assigned, never do.
_VISIBLE = frozenset("LNPS")


def is_blank(text: str) -> bool:
    """Whether a text shows nothing: empty, or only white space, invisible characters and marks without a letter."""
    return not any(unicodedata.category(char)[0] in _VISIBLE and char not in _BLANK for char in text)
