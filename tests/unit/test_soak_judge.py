"""What a soak complains of: growth, and nothing else."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.soak import judge

MINUTES = 30
LOOKS = 60


def samples(**changes: Callable[[int], float]) -> list[dict[str, Any]]:
    """A run in which all is flat but for what is named: look → value."""
    said: dict[str, Callable[[int], float]] = {
        "memory": lambda _: 100.0,
        "dead": lambda look: 1_000.0 * (look % 6),
        "log": lambda look: 10.0 * look,
        "queue": lambda look: 300.0 + 10 * (look % 5),
        "pending": lambda _: 5.0,
        **changes,
    }
    return [
        {
            "at": 30.0 * look,
            "events": 6_000 * look,
            "memory": {"worker child": {"1": said["memory"](look), "2": 90.0}},
            "queues": {"events": said["queue"](look)},
            "tables": {
                "bridge_pending": {"megabytes": said["pending"](look), "dead": said["dead"](look), "vacuum_at": 5_000},
                "bridge_event": {"megabytes": said["log"](look), "dead": 0, "vacuum_at": 50},
            },
        }
        for look in range(LOOKS)
    ]


def content(minutes: float = MINUTES, left: int = 0, answer: str = "200") -> dict[str, Any]:
    return {"minutes": minutes, "left": {"events": left}, "web": {"answers": {answer: 9}}}


def test_nothing_is_reported_for_a_flat_run() -> None:
    assert judge.problems(samples(), content()) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"memory": lambda look: 80.0 + look / 2}, "worker child grows"),
        ({"memory": lambda _: 130.0}, "worker child takes 130 MB"),
        ({"dead": lambda look: 1_000.0 * look}, "dead rows"),
        ({"dead": lambda look: 60_000.0 if look == LOOKS - 2 else 0.0}, "dead rows pile up"),
        ({"log": lambda look: look**2 / 5}, "bridge_event takes"),
        ({"pending": lambda look: 1.0 * look}, "bridge_pending grows"),
        ({"queue": lambda look: 100.0 * look}, "more and more events"),
    ],
)
def test_growth_is_reported(changes: dict[str, Callable[[int], float]], words: str) -> None:
    [said] = judge.problems(samples(**changes), content())
    assert said.startswith(words)


def test_what_is_left_and_errors_are_reported_for_a_short_run_too() -> None:
    assert judge.problems(samples(memory=lambda look: 80.0 + look / 2), content(minutes=1)) == []
    assert judge.problems(samples(), content(minutes=1, left=3)) == ["3 events are left at the end"]
    assert judge.problems(samples(), content(minutes=1, answer="500")) == ["the web answered {'500': 9}"]
