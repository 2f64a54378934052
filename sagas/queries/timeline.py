"""The timeline of a saga: events, commands, attempts, deadlines and decisions in one ordered list, page by page.

Entries are in order of arrival, by the clock of this service: what each event changed only makes sense in the order in
which the events were applied. The time at which something happened, by its source's clock, is in the detail.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import BigIntegerField, Exists, F, IntegerField, OuterRef, QuerySet, TextField, Value
from django.db.models.functions import Cast
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, ngettext_lazy

from bridge import readings
from bridge.models import Event, Source
from compensation.deadlines import DeadlineHolds
from compensation.models import UNSENT, Attempt, AttemptOutcome, Command, CommandStatus
from sagas import nouns, own_facts
from sagas.actions import registry
from sagas.engine import facts as kinds
from sagas.error_text import shown_attempt
from sagas.models import Decision, SagaEvent, SagaLog, SagaStatusChoice
from sagas.nouns import Nouns
from sagas.queries import holding
from sagas.queries.pages import OFFSET_LIMIT, Page
from sagas.queries.parts import deliveries
from sagas.statements import TIMELINE_PAGE


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of the timeline. `at` orders it; `title` and `changes` are sentences for people, `detail` is data.

    kind: event (from a service), decision (of a person), news (of our own commands), command (planned, released),
    attempt, deadline (passed, or in the future: then `future` is true). Contains no payload, except for the error of
    an attempt that the service refused, if `timeline` was called with `payload`.
    """

    at: datetime
    kind: str
    title: str
    entity: str = ""
    changes: Sequence[str] = ()
    detail: Mapping[str, Any] = field(default_factory=dict)
    future: bool = False


class _Ref(NamedTuple):
    at: datetime
    rank: int
    number: int
    kind: str
    ref: str


def timeline(
    saga_id: UUID, offset: int = 0, limit: int = 100, holds: DeadlineHolds | None = None, *, payload: bool = False
) -> Page[Entry]:
    """Return a page of a saga's timeline, the oldest first, future deadlines last. At most ten queries.

    payload: whether the reader may see the error texts of services.
    """
    total, refs = _page_of(_refs(saga_id), offset, limit)
    return Page(total, offset, limit, _entries(refs, holds, payload=payload))


def _page_of(rows: QuerySet[Any, Any], offset: int, limit: int) -> tuple[int, list[_Ref]]:
    """Return the number of entries and a page of them from one query: a saga of 3,000 images has tens of thousands."""
    found: list[tuple[Any, ...]] = []
    if offset < OFFSET_LIMIT:
        statement, parameters = TIMELINE_PAGE.around(rows)
        found = statement.rows([*parameters, limit, offset])
    return (found[0][-1] if found else rows.count()), [_Ref(*row[:-1]) for row in found]


def _refs(saga_id: UUID) -> QuerySet[Any, Any]:
    """Return the source of each entry: (at, rank among entries of the same time, number, kind, pk)."""
    commands = Command.objects.filter(saga_id=saga_id)
    attempts = Attempt.objects.filter(command__saga_id=saga_id)
    # Decisions that are events of the log are shown as these.
    logged = Event.objects.filter(source=Source.OPERATOR, day__isnull=True, event_id=Cast(OuterRef("id"), TextField()))
    log = SagaEvent.objects.filter(saga=saga_id)
    rows: QuerySet[Any, Any] = _part(log, "applied_at", 1, "event", "event", "seq").union(
        _part(Decision.objects.filter(~Exists(logged), saga=saga_id), "decided_at", 0, "decision"),
        _part(commands, "planned_at", 2, "planned"),
        _part(commands.filter(released_at__gt=F("planned_at")), "released_at", 3, "released"),
        _part(commands.filter(confirmed_unsent_at__isnull=False), "confirmed_unsent_at", 4, "unsent"),
        _part(commands.filter(overtaken_at__isnull=False), "overtaken_at", 4, "overtaken"),
        _part(attempts, "started_at", 4, "attempt", "id", "id"),
        _part(attempts.filter(outcome=AttemptOutcome.DEADLINE), "ended_at", 5, "overdue", "id", "id"),
        _part(commands.filter(status=CommandStatus.PUBLISHED, deadline_at__isnull=False), "deadline_at", 6, "deadline"),
        _part(commands.filter(status__in=UNSENT, attempt__gt=0, next_at__isnull=False), "next_at", 7, "next"),
        all=True,
    )
    return rows


