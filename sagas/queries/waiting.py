"""What a saga waits for, as one plain sentence and as data. About five queries, whatever the size of the saga."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings
from django.db.models import Case, IntegerField, Min, Value, When
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from bridge import clock, routing
from bridge.models import Pending
from compensation import deadlines, switches
from compensation.deadlines import DeadlineHolds
from compensation.models import INACTIVE, Command, CommandStatus
from sagas import nouns
from sagas.definitions import registry
from sagas.engine.definition import Definition, Event
from sagas.engine.expected import ShownStep, expected
from sagas.engine.state import SagaState, saga_from
from sagas.engine.status import announced_lanes, intake_over
from sagas.error_text import shown_error
from sagas.models import Parked, SagaLog, SagaStatusChoice
from sagas.queries.holding import OnHold, canary_text, on_hold, pause_text, when
from sagas.queries.runs import number_of_runs, runs_of_entities
from sagas.statements import STEP_PATTERNS

# Which of several commands is shown for a saga: the one nearest to the service first.
_NEAREST = (CommandStatus.PUBLISHED, CommandStatus.PUBLISHING, CommandStatus.WAITING, CommandStatus.PLANNED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What a saga waits for: `sentence` for a person, in their language; `kind` and the rest for a program.

    kind: set_aside, decision, held, confirmation, sending, due, retry, predecessor, paused, canary, events, lanes,
    applying, parked.
    `count` is the number of commands, images or events in the same situation; the other fields describe the first.
    `on_hold` is why its deadline does not run, if so; `held_by` is the other saga because of which it is held.
    """

    kind: str
    sentence: str
    since: datetime | None = None
    count: int = 1
    command: str | None = None
    command_id: str | None = None
    entity: str | None = None
    service: str | None = None
    topic: str | None = None
    attempt: int | None = None
    maximum_attempts: int | None = None
    next_retry: datetime | None = None
    deadline: datetime | None = None
    event: str | None = None
    error: str | None = None
    held_by: str | None = None
    on_hold: OnHold | None = None

    def as_data(self) -> dict[str, Any]:
        """Return all fields by name."""
        return asdict(self)


def waiting(saga: SagaLog, holds: DeadlineHolds | None = None, *, payload: bool = False) -> Waiting | None:
    """Return what this saga waits for; None if nothing is pending.

    holds: the deadline holds, if the caller has read them already; otherwise they are read.
    payload: whether the reader may see the error texts of services.
    """
    if saga.set_aside_at is not None:
        return _set_aside(saga)
    found: Waiting | None = None
    if saga.status in (SagaStatusChoice.COMPENSATION_FAILED, SagaStatusChoice.COMPENSATING):
        found = _for_a_command(saga, holds, payload=payload) or _pending(saga) or _last_events(saga)
    elif saga.status == SagaStatusChoice.STARTED:
        found = _for_events(saga, holds)
    return found or _pending(saga) or _parked(saga)


def _set_aside(saga: SagaLog) -> Waiting:
    count = Parked.objects.filter(suggestion=saga.id, reason="set_aside").count()
    text = ngettext(
        "%(count)d event is waiting: the saga has been blocked by an error since %(since)s (%(error)s). Resume "
        "it after a fix.",
        "%(count)d events are waiting: the saga has been blocked by an error since %(since)s (%(error)s). Resume "
        "it after a fix.",
        count,
    )
    values = {"since": when(saga.set_aside_at), "error": saga.set_aside_error, "count": count}
    return Waiting(
        kind="set_aside", sentence=text % values, since=saga.set_aside_at, count=count, error=saga.set_aside_error
    )


# --- commands -------------------------------------------------------------------------------------------------------


def _for_a_command(saga: SagaLog, holds: DeadlineHolds | None, *, payload: bool) -> Waiting | None:
    command = _first_command(saga)
    if command is None:
        return None
    alike = Command.objects.filter(
        saga_id=saga.id, name=command.name, status=command.status, held_since__isnull=command.held_since is None
    )
    return _waiting_for(saga, command, alike.count(), on_hold(command, holds), payload=payload)


def _last_events(saga: SagaLog) -> Waiting:
    """Return the answer where no command is open: its row may be ahead of the counters, which change with events."""
    return Waiting(kind="applying", sentence=_("Waiting for its last events to be applied."), since=saga.last_event_at)


