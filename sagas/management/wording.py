"""Outcomes of decisions, tables and times as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from sagas.actions import ActionResult, CommandPreview, sentences
from sagas.error_text import shown_effects
from sagas.management.output import as_json, one_line, width

# Effects that `sentences` words.
_IN_SENTENCES = (
    *("released", "released_at_least", "publishing_paused", "held", "also_known_to"),
    *("breaker", "stays_paused_by", "after_canary"),
    *("images", "images_known", "images_awaited"),
)


def outcome_lines(name: str, outcome: ActionResult, *, payload: bool) -> Iterator[str]:
    """Return what a decision did or would do, with the bodies to be sent; error texts only with `payload`."""
    target = str(outcome.target)
    yield f"{_verb(outcome)} {outcome.action} {target}" + ("" if name in target else f" ({name})")
    if outcome.repeated:
        yield f"  already requested by {outcome.actor} at {when(outcome.accepted_at)}; nothing was done a second time"
    elif outcome.decision_id is not None:
        yield f"  decision {outcome.decision_id} by {outcome.actor}"
    for line in (*_effects(outcome, payload=payload), *sentences(outcome)):
        yield f"  {line}"
    for command in outcome.commands:
        yield from _command(command, bodies=outcome.dry_run)


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    """Return the lines of a table; the last column is not padded."""
    cells = [tuple(head), *(tuple("" if cell is None else one_line(str(cell)) for cell in row) for row in rows)]
    widths = [max(width(row[column]) for row in cells) for column in range(len(head) - 1)]
    for row in cells:
        padded = [cell + " " * (wide - width(cell)) for cell, wide in zip(row[:-1], widths, strict=True)]
        yield "  ".join([*padded, row[-1]]).rstrip()


def when(moment: datetime | None) -> str:
    """Format a time in UTC for reading."""
    return "–" if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + "Z"


def _verb(outcome: ActionResult) -> str:
    if outcome.repeated:
        return "repeated"
    return "would" if outcome.dry_run else "done"


def _effects(outcome: ActionResult, *, payload: bool) -> Iterator[str]:
    effects = shown_effects(outcome.effects, payload=payload)
    differences = effects.pop("differences", None)
    if differences == []:
        yield "no difference: the stored state matches the log"
    for difference in differences or ():
        stored, folded = as_json(difference["stored"]), as_json(difference["folded"])
        yield f"{difference['what']}: stored {stored}, rebuilt from log {folded}"
    before, after = effects.pop("status_before", None), effects.pop("status_after", None)
    if after:
        yield f"saga: {before} → {after}" if before and before != after else f"saga: {after}"
    for name in _IN_SENTENCES:
        effects.pop(name, None)
    for name, value in effects.items():
        yield f"{name}: {value if isinstance(value, str) else as_json(value)}"


def _command(command: CommandPreview, *, bodies: bool) -> Iterator[str]:
    change = f"{command.status_before} → {command.status_after}" if command.status_before else command.status_after
    note = f", to be sent to {command.topic}" if command.leaves else ""
    note += " because it was waiting for this" if command.released else ""
    note += f", held because of saga {command.held_by}" if command.held_by else ""
    yield f"  {command.name} {command.id} for {command.entity}: {change}{note}"
    if bodies and command.body is not None:
        yield f"    {as_json(command.body)}"