def _part(rows: QuerySet[Any], at: str, rank: int, kind: str, ref: str = "id", number: str = "") -> QuerySet[Any, Any]:
    columns = {
        "line_at": F(at),
        "line_rank": Value(rank, IntegerField()),
        "line_number": Cast(F(number), BigIntegerField()) if number else Value(0, BigIntegerField()),
        "line_kind": Value(kind, TextField()),
        "line_ref": Cast(F(ref), TextField()),
    }
    part: QuerySet[Any, Any] = rows.order_by().annotate(**columns).values_list(*columns)
    return part


# --- from references to entries ---------------------------------------------------------------------------------------


def _entries(refs: Sequence[_Ref], holds: DeadlineHolds | None, *, payload: bool) -> list[Entry]:
    pks: dict[str, list[str]] = defaultdict(list)
    for ref in refs:
        pks[ref.kind].append(ref.ref)
    lines: dict[tuple[str, str], Entry] = {}
    lines |= _events([int(pk) for pk in pks["event"]])
    lines |= _decisions(pks["decision"])
    lines |= _attempts([int(pk) for pk in (*pks["attempt"], *pks["overdue"])], payload=payload)
    command_ids = {
        pk for kind in ("planned", "released", "unsent", "overtaken", "deadline", "next") for pk in pks[kind]
    }
    lines |= _commands(command_ids, holds)
    # A row may have changed between the two queries: its entry is then left out of this page.
    return [lines[ref.kind, ref.ref] for ref in refs if (ref.kind, ref.ref) in lines]


def _events(pks: Sequence[int]) -> dict[tuple[str, str], Entry]:
    if not pks:
        return {}
    events = readings.events(pks)
    own = _contents([event.pk for event in events.values() if event.source != Source.PULSAR])
    again = deliveries([event.pk for event in events.values()])
    return {
        ("event", str(row.event)): _event(
            row, events[row.event], again.get(events[row.event].pk, 0), own.get(row.event, {})
        )
        for row in SagaEvent.objects.filter(event__in=pks)
    }


def _contents(pks: Sequence[int]) -> dict[int, Mapping[str, Any]]:
    """Return the contents of our own facts: who and why, or which command. Written by us, so not payload."""
    return dict(Event.objects.filter(pk__in=pks).values_list("pk", "payload")) if pks else {}


def _event(row: SagaEvent, event: Event, again: int, content: Mapping[str, Any]) -> Entry:
    detail: dict[str, Any] = {
        "number": row.seq,
        "event_id": event.event_id,
        "event_type": event.type,
        "source": event.source,
        "task_id": event.key,
        "occurred_at": event.occurred_at,
        "received_at": event.received_at,
        "topic": event.topic,
        "message_id": event.message_id,
        "producer": event.producer,
        "note": row.note,
        "duplicates": again,
    }
    if event.note:
        detail["remark"] = event.note_text
    if row.lane:
        detail["attached_to_lane"] = row.lane
    words = nouns.of(event.stream)
    kind, title = _event_title(event, content, detail, words)
    return Entry(
        at=row.applied_at,
        kind=kind,
        title=title,
        entity=event.entity or row.lane or "",
        changes=changes(row.note, words),
        detail=detail,
    )


