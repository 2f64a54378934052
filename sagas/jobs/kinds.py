"""What the items of a job are, for each target of decisions: found by a filter or an id, judged, and decided on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar
from uuid import UUID

from django.db.models import QuerySet
from django.utils.translation import gettext as _

from bridge import instants
from bridge.models import Event, QuarantineCode, Quarantined, QuarantineStatus, Source
from compensation.models import Command, CommandStatus, ExhaustedBy
from sagas.actions import ActionSpec, CommandView, EventView, KeyView, MessageView, Target, WholeSagaView, uses_of_keys
from sagas.definitions import registry, type_names
from sagas.errors import Invalid
from sagas.models import JobItem, Parked, ParkedReason, SagaLog, SagaStatusChoice
from sagas.queries.ids import is_storable, spelled
from sagas.queries.ids import saga_id as as_uuid
from sagas.queries.sagas import SagaFilters, matching
from sagas.rights import VIEW_COMMANDS, VIEW_PARKED, VIEW_QUARANTINE, VIEW_SAGAS

Parse = Callable[[str], Any]
_TRUE, _FALSE = ("true", "yes"), ("false", "no")


@dataclass(frozen=True, slots=True)
class NewItem:
    """One item of a job that is being made; `values` hold for it alone."""

    target: str
    values: Mapping[str, Any] = field(default_factory=dict)


class JobKind:
    """The items of jobs on one target. `right`: the permission to see them. `filters`: how each one is read."""

    right: ClassVar[str]
    noun: ClassVar[str]
    filters: ClassVar[Mapping[str, Parse]]

    def rows(self, given: Mapping[str, Any]) -> QuerySet[Any]:
        """Return the rows that match parsed filters."""
        raise NotImplementedError

    def items(self, rows: QuerySet[Any], most: int) -> Iterator[NewItem]:
        """Return the items of rows, at most so many."""
        raise NotImplementedError

    def named(self, text: str) -> NewItem:
        """Return the item that a person or a client names. Raises Invalid."""
        raise NotImplementedError

    def views(self, items: Sequence[JobItem], values: Mapping[str, Any]) -> dict[int, Any]:
        """Return what each item is judged by, by its number; an item that no longer exists is left out."""
        raise NotImplementedError

    def target(self, item: JobItem) -> dict[str, Any]:
        """Return the values that name the item for the decision."""
        raise NotImplementedError

    def matching(self, filters: Mapping[str, Any]) -> QuerySet[Any]:
        """Return the rows that match filters as they were given. Raises Invalid."""
        return self.rows(self._parsed(filters))

    def _parsed(self, filters: Mapping[str, Any]) -> dict[str, Any]:
        unknown = sorted(set(filters) - set(self.filters))
        if unknown:
            text = _("unknown filter %(name)s; known filters: %(known)s")
            raise Invalid(text % {"name": unknown[0], "known": ", ".join(sorted(self.filters))})
        return {name: _parse(name, self.filters[name], value) for name, value in filters.items()}


def _parse(name: str, parse: Parse, value: Any) -> Any:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    try:
        if not is_storable(text):
            raise ValueError(text)
        return parse(text)
    except ValueError:
        raise Invalid(_("invalid value of the filter %(name)s") % {"name": name}) from None


def _one_of(choices: Iterable[str]) -> Parse:
    known = set(choices)

    def parse(text: str) -> str:
        if text not in known:
            raise ValueError(text)
        return text

    return parse


def _flag(text: str) -> bool:
    if text not in (*_TRUE, *_FALSE):
        raise ValueError(text)
    return text in _TRUE


def _id(text: str) -> str:
    return spelled(text) or text


def _last(text: str) -> Any:
    return instants.parse_bound(text, end_of_day=True)


def _saga_type(text: str) -> str:
    name = type_names.stored(text)
    if name not in registry.current_definitions():
        raise ValueError(text)
    return name


def _uuid(text: str, what: str) -> str:
    found = as_uuid(text)
    if found is None:
        raise Invalid(what)
    return str(found)


class Sagas(JobKind):
    right = VIEW_SAGAS
    noun = "sagas"
    filters: ClassVar[Mapping[str, Parse]] = {
        "status": _one_of(SagaStatusChoice.values),
        "saga_type": _saga_type,
        "from_date": instants.parse_bound,
        "to_date": _last,
        "task_id": _id,
        "image_id": _id,
        "set_aside": _flag,
    }

    def rows(self, given: Mapping[str, Any]) -> QuerySet[SagaLog]:
        return matching(SagaFilters(**given))

    def items(self, rows: QuerySet[Any], most: int) -> Iterator[NewItem]:
        return (NewItem(str(identity)) for identity in rows.values_list("id", flat=True)[:most])

    def named(self, text: str) -> NewItem:
        return NewItem(_uuid(text, _("a saga's id is a UUID")))

    def views(self, items: Sequence[JobItem], values: Mapping[str, Any]) -> dict[int, Any]:
        found = SagaLog.objects.in_bulk([UUID(item.target) for item in items])
        return {item.number: WholeSagaView(found[UUID(item.target)]) for item in items if UUID(item.target) in found}

    def target(self, item: JobItem) -> dict[str, Any]:
        return {"saga": item.target}


class Commands(JobKind):
    right = VIEW_COMMANDS
    noun = "commands"
    filters: ClassVar[Mapping[str, Parse]] = {
        "status": _one_of(CommandStatus.values),
        "service": str,
        "entity": _id,
        "name": str,
        "saga": UUID,
        "exhausted_by": _one_of(ExhaustedBy.values),
        "held": _flag,
        "by_hand": _flag,
        "confirmed_unsent": _flag,
    }
    _LOOKUPS: ClassVar[Mapping[str, str]] = {
        "saga": "saga_id",
        "held": "held_since__isnull",
        "confirmed_unsent": "confirmed_unsent_at__isnull",
    }

    def rows(self, given: Mapping[str, Any]) -> QuerySet[Command]:
        lookups = {
            self._LOOKUPS.get(name, name): not value if name in ("held", "confirmed_unsent") else value
            for name, value in given.items()
        }
        return Command.objects.filter(**lookups).order_by("id")

    def items(self, rows: QuerySet[Any], most: int) -> Iterator[NewItem]:
        return (NewItem(str(identity)) for identity in rows.values_list("id", flat=True)[:most])

    def named(self, text: str) -> NewItem:
        return NewItem(_uuid(text, _("a command's id is a UUID")))

    def views(self, items: Sequence[JobItem], values: Mapping[str, Any]) -> dict[int, Any]:
        found = Command.objects.defer("body").in_bulk([UUID(item.target) for item in items])
        sagas = SagaLog.objects.defer("state").in_bulk({command.saga_id for command in found.values()})
        return {
            item.number: CommandView(command, sagas.get(command.saga_id))
            for item in items
            if (command := found.get(UUID(item.target))) is not None
        }

    def target(self, item: JobItem) -> dict[str, Any]:
        return {"command": item.target}


class Messages(JobKind):
    right = VIEW_QUARANTINE
    noun = "messages"
    filters: ClassVar[Mapping[str, Parse]] = {
        "status": _one_of(QuarantineStatus.values),
        "code": _one_of(QuarantineCode.values),
        "topic": str,
    }

    def rows(self, given: Mapping[str, Any]) -> QuerySet[Quarantined]:
        return Quarantined.objects.filter(**given).order_by("id")

    def items(self, rows: QuerySet[Any], most: int) -> Iterator[NewItem]:
        return (NewItem(str(pk)) for pk in rows.values_list("pk", flat=True)[:most])

    def named(self, text: str) -> NewItem:
        if not (text.isascii() and text.isdigit() and int(text) < 2**63):
            raise Invalid(_("a quarantined message is named by its number"))
        return NewItem(str(int(text)))

    def views(self, items: Sequence[JobItem], values: Mapping[str, Any]) -> dict[int, Any]:
        found = Quarantined.objects.in_bulk([int(item.target) for item in items])
        return {item.number: MessageView(found[int(item.target)]) for item in items if int(item.target) in found}

    def target(self, item: JobItem) -> dict[str, Any]:
        return {"message": int(item.target)}


class Events(JobKind):
    """Unmatched events, each by its event id."""

    right = VIEW_PARKED
    noun = "events"
    filters: ClassVar[Mapping[str, Parse]] = {
        "key": _id,
        "entity": _id,
        "reason": _one_of(ParkedReason.values),
        "saga": UUID,
        "dismissed": _flag,
    }

    def rows(self, given: Mapping[str, Any]) -> QuerySet[Parked]:
        lookups = {"suggestion" if name == "saga" else name: value for name, value in given.items()}
        waits = not lookups.pop("dismissed", False)
        return Parked.objects.filter(**lookups, dismissed_at__isnull=waits).order_by("event")

    def items(self, rows: QuerySet[Any], most: int) -> Iterator[NewItem]:
        events = Event.objects.filter(id__in=rows.order_by().values("event")).order_by("id")
        return (NewItem(event_id) for event_id in events.values_list("event_id", flat=True)[:most])

    def named(self, text: str) -> NewItem:
        found = spelled(text)
        if found is None:
            raise Invalid(_("the key or event id must not be empty"))
        return NewItem(found)

    def views(self, items: Sequence[JobItem], values: Mapping[str, Any]) -> dict[int, Any]:
        ids = Event.objects.filter(source=Source.PULSAR, event_id__in=[item.target for item in items])
        pks = dict(ids.values_list("event_id", "pk"))
        rows = Parked.objects.in_bulk(list(pks.values()))
        named = {item.number: str(item.values.get("saga") or values.get("saga") or "") for item in items}
        sagas = SagaLog.objects.in_bulk({found for text in named.values() if (found := as_uuid(text)) is not None})
        return {
            item.number: EventView(row=row, saga=sagas.get(as_uuid(named[item.number])))
            for item in items
            if (row := rows.get(pks.get(item.target, 0))) is not None
        }

    def target(self, item: JobItem) -> dict[str, Any]:
        return {"event": item.target}


class Keys(Events):
    """All unmatched events of a key, by that key; the saga type is a value of the item."""

    noun = "keys"

    def items(self, rows: QuerySet[Any], most: int) -> Iterator[NewItem]:
        found = rows.exclude(key="").order_by("stream", "key").values_list("stream", "key").distinct()[:most]
        return (NewItem(key, {"saga_type": stream}) for stream, key in found)

    def views(self, items: Sequence[JobItem], values: Mapping[str, Any]) -> dict[int, Any]:
        streams: dict[str, set[str]] = {}
        rows = Parked.objects.filter(key__in=[item.target for item in items])
        for key, stream in rows.order_by().values_list("key", "stream").distinct():
            streams.setdefault(key, set()).add(stream)
        names = {
            item.number: (stream, item.target)
            for item in items
            for stream in [_stream_of(item, values, streams.get(item.target, set()))]
            if stream
        }
        uses = uses_of_keys(names.values())
        return {number: KeyView(use=uses[name]) for number, name in names.items()}

    def target(self, item: JobItem) -> dict[str, Any]:
        return {"key": item.target}


def _stream_of(item: JobItem, values: Mapping[str, Any], streams: set[str]) -> str | None:
    """Return the saga type of a key's events: the given one, or else the only one; None if there are no such events."""
    given = item.values.get("saga_type") or values.get("saga_type")
    return given if given in streams else None if given else min(streams, default=None)


KINDS: Mapping[Target, JobKind] = {
    Target.SAGA: Sagas(),
    Target.COMMANDS: Commands(),
    Target.MESSAGE: Messages(),
    Target.PARKED: Events(),
    Target.KEY: Keys(),
}


def of(spec: ActionSpec) -> JobKind:
    """Return what the items of jobs with this decision are."""
    return KINDS[spec.target]
