"""The judge of chaos sees what it is there for: what is lost, twice, changed, or never came back."""

import json
import time
from collections import Counter
from random import Random
from typing import Any

import pytest

from tests.chaos import report, verdict
from tests.chaos.acts import Act
from tests.chaos.saboteur import Saboteur
from tests.chaos.witness import Message

BODY = {"id": "0a", "type": "RetrievalStarted"}
PLACE = ("topic", "1:1:-1:0")


REFUSED = {"id": "0b", "type": "ImageDeletionFailed", "task_id": "T", "image_id": "I"}


def fate(
    body: bytes,
    place: str = "1:1:-1:0",
    *,
    logged: Any = (PLACE, BODY),
    kept: bytes | None = None,
    counted: int = 0,
) -> str:
    known = {"0a": logged} if logged else {}
    quarantined = {("topic", place): kept} if kept is not None else {}
    places = {where for where, _ in known.values()}
    groups = Counter({("ImageDeletionFailed", "t", "i"): counted})
    return verdict._fate(Message("topic", place, body), ("topic", place), known, places, quarantined, groups)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (fate(json.dumps(BODY).encode()), "logged"),
        (fate(json.dumps(BODY).encode(), "1:2:-1:0"), "repeated"),
        (fate(json.dumps({**BODY, "id": "0A"}).encode(), "1:2:-1:0"), "dropped though their content is another"),
        (fate(json.dumps({**BODY, "note": 1}).encode(), "1:2:-1:0"), "dropped though their content is another"),
        (fate(json.dumps(BODY).encode(), logged=None), "lost"),
        (fate(b"no json", "1:2:-1:0"), "lost"),
        (fate(json.dumps(REFUSED).encode(), "1:2:-1:0"), "lost"),
        (fate(json.dumps(REFUSED).encode(), "1:2:-1:0", counted=1), "counted"),
        (fate(b"no json", "1:2:-1:0", kept=b"no json"), "quarantined"),
        (fate(b"no json", "1:2:-1:0", kept=b"no"), "in quarantine with other bytes"),
        (fate(json.dumps(BODY).encode(), kept=json.dumps(BODY).encode()), "both in the log and in quarantine"),
    ],
)
def test_what_becomes_of_a_message_is_reported(found: str, expected: str) -> None:
    assert found == expected


def test_a_complaint_lists_what_it_found_and_nothing_found_is_none() -> None:
    found = verdict.Verdict()
    found.complain("messages lost", [])
    found.complain("messages lost", range(12))
    assert found.problems == ["12 messages lost: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more"]


class Canaries:
    """Recovers at once, or never."""

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds

    def recovery(self, patience: float, over: Any) -> float | None:
        return self.seconds


def play(seconds: float | None, acts: int = 6) -> tuple[list[str], Saboteur]:
    """Let a saboteur do some acts; gives what was begun and ended, in order."""
    heard: list[str] = []

    def act(name: str) -> Act:
        def begin() -> str:
            heard.append(f"begin {name}")
            return "it"

        return Act(name, begin, (0.0, 0.0), lambda: heard.append(f"end {name}"))

    saboteur = Saboteur(
        [act(name) for name in "abc"],
        Canaries(seconds),  # type: ignore[arg-type]
        Random(1),
        lambda words: None,
        short=1000,
        two_at_once=0,
    )
    deadline = time.monotonic() + 20
    while len(saboteur.done) < acts and time.monotonic() < deadline:
        saboteur.tick(may_begin=True)
    saboteur.close()
    return heard, saboteur


def test_every_act_has_its_turn_and_its_end_before_the_next() -> None:
    heard, saboteur = play(1.234)

    begun = [words.removeprefix("begin ") for words in heard if words.startswith("begin")]
    assert sorted(begun) == sorted("abc" * 2)
    assert heard == [word for name in begun for word in (f"begin {name}", f"end {name}")]
    assert [done.recovered for done in saboteur.done] == [1.23] * 6
    assert saboteur.is_idle


def test_no_act_begins_when_it_may_not_and_what_never_recovers_is_reported() -> None:
    heard, saboteur = play(None, acts=1)
    assert saboteur.done[0].recovered is None

    before = len(heard)
    saboteur.tick(may_begin=False)
    assert len(heard) == before


def test_an_act_under_way_is_taken_back_at_the_end() -> None:
    ended: list[str] = []
    act = Act("freeze", lambda: "it", (1000.0, 1000.0), lambda: ended.append("woken"))
    saboteur = Saboteur([act], Canaries(0), Random(1), lambda words: None, two_at_once=0)  # type: ignore[arg-type]
    saboteur.tick(may_begin=True)
    assert not saboteur.is_idle

    saboteur.close()

    assert ended == ["woken"]


def test_the_table_says_what_was_off_and_what_never_came_back() -> None:
    acts = [
        {"kind": "kill -9 bridge", "also": "", "recovered": 2.0},
        {"kind": "kill -9 bridge", "also": "", "recovered": 4.0},
        {"kind": "kill -9 beat", "also": "", "recovered": None},
        {"kind": "kill -9 beat", "also": "cut valkey", "recovered": 9.0},
    ]
    content = {
        "broker": "lite",
        "seed": 1,
        "rate": 40.0,
        "seconds": 600,
        "load": 3.5,
        "machine": {"measured_at": "2026-11-24T15:00:00+00:00", "commit": "abc", "cpus": 2},
        "acts": acts,
        "rounds": [{"by_status": {"COMPLETED": 5}}],
        "counts": {"messages published": 1234},
        "problems": ["one"],
    }

    lines = report.table(content).splitlines()

    assert "| kill -9 bridge | 2 | 3.0 | 4.0 |" in lines
    assert "| kill -9 beat | 1 | – | never |" in lines
    assert f"| {report.TWO} | 1 | 9.0 | 9.0 |" in lines
    assert "| messages published | 1,234 |" in lines
    assert any("**1 things were off.**" in line for line in lines)