def _event_title(event: Event, content: Mapping[str, Any], detail: dict[str, Any], words: Nouns) -> tuple[str, str]:
    if event.source == Source.OPERATOR:
        detail |= {"actor": content.get("actor", ""), "reason": content.get("reason", "")}
        if event.type == kinds.INTAKE_CLOSED:
            detail |= {"lanes": content.get("lanes", 0)}
        return "decision", _decision_title(_decision_of(event.type), own_facts.title(event), detail, words)
    if event.source == Source.COMPENSATION:
        detail |= {"command": content.get("name", ""), "round": content.get("round", 1)}
        titles = {
            kinds.COMMAND_EXHAUSTED: _("%(command)s failed (round %(round)d) and needs a decision"),
            kinds.COMMAND_PUBLISHED: _("%(command)s was sent; this service sends no confirmation"),
            kinds.COMMAND_REQUIRED_AGAIN: _("%(command)s is required again: round %(round)d began"),
        }
        text = titles.get(event.type)
        return "news", text % detail if text else own_facts.title(event)
    if event.source == Source.SAGAS:
        text = _("No event for %(seconds)d seconds: no further %(entity_nouns)s are expected")
        return "news", words.fill(text, seconds=content.get("seconds", 0))
    return "event", event.type


def _decision_title(action: str | None, name: str, detail: Mapping[str, Any], words: Nouns) -> str:
    """Return who decided what and why. name: what a decision is called that has no sentence of its own."""
    values = {**detail, "event": name, "actor": detail["actor"] or _("unknown")}
    known = registry.ACTIONS.get(action or "")
    if known and known.sentence:
        return capfirst(words.fill(known.sentence, **values))
    return _("%(event)s by %(actor)s: %(reason)s") % values


def _decision_of(fact: str) -> str | None:
    """Return the name of the decision that a fact of the log records."""
    return next((spec.name for spec in registry.ACTIONS.values() if spec.fact == fact), None)


def changes(note: Mapping[str, Any], words: Nouns) -> list[str]:
    """Describe what an event changed, in sentences with the saga type's nouns, from the note in the saga's log."""
    found = []
    if "status" in note:
        before, after = (
            SagaStatusChoice(name).label if name in SagaStatusChoice.values else name for name in note["status"]
        )
        found.append(_("Saga: %(before)s → %(after)s") % {"before": before, "after": after})
    if "run" in note:
        found.append(words.fill(_("Run %(number)d of %(the_key)s began"), number=note["run"]))
    steps = [f"{step_type} ({service})" for step_type, service, *_rank in note.get("steps", [])]
    if steps:
        count = note.get("steps_count", len(steps))
        rest = ngettext(" and %(more)d more", " and %(more)d more", count - len(steps)) % {"more": count - len(steps)}
        found.append(
            _("Step: %(steps)s") % {"steps": ", ".join(dict.fromkeys(steps)) + (rest if count > len(steps) else "")}
        )
    if note.get("failed") == "saga":
        found.append(_("The saga failed"))
    elif note.get("failed") == "lane":
        found.append(capfirst(words.fill(_("%(the_entity)s failed"))))
    if note.get("unclear"):
        found.append(_("It does not say whether the work succeeded, or what failed"))
    for name, text in _COUNTS:
        if note.get(name):
            found.append(words.fill(text % {"count": note[name], "things": words.entities(note[name])}))
    return found or [_("Nothing changed")]


_COUNTS = (
    ("opened", ngettext_lazy("%(count)d %(things)s added", "%(count)d %(things)s added", "count")),
    ("owed", ngettext_lazy("%(count)d command required", "%(count)d commands required", "count")),
    ("confirmed", ngettext_lazy("%(count)d command confirmed", "%(count)d commands confirmed", "count")),
    (
        "given_up",
        ngettext_lazy("%(count)d command skipped or withdrawn", "%(count)d commands skipped or withdrawn", "count"),
    ),
    ("exhausted", ngettext_lazy("%(count)d command needs a decision", "%(count)d commands need a decision", "count")),
)


def _decisions(pks: Sequence[str]) -> dict[tuple[str, str], Entry]:
    if not pks:
        return {}
    of_saga = SagaLog.objects.filter(id=OuterRef("saga")).values("saga_type")
    return {
        ("decision", str(row.id)): Entry(
            at=row.decided_at,
            kind="decision",
            title=_decision_title(
                row.action,
                registry.label_of(row.action, nouns.of(row.saga_type)),
                {"actor": row.actor, "reason": row.reason},
                nouns.of(row.saga_type),
            ),
            detail={
                "decision_id": str(row.id),
                "action": row.action,
                "target": row.target,
                "actor": row.actor,
                "door": row.door,
                "reason": row.reason,
            },
        )
        for row in Decision.objects.filter(id__in=list(pks)).annotate(saga_type=of_saga).defer("answer")
    }


