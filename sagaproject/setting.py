"""What one setting is: its name in the environment, its type, its default and its checks.

A group of settings is a frozen dataclass. Each field is one setting, declared by one of the functions below, and the
string under the field is its description. `sagaproject.environment` has all groups; `devtools.setting_pages` writes the
pages about them.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Protocol, TypeVar

from sagaproject.env_reader import Reader

_EMPTY: tuple[Any, ...] = ("", ())

G = TypeVar("G")


class Check(Protocol):
    """Return what is wrong with a value, as the rest of a sentence that begins with the setting's name; else ""."""

    def __call__(self, value: Any, dev: bool) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting. `default` is that of production; `dev` is that of development, None where it is the same.

    read: returns the value from (reader, name, default). accepted: the accepted values, for people.
    required: what is reported if production has no value, as the rest of a sentence that begins with the name.
    shown: the default for people, where the value itself does not say it. example: its value in .env.example.
    """

    name: str
    read: Callable[[Reader, str, Any], Any]
    accepted: str
    default: Any
    dev: Any = None
    required: str = ""
    check: Check | None = None
    is_secret: bool = False
    shown: str = ""
    example: str = ""

    def value(self, reader: Reader, dev: bool) -> Any:
        """Return the value; report a problem to the reader, one at most."""
        before = len(reader.problems)
        value = self.read(reader, self.name, self.dev if dev and self.dev is not None else self.default)
        if len(reader.problems) == before and (problem := self._problem(value, dev)):
            reader.problem(f"{self.name} {problem}")
        return value

    def _problem(self, value: Any, dev: bool) -> str:
        if self.required and not dev and value in _EMPTY:
            return self.required
        return self.check(value, dev) if self.check is not None else ""


def read_group(group: type[G], reader: Reader, dev: bool) -> G:
    """Return the group with the values of its settings; report each problem to the reader."""
    return group(**{name: setting.value(reader, dev) for name, setting in settings_of(group)})


def settings_of(group: type[Any]) -> Iterator[tuple[str, Setting]]:
    """Yield (field, setting) for each setting of a group, in the order of the declaration."""
    assert is_dataclass(group)
    for one in fields(group):
        if "setting" in one.metadata:
            yield one.name, one.metadata["setting"]


def flat(prefix: str, group: Any) -> dict[str, Any]:
    """Return the values of a group by PREFIX_FIELD, as Django's settings have them."""
    return {f"{prefix}_{name}".upper(): getattr(group, name) for name, _ in settings_of(type(group))}


# --- the types of settings --------------------------------------------------------------------------------------------
# Each returns a field of a dataclass. `rest` is any other part of Setting: dev, required, check, shown, example.


def text(name: str, default: str = "", **rest: Any) -> Any:
    """Declare a text."""
    return _declared(Setting(name=name, read=Reader.text, accepted="text", default=default, **rest))


def secret(name: str, **rest: Any) -> Any:
    """Declare a text that is not shown, and that the file NAME_FILE may contain instead."""

    def read(reader: Reader, name: str, default: str) -> str:
        return reader.secret(name) or default

    accepted = f"text, or its file in `{name}_FILE`"
    return _declared(Setting(name=name, read=read, accepted=accepted, default="", is_secret=True, **rest))


def flag(name: str, default: bool, **rest: Any) -> Any:
    """Declare a truth value."""
    return _declared(Setting(name=name, read=Reader.flag, accepted="`true`, `false`", default=default, **rest))


def integer(name: str, default: int, least: int, most: int, **rest: Any) -> Any:
    """Declare an integer between two bounds."""

    def read(reader: Reader, name: str, default: int) -> int:
        return reader.integer(name, default, least, most)

    return _declared(Setting(name=name, read=read, accepted=f"{least:,} to {most:,}", default=default, **rest))


def number(name: str, default: float, least: float, most: float, **rest: Any) -> Any:
    """Declare a number between two bounds."""

    def read(reader: Reader, name: str, default: float) -> float:
        return reader.number(name, default, least, most)

    accepted = f"{_plain(least)} to {_plain(most)}"
    return _declared(Setting(name=name, read=read, accepted=accepted, default=default, **rest))


def choice(name: str, options: tuple[str, ...], default: str = "", **rest: Any) -> Any:
    """Declare one of some words."""

    def read(reader: Reader, name: str, default: str) -> str:
        return reader.choice(name, options, default)

    accepted = ", ".join(f"`{option}`" for option in options)
    return _declared(Setting(name=name, read=read, accepted=accepted, default=default, **rest))


def items(name: str, default: tuple[str, ...] = (), **rest: Any) -> Any:
    """Declare a list of texts."""
    return _declared(Setting(name=name, read=Reader.items, accepted="texts between commas", default=default, **rest))


def items_or_all(name: str, default: tuple[str, ...], **rest: Any) -> Any:
    """Declare a list of texts, in which * means every other one; * alone is all."""

    def read(reader: Reader, name: str, default: tuple[str, ...]) -> tuple[str, ...] | str:
        found = reader.items(name, default)
        return "*" if found == ("*",) else found

    return _declared(
        Setting(name=name, read=read, accepted="texts between commas, `*` for every other one", default=default, **rest)
    )


def mapping(name: str, **rest: Any) -> Any:
    """Declare a JSON object of texts."""

    def read(reader: Reader, name: str, _default: Mapping[str, str]) -> dict[str, str]:
        return reader.mapping(name)

    return _declared(Setting(name=name, read=read, accepted="JSON object of texts", default={}, **rest))


def choices(name: str, options: tuple[str, ...], **rest: Any) -> Any:
    """Declare one of some words for each of some names."""

    def read(reader: Reader, name: str, _default: Mapping[str, str]) -> dict[str, str]:
        return reader.choices(name, options)

    accepted = ", ".join(f"`NAME={option}`" for option in options) + " between commas"
    return _declared(Setting(name=name, read=read, accepted=accepted, default={}, **rest))


def url(name: str, schemes: tuple[str, ...], **rest: Any) -> Any:
    """Declare a URL with a host."""

    def read(reader: Reader, name: str, default: str) -> str:
        value = reader.text(name, default)
        return reader.url(name, value, schemes) if value else ""

    accepted = ", ".join(f"`{scheme}://`" for scheme in schemes)
    return _declared(Setting(name=name, read=read, accepted=accepted, default="", **rest))


def secret_url(name: str, schemes: tuple[str, ...], **rest: Any) -> Any:
    """Declare a URL with a host that may contain a password, and that the file NAME_FILE may contain instead."""

    def read(reader: Reader, name: str, default: str) -> str:
        value = reader.secret(name)
        return reader.url(name, value, schemes) if value else default

    accepted = ", ".join(f"`{scheme}://`" for scheme in schemes) + f", or its file in `{name}_FILE`"
    return _declared(Setting(name=name, read=read, accepted=accepted, default="", is_secret=True, **rest))


def readable_file(name: str, **rest: Any) -> Any:
    """Declare the path of a file that the process can read."""
    return _declared(Setting(name=name, read=Reader.readable, accepted="path of a file", default="", **rest))


def rate(name: str, default: str, **rest: Any) -> Any:
    """Declare a number of requests in a period."""
    accepted = "a count per `sec`, `min`, `hour` or `day`"
    return _declared(Setting(name=name, read=Reader.rate, accepted=accepted, default=default, **rest))


def _declared(setting: Setting) -> Any:
    return field(repr=not setting.is_secret, metadata={"setting": setting})


def _plain(number: float) -> str:
    return f"{number:,.2f}".rstrip("0").rstrip(".")
