"""A small discrete-event simulation: a clock, and pools of processors that jobs queue for."""

import heapq
import itertools
from collections import deque
from collections.abc import Callable

Then = Callable[[], None]


class Clock:
    """Simulated time in seconds. What is to happen is called in the order of its time."""

    def __init__(self) -> None:
        self.now = 0.0
        self._agenda: list[tuple[float, int, Then]] = []
        self._numbers = itertools.count()

    def after(self, seconds: float, then: Then) -> None:
        """Call `then` so many seconds from now."""
        heapq.heappush(self._agenda, (self.now + seconds, next(self._numbers), then))

    def run(self, until: float) -> None:
        """Let everything happen up to a time."""
        while self._agenda and self._agenda[0][0] <= until:
            self.now, _, then = heapq.heappop(self._agenda)
            then()
        self.now = until


class Pool:
    """So many processors and one queue before them.

    A job that takes longer than `quantum` seconds goes to the end of the queue after each of them, as an operating
    system shares its processors out; without a quantum it is first come, first served.
    """

    def __init__(self, clock: Clock, processors: int, quantum: float = float("inf")) -> None:
        self._clock = clock
        self._idle = processors
        self._quantum = quantum
        self._queue: deque[tuple[float, Then]] = deque()
        self.processors = processors
        self.busy_seconds = 0.0

    def serve(self, seconds: float, then: Then) -> None:
        """Call `then` when a job of so many seconds is done."""
        self._queue.append((seconds, then))
        self._start()

    def share(self, seconds: float) -> float:
        """How busy it was in so many seconds, 0 to 1."""
        return self.busy_seconds / seconds / self.processors

    def _start(self) -> None:
        while self._idle and self._queue:
            left, then = self._queue.popleft()
            self._idle -= 1
            turn = min(left, self._quantum)
            self.busy_seconds += turn
            self._clock.after(turn, lambda left=left - turn, then=then: self._end(left, then))  # type: ignore[misc]

    def _end(self, left: float, then: Then) -> None:
        self._idle += 1
        if left > 0:
            self._queue.append((left, then))
        self._start()
        if left <= 0:
            then()
