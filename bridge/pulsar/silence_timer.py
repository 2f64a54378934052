"""How long a silence may be before one looks."""


class SilenceTimer:
    """When silence is suspicious. The wait doubles with each look that finds nothing, and starts anew when one does.

    Brokers have stopped delivering without a word (pulsar-lite over a backlog, mostly); subscribing again wakes them.
    """

    def __init__(self, longest: float, now: float, first: float = 1.0) -> None:
        self._longest = longest
        self._first = self._interval = min(first, longest)
        self._since = now
        self._looked_at: float | None = None

    def heard(self, now: float) -> None:
        """Something came: soon after we looked, it had been waiting for that."""
        if self._looked_at is not None and now - self._looked_at < self._first:
            self._interval = self._first
        self._looked_at = None
        self._since = now

    def is_over(self, now: float) -> bool:
        return now - self._since > self._interval

    def looked(self, now: float) -> None:
        """We did something about it."""
        self._interval = min(self._interval * 2, self._longest)
        self._looked_at = self._since = now
