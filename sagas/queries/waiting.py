"""What a saga waits for: one plain sentence, and the same as data. Some five queries, whatever the saga's size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection
from django.db.models import Case, IntegerField, Min, Value, When
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from bridge import clock
from bridge.models import Pending
from compensation import switches
from compensation.deadlines import DeadlineHolds
from compensation.models import SETTLED, Command, CommandStatus
from sagas.definitions import registry
from sagas.engine.definition import Definition, Event
from sagas.engine.expected import ShownStep, expected
from sagas.engine.state import SagaCounts, SagaState, saga_from
from sagas.error_text import shown_error
from sagas.models import Parked, SagaLog, SagaStatusChoice
from sagas.queries.holding import OnHold, canary_words, on_hold, pause_words, when

# Which of several commands speaks for a saga: the one nearest to the service first.
_NEAREST = (CommandStatus.PUBLISHED, CommandStatus.PUBLISHING, CommandStatus.WAITING, CommandStatus.PLANNED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """`sentence` is for a person and in their language; `kind` and the rest say the same to a program.

    kind: set_aside, decision, held, confirmation, sending, due, retry, predecessor, paused, canary, events, lanes,
    applying, parked.
    `count` is of the things that wait alike (commands, images or events); the others tell of the first of them.
    `on_hold` says why its deadline does not run, if so; `held_by` is the other saga because of which it is held.
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
        """All of it, by name."""
        return asdict(self)


def waiting(saga: SagaLog, holds: DeadlineHolds | None = None, *, payload: bool = False) -> Waiting | None:
    """What this saga waits for, or None where nothing is open. `holds`: what the caller has read of it already.

    payload: whether the reader may see the error texts of services.
    """
    if saga.set_aside_at is not None:
        return _set_aside(saga)
    found: Waiting | None = None
    if saga.status in (SagaStatusChoice.COMPENSATION_FAILED, SagaStatusChoice.COMPENSATING):
        found = _for_a_command(saga, holds, payload=payload) or _pending(saga) or _last_words(saga)
    elif saga.status == SagaStatusChoice.STARTED:
        found = _for_events(saga)
    return found or _pending(saga) or _parked(saga)


