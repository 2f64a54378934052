"""The properties are tried often enough on every change, and `prove` counts what it tries and tells what breaks."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import settings

from tests.properties import prove, test_engine, test_services
from tests.properties.profiles import PROPERTIES

ENOUGH = 2000


def test_every_change_is_tried_on_thousands_of_examples() -> None:
    modules = {made.__module__ for made in PROPERTIES.values()}
    assert {test_engine.__name__, test_services.__name__} <= modules
    assert settings.get_profile("ci").max_examples * len(PROPERTIES) >= ENOUGH


def test_prove_says_how_many_examples_it_tried() -> None:
    command = [sys.executable, "-m", "tests.properties.prove", "--seconds", "0.1", "--jobs", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    *properties, total = done.stdout.splitlines()
    assert len(properties) == 1  # a property that has begun is tried to the end of its round
    assert "examples of 1 properties" in total
    assert total.endswith("all hold")


def test_prove_shows_what_is_broken(capsys: pytest.CaptureFixture[str]) -> None:
    prove._tell([prove.Tried({"test_this": 3}), prove.Tried({"test_this": 4}, "Falsifying example: …\n")], 7.0)
    assert capsys.readouterr().out.splitlines() == [
        "Falsifying example: …",
        "           7  this",
        "           7  examples of 1 properties in 7 s (1/s): a property is broken",
    ]
