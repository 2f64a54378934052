"""A story's rows as texts with slots: stamped out again and again with other ids and times.

What is replaced: every UUID, every number of an event, every time (by whole seconds, so that what was said in which
order stays), the ledger of message ids, and correlation ids. Ids of commands are made of the saga's, as everywhere.
Everything else is what the service wrote, to the byte.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from io import StringIO
from operator import itemgetter
from typing import Any

from django.db import connection
from django.db.models import Model

from bridge.models import Duplicate, Event, Quarantined
from compensation.models import Attempt, Command
from sagaproject.filling.rehearsal import BEGINS, LEDGER, RehearsedSaga
from sagas.engine.decide import command_id
from sagas.models import Lane, Parked, SagaEvent, SagaKey, SagaLog, SagaStep

_UUID = r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
_YEAR = int(BEGINS[:4])
# A place's own clock may still show the year before.
_TIME = rf"(?:{_YEAR}|{_YEAR - 1})-\d\d-\d\d[T ]\d\d:\d\d:\d\d"
_SLOT = re.compile(
    rf"(?P<event>@event:\d+@)|(?P<correlation>order-[0-9a-f]{{8}}-[0-9a-f]{{4}})|(?P<uuid>{_UUID})|(?P<time>{_TIME})"
    rf"|(?P<ledger>{LEDGER})(?=:)"
)


@dataclass(frozen=True, slots=True)
class Table:
    """How a story's rows are read from one table: `owner` tells whose a row is, `numbered` names what is an event's.

    `instead`: what is written instead of a column that holds the time of the day on which the story was played.
    """

    model: type[Model]
    owner: str
    source: str = ""
    numbered: tuple[str, ...] = ()
    instead: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.model._meta.db_table

    @property
    def columns(self) -> list[str]:
        """All but the numbers that the table gives itself."""
        fields = self.model._meta.concrete_fields
        return [f.attname for f in fields if f.attname in self.numbered or f.get_internal_type() != "BigAutoField"]

    @property
    def query(self) -> str:
        said = {**{name: f"'@event:' || t.{name} || '@'" for name in self.numbered}, **self.instead}
        columns = ", ".join(said.get(name, f't."{name}"') for name in self.columns)
        return f"SELECT {self.owner}, {columns} FROM {self.source or self.name + ' t'}"  # noqa: S608 (constants)


# In the order in which they are written. What is not a saga's belongs to the key under which it is parked.
TABLES = (
    Table(
        Event,
        "coalesce(s.saga_id::text, p.key)",
        "bridge_event t LEFT JOIN sagas_saga_event s ON s.event = t.id LEFT JOIN sagas_parked p ON p.event = t.id"
        " WHERE t.id > %(newest)s",
        ("id",),
        {"received_at": "CASE t.source WHEN 'pulsar' THEN t.received_at ELSE t.occurred_at END"},
    ),
    Table(
        Duplicate,
        "coalesce(s.saga_id::text, p.key)",
        "bridge_duplicate t LEFT JOIN sagas_saga_event s ON s.event = t.event"
        " LEFT JOIN sagas_parked p ON p.event = t.event WHERE t.event > %(newest)s",
        ("event",),
    ),
    Table(SagaLog, "t.id", "sagas_saga t WHERE t.id = ANY(%(sagas)s::uuid[])"),
    Table(Lane, "t.saga_id", "sagas_lane t WHERE t.saga_id = ANY(%(sagas)s::uuid[])"),
    Table(SagaStep, "t.saga_id", "sagas_step t WHERE t.saga_id = ANY(%(sagas)s::uuid[])"),
    Table(SagaEvent, "t.saga_id", "sagas_saga_event t WHERE t.saga_id = ANY(%(sagas)s::uuid[])", ("event",)),
    Table(SagaKey, "t.saga_id", "sagas_saga_key t WHERE t.saga_id = ANY(%(sagas)s::uuid[])"),
    Table(Command, "t.saga_id", "compensation_command t WHERE t.saga_id = ANY(%(sagas)s::uuid[])"),
    Table(
        Attempt,
        "c.saga_id",
        # A plain join has begun at the attempts and looked for each among all commands: autovacuum had just looked, and
        # seen nothing of what a rehearsal writes and does not commit.
        "compensation_command c CROSS JOIN LATERAL"
        " (SELECT * FROM compensation_attempt a WHERE a.command_id = c.id OFFSET 0) AS t"
        " WHERE c.saga_id = ANY(%(sagas)s::uuid[])",
    ),
    Table(Parked, "t.key", "sagas_parked t WHERE t.event > %(newest)s", ("event",)),
    Table(Quarantined, "t.message_id", f"bridge_quarantined t WHERE t.message_id LIKE '{LEDGER}:%%'"),
)

Stamped = dict[str, str]


@dataclass(frozen=True, slots=True)
class Block:
    """The rows of one table as COPY takes them, with slots, and which value goes into each."""

    text: str
    pick: Callable[[Sequence[str]], Any]


class Template:
    """One story, to be stamped out any number of times.

    status: the saga's, empty where none came to be. events: how many numbers of events a copy needs.
    begins, ends: the first and the last second (UTC, naive) that its rows speak of.
    """

    def __init__(
        self, story: RehearsedSaga, texts: Mapping[str, str], commands: Iterable[tuple[str, str, str]]
    ) -> None:
        """texts: by table. commands: (id, entity, name) of the saga's."""
        places = Places()
        self.status = story.status
        self._blocks = {name: _block(text, places) for name, text in texts.items()}
        self._count = places.count
        self._uuids = {text: place for text, place in places.of("uuid") if not _loud(text)}
        self._capitals = [(place, self._uuids[text.lower()]) for text, place in places.of("uuid") if _loud(text)]
        self._saga = self._uuids.get(story.saga or "", -1)
        self._commands = [(self._uuids[id_], self._uuids[entity], name) for id_, entity, name in commands]
        self._numbers = [place for _, place in sorted(places.of("event"), key=lambda item: _number(item[0]))]
        self._times = [(place, text[10], datetime.fromisoformat(text)) for text, place in places.of("time")]
        self.events = len(self._numbers)
        self._ledgers = [place for _, place in places.of("ledger")]
        self._correlations = [place for _, place in places.of("correlation")]
        moments = [at for _, _, at in self._times if at.year == _YEAR]
        self.begins, self.ends = min(moments), max(moments)

    def stamp(self, shift: timedelta, events: Sequence[int], correlation: str) -> Stamped:
        """Its rows by table, moved in time by whole seconds.

        events: `self.events` new numbers, rising. The first makes the copy's message ids its own.
        """
        values = [""] * self._count
        for place, new in zip(self._uuids.values(), _uuids(len(self._uuids)), strict=True):
            values[place] = new
        if self._saga >= 0:
            values[self._saga] = _uuid7(self.begins + shift)
        for place, entity, name in self._commands:
            values[place] = command_id(values[self._saga], values[entity], name)
        for place, of in self._capitals:
            values[place] = values[of].upper()
        for place, separator, at in self._times:
            values[place] = (at + shift).isoformat(separator, "seconds")
        for place, event in zip(self._numbers, events, strict=True):
            values[place] = str(event)
        for place in self._ledgers:
            values[place] = str(events[0])
        for place in self._correlations:
            values[place] = correlation
        return {name: block.text % block.pick(values) for name, block in self._blocks.items()}


