"""How many examples a property gets, and how many it got.

`HYPOTHESIS_PROFILE` says which profile the properties of this process run under: `ci` (the default) or `prove`, which
`python -m tests.properties.prove` repeats for as long as it is given.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy

from tests.properties.tried import TRIED

_slow = (HealthCheck.too_slow, HealthCheck.data_too_large)
settings.register_profile("ci", max_examples=200, deadline=None, print_blob=True, suppress_health_check=_slow)
settings.register_profile("prove", settings.get_profile("ci"), max_examples=250)

CHOSEN = settings.get_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

Property = Callable[[], None]

PROPERTIES: dict[str, Property] = {}  # by name, of the modules that are imported


def holds_for(*strategies: SearchStrategy[Any]) -> Callable[[Callable[..., None]], Property]:
    """Makes a test of a property: for all values of these strategies, as many as the profile says, each counted."""

    def make(test: Callable[..., None]) -> Property:
        @functools.wraps(test)
        def counted(*args: Any, **kwargs: Any) -> None:
            TRIED[test.__name__] += 1
            test(*args, **kwargs)

        made: Property = CHOSEN(given(*strategies)(counted))
        PROPERTIES[test.__name__] = made
        return made

    return make
