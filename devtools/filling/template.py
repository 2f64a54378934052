"""The rows of a rehearsed task as texts with slots, from which copies with other ids and times are made.

Replaced are: every UUID, every event number, every time (shifted by whole seconds, so that the order is kept), the
ledger of message ids, and correlation ids. Ids of commands are derived from the saga's id, as everywhere. All other
bytes are what the service wrote.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from operator import itemgetter
from typing import Any

from django.db.models import Model

from bridge.models import Duplicate, Event, Quarantined
from compensation.models import Attempt, Command
from devtools.filling.copying import copy_out
from devtools.filling.rehearsal import BEGINS, LEDGER, RehearsedSaga
from sagas.engine.decide import command_id
from sagas.models import Lane, Parked, SagaEvent, SagaKey, SagaLog, SagaStep

_UUID = r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
_YEAR = int(BEGINS[:4])
# A local time may still be in the previous year.
_TIME = rf"(?:{_YEAR}|{_YEAR - 1})-\d\d-\d\d[T ]\d\d:\d\d:\d\d"
_SLOT = re.compile(
    rf"(?P<event>@event:\d+@)|(?P<correlation>order-[0-9a-f]{{8}}-[0-9a-f]{{4}})|(?P<uuid>{_UUID})|(?P<time>{_TIME})"
    rf"|(?P<ledger>{LEDGER})(?=:)"
)


@dataclass(frozen=True, slots=True)
class Table:
    """How the rows of a rehearsal are read from one table.

    owner: SQL expression for the id that assigns a row to a task. source: the FROM clause, if it is not the table.
    numbered: columns that hold event numbers. instead: SQL expressions for columns that hold the real time of the run.
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
        """All columns except automatic primary keys."""
        fields = self.model._meta.concrete_fields
        return [f.attname for f in fields if f.attname in self.numbered or f.get_internal_type() != "BigAutoField"]

    @property
    def query(self) -> str:
        replaced = {**{name: f"'@event:' || t.{name} || '@'" for name in self.numbered}, **self.instead}
        columns = ", ".join(replaced.get(name, f't."{name}"') for name in self.columns)
        return f"SELECT {self.owner}, {columns} FROM {self.source or self.name + ' t'}"  # noqa: S608 (constants)


