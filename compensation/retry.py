"""The retry policy: when the next attempt is due, and when there is none. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How a command is retried, in Temporal's terms. All intervals are seconds.

    `jitter` is the largest share of the delay (0 to 1) by which it is shortened at random, so that thousands of
    commands that failed together are not retried together. No delay is ever longer than `maximum_interval`.
    `non_retryable_errors` are error texts or beginnings of error texts.

    Raises ValueError, which names every invalid number.
    """

    initial_interval: float = 1.0
    backoff_coefficient: float = 2.0
    maximum_interval: float = 100.0
    maximum_attempts: int = 10
    jitter: float = 0.2
    non_retryable_errors: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        problems = [
            problem
            for is_wrong, problem in (
                (not 0 < self.initial_interval < float("inf"), "initial_interval must be more than 0 seconds"),
                (not 1 <= self.backoff_coefficient < float("inf"), "backoff_coefficient must be at least 1"),
                (
                    not self.initial_interval <= self.maximum_interval < float("inf"),
                    "maximum_interval must not be less than initial_interval",
                ),
                # There is no unlimited number of attempts: a command that is never confirmed must reach a person.
                (self.maximum_attempts < 1, "maximum_attempts must be at least 1"),
                (not 0 <= self.jitter <= 1, "jitter must be between 0 and 1"),
                (any(not entry for entry in self.non_retryable_errors), "a non-retryable error must not be empty"),
            )
            if is_wrong
        ]
        if problems:
            raise ValueError("; ".join(problems))

    def delay(self, attempt: int, random: float) -> float:
        """Return the seconds to wait after attempt number `attempt` (the first is 1) failed.

        random: at least 0, less than 1.
        """
        try:
            backoff = self.initial_interval * self.backoff_coefficient ** (attempt - 1)
        except OverflowError:
            backoff = self.maximum_interval
        return min(backoff, self.maximum_interval) * (1 - self.jitter * random)

    def exhausted(self, attempt: int) -> bool:
        """Return whether there is no attempt after number `attempt`."""
        return attempt >= self.maximum_attempts

    def non_retryable(self, error: str) -> str | None:
        """Return the longest entry with which `error` begins and that forbids a retry; None if there is none."""
        return max((entry for entry in self.non_retryable_errors if error.startswith(entry)), key=len, default=None)
