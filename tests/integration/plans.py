"""Finds statements that read a large table whole: explains each one just before it runs, with its own values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from django.db import connection

# A table of so many rows may not be read whole by anything that runs often.
LARGE = 5_000
# What is read of it by an index is «whole» from this share on.
MOST_OF_IT = 0.25
# What a LIMIT stops after about so many rows is no reading of a whole table: lists of the admin count to 10,000, of
# what half of the rows are.
ENOUGH = 25_000
# Nodes that need all of their input before they give their first row. An incremental sort needs only the rows that are
# equal in what its input is ordered by: of commands, those that one page of events planned.
BLOCKING = frozenset({"Sort", "Aggregate", "Hash", "Group", "WindowAgg", "SetOp", "Unique"})
EXPLAINED = ("SELECT", "WITH", "INSERT", "UPDATE", "DELETE", "(")


@dataclass(frozen=True, slots=True)
class Reading:
    """A large table that a statement reads whole, and how."""

    table: str
    how: str
    statement: str

    def __str__(self) -> str:
        return f"{self.how} on {self.table}: {' '.join(self.statement.split())[:1500]}"


@dataclass
class Watch:
    """What was seen while it watched: how many statements, by which indexes, and which of them read too much."""

    sizes: Mapping[str, int]
    partial: frozenset[str]
    statements: int = 0
    indexes: set[str] = field(default_factory=set)
    readings: list[Reading] = field(default_factory=list)

    def __call__(self, execute: Callable[..., Any], statement: Any, parameters: Any, many: bool, context: Any) -> Any:
        text = str(statement)
        if text.lstrip().upper().startswith(EXPLAINED) and not many:
            self.statements += 1
            self.readings += [Reading(table, how, text) for table, how in self._whole(text, parameters)]
        return execute(statement, parameters, many, context)

    def _whole(self, statement: str, parameters: Any) -> Iterator[tuple[str, str]]:
        with connection.connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN (FORMAT JSON) {statement}", parameters)
            plan = cursor.fetchone()[0][0]["Plan"]
        yield from self._walk(plan, limit=None)

    def _walk(self, node: Mapping[str, Any], *, limit: int | None) -> Iterator[tuple[str, str]]:
        """`limit`: after how many rows of this node nothing more is asked of it; None where all are."""
        kind = node["Node Type"]
        self.indexes.update(_indexes(node))
        if kind == "Limit":
            limit = node["Plan Rows"]
        elif kind in BLOCKING:
            limit = None
        how = self._wholly(node, limit)
        if how:
            yield how
        for number, child in enumerate(node.get("Plans", [])):
            # What a loop does for each of its rows is not stopped by a limit above it.
            inner = number > 0 and kind in ("Nested Loop", "Hash Join", "Merge Join")
            apart = child.get("Parent Relationship") in ("InitPlan", "SubPlan")
            yield from self._walk(child, limit=None if inner or apart else limit)

    def _wholly(self, node: Mapping[str, Any], limit: int | None) -> tuple[str, str] | None:
        kind, table = node["Node Type"], node.get("Relation Name", "")
        if self.sizes.get(table, 0) < LARGE or "Scan" not in kind:
            return None
        # With a filter more rows are read than asked for: by as much as it lets fall.
        if limit is not None and limit * self.sizes[table] / max(1, node["Plan Rows"]) <= ENOUGH:
            return None
        bounded = limit is not None
        if kind == "Seq Scan":
            return table, "Seq Scan" + (" with a filter under a limit" if bounded else "")
        indexes = set(_indexes(node))
        if indexes <= self.partial:
            return None  # small by their condition
        if kind.startswith("Index") and not node.get("Index Cond"):
            return table, f"{kind} without a condition by {', '.join(indexes)}"
        if not bounded and node["Plan Rows"] > max(LARGE, MOST_OF_IT * self.sizes[table]):
            return table, f"{kind} of most rows by {', '.join(indexes)}"
        return None


def _indexes(node: Mapping[str, Any]) -> Iterator[str]:
    if "Index Name" in node:
        yield node["Index Name"]
    for child in node.get("Plans", []):
        if child["Node Type"] in ("Bitmap Index Scan", "BitmapAnd", "BitmapOr"):
            yield from _indexes(child)


def _sizes(cursor: Any) -> Iterator[tuple[str, int]]:
    """Rows of each table of ours: counted where the planner may know nothing of them."""
    cursor.execute(
        "SELECT relname, reltuples FROM pg_class WHERE relkind = 'r' AND relname ~ '^(bridge|sagas|compensation)_'"
    )
    for name, known in cursor.fetchall():
        if known >= LARGE:
            yield name, int(known)
            continue
        cursor.execute(f"SELECT count(*) FROM {name}")
        yield name, cursor.fetchone()[0]


@contextmanager
def watched() -> Iterator[Watch]:
    """Explains every statement of the current connection meanwhile."""
    with connection.cursor() as cursor:
        sizes = dict(_sizes(cursor))
        cursor.execute("SELECT indexrelid::regclass::text FROM pg_index WHERE indpred IS NOT NULL")
        partial = frozenset(name for (name,) in cursor.fetchall())
    watch = Watch(sizes, partial)
    with connection.execute_wrapper(watch):
        yield watch
