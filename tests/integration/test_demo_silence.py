"""The demo ends retrievals by silence: after the environment's SAGA_INTAKE_SILENCE if it names one, else soon."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.management import call_command

from devtools.management.commands import demo
from devtools.simulator.options import Options
from devtools.simulator.report import Report


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Options, str]]:
    """The options of each simulator run, with the setting that the stack's parts get."""
    seen: list[tuple[Options, str]] = []

    def play(stack: Any, options: Options, *_: Any) -> Report:
        seen.append((options, stack.environment["SAGA_INTAKE_SILENCE"]))
        return Report("r", 1, 1, 3, {"COMPLETED": 1}, {"confirmed": 0}, {}, {}, [], True, 1.0)

    @contextlib.contextmanager
    def running(*_: Any) -> Iterator[Callable[[], bool]]:
        yield lambda: False

    monkeypatch.setattr(demo, "_play", play)
    monkeypatch.setattr("devtools.embedded.stack.Stack.greeting", lambda _: "hello")
    monkeypatch.setattr("devtools.embedded.foreground.running", running)
    monkeypatch.delenv("SAGA_INTAKE_SILENCE", raising=False)
    return seen


@pytest.mark.parametrize(
    ("said", "of_parts", "of_simulator", "told"),
    [
        (None, "5", 5.0, "the service waits 5 s"),
        ("7", "7", 7.0, "the service waits 7 s"),
        ("900", "900", 0.0, "SAGA_INTAKE_SILENCE is 900 s, not less than --timeout (180 s)"),
        ("0", "0", 0.0, "SAGA_INTAKE_SILENCE is 0"),
    ],
)
def test_the_environment_takes_precedence(
    said: str | None,
    of_parts: str,
    of_simulator: float,
    told: str,
    runs: list[tuple[Options, str]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if said is not None:
        monkeypatch.setenv("SAGA_INTAKE_SILENCE", said)
    with contextlib.suppress(SystemExit):
        call_command("demo", "--once", "--complete-rate", "0")
    [(options, setting)] = runs
    assert (setting, options.intake_silence) == (of_parts, of_simulator)
    assert told in capsys.readouterr().err