def _first_command(saga: SagaLog) -> Command | None:
    rows = Command.objects.filter(saga_id=saga.id).defer("body", "result")
    if saga.status == SagaStatusChoice.COMPENSATION_FAILED:
        return rows.filter(status=CommandStatus.EXHAUSTED).order_by("settled_at", "id").first()
    # Held commands come first: only a decision moves them on.
    nearest = Case(
        When(held_since__isnull=False, then=Value(-1)),
        *(When(status=status, then=Value(place)) for place, status in enumerate(_NEAREST)),
        default=Value(len(_NEAREST)),
        output_field=IntegerField(),
    )
    unsettled = rows.exclude(status__in=INACTIVE).annotate(nearest=nearest)
    return unsettled.order_by("nearest", "deadline_at", "next_at", "planned_at", "id").first()


def _waiting_for(saga: SagaLog, command: Command, alike: int, hold: OnHold | None, *, payload: bool) -> Waiting:
    kind, text, since = _decision_text(command, alike) or _command_text(saga, command, hold)
    values = {
        "count": alike,
        "command": command.name,
        "topic": command.topic,
        "service": command.service,
        "entity": command.entity,
        "attempt": command.attempt,
        "of": command.maximum_attempts,
        "since": when(since),
        "next": when(command.next_at),
        "deadline": when(command.deadline_at),
        "error": _as_sentence(shown_error(command.last_error, command.last_error_data, payload=payload)),
        "after": _predecessors(saga, command.name),
        "other": _task_of(command.held_by) if command.held_by else "",
    }
    more = "" if kind in ("decision", "held") or alike == 1 else _more_alike(alike - 1)
    if kind == "decision":
        more += _earlier_run(saga, command, alike)
    return Waiting(
        kind=kind,
        sentence=_with_hold(nouns.of(saga.saga_type).fill(text, **values) + more, hold),
        since=since,
        count=alike,
        command=command.name,
        command_id=str(command.id),
        entity=command.entity,
        service=command.service,
        topic=command.topic,
        attempt=command.attempt,
        maximum_attempts=command.maximum_attempts,
        next_retry=command.next_at,
        deadline=command.deadline_at,
        error=shown_error(command.last_error, command.last_error_data, payload=payload, as_data=True) or None,
        held_by=str(command.held_by) if command.held_by else None,
        on_hold=hold,
    )


def _as_sentence(text: str) -> str:
    """Return an error text with a full stop: a service's own text seldom has one, and another sentence follows."""
    return text if not text or text[-1] in ".!?…" else f"{text}."


def _with_hold(sentence: str, hold: OnHold | None) -> str:
    return f"{sentence} {hold.sentence}" if hold else sentence


def _more_alike(count: int) -> str:
    return ngettext(" (and %(more)d more like it)", " (and %(more)d more like it)", count) % {"more": count}


def _earlier_run(saga: SagaLog, command: Command, alike: int) -> str:
    """Say that a command belongs to an earlier run, if so. One query if the saga has several runs."""
    runs, run = number_of_runs(saga), runs_of_entities(saga, [command.entity]).get(command.entity)
    if run is None or run == runs:
        return ""
    text = ngettext(
        " The command belongs to the earlier run %(run)d of %(runs)d.",
        " The first command belongs to the earlier run %(run)d of %(runs)d.",
        alike,
    )
    return text % {"run": run, "runs": runs}


def _decision_text(command: Command, alike: int) -> tuple[str, str, datetime | None] | None:
    """Return (kind, sentence, since when) of commands that only a person can move on; None for any other."""
    if command.status == CommandStatus.EXHAUSTED:
        text = ngettext(
            "%(count)d command needs a decision: %(command)s for %(entity)s (topic %(topic)s) failed at %(since)s "
            "after attempt %(attempt)d of %(of)d: %(error)s Retry it, skip it, or mark it as done.",
            "%(count)d commands need a decision. The first, %(command)s for %(entity)s (topic %(topic)s), failed at "
            "%(since)s after attempt %(attempt)d of %(of)d: %(error)s Retry, skip, or mark them as done.",
            alike,
        )
        return "decision", text, command.settled_at
    if command.held_since is not None:
        text = ngettext(
            "%(count)d command needs a decision: %(command)s for %(entity)s (topic %(topic)s) has been held since "
            "%(since)s because %(the_key)s %(other)s also has %(the_entity)s. Release it, or withdraw it.",
            "%(count)d commands need a decision. The first, %(command)s for %(entity)s (topic %(topic)s), has been "
            "held since %(since)s because %(the_key)s %(other)s also has %(the_entity)s. Release them, or withdraw "
            "them.",
            alike,
        )
        return "held", text, command.held_since
    return None


