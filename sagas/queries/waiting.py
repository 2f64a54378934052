"""What a saga waits for: one plain sentence, and the same as data. Some five queries, whatever the saga's size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from django.db import connection
from django.db.models import Case, IntegerField, Min, Value, When
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from bridge.models import Pending
from compensation import switches
from compensation.models import SETTLED, Command
from compensation.models import Status as CommandStatus
from sagas.definitions import registry
from sagas.engine.definition import Definition, Entity, StepStatus
from sagas.engine.state import Saga, Tally, saga_from
from sagas.models import Parked, SagaLog, Status

# Which of several commands speaks for a saga: the one nearest to the service first.
_NEAREST = (CommandStatus.PUBLISHED, CommandStatus.PUBLISHING, CommandStatus.WAITING, CommandStatus.PLANNED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """`sentence` is for a person and in their language; `kind` and the rest say the same to a program.

    kind: set_aside, decision, confirmation, sending, due, retry, predecessor, paused, events, lanes, applying, parked.
    `count` is of the things that wait alike (commands, images or events); the others tell of the first of them.
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

    def as_data(self) -> dict[str, Any]:
        """All of it, by name."""
        return asdict(self)


def waiting(saga: SagaLog) -> Waiting | None:
    """What this saga waits for, or None where nothing is open."""
    if saga.set_aside_at is not None:
        return _set_aside(saga)
    found: Waiting | None = None
    if saga.status in (Status.COMPENSATION_FAILED, Status.COMPENSATING):
        found = _for_a_command(saga) or _pending(saga) or _last_words(saga)
    elif saga.status == Status.STARTED:
        found = _for_events(saga)
    return found or _pending(saga) or _parked(saga)


def when(moment: datetime | None) -> str:
    """A time as the sentences write it."""
    return "–" if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


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


def _for_a_command(saga: SagaLog) -> Waiting | None:
    command = _first_command(saga)
    if command is None:
        return None
    alike = Command.objects.filter(saga_id=saga.id, name=command.name, status=command.status).count()
    return _waiting_for(saga, command, alike)


def _last_words(saga: SagaLog) -> Waiting:
    """The command's row may be a step ahead of the saga's counters, which come with its events."""
    return Waiting(kind="applying", sentence=_("Waiting for its last events to be applied."), since=saga.last_event_at)


def _first_command(saga: SagaLog) -> Command | None:
    rows = Command.objects.filter(saga_id=saga.id).defer("body")
    if saga.status == Status.COMPENSATION_FAILED:
        return rows.filter(status=CommandStatus.EXHAUSTED).order_by("settled_at", "id").first()
    nearest = Case(
        *(When(status=status, then=Value(place)) for place, status in enumerate(_NEAREST)),
        default=Value(len(_NEAREST)),
        output_field=IntegerField(),
    )
    unsettled = rows.exclude(status__in=SETTLED).annotate(nearest=nearest)
    return unsettled.order_by("nearest", "deadline_at", "next_at", "planned_at", "id").first()


def _waiting_for(saga: SagaLog, command: Command, alike: int) -> Waiting:
    kind, words, since = _command_words(saga, command)
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
        "error": command.last_error,
        "after": _predecessors(saga, command.name),
    }
    more = ngettext(" (and %(more)d command like it)", " (and %(more)d commands like it)", alike - 1)
    return Waiting(
        kind=kind,
        sentence=words % said + (more % {"more": alike - 1} if alike > 1 else ""),
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
        error=command.last_error or None,
    )


def _command_words(saga: SagaLog, command: Command) -> tuple[str, str, datetime | None]:
    """(kind, sentence, since when)."""
    if command.status == CommandStatus.EXHAUSTED:
        words = _(
            "A person must decide on %(command)s for %(entity)s (topic %(topic)s), given up at %(since)s after attempt "
            "%(attempt)d of %(of)d: %(error)s Retry it, skip it, or mark it done."
        )
        return "decision", words, command.settled_at
    standing = switches.read()
    paused = standing.is_paused(command.service)
    if command.status == CommandStatus.PUBLISHED:
        return _sent_words(command, paused)
    if command.status == CommandStatus.PUBLISHING:
        words = _("%(command)s for %(entity)s is being sent to topic %(topic)s, attempt %(attempt)d of %(of)d.")
        return "sending", words, command.claimed_at
    if command.released_at is None:
        words = _("%(command)s for %(entity)s (topic %(topic)s) waits until %(after)s of the same lane is answered.")
        return "predecessor", words, command.planned_at
    if paused:
        words = _(
            "Publishing to %(service)s is paused since %(since)s: %(command)s for %(entity)s waits to be sent to topic "
            "%(topic)s. Resume publishing, or withdraw it."
        )
        return "paused", words, standing.changed_at(command.service)
    if command.next_at is not None and command.next_at > timezone.now():
        words = _(
            "Waiting for the next attempt at %(command)s for %(entity)s on topic %(topic)s at %(next)s; attempt "
            "%(attempt)d of %(of)d came to this: %(error)s"
        )
        return "retry", words, command.planned_at
    words = _("%(command)s for %(entity)s is due since %(since)s and about to be sent to topic %(topic)s.")
    return "due", words, command.next_at


