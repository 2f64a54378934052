"""Decide when a silence is long enough to check the connection."""


class SilenceTimer:
    """A timer for suspicious silences. All times are seconds of one monotonic clock.

    The interval doubles with each check that finds nothing, and starts again at `first` when one finds a stall.
    Brokers have silently stopped delivering (mostly pulsar-lite with a backlog); subscribing again restarts delivery.
    """

    def __init__(self, longest: float, now: float, first: float = 1.0) -> None:
        self._longest = longest
        self._first = self._interval = min(first, longest)
        self._since = now
        self._checked_at: float | None = None

    def heard(self, now: float) -> None:
        """Record that a message came. Soon after a check, it means that the delivery had stalled."""
        if self._checked_at is not None and now - self._checked_at < self._first:
            self._interval = self._first
        self._checked_at = None
        self._since = now

    def is_over(self, now: float) -> bool:
        return now - self._since > self._interval

    def checked(self, now: float) -> None:
        """Record that the connection was checked, for example by subscribing again."""
        self._interval = min(self._interval * 2, self._longest)
        self._checked_at = self._since = now