def _command_text(saga: SagaLog, command: Command, hold: OnHold | None) -> tuple[str, str, datetime | None]:
    """Return (kind, sentence, since when) of a command that needs no decision."""
    if command.status == CommandStatus.PUBLISHED:
        return _sent_text(command, hold)
    if command.status == CommandStatus.PUBLISHING:
        text = _("%(command)s for %(entity)s is being sent to topic %(topic)s, attempt %(attempt)d of %(of)d.")
        return "sending", text, command.claimed_at
    if command.released_at is None:
        text = _(
            "%(command)s for %(entity)s (topic %(topic)s) is waiting until %(after)s for the same %(entity_noun)s is "
            "answered."
        )
        return "predecessor", text, command.planned_at
    current = switches.peek()
    pause = current.pause_of(command.service)
    if pause is not None:
        text = _("%(command)s for %(entity)s is waiting to be sent to topic %(topic)s. Resume sending, or withdraw it.")
        # The reason that a person gave may contain a percent sign, and the sentence is a template.
        return "paused", pause_text(pause).replace("%", "%%") + " " + text, pause.changed_at
    canary = current.canary_before(command.service, command.id)
    if canary is not None:
        text = _("%(command)s for %(entity)s is waiting to be sent to topic %(topic)s.")
        return "canary", canary_text(canary).replace("%", "%%") + " " + text, canary.changed_at
    if command.next_at is not None and command.next_at > clock.now():
        text = _(
            "Next attempt at %(command)s for %(entity)s (topic %(topic)s) at %(next)s. Result of attempt %(attempt)d "
            "of %(of)d: %(error)s"
        )
        return "retry", text, command.planned_at
    text = _("%(command)s for %(entity)s has been due since %(since)s and is about to be sent to topic %(topic)s.")
    return "due", text, command.next_at


def _sent_text(command: Command, hold: OnHold | None) -> tuple[str, str, datetime | None]:
    since = command.published_at
    if hold is not None:
        # No deadline here: it may be in the past, and it restarts when the hold ends.
        text = _(
            "Waiting since %(since)s for %(service)s to confirm %(command)s for %(entity)s (topic %(topic)s, attempt "
            "%(attempt)d of %(of)d)."
        )
    elif command.deadline_at is None:
        text = _(
            "%(command)s for %(entity)s was sent to topic %(topic)s at %(since)s and is about to be counted as done."
        )
    else:
        text = _(
            "Waiting since %(since)s for %(service)s to confirm %(command)s for %(entity)s (topic %(topic)s, attempt "
            "%(attempt)d of %(of)d, deadline %(deadline)s)."
        )
    return "confirmation", text, since


def _task_of(saga_id: UUID) -> str:
    """Return the task id of a saga, or its saga id if the saga was pruned."""
    return SagaLog.objects.filter(id=saga_id).values_list("key", flat=True).first() or str(saga_id)


def _predecessors(saga: SagaLog, command: str) -> str:
    definition = _definition(saga)
    item = definition.compensation_of.get(command) if definition else None
    return ", ".join(item.after) if item and item.after else _("another command")


# --- events ---------------------------------------------------------------------------------------------------------


def _for_events(saga: SagaLog, holds: DeadlineHolds | None) -> Waiting | None:
    definition = _definition(saga)
    if definition is None:
        text = _("This release does not support %(type)s version %(version)d: a newer release continues the saga.")
        values = {"type": saga.saga_type, "version": saga.version}
        return Waiting(kind="applying", sentence=text % values, since=saga.last_event_at)
    state = saga_from(saga.state)
    if _ends_by_silence(definition, state, saga):
        return _silence(definition, saga, holds)
    parts = [
        part
        for part in (_intake(definition, state, saga), _unseen(definition, state, saga), _open_lanes(definition, saga))
        if part
    ]
    if not parts:
        return Waiting(kind="events", sentence=_("Waiting for further events."), since=saga.last_event_at)
    first = parts[0]
    sentence = " ".join(part.sentence for part in parts)
    return Waiting(
        kind=first.kind, sentence=sentence, since=first.since, count=first.count, entity=first.entity, event=first.event
    )


