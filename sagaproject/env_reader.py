"""Read typed values from a mapping of names to texts, collecting every problem instead of stopping at the first."""

import difflib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

YES = frozenset({"1", "true", "yes", "on"})
NO = frozenset({"0", "false", "no", "off"})
Number = TypeVar("Number", int, float)


class Reader:
    """Reads `source`; an empty value counts as missing. `problems`: one text for each problem, without secrets."""

    def __init__(self, source: Mapping[str, str]) -> None:
        self.problems: list[str] = []
        self.known: set[str] = set()
        self._source = source

    def text(self, name: str, default: str = "") -> str:
        self.known.add(name)
        return self._source.get(name, "").strip() or default

    def secret(self, name: str) -> str:
        """Read NAME, or the file that NAME_FILE names, without surrounding whitespace."""
        value, path = self.text(name), self.text(f"{name}_FILE")
        if value and path:
            self.problem(f"{name} and {name}_FILE are both set: keep one of them.")
        if not path:
            return value
        try:
            content = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            self.problem(f"{name}_FILE: {path} could not be read ({type(error).__name__}).")
            return value
        if not content:
            self.problem(f"{name}_FILE: {path} is empty.")
        return content

    def choice(self, name: str, options: tuple[str, ...], default: str) -> str:
        value = self.text(name)
        if not value:
            return default
        if value not in options:
            self.problem(f"{name} must be one of {', '.join(options)}, not {value!r}.")
            return default
        return value

    def flag(self, name: str, default: bool) -> bool:
        value = self.text(name).lower()
        if value in YES:
            return True
        if value and value not in NO:
            self.problem(f"{name} must be true or false, not {value!r}.")
        return False if value else default

    def integer(self, name: str, default: int, least: int, most: int) -> int:
        return self._number(name, default, (least, most), int, "an integer")

    def number(self, name: str, default: float, least: float, most: float) -> float:
        return self._number(name, default, (least, most), float, "a number")

    def items(self, name: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Read a list separated by commas."""
        return tuple(word.strip() for word in self.text(name).split(",") if word.strip()) or default

    def rate(self, name: str, default: str) -> str:
        """Read a number of requests in a period, such as 60/min."""
        value = self.text(name, default)
        count, _, unit = value.partition("/")
        if not count.isdigit() or unit not in ("sec", "min", "hour", "day"):
            self.problem(f"{name} must be a count and a unit, such as {default}, not {value!r}.")
            return default
        return value

    def readable(self, name: str, default: str = "") -> str:
        """Read the path of a file that this process can read."""
        path = self.text(name, default)
        if path and not os.access(path, os.R_OK):
            self.problem(f"{name}: {path} cannot be read.")
        return path

    def mapping(self, name: str) -> dict[str, str]:
        """Read a JSON object of strings."""
        raw = self.text(name, "{}")
        try:
            value = json.loads(raw)
        except json.JSONDecodeError as error:
            self.problem(f"{name} is not JSON: {error.msg} at character {error.pos}.")
            return {}
        if not isinstance(value, dict) or not all(isinstance(item, str) and item for item in value.values()):
            self.problem(f'{name} must be a JSON object of strings, such as {{"retrieval-started": "my-topic"}}.')
            return {}
        return value

    def choices(self, name: str, options: tuple[str, ...]) -> dict[str, str]:
        """Read NAME=WORD between commas; each word is one of the options, and no name occurs twice."""
        found: dict[str, str] = {}
        for pair in self.items(name):
            key, _, word = (part.strip() for part in pair.partition("="))
            if not key or word not in options:
                expected = " or ".join(f"NAME={option}" for option in options)
                self.problem(f"{name} must contain {expected} between commas, not {pair!r}.")
                return {}
            if key in found:
                self.problem(f"{name} contains {key} twice.")
                return {}
            found[key] = word
        return found

    def url(self, name: str, value: str, schemes: tuple[str, ...]) -> str:
        """Return `value` (of the setting `name`); report a problem, without it, unless it is a URL with a host."""
        try:
            parts = urlsplit(value)
            host = parts.hostname
        except ValueError:
            parts, host = urlsplit(""), None
        if parts.scheme not in schemes or not host:
            self.problem(f"{name} must look like {schemes[0]}://HOST:PORT (allowed: {', '.join(schemes)}).")
        return value

    def problem(self, text: str) -> None:
        self.problems.append(text)

    def misspelled(self, prefix: str) -> None:
        """Report unknown names that begin with `prefix` and resemble a known one."""
        for name in sorted(self._source):
            close = difflib.get_close_matches(name, self.known, n=1, cutoff=0.85)
            if name.startswith(prefix) and name not in self.known and close:
                self.problem(f"{name} is not a setting: did you mean {close[0]}?")

    def _number(
        self, name: str, default: Number, bounds: tuple[Number, Number], kind: Callable[[str], Number], expected: str
    ) -> Number:
        raw = self.text(name)
        if not raw:
            return default
        try:
            value = kind(raw)
        except ValueError:
            self.problem(f"{name} must be {expected}, not {raw!r}.")
            return default
        if not bounds[0] <= value <= bounds[1]:
            self.problem(f"{name} must be from {bounds[0]} to {bounds[1]}, not {raw}.")
            return default
        return value
