"""docs/operations.md and the code."""

import re
from pathlib import Path

from sagas.attention_kinds import KINDS

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"


def test_the_page_names_the_kinds_of_attention_in_their_order() -> None:
    [line] = re.findall(r"^The kinds of `GET attention`, in this order: (.*?)\.", PAGE.read_text("utf-8"), re.MULTILINE)
    assert tuple(re.findall(r"`(\w+)`", line)) == tuple(kind.name for kind in KINDS)