def _ends_by_silence(definition: Definition, state: SagaState, saga: SagaLog) -> bool:
    """Return whether the latest run waits for nothing but the end of its intake. See `sagas.applying.silence`."""
    if not settings.SAGA_INTAKE_SILENCE or not definition.counts_lanes or intake_over(definition, state.latest):
        return False
    known = saga.lanes_known - state.past.known
    return known > 0 and saga.lanes_open == state.past.open and announced_lanes(definition, state.latest) <= known


def _silence(definition: Definition, saga: SagaLog, holds: DeadlineHolds | None) -> Waiting:
    """Tell when the sweep ends the intake. It counts from the last change, and while the bridges are healthy."""
    seconds = settings.SAGA_INTAKE_SILENCE
    now = clock.now()
    well_for = (holds or deadlines.deadline_holds(now)).well_for
    if well_for is None:
        text = _(
            "All known %(things)s have ended; more may follow. The saga ends automatically when the bridge is "
            "connected again and has caught up, and no further event has arrived for %(seconds)d s, or close "
            "%(the_intake)s."
        )
    else:
        text = _(
            "All known %(things)s have ended; more may follow. The saga ends automatically at about %(due)s if no "
            "further event arrives, or close %(the_intake)s."
        )
    quiet_since = saga.updated_at if well_for is None else max(saga.updated_at, now - well_for)
    due = max(quiet_since + timedelta(seconds=seconds), now)
    values = {"things": _things(definition, 2), "due": when(due), "seconds": seconds}
    values["the_intake"] = nouns.of(definition.name).the_intake
    return Waiting(kind="events", sentence=text % values, since=saga.last_event_at)


def _intake(definition: Definition, state: SagaState, saga: SagaLog) -> Waiting | None:
    if intake_over(definition, state.latest) or not definition.counts_lanes:
        return None
    if state.latest.announced is None:
        text = _("The number of %(things)s is not known yet. Expected next: %(event)s.")
    else:
        text = _("More %(things)s may still be announced. Expected next: %(event)s.")
    event = ", ".join(event.type for event in definition.events if event.means.ends_intake)
    values = {"things": _things(definition, 2), "event": event or "–"}
    return Waiting(kind="events", sentence=text % values, since=saga.last_event_at, event=event or None)


def _unseen(definition: Definition, state: SagaState, saga: SagaLog) -> Waiting | None:
    announced = announced_lanes(definition, state.latest) if definition.counts_lanes else 0
    missing = announced - (saga.lanes_known - state.past.known)
    if missing <= 0:
        return None
    text = ngettext(
        "%(missing)d of %(announced)d announced %(things)s has not appeared in any event yet.",
        "%(missing)d of %(announced)d announced %(things)s have not appeared in any event yet.",
        missing,
    )
    values = {"missing": missing, "announced": announced, "things": _things(definition, announced)}
    return Waiting(kind="lanes", sentence=text % values, since=saga.last_event_at, count=missing)


class OpenLanes(NamedTuple):
    """Open lanes that wait for the same events: how many, the longest-waiting one, and since when it waits."""

    lanes: int
    entity: str
    since: datetime | None


def _open_lanes(definition: Definition, saga: SagaLog) -> Waiting | None:
    """Return what most of the open lanes wait for."""
    if not saga.lanes_open:
        return None
    groups = lanes_by_expected(definition, saga)
    if not groups:
        return None
    events, found = min(groups.items(), key=lambda item: (-item[1].lanes, when(item[1].since), item[1].entity))
    values = {
        "count": found.lanes,
        "known": saga.lanes_known,
        "things": _things(definition, saga.lanes_known),
        "service": _service(definition.event_of[events[0]]) if events else "",
        "since": when(found.since),
        "event": f" {_('or')} ".join(events),
        "entity": found.entity,
    }
    return Waiting(
        kind="events",
        sentence=_lane_text(definition, found.lanes, bool(events)) % values,
        since=found.since,
        count=found.lanes,
        entity=found.entity,
        event=", ".join(events) or None,
    )


