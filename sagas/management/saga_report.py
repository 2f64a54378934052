"""One saga as data, and as text for a terminal: what it waits for, its lanes, its commands, its timeline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from compensation.deadlines import DeadlineHolds
from compensation.models import Command
from sagas import nouns
from sagas.error_text import shown_error, shown_text
from sagas.management.wording import table, when
from sagas.models import SagaLog
from sagas.nouns import Nouns
from sagas.queries import holding, parts
from sagas.queries.pages import Page, page_of
from sagas.queries.parts import LaneStory
from sagas.queries.runs import run_text
from sagas.queries.sagas import duplicates, metadata
from sagas.queries.timeline import Entry, timeline
from sagas.queries.waiting import waiting


def summary(saga: SagaLog, *, payload: bool) -> dict[str, Any]:
    """Return a saga as in the API's list; its error text only with `payload`."""
    return {
        "id": saga.id,
        "correlation_id": saga.correlation_id,
        "saga_type": saga.saga_type,
        "status": saga.status,
        "steps_count": saga.steps_count,
        "failed_steps_count": saga.failed_steps_count,
        "start_time": saga.start_time,
        "end_time": saga.end_time,
        "error_message": shown_text(saga.error_message, payload=payload) or None,
        "task_id": saga.key,
    }


def report(saga: SagaLog, limit: int, *, payload: bool) -> dict[str, Any]:
    """Return a whole saga as data: at most `limit` each of lanes, commands and timeline, with their totals."""
    wait = waiting(saga, payload=payload)
    lanes, commands, entries = _parts(saga, limit, payload=payload)
    return {
        **summary(saga, payload=payload),
        "metadata": metadata(saga) | {"duplicates": duplicates(saga)},
        "waiting": wait.as_data() if wait else None,
        "lanes": _paged(lanes, [_lane(story) for story in lanes.items]),
        "commands": _paged(commands, _commands(commands.items, payload=payload)),
        "timeline": _paged(entries, [asdict(entry) for entry in entries.items]),
    }


def report_lines(saga: SagaLog, limit: int, *, payload: bool) -> Iterator[str]:
    """Return the same as lines of text."""
    wait = waiting(saga, payload=payload)
    lanes, commands, entries = _parts(saga, limit, payload=payload)
    words = nouns.of(saga.saga_type)
    yield f"{saga.saga_type} version {saga.version}, {words.key_noun} {saga.key}"
    yield f"saga {saga.id}, correlation id {saga.correlation_id}"
    ended = f", ended {when(saga.end_time)}" if saga.end_time else ""
    yield f"{saga.status}, started {when(saga.start_time)}{ended}"
    if run := run_text(saga):
        yield run
    if saga.error_message:
        yield f"error: {shown_text(saga.error_message, payload=payload)}"
    yield wait.sentence if wait else "Nothing pending."
    yield from _section(words.entity_nouns, lanes, _lane_lines(lanes.items, words, several_runs=bool(run)))
    yield from _section("commands", commands, _command_lines(commands.items, words, payload=payload))
    yield from _section("timeline", entries, _entry_lines(entries.items))


def _parts(saga: SagaLog, limit: int, *, payload: bool) -> tuple[Page[LaneStory], Page[Command], Page[Entry]]:
    lanes = parts.lane_page(saga, parts.lanes(saga.id), 0, limit)
    commands = page_of(parts.commands(saga.id).defer("body", "result"), 0, limit)
    return lanes, commands, timeline(saga.id, 0, limit, payload=payload)


def _paged(page: Page[Any], items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"total": page.total, "items": items}


def _lane(story: LaneStory) -> dict[str, Any]:
    fields = ("entity", "outcome", "failed", "opened_at")
    return {**{name: getattr(story.lane, name) for name in fields}, "run": story.run}


def _commands(commands: Sequence[Command], *, payload: bool) -> list[dict[str, Any]]:
    holds = holding.read_for(commands)
    held = ((command, holding.on_hold(command, holds)) for command in commands)
    return [
        {**_command(command, payload=payload), "on_hold": hold.as_data() if hold else None} for command, hold in held
    ]


def _command(command: Command, *, payload: bool) -> dict[str, Any]:
    fields = (
        "id", "name", "entity", "service", "topic", "status", "round", "attempt", "maximum_attempts", "planned_at",
        "released_at", "held_since", "held_by", "next_at", "published_at", "deadline_at", "settled_at", "by_hand",
        "confirmed_unsent_at", "overtaken_at",
    )  # fmt: skip
    error = shown_error(command.last_error, command.last_error_data, payload=payload)
    return {**{name: getattr(command, name) for name in fields}, "last_error": error}


def _section(name: str, page: Page[Any], lines: Iterator[str]) -> Iterator[str]:
    yield ""
    remaining = page.total - len(page.items)
    more = f", first {len(page.items)} shown (--limit)" if remaining > 0 else ""
    yield f"{name}: {page.total}{more}"
    yield from (f"  {line}" for line in lines if page.items)


def _lane_lines(stories: Sequence[LaneStory], words: Nouns, *, several_runs: bool) -> Iterator[str]:
    rows = [
        (
            *(story.lane.entity, "failed" if story.lane.failed else "", when(story.lane.opened_at)),
            *((story.run,) if several_runs else ()),
            story.lane.outcome,
        )
        for story in stories
    ]
    return table((words.entity_noun, "", "opened", *(("run",) if several_runs else ()), "outcome"), rows)


def _command_lines(commands: Sequence[Command], words: Nouns, *, payload: bool) -> Iterator[str]:
    holds = holding.read_for(commands)
    rows = [
        (
            *(c.id, c.name, c.entity, _status(c), _due(c, holds), _attempts(c)),
            shown_error(c.last_error, c.last_error_data, payload=payload),
        )
        for c in commands
    ]
    return table(("id", "command", words.entity_noun, "status", "answer due", "attempt", "last error"), rows)


def _status(command: Command) -> str:
    if command.held_since:
        return f"{command.status}, held because of saga {command.held_by}"
    manual = " (manual)" if command.by_hand else ""
    unsent = ", never sent" if command.confirmed_unsent_at else ""
    return command.status + manual + unsent + (", though no longer required" if command.overtaken_at else "")


def _due(command: Command, holds: DeadlineHolds | None) -> str:
    if holding.on_hold(command, holds):
        return "on hold"
    return when(command.deadline_at) if command.deadline_at else ""


def _attempts(command: Command) -> str:
    round_ = f", round {command.round}" if command.round > 1 else ""
    return f"{command.attempt} of {command.maximum_attempts}{round_}"


def _entry_lines(entries: Sequence[Entry]) -> Iterator[str]:
    for entry in entries:
        upcoming = (" (on hold)" if "on_hold" in entry.detail else " (upcoming)") if entry.future else ""
        entity = f"  [{entry.entity}]" if entry.entity else ""
        yield f"{when(entry.at)}  {entry.kind:<8}  {entry.title}{entity}{upcoming}"
        for change in entry.changes:
            yield f"{'':<36}{change}"
