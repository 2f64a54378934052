"""What people call the parts of a saga, in the reader's language: "image", "task" or whatever a saga type names them.

A text about one saga type uses that type's nouns (`of`). A text about several, or about none, uses those of the only
type that is listed, or else neutral ones (`shared`). Texts have placeholders such as %(the_entity)s; see `Nouns`.
Definitions name their nouns in English; the translations stand in the catalog under the context "saga type".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from django.utils.functional import lazy
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, pgettext

from sagas.definitions import registry
from sagas.engine.definition import INTAKE, Definition

CONTEXT = "saga type"


@dataclass(frozen=True, slots=True, kw_only=True)
class Nouns:
    """The nouns of one saga type. Each field is also a placeholder of texts; ids and counts have other names.

    Articles are part of a noun, because their gender depends on it in some languages. `key_id` is what identifies a
    saga for its services, `entity_id` what identifies a lane, `intake_noun` what brings the lanes.
    """

    title: str
    key_noun: str
    the_key: str
    key_id: str
    entity_noun: str
    entity_nouns: str
    the_entity: str
    entity_id: str
    intake_noun: str
    the_intake: str

    def fill(self, text: object, **values: Any) -> str:
        """Return a text with the nouns and the values in its placeholders."""
        return str(text) % {**asdict(self), **values}

    def entities(self, count: int) -> str:
        """Return the noun for so many entities, without the number."""
        return self.entity_noun if count == 1 else self.entity_nouns


def of(saga_type: str) -> Nouns:
    """Return the nouns of a saga type, as its newest version names them; neutral ones if it is not listed here."""
    definition = registry.current_definitions().get(saga_type)
    return _of_definition(definition) if definition else _neutral()


def shared() -> Nouns:
    """Return nouns for a text that is not about one saga type: those of the only listed one, or neutral ones."""
    listed = list(registry.current_definitions())
    return of(listed[0]) if len(listed) == 1 else _neutral()


def titles() -> dict[str, str]:
    """Return the title of each saga type for people, by name."""
    return {name: of(name).title for name in registry.current_definitions()}


def command(name: str, count: int) -> str:
    """Count commands of a name: "2 image deletions", if a definition has a noun for it, else "2 commands NAME"."""
    for definition in registry.current_definitions().values():
        item = definition.compensation_of.get(name)
        if item and item.noun:
            return f"{count} {_translated(item.noun.one if count == 1 else item.noun.many)}"
    return ngettext("%(n)d command %(name)s", "%(n)d commands %(name)s", count) % {"n": count, "name": name}


def english(definition: Definition) -> Iterator[str]:
    """Yield every text of a definition that the catalog has to translate, under CONTEXT."""
    key, entity, intake = definition.noun_of_key, definition.noun_of_entity, definition.intake_noun
    yield from (definition.title or definition.name, key.one, f"the {key.one}")
    yield from (entity.one, entity.many, f"the {entity.one}")
    yield from (intake.one, f"the {intake.one}")
    yield from (word for item in definition.compensations if item.noun for word in (item.noun.one, item.noun.many))


def _of_definition(definition: Definition) -> Nouns:
    key, entity, intake = definition.noun_of_key, definition.noun_of_entity, definition.intake_noun
    return Nouns(
        title=_translated(definition.title or definition.name),
        key_noun=_translated(key.one),
        the_key=_translated(f"the {key.one}"),
        key_id=_("%(noun)s id") % {"noun": _translated(key.one)},
        entity_noun=_translated(entity.one),
        entity_nouns=_translated(entity.many),
        the_entity=_translated(f"the {entity.one}"),
        entity_id=_("%(noun)s id") % {"noun": _translated(entity.one)},
        intake_noun=_translated(intake.one),
        the_intake=_translated(f"the {intake.one}"),
    )


def _neutral() -> Nouns:
    return Nouns(
        title=_("Saga"),
        key_noun=_("saga"),
        the_key=_("the saga"),
        key_id=_("saga key"),
        entity_noun=_("entity"),
        entity_nouns=_("entities"),
        the_entity=_("the entity"),
        entity_id=_("%(noun)s id") % {"noun": _("entity")},
        intake_noun=_translated(INTAKE.one),
        the_intake=_translated(f"the {INTAKE.one}"),
    )


def _translated(text: str) -> str:
    return pgettext(CONTEXT, text)


# A text with the shared nouns, made when it is shown: `fill_lazy(gettext_lazy("…"))`.
fill_lazy: Any = lazy(lambda text: shared().fill(text), str)
# One shared noun as a label, made when it is shown: `lazy_noun("key_id")`.
lazy_noun: Any = lazy(lambda name: getattr(shared(), name), str)