def _sent_words(command: Command, paused: bool) -> tuple[str, str, datetime | None]:
    since = command.published_at
    if paused:
        words = _(
            "Waiting since %(since)s for %(service)s to confirm %(command)s for %(entity)s on topic %(topic)s, attempt "
            "%(attempt)d of %(of)d. Publishing is paused, so its deadline rests."
        )
    elif command.deadline_at is None:
        words = _("%(command)s for %(entity)s was sent to topic %(topic)s at %(since)s: waiting to be counted.")
    else:
        words = _(
            "Waiting since %(since)s for %(service)s to confirm %(command)s for %(entity)s on topic %(topic)s, attempt "
            "%(attempt)d of %(of)d, until %(deadline)s."
        )
    return "confirmation", words, since


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
    state = saga_from(saga.state, Tally())
    parts = [
        part for part in (_intake(definition, state, saga), _unseen(state, saga), _open_lanes(definition, saga)) if part
    ]
    if not parts:
        return Waiting(kind="events", sentence=_("Waiting for further events."), since=saga.last_event_at)
    first = parts[0]
    sentence = " ".join(part.sentence for part in parts)
    return Waiting(
        kind=first.kind, sentence=sentence, since=first.since, count=first.count, entity=first.entity, event=first.event
    )


def _intake(definition: Definition, state: Saga, saga: SagaLog) -> Waiting | None:
    if state.intake_over or not definition.counts_lanes:
        return None
    names = [event.type for event in definition.events if event.means.ends_intake]
    words = _("Waiting for %(event)s: how many lanes there are is not known yet.")
    event = ", ".join(names)
    return Waiting(kind="events", sentence=words % {"event": event}, since=saga.last_event_at, event=event)


def _unseen(state: Saga, saga: SagaLog) -> Waiting | None:
    announced = state.announced.lanes if state.announced else 0
    missing = announced - saga.lanes_known
    if missing <= 0:
        return None
    words = ngettext(
        "%(missing)d of %(announced)d announced lanes has not been named by any event yet.",
        "%(missing)d of %(announced)d announced lanes have not been named by any event yet.",
        missing,
    )
    said = {"missing": missing, "announced": announced}
    return Waiting(kind="lanes", sentence=words % said, since=saga.last_event_at, count=missing)


def _open_lanes(definition: Definition, saga: SagaLog) -> Waiting | None:
    """The step at which most of the open lanes stand, and what would move them on."""
    if not saga.lanes_open:
        return None
    standing = _furthest_steps(saga)
    if not standing:
        return None
    count, step_type, event_type, entity, since = standing[0]
    event = _next_event(definition, event_type)
    words = ngettext(
        "%(count)d open lane stands at %(step)s since %(since)s and waits for %(event)s (%(entity)s).",
        "%(count)d open lanes stand at %(step)s, the first since %(since)s, and wait for %(event)s (%(entity)s …).",
        count,
    )
    said = {"count": count, "step": step_type, "since": when(since), "event": event or "–", "entity": entity}
    return Waiting(kind="events", sentence=words % said, since=since, count=count, entity=entity, event=event)


def _furthest_steps(saga: SagaLog) -> list[tuple[int, str, str, str, datetime]]:
    """(how many, step, event, an entity, since) of the last step of each open lane, the most first."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT count(*), step_type, event_type,
                   (array_agg(entity ORDER BY occurred_at, entity))[1], min(occurred_at)
            FROM (
                SELECT DISTINCT ON (l.id) l.entity, s.step_type, s.event_type, s.occurred_at
                FROM sagas_lane l JOIN sagas_step s ON s.saga_id = l.saga_id AND s.entity = l.entity
                WHERE l.saga_id = %s AND l.known AND l.outcome = 'open'
                ORDER BY l.id, s.occurred_at DESC, s.id DESC
            ) AS last
            GROUP BY step_type, event_type ORDER BY 1 DESC, 5 LIMIT 3
            """,
            [saga.id],
        )
        return [(int(row[0]), row[1], row[2], row[3], row[4]) for row in cursor.fetchall()]


def _next_event(definition: Definition, last: str) -> str | None:
    """The event that a lane's way goes on with, in the order in which the definition tells it."""
    types = [event.type for event in definition.events]
    after = definition.events[types.index(last) + 1 :] if last in types else definition.events
    for event in after:
        onward = event.means.becomes in (StepStatus.STARTED, StepStatus.COMPLETED)
        if onward and event.entity not in (Entity.EACH, Entity.EVENT):
            return event.type
    return None


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
