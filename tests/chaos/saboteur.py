"""Chooses acts by chance, one after the other and sometimes two at once, and waits after each until all works again."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from random import Random
from typing import Any

from tests.chaos.acts import Act
from tests.chaos.canary import Canaries

PATIENCE = 180.0
PAUSES = (0.0, 4.0)
TWO_AT_ONCE = 0.15


@dataclass(slots=True)
class Done:
    """An act that was done. at: seconds since the start; recovered: seconds from its end until all worked again."""

    at: float
    kind: str
    what: str
    lasted: float
    recovered: float | None = None
    also: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Saboteur:
    """Acts while it may. Call `tick` several times a second, from the thread that started the parts.

    short: divides how long acts last, and how long they pause.
    """

    def __init__(
        self,
        acts: Sequence[Act],
        canaries: Canaries,
        rng: Random,
        say: Callable[[str], None],
        *,
        short: float = 1.0,
        two_at_once: float = TWO_AT_ONCE,
    ) -> None:
        self.done: list[Done] = []
        self._acts = acts
        self._canaries = canaries
        self._rng = rng
        self._say = say
        self._short = short
        self._two_at_once = two_at_once
        self._deck: list[Act] = []
        self._began = time.monotonic()
        self._running: list[tuple[float, Act]] = []
        self._under_way: list[Done] = []
        self._recovery: Future[float | None] | None = None
        self._over = threading.Event()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="canaries")
        self._next = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether every act is over and all works again."""
        return not self._running and self._recovery is None

    def tick(self, *, may_begin: bool) -> None:
        """End what is due, look whether all works again, and begin the next act if it may."""
        now = time.monotonic()
        if self._running:
            self._end_what_is_due(now)
        elif self._recovery is not None:
            if self._recovery.done():
                self._note_recovery(self._recovery.result(), now)
        elif may_begin and now >= self._next:
            self._begin(now)

    def close(self) -> None:
        """Take back every act that is under way."""
        self._over.set()
        for _, act in self._running:
            act.end()
        self._running = []
        self._pool.shutdown()

    def _begin(self, now: float) -> None:
        count = 2 if self._rng.random() < self._two_at_once else 1
        acts = [self._draw() for _ in range(count)]
        for act in acts:
            lasts = self._rng.uniform(*act.seconds) / self._short
            at = now - self._began
            what = act.begin()
            also = " + ".join(other.kind for other in acts if other is not act)
            self._say(f"{at:7.1f} s  {act.kind}: {what}{f', for {lasts:.1f} s' if lasts else ''}")
            self._under_way.append(Done(round(at, 1), act.kind, what, round(lasts, 1), also=also))
            self._running.append((now + lasts, act))

    def _draw(self) -> Act:
        """From a shuffled pack, so that every act has its turn."""
        if not self._deck:
            self._deck = list(self._acts)
            self._rng.shuffle(self._deck)
        return self._deck.pop()

    def _end_what_is_due(self, now: float) -> None:
        for until, act in list(self._running):
            if until <= now:
                act.end()
                self._running.remove((until, act))
        if not self._running:
            self._recovery = self._pool.submit(self._canaries.recovery, PATIENCE, self._over)

    def _note_recovery(self, seconds: float | None, now: float) -> None:
        words = "NOT RECOVERED" if seconds is None else f"all works again after {seconds:.1f} s"
        self._say(f"{now - self._began:7.1f} s  {words}")
        for act in self._under_way:
            act.recovered = None if seconds is None else round(seconds, 2)
        self.done += self._under_way
        self._under_way, self._recovery = [], None
        self._next = now + self._rng.uniform(*PAUSES) / self._short