def _set_aside(saga: SagaLog) -> Waiting:
    count = Parked.objects.filter(suggestion=saga.id, reason="set_aside").count()
    words = ngettext(
        "Set aside since %(since)s, because applying its events failed (%(error)s): %(count)d event waits. "
        "Once the fault is mended, resume the saga.",
        "Set aside since %(since)s, because applying its events failed (%(error)s): %(count)d events wait. "
        "Once the fault is mended, resume the saga.",
        count,
    )
    said = {"since": when(saga.set_aside_at), "error": saga.set_aside_error, "count": count}
    return Waiting(
        kind="set_aside", sentence=words % said, since=saga.set_aside_at, count=count, error=saga.set_aside_error
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


def _last_words(saga: SagaLog) -> Waiting:
    """The command's row may be a step ahead of the saga's counters, which come with its events."""
    return Waiting(kind="applying", sentence=_("Waiting for its last events to be applied."), since=saga.last_event_at)


def _first_command(saga: SagaLog) -> Command | None:
    rows = Command.objects.filter(saga_id=saga.id).defer("body")
    if saga.status == SagaStatusChoice.COMPENSATION_FAILED:
        return rows.filter(status=CommandStatus.EXHAUSTED).order_by("settled_at", "id").first()
    # What is held comes first: nothing but a decision moves it on.
    nearest = Case(
        When(held_since__isnull=False, then=Value(-1)),
        *(When(status=status, then=Value(place)) for place, status in enumerate(_NEAREST)),
        default=Value(len(_NEAREST)),
        output_field=IntegerField(),
    )
    unsettled = rows.exclude(status__in=SETTLED).annotate(nearest=nearest)
    return unsettled.order_by("nearest", "deadline_at", "next_at", "planned_at", "id").first()


def _waiting_for(saga: SagaLog, command: Command, alike: int, hold: OnHold | None, *, payload: bool) -> Waiting:
    kind, words, since = _command_words(saga, command, hold)
    said = {
        "command": command.name,
        "topic": command.topic,
        "service": command.service,
        "entity": command.entity,
        "attempt": command.attempt,
        "of": command.maximum_attempts,
        "since": when(since),
        "next": when(command.next_at),
        "deadline": when(command.deadline_at),
        "error": shown_error(command.last_error, payload=payload),
        "after": _predecessors(saga, command.name),
        "other": _task_of(command.held_by) if command.held_by else "",
    }
    more = ngettext(" (and %(more)d command like it)", " (and %(more)d commands like it)", alike - 1)
    return Waiting(
        kind=kind,
        sentence=_with_hold(words % said + (more % {"more": alike - 1} if alike > 1 else ""), hold),
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
        error=shown_error(command.last_error, payload=payload, as_data=True) or None,
        held_by=str(command.held_by) if command.held_by else None,
        on_hold=hold,
    )


def _with_hold(sentence: str, hold: OnHold | None) -> str:
    return f"{sentence} {hold.sentence}" if hold else sentence


def _command_words(saga: SagaLog, command: Command, hold: OnHold | None) -> tuple[str, str, datetime | None]:
    """(kind, sentence, since when)."""
    if command.status == CommandStatus.EXHAUSTED:
        words = _(
            "A person must decide on %(command)s for %(entity)s (topic %(topic)s), given up at %(since)s after attempt "
            "%(attempt)d of %(of)d: %(error)s Retry it, skip it, or mark it done."
        )
        return "decision", words, command.settled_at
    if command.held_since is not None:
        words = _(
            "A person must decide on %(command)s for %(entity)s (topic %(topic)s), held since %(since)s because task "
            "%(other)s has it too: release it, or withdraw it."
        )
        return "held", words, command.held_since
    if command.status == CommandStatus.PUBLISHED:
        return _sent_words(command, hold)
    if command.status == CommandStatus.PUBLISHING:
        words = _("%(command)s for %(entity)s is being sent to topic %(topic)s, attempt %(attempt)d of %(of)d.")
        return "sending", words, command.claimed_at
    if command.released_at is None:
        words = _("%(command)s for %(entity)s (topic %(topic)s) waits until %(after)s of the same lane is answered.")
        return "predecessor", words, command.planned_at
    standing = switches.peek()
    pause = standing.pause_of(command.service)
    if pause is not None:
        words = _("%(command)s for %(entity)s waits to be sent to topic %(topic)s. Resume publishing, or withdraw it.")
        # What a person wrote as the reason may hold a percent sign, and the sentence is a template.
        return "paused", pause_words(pause).replace("%", "%%") + " " + words, pause.changed_at
    canary = standing.canary_before(command.service, command.id)
    if canary is not None:
        words = _("%(command)s for %(entity)s waits to be sent to topic %(topic)s.")
        return "canary", canary_words(canary).replace("%", "%%") + " " + words, canary.changed_at
    if command.next_at is not None and command.next_at > clock.now():
        words = _(
            "Waiting for the next attempt at %(command)s for %(entity)s on topic %(topic)s at %(next)s; attempt "
            "%(attempt)d of %(of)d came to this: %(error)s"
        )
        return "retry", words, command.planned_at
    words = _("%(command)s for %(entity)s is due since %(since)s and about to be sent to topic %(topic)s.")
    return "due", words, command.next_at


def _sent_words(command: Command, hold: OnHold | None) -> tuple[str, str, datetime | None]:
    since = command.published_at
    if hold is not None:
        # Its deadline may be in the past, and begins again afterwards: no time that one could wait for.
        words = _(
            "Waiting since %(since)s for %(service)s to confirm %(command)s for %(entity)s on topic %(topic)s, attempt "
            "%(attempt)d of %(of)d."
        )
    elif command.deadline_at is None:
        words = _("%(command)s for %(entity)s was sent to topic %(topic)s at %(since)s: waiting to be counted.")
    else:
        words = _(
            "Waiting since %(since)s for %(service)s to confirm %(command)s for %(entity)s on topic %(topic)s, attempt "
            "%(attempt)d of %(of)d, until %(deadline)s."
        )
    return "confirmation", words, since


def _task_of(saga_id: UUID) -> str:
    """The task of a saga, or its id where it is not there any more."""
    return SagaLog.objects.filter(id=saga_id).values_list("key", flat=True).first() or str(saga_id)


def _predecessors(saga: SagaLog, command: str) -> str:
    definition = _definition(saga)
    item = definition.compensation_of.get(command) if definition else None
    return ", ".join(item.after) if item and item.after else _("another command")


# --- events ---------------------------------------------------------------------------------------------------------


def _for_events(saga: SagaLog) -> Waiting | None:
    definition = _definition(saga)
    if definition is None:
        words = _("This release does not know %(type)s version %(version)d: a newer one goes on with the saga.")
        said = {"type": saga.saga_type, "version": saga.version}
        return Waiting(kind="applying", sentence=words % said, since=saga.last_event_at)
    state = saga_from(saga.state, SagaCounts())
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


def _intake(definition: Definition, state: SagaState, saga: SagaLog) -> Waiting | None:
    if state.intake_over or not definition.counts_lanes:
        return None
    if state.announced is None:
        words = _("How many %(things)s there are is not known yet. Expected next: %(event)s.")
    else:
        words = _("More %(things)s may still be announced. Expected next: %(event)s.")
    event = ", ".join(event.type for event in definition.events if event.means.ends_intake)
    said = {"things": _things(definition, 2), "event": event or "–"}
    return Waiting(kind="events", sentence=words % said, since=saga.last_event_at, event=event or None)


def _unseen(definition: Definition, state: SagaState, saga: SagaLog) -> Waiting | None:
    announced = state.announced.lanes if state.announced else 0
    missing = announced - saga.lanes_known
    if missing <= 0:
        return None
    words = ngettext(
        "%(missing)d of %(announced)d announced %(things)s has not been named by any event yet.",
        "%(missing)d of %(announced)d announced %(things)s have not been named by any event yet.",
        missing,
    )
    said = {"missing": missing, "announced": announced, "things": _things(definition, announced)}
    return Waiting(kind="lanes", sentence=words % said, since=saga.last_event_at, count=missing)


class OpenLanes(NamedTuple):
    """Open lanes that wait for the same events: how many, the one that waits longest, and since when."""

    lanes: int
    entity: str
    since: datetime | None


def _open_lanes(definition: Definition, saga: SagaLog) -> Waiting | None:
    """What most of the open lanes wait for."""
    if not saga.lanes_open:
        return None
    groups = lanes_by_expected(definition, saga)
    if not groups:
        return None
    events, found = min(groups.items(), key=lambda item: (-item[1].lanes, when(item[1].since), item[1].entity))
    said = {
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
        sentence=_lane_words(definition, found.lanes, bool(events)) % said,
        since=found.since,
        count=found.lanes,
        entity=found.entity,
        event=", ".join(events) or None,
    )


def _lane_words(definition: Definition, count: int, expects: bool) -> str:
    if not expects:
        return ngettext(
            "%(count)d of %(known)d %(things)s is not finished, last moved at %(since)s, and no further event is "
            "defined for it (%(entity)s).",
            "%(count)d of %(known)d %(things)s are not finished, the first last moved at %(since)s, and no further "
            "event is defined for them (%(entity)s …).",
            count,
        )
    if not definition.entity_field:
        return _("Waiting for %(service)s since %(since)s. Expected next: %(event)s.")
    return ngettext(
        "%(count)d of %(known)d %(things)s is waiting for %(service)s since %(since)s. Expected next: %(event)s "
        "(%(entity)s).",
        "%(count)d of %(known)d %(things)s are waiting for %(service)s, the first since %(since)s. Expected next: "
        "%(event)s (%(entity)s …).",
        count,
    )


def lanes_by_expected(definition: Definition, saga: SagaLog) -> dict[tuple[str, ...], OpenLanes]:
    """The open lanes, by the types of the events that each waits for."""
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
    """The saga's own steps, and (how many, the first of them, since when, steps) of open lanes whose steps look alike.

    One query: it reads the saga's lanes and steps by index, and answers with one row a pattern, of which even thousands
    of lanes have few. "Since" is the time of the step that is furthest in the definition's order.
    """
    order = [event.type for event in definition.events]
    with connection.cursor() as cursor:
        cursor.execute(
            """
            WITH lane AS MATERIALIZED (
                SELECT l.entity,
                       coalesce(
                           (array_agg(s.occurred_at ORDER BY array_position(%(order)s::text[], s.event_type) DESC
                               NULLS LAST, s.occurred_at DESC) FILTER (WHERE s.id IS NOT NULL))[1],
                           l.opened_at
                       ) AS since,
                       array_agg(ARRAY[s.step_type, s.service, s.rank::text, s.event_type]
                           ORDER BY s.step_type, s.service) FILTER (WHERE s.id IS NOT NULL) AS steps
                FROM sagas_lane l LEFT JOIN sagas_step s ON s.saga_id = l.saga_id AND s.entity = l.entity
                WHERE l.saga_id = %(saga)s AND l.known AND l.outcome = 'open'
                GROUP BY l.id, l.entity, l.opened_at
            )
            SELECT count(*), (array_agg(entity ORDER BY since, entity))[1], min(since), steps
            FROM lane GROUP BY steps
            UNION ALL
            SELECT 0, '', NULL, array_agg(ARRAY[step_type, service, rank::text, event_type])
            FROM sagas_step WHERE saga_id = %(saga)s AND entity = %(key)s
            """,
            {"order": order, "saga": saga.id, "key": saga.key},
        )
        rows = [
            (count, entity, since, [ShownStep(kind, service, int(rank), event) for kind, service, rank, event in steps])
            for count, entity, since, found in cursor.fetchall()
            for steps in [found or []]
        ]
    whole = [step for count, _entity, _since, steps in rows if not count for step in steps]
    return whole, [row for row in rows if row[0]]


def _service(event: Event) -> str:
    """The service that an event comes from, as people write its name."""
    return event.means.step.service.replace("_", " ").title() if event.means.step else "–"


def _things(definition: Definition, count: int) -> str:
    """What people call so many entities of this saga type. Only the nouns of our own definitions are translated."""
    title = definition.entity_title
    if title == "Image":
        return ngettext("image", "images", count)
    return title.lower() if count == 1 else f"{title.lower()}s"


# --- what is in the log, and not in the saga --------------------------------------------------------------------------


def _pending(saga: SagaLog) -> Waiting | None:
    count = Pending.objects.filter(key=f"{saga.saga_type}:{saga.key}").count()
    if not count:
        return None
    words = ngettext(
        "%(count)d event of it is stored and about to be applied.",
        "%(count)d events of it are stored and about to be applied.",
        count,
    )
    return Waiting(kind="applying", sentence=words % {"count": count}, since=saga.last_event_at, count=count)


def _parked(saga: SagaLog) -> Waiting | None:
    rows = Parked.objects.filter(suggestion=saga.id, dismissed_at__isnull=True)
    found: Mapping[str, Any] = rows.aggregate(since=Min("since"))
    if found["since"] is None:
        return None
    count = rows.count()
    words = ngettext(
        "%(count)d event is parked that may belong to this saga: attach it, or dismiss it.",
        "%(count)d events are parked that may belong to this saga: attach them, or dismiss them.",
        count,
    )
    return Waiting(kind="parked", sentence=words % {"count": count}, since=found["since"], count=count)


def _definition(saga: SagaLog) -> Definition | None:
    try:
        return registry.get(saga.saga_type, saga.version)
    except registry.UnknownDefinition:
        return None
