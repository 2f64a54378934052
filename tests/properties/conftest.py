"""Says at the end how many examples the properties were tried on."""

from __future__ import annotations

import pytest

from tests.properties.profiles import TRIED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line under the results."""
    if TRIED:
        terminalreporter.write_line(f"{TRIED.total():,} examples of {len(TRIED)} properties")