def _lane_text(definition: Definition, count: int, expects: bool) -> str:
    if not expects:
        return ngettext(
            "%(count)d of %(known)d %(things)s is not finished (last progress at %(since)s), and no further event is "
            "defined for it (%(entity)s).",
            "%(count)d of %(known)d %(things)s are not finished (last progress of the first at %(since)s), and no "
            "further event is defined for them (%(entity)s …).",
            count,
        )
    if not definition.entity_field:
        return _("Waiting for %(service)s since %(since)s. Expected next: %(event)s.")
    return ngettext(
        "%(count)d of %(known)d %(things)s has been waiting for %(service)s since %(since)s. Expected next: "
        "%(event)s (%(entity)s).",
        "%(count)d of %(known)d %(things)s are waiting for %(service)s, the first since %(since)s. Expected next: "
        "%(event)s (%(entity)s …).",
        count,
    )


def lanes_by_expected(definition: Definition, saga: SagaLog) -> dict[tuple[str, ...], OpenLanes]:
    """Return the open lanes, grouped by the types of the events that each waits for."""
    whole, lanes = _step_patterns(definition, saga)
    found: dict[tuple[str, ...], OpenLanes] = {}
    for count, entity, since, steps in lanes:
        events = tuple(event.type for event in expected(definition, steps, whole))
        known = found.get(events, OpenLanes(0, entity, since))
        first = min((known, OpenLanes(count, entity, since)), key=lambda item: (when(item.since), item.entity))
        found[events] = first._replace(lanes=known.lanes + count)
    return found


def _step_patterns(
    definition: Definition, saga: SagaLog
) -> tuple[list[ShownStep], list[tuple[int, str, datetime | None, list[ShownStep]]]]:
    """Return the saga's own steps, and (count, first entity, since when, steps) per group of lanes with equal steps.

    One query: it reads the saga's lanes and steps by index and returns one row per pattern of steps; even thousands of
    lanes have few patterns. "Since" is the time of the step that is furthest in the definition's order.
    """
    order = [event.type for event in definition.events]
    rows = [
        (
            count,
            entity,
            since,
            [ShownStep(kind, service, int(rank), event) for kind, service, rank, event in steps or []],
        )
        for count, entity, since, steps in STEP_PATTERNS.rows({"order": order, "saga": saga.id, "key": saga.key})
    ]
    whole = [step for count, _entity, _since, steps in rows if not count for step in steps]
    return whole, [row for row in rows if row[0]]


def _service(event: Event) -> str:
    """Return the name of the service that an event comes from, as people write it."""
    return event.means.step.service.replace("_", " ").title() if event.means.step else "–"


def _things(definition: Definition, count: int) -> str:
    """Return the noun for `count` entities of this saga type."""
    return nouns.of(definition.name).entities(count)


# --- stored events that are not applied yet -------------------------------------------------------------------------


def _pending(saga: SagaLog) -> Waiting | None:
    count = Pending.objects.filter(key=routing.routing_key(saga.saga_type, saga.key)).count()
    if not count:
        return None
    text = ngettext(
        "%(count)d stored event is about to be applied.",
        "%(count)d stored events are about to be applied.",
        count,
    )
    return Waiting(kind="applying", sentence=text % {"count": count}, since=saga.last_event_at, count=count)


def _parked(saga: SagaLog) -> Waiting | None:
    rows = Parked.objects.filter(suggestion=saga.id, dismissed_at__isnull=True)
    found: Mapping[str, Any] = rows.aggregate(since=Min("since"))
    if found["since"] is None:
        return None
    count = rows.count()
    text = ngettext(
        "%(count)d unmatched event may belong to this saga: attach it, or dismiss it.",
        "%(count)d unmatched events may belong to this saga: attach them, or dismiss them.",
        count,
    )
    return Waiting(kind="parked", sentence=text % {"count": count}, since=found["since"], count=count)


def _definition(saga: SagaLog) -> Definition | None:
    try:
        return registry.get(saga.saga_type, saga.version)
    except registry.UnknownDefinition:
        return None