def _attempts(pks: Sequence[int], *, payload: bool) -> dict[tuple[str, str], Entry]:
    if not pks:
        return {}
    lines = {}
    for row in Attempt.objects.filter(id__in=pks).select_related("command").defer("command__body"):
        lines["attempt", str(row.id)] = _attempt(row, payload=payload)
        if row.ended_at is not None:
            lines["overdue", str(row.id)] = _overdue(row, row.ended_at)
    return lines


def _attempt(row: Attempt, *, payload: bool) -> Entry:
    title = _("Attempt %(number)d at %(command)s, topic %(topic)s: %(outcome)s")
    values = {
        "number": row.number,
        "command": row.command.name,
        "topic": row.command.topic,
        "outcome": row.get_outcome_display(),
    }
    error = shown_attempt(row, payload=payload)
    return Entry(
        at=row.started_at,
        kind="attempt",
        title=title % values,
        entity=row.command.entity,
        changes=[error] if error else [],
        detail={
            **_about(row.command),
            "round": row.round,
            "attempt": row.number,
            "counted": row.counted,
            "outcome": row.outcome,
            "ended_at": row.ended_at,
            "message_id": row.message_id,
            "worker": row.worker,
            "error": shown_attempt(row, payload=payload, as_data=True),
        },
    )


def _overdue(row: Attempt, at: datetime) -> Entry:
    title = _("No answer to %(command)s in time (attempt %(number)d)")
    return Entry(
        at=at,
        kind="deadline",
        title=title % {"command": row.command.name, "number": row.number},
        entity=row.command.entity,
        detail={**_about(row.command), "round": row.round, "attempt": row.number},
    )


def _commands(pks: Iterable[str], holds: DeadlineHolds | None) -> dict[tuple[str, str], Entry]:
    if not pks:
        return {}
    lines = {}
    rows = list(Command.objects.filter(id__in=list(pks)).defer("body", "result"))
    holds = holds or holding.read_for(rows)
    for row in rows:
        held = holding.on_hold(row, holds)
        for kind, at, entry_kind, title in (
            ("planned", row.planned_at, "command", _("%(command)s planned, topic %(topic)s")),
            ("released", row.released_at, "command", _("%(command)s released: the commands before it are answered")),
            (
                "unsent",
                row.confirmed_unsent_at,
                "command",
                _("%(command)s counts as confirmed although it was never sent: an event reports it as undone"),
            ),
            (
                "overtaken",
                row.overtaken_at,
                "command",
                _(
                    "%(command)s was carried out although %(the_key)s was started again: it had been sent, or marked "
                    "as done, before"
                ),
            ),
            ("deadline", row.deadline_at, "deadline", _("Deadline for %(service)s to confirm %(command)s")),
            ("next", row.next_at, "deadline", _("Next attempt at %(command)s")),
        ):
            if at is not None:
                values = {"command": row.name, "topic": row.topic, "service": row.service}
                on_hold = held if kind == "deadline" else None
                lines[kind, str(row.id)] = Entry(
                    at=at,
                    kind=entry_kind,
                    title=nouns.of(row.stream).fill(title, **values),
                    entity=row.entity,
                    changes=[on_hold.sentence] if on_hold else (),
                    detail={
                        **_about(row),
                        "status": row.status,
                        "round": row.round,
                        "attempt": row.attempt,
                        **({"on_hold": on_hold.as_data()} if on_hold else {}),
                    },
                    future=entry_kind == "deadline",
                )
    return lines


def _about(command: Command) -> dict[str, Any]:
    return {
        "command": command.name,
        "command_id": str(command.id),
        "service": command.service,
        "topic": command.topic,
    }
