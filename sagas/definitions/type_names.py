"""The two names of a saga type: answers of the API have the public one; requests and commands take both."""

from __future__ import annotations

from collections.abc import Iterator

from sagas.definitions import registry


def public(name: str) -> str:
    """Return the public name of a saga type: IMAGE_PROCESSING for image_processing, also if it is not listed here."""
    definition = registry.current_definitions().get(name)
    return definition.api_name if definition else name.upper()


def stored(text: str) -> str:
    """Return the name of the saga type that a request means, by either of its names; of no known one, the text."""
    names = {definition.api_name: name for name, definition in registry.current_definitions().items()}
    return names.get(text, text)


def spellings() -> Iterator[tuple[str, str]]:
    """Yield every name that a request may use, as choices of a form: the public names, then the stored ones."""
    known = registry.current_definitions().items()
    names = [*(definition.api_name for _, definition in known), *(name for name, _ in known)]
    return ((name, name) for name in dict.fromkeys(names))