# In the order in which they are written. Rows without a saga belong to the key under which they are parked.
TABLES = (
    Table(
        Event,
        "coalesce(s.saga_id::text, p.key)",
        "bridge_event t LEFT JOIN sagas_saga_event s ON s.event = t.id LEFT JOIN sagas_parked p ON p.event = t.id"
        " WHERE t.id > %(newest)s",
        ("id",),
        {
            "received_at": "CASE t.source WHEN 'pulsar' THEN t.received_at ELSE t.occurred_at END",
            # As a time, which is shifted with the others; a date column takes its day.
            "day": "CASE WHEN t.day IS NOT NULL THEN date_trunc('second', t.occurred_at AT TIME ZONE 'UTC') END",
        },
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
        # With a plain join the planner has started from the attempts and searched all commands for each: autovacuum had
        # just run and does not see the uncommitted rows of a rehearsal.
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
    """The rows of one table in COPY format, with slots, and the function that picks their values."""

    text: str
    pick: Callable[[Sequence[str]], Any]


class Template:
    """One rehearsed task, of which any number of copies can be made.

    status: the saga's status, empty if there is no saga. events: the number of event numbers that a copy needs.
    begins, ends: the first and the last second (UTC, naive) in its rows.
    """

    def __init__(
        self, result: RehearsedSaga, texts: Mapping[str, str], commands: Iterable[tuple[str, str, str]]
    ) -> None:
        """texts: rows by table. commands: (id, entity, name) of the saga's commands."""
        places = Places()
        self.status = result.status
        self._blocks = {name: _block(text, places) for name, text in texts.items()}
        self._count = places.count
        self._uuids = {text: place for text, place in places.of("uuid") if not _has_capitals(text)}
        self._capitals = [
            (place, self._uuids[text.lower()]) for text, place in places.of("uuid") if _has_capitals(text)
        ]
        self._saga = self._uuids.get(result.saga or "", -1)
        self._commands = [(self._uuids[id_], self._uuids[entity], name) for id_, entity, name in commands]
        self._numbers = [place for _, place in sorted(places.of("event"), key=lambda item: _number(item[0]))]
        self._times = [(place, text[10], datetime.fromisoformat(text)) for text, place in places.of("time")]
        self.events = len(self._numbers)
        self._ledgers = [place for _, place in places.of("ledger")]
        self._correlations = [place for _, place in places.of("correlation")]
        moments = [at for _, _, at in self._times if at.year == _YEAR]
        self.begins, self.ends = min(moments), max(moments)

    def stamp(self, shift: timedelta, events: Sequence[int], correlation: str) -> Stamped:
        """Return the rows of a copy by table, shifted in time by whole seconds.

        events: `self.events` new numbers, ascending. The first one makes the copy's message ids unique.
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


def templates(results: Sequence[RehearsedSaga], newest_event: int) -> list[Template]:
    """Read the rows of a rehearsal, in its transaction. `newest_event`: the last event number before it."""
    owners = {owner: result.number for result in results for owner in _owners(result)}
    sagas = [result.saga for result in results if result.saga]
    texts: dict[int, dict[str, str]] = defaultdict(dict)
    for table in TABLES:
        lines: dict[int, list[str]] = defaultdict(list)
        for line in copy_out(table.query, {"newest": newest_event, "sagas": sagas}):
            owner, _, row = line.partition("\t")
            if owner in owners:
                lines[owners[owner]].append(row)
        for number, rows in lines.items():
            texts[number][table.name] = "".join(rows)
    commands: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
    planned = Command.objects.filter(saga_id__in=sagas).values_list("saga_id", "id", "entity", "name")
    for saga, id_, entity, name in planned:
        commands[str(saga)].append((str(id_), entity, name))
    # A task that was cut off before its start has no rows.
    written = [result for result in results if result.number in texts]
    return [Template(result, texts[result.number], commands[result.saga or ""]) for result in written]


def _owners(result: RehearsedSaga) -> Iterator[str]:
    yield from result.keys
    yield from result.message_ids
    if result.saga:
        yield result.saga


class Places:
    """The index of each replaced value among a copy's values."""

    def __init__(self) -> None:
        self.count = 0
        self._kinds: dict[str, dict[str, int]] = defaultdict(dict)

    def of(self, kind: str) -> list[tuple[str, int]]:
        """Return the values of a kind with their indexes."""
        return list(self._kinds[kind].items())

    def place(self, kind: str, text: str) -> int:
        """Return the index of a value; always the same for the same value."""
        if text not in self._kinds[kind]:
            self._kinds[kind][text] = self.count
            self.count += 1
        return self._kinds[kind][text]


def _block(text: str, places: Places) -> Block:
    """Replace the values in a text by slots. The same value has the same index in all texts of a task."""
    picked: list[int] = []

    def slot(found: re.Match[str]) -> str:
        kind, value = found.lastgroup or "", found.group()
        if _has_capitals(value) and kind == "uuid":
            places.place(kind, value.lower())  # the upper-case spelling is derived from it
        picked.append(places.place(kind, value))
        return "%s"

    with_slots = _SLOT.sub(slot, text.replace("%", "%%"))
    return Block(with_slots, itemgetter(*picked) if len(picked) > 1 else partial(_few, picked))


def _few(picked: Sequence[int], values: Sequence[str]) -> tuple[str, ...]:
    return tuple(values[place] for place in picked)


def _has_capitals(text: str) -> bool:
    return text != text.lower()


def _number(text: str) -> int:
    return int(text.strip("@").removeprefix("event:"))


def _uuids(count: int) -> Iterator[str]:
    """Yield random UUIDs, version 4."""
    digits = os.urandom(16 * count).hex()
    for at in range(0, 32 * count, 32):
        one = digits[at : at + 32]
        yield f"{one[:8]}-{one[8:12]}-4{one[13:16]}-a{one[17:20]}-{one[20:]}"


def _uuid7(at: datetime) -> str:
    """Return an id like those of sagas.applying.ids, for a saga that started at this time."""
    digits = f"{int((at.replace(tzinfo=UTC)).timestamp() * 1000):012x}{os.urandom(10).hex()}"
    return f"{digits[:8]}-{digits[8:12]}-7{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"