def templates(stories: Sequence[RehearsedSaga], newest_event: int) -> list[Template]:
    """Read what stories wrote, in the transaction that they were played in. `newest_event`: the last before them."""
    owners = {owner: story.number for story in stories for owner in _owners(story)}
    sagas = [story.saga for story in stories if story.saga]
    texts: dict[int, dict[str, str]] = defaultdict(dict)
    for table in TABLES:
        lines: dict[int, list[str]] = defaultdict(list)
        for line in _read(table.query, {"newest": newest_event, "sagas": sagas}):
            owner, _, row = line.partition("\t")
            if owner in owners:
                lines[owners[owner]].append(row)
        for number, rows in lines.items():
            texts[number][table.name] = "".join(rows)
    commands: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
    planned = Command.objects.filter(saga_id__in=sagas).values_list("saga_id", "id", "entity", "name")
    for saga, id_, entity, name in planned:
        commands[str(saga)].append((str(id_), entity, name))
    # One that was cut off before it began wrote nothing.
    written = [story for story in stories if story.number in texts]
    return [Template(story, texts[story.number], commands[story.saga or ""]) for story in written]


def _owners(story: RehearsedSaga) -> Iterator[str]:
    yield from story.keys
    yield from story.message_ids
    if story.saga:
        yield story.saga


def _read(query: str, parameters: Mapping[str, Any]) -> Iterator[str]:
    rows = StringIO()
    with connection.cursor() as cursor:
        said = cursor.mogrify(query, parameters).decode()
        cursor.copy_expert(f"COPY ({said}) TO STDOUT", rows)
    rows.seek(0)
    return iter(rows)


class Places:
    """Which place each thing that is replaced has among a copy's values."""

    def __init__(self) -> None:
        self.count = 0
        self._kinds: dict[str, dict[str, int]] = defaultdict(dict)

    def of(self, kind: str) -> list[tuple[str, int]]:
        """The things of a kind, with their places."""
        return list(self._kinds[kind].items())

    def place(self, kind: str, text: str) -> int:
        """The place of a thing; the same for ever."""
        if text not in self._kinds[kind]:
            self._kinds[kind][text] = self.count
            self.count += 1
        return self._kinds[kind][text]


def _block(text: str, places: Places) -> Block:
    """Puts slots into a text. The same thing has the same place in all texts of a story."""
    picked: list[int] = []

    def slot(found: re.Match[str]) -> str:
        kind, said = found.lastgroup or "", found.group()
        if _loud(said) and kind == "uuid":
            places.place(kind, said.lower())  # what the capitals are made of
        picked.append(places.place(kind, said))
        return "%s"

    with_slots = _SLOT.sub(slot, text.replace("%", "%%"))
    return Block(with_slots, itemgetter(*picked) if len(picked) > 1 else partial(_few, picked))


def _few(picked: Sequence[int], values: Sequence[str]) -> tuple[str, ...]:
    return tuple(values[place] for place in picked)


def _loud(text: str) -> bool:
    return text != text.lower()


def _number(text: str) -> int:
    return int(text.strip("@").removeprefix("event:"))


def _uuids(count: int) -> Iterator[str]:
    """Random ones, version 4."""
    digits = os.urandom(16 * count).hex()
    for at in range(0, 32 * count, 32):
        one = digits[at : at + 32]
        yield f"{one[:8]}-{one[8:12]}-4{one[13:16]}-a{one[17:20]}-{one[20:]}"


def _uuid7(at: datetime) -> str:
    """As sagas.ids makes them, for a saga that was born then."""
    digits = f"{int((at.replace(tzinfo=UTC)).timestamp() * 1000):012x}{os.urandom(10).hex()}"
    return f"{digits[:8]}-{digits[8:12]}-7{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"
