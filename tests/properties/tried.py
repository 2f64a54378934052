"""How many examples the properties of this process, and of its workers, were tried on."""

from collections import Counter

TRIED: Counter[str] = Counter()  # by property
