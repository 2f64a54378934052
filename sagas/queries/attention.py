"""The list of what needs attention: the most severe kind first, within a kind the newest, each with advice.

Every item can be reached by paging, and totals are exact: each kind is counted over the rows of a partial index, or of
an index on a status, and a page reads no more rows of a kind than it shows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import Count, F, Max, Min, QuerySet, TextField
from django.db.models.functions import Cast, JSONObject
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from bridge import backlog, clock, heartbeats, quarantine, reasons
from bridge.backlog import UndeliveredTopic
from bridge.blocked import blocked_topics
from bridge.models import Event, QuarantineCode, Quarantined, QuarantineStatus
from compensation import deadlines
from compensation.answers import services_on
from compensation.deadlines import DeadlineHolds
from compensation.models import UNSENT, Breaker, BreakerState, Command, CommandStatus, Switch
from compensation.never_answered import NeverAnswered, never_answered
from compensation.queries import held, released
from compensation.switches import EVERYTHING
from compensation.undelivered import hold_ends
from sagas.definitions import registry
from sagas.definitions import registry as definitions
from sagas.error_text import shown_error
from sagas.models import SagaEvent, SagaLog, SagaStatusChoice
from sagas.queries import holding
from sagas.queries.holding import service_title, when
from sagas.queries.pages import Page
from sagas.queries.parked import groups_before, newest_groups, pruned_at

# Problems that may resolve automatically are shown only after this time.
PARKED_AFTER = timedelta(minutes=5)
STALLED_AFTER = timedelta(minutes=30)
OVERDUE_AFTER = timedelta(minutes=1)
BLOCKED_AFTER = timedelta(minutes=5)
# These need no decision, so they disappear automatically; the mark stays on the command.
UNSENT_SHOWN = timedelta(days=7)
# Older unclear events are shown by their saga alone, which makes no progress.
UNCLEAR_SHOWN = timedelta(days=7)
# How many (producer, topic) pairs of messages on wrong topics are named, the busiest first.
WRITERS = 3
SHOWN_LETTERS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One item that needs attention: `sentence` is the problem, `advice` what to do, `count` how many cases it covers.

    kind: one of KINDS. `since` is when the first case began, `latest` when the last one did. `link` contains the
    parameters from which a page makes its link.
    """

    kind: str
    since: datetime
    latest: datetime
    count: int
    sentence: str
    advice: str
    saga_id: UUID | None = None
    link: Mapping[str, Any] = field(default_factory=dict)

    def age(self, now: datetime) -> timedelta:
        """Return how long it has waited."""
        return now - self.since


_Row = Mapping[str, Any]


class _Kind(NamedTuple):
    """One kind of item: how to count its rows, find a part of them (the newest first), and describe them.

    `rows` is what is counted; None if the rows are few and all found at once.
    Only the rows of the page are described: that costs more than finding them.
    """

    name: str
    rows: Callable[[datetime], QuerySet[Any, Any]] | None
    find: Callable[[datetime, slice], Sequence[_Row]]
    describe: Callable[[Sequence[_Row]], list[Item]]


@dataclass(frozen=True, slots=True)
class Attention(Page[Item]):
    """A page of what needs attention. `by_kind` is the exact number of items of each kind."""

    by_kind: Mapping[str, int]


def attention(
    offset: int = 0,
    limit: int = 100,
    *,
    kind: str = "",
    kinds: Container[str] | None = None,
    payload: bool = False,
) -> Attention:
    """Return a page of what needs attention, the most severe kind first, the newest first within it.

    kind: return items of this kind only. kinds: the kinds that the reader may see (None: all); others are not counted
    either. payload: whether the reader may see the error texts of services. At most some thirty queries, however many
    items there are.
    """
    now = clock.now()
    seen = [each for each in _KINDS if kinds is None or each.name in kinds]
    few = {each.name: each.find(now, slice(None)) for each in seen if each.rows is None}
    counts = {each.name: each.rows(now).count() if each.rows else len(few[each.name]) for each in seen}
    items: list[Item] = []
    total, first, last = 0, offset, offset + limit
    for each in seen:
        if kind and each.name != kind:
            continue
        count = counts[each.name]
        part = slice(min(max(first - total, 0), count), min(max(last - total, 0), count))
        total += count
        if part.start < part.stop:
            found = few[each.name][part] if each.name in few else each.find(now, part)
            items += each.describe([_shown(row, payload=payload) for row in found])
    return Attention(total, offset, limit, items, {each.name: counts[each.name] for each in seen})


def _shown(row: _Row, *, payload: bool) -> _Row:
    """Return the row with the last error of one of its commands as the reader may see it."""
    if "last_error" not in row:
        return row
    found = json.loads(row["last_error"])
    return {**row, "error": shown_error(found["code"], found["data"], payload=payload)}


def _exhausted(_now: datetime) -> QuerySet[Any, Any]:
    return Command.objects.filter(status=CommandStatus.EXHAUSTED).order_by().values("saga_id").distinct()


def _find_exhausted(_now: datetime, part: slice) -> list[_Row]:
    return _by_saga(Command.objects.filter(status=CommandStatus.EXHAUSTED), "settled_at", part)


def _describe_exhausted(rows: Sequence[_Row]) -> list[Item]:
    def sentence(count: int) -> str:
        return ngettext(
            "%(count)d command of saga %(key)s needs a decision: %(names)s. %(error)s",
            "%(count)d commands of saga %(key)s need a decision: %(names)s. %(error)s",
            count,
        )

    advice = _("Check the attempts. Retry if the service is back, mark as done if you have verified it, or skip.")
    return _items_of_sagas("exhausted", rows, sentence, lambda _row: advice, status=CommandStatus.EXHAUSTED.value)


def _held(_now: datetime) -> QuerySet[Any, Any]:
    return held().order_by().values("saga_id").distinct()


def _find_held(_now: datetime, part: slice) -> list[_Row]:
    return _by_saga(held(), "held_since", part)


def _describe_held(rows: Sequence[_Row]) -> list[Item]:
    def sentence(count: int) -> str:
        return ngettext(
            "%(count)d command of saga %(key)s has been held since %(since)s because another saga uses what it "
            "undoes: %(names)s.",
            "%(count)d commands of saga %(key)s are held, the first since %(since)s, because another saga uses what "
            "they undo: %(names)s.",
            count,
        )

    advice = _("Check the other saga. Release what may be undone for both, and withdraw the rest.")
    return _items_of_sagas("held", rows, sentence, lambda _row: advice, held="yes")


def _late(now: datetime) -> QuerySet[Command]:
    """Return commands whose deadline passed a while ago without effect: it is on hold, or no worker runs the sweep."""
    return Command.objects.filter(status=CommandStatus.PUBLISHED, deadline_at__lt=now - OVERDUE_AFTER)


def _overdue(now: datetime) -> QuerySet[Any, Any]:
    return _late(now).order_by().values("saga_id").distinct()


def _find_overdue(now: datetime, part: slice) -> list[_Row]:
    return _by_saga(_late(now), "deadline_at", part)


def _describe_overdue(rows: Sequence[_Row]) -> list[Item]:
    def sentence(count: int) -> str:
        return ngettext(
            "%(count)d confirmation for saga %(key)s has been overdue since %(since)s: %(names)s.",
            "%(count)d confirmations for saga %(key)s are overdue, the first since %(since)s: %(names)s.",
            count,
        )

    holds = deadlines.deadline_holds()
    status = CommandStatus.PUBLISHED.value
    return _items_of_sagas("overdue", rows, sentence, lambda row: _overdue_advice(row, holds), status=status)


def _overdue_advice(row: _Row, holds: DeadlineHolds) -> str:
    services = dict.fromkeys((row["first_service"], row["last_service"]))
    found = (holding.of_service(service, holds) for service in services)
    held = next((hold for hold in found if hold is not None), None)
    return (
        held.sentence if held else _("Check that a Celery worker and beat are running: they process missed deadlines.")
    )


def _unsent(now: datetime) -> QuerySet[Command]:
    return Command.objects.filter(confirmed_unsent_at__gte=now - UNSENT_SHOWN)


def _confirmed_unsent(now: datetime) -> QuerySet[Any, Any]:
    return _unsent(now).order_by().values("saga_id").distinct()


def _find_confirmed_unsent(now: datetime, part: slice) -> list[_Row]:
    return _by_saga(_unsent(now), "confirmed_unsent_at", part)


def _describe_confirmed_unsent(rows: Sequence[_Row]) -> list[Item]:
    def sentence(count: int) -> str:
        return ngettext(
            "%(count)d command of saga %(key)s was confirmed by an event although it was never sent: %(names)s.",
            "%(count)d commands of saga %(key)s were confirmed by events although they were never sent: %(names)s.",
            count,
        )

    days = UNSENT_SHOWN.days
    advice = ngettext(
        "Verify in the service that it is undone, and check who sent the event. Shown for %(days)d day.",
        "Verify in the service that it is undone, and check who sent the event. Shown for %(days)d days.",
        days,
    ) % {"days": days}
    status = CommandStatus.CONFIRMED.value
    return _items_of_sagas("confirmed_unsent", rows, sentence, lambda _row: advice, status=status)


def _carried_out(now: datetime) -> QuerySet[Command]:
    return Command.objects.filter(overtaken_at__gte=now - UNSENT_SHOWN)


def _overtaken(now: datetime) -> QuerySet[Any, Any]:
    return _carried_out(now).order_by().values("saga_id").distinct()


def _find_overtaken(now: datetime, part: slice) -> list[_Row]:
    return _by_saga(_carried_out(now), "overtaken_at", part)


def _describe_overtaken(rows: Sequence[_Row]) -> list[Item]:
    def sentence(count: int) -> str:
        return ngettext(
            "%(count)d command of saga %(key)s was carried out although its task was started again: %(names)s.",
            "%(count)d commands of saga %(key)s were carried out although its task was started again: %(names)s.",
            count,
        )

    days = UNSENT_SHOWN.days
    advice = ngettext(
        "It was sent before the restart was known. Have the image retrieved again. Shown for %(days)d day.",
        "It was sent before the restart was known. Have the image retrieved again. Shown for %(days)d days.",
        days,
    ) % {"days": days}
    status = CommandStatus.CONFIRMED.value
    return _items_of_sagas("overtaken", rows, sentence, lambda _row: advice, status=status)


def _by_saga(commands: QuerySet[Command], since: str, part: slice) -> list[_Row]:
    """Group commands by saga, the newest first; the details are read for this part only."""
    newest = commands.order_by().values("saga_id").annotate(latest=Max(since))
    page = [row["saga_id"] for row in newest.order_by("-latest", "saga_id")[part]]
    details = (
        commands.filter(saga_id__in=page)
        .order_by()
        .values("saga_id")
        .annotate(
            since=Min(since),
            latest=Max(since),
            count=Count("id"),
            first=Min("name"),
            last=Max("name"),
            first_service=Min("service"),
            last_service=Max("service"),
            # Of one command, any of them: the greatest pair.
            last_error=Max(Cast(JSONObject(code="last_error", data="last_error_data"), TextField())),
        )
    )
    found = {row["saga_id"]: row for row in details}
    return [found[saga] for saga in page if saga in found]  # a saga may have been decided on meanwhile


def _items_of_sagas(
    kind: str, rows: Sequence[_Row], sentence: Callable[[int], str], advice: Callable[[_Row], str], **link: str
) -> list[Item]:
    """Return an item for each saga of `_by_saga`. sentence: the template for so many commands; advice: for one row."""
    keys = _keys(rows)
    return [
        Item(
            kind=kind,
            since=row["since"],
            latest=row["latest"],
            count=row["count"],
            sentence=sentence(row["count"])
            % {
                "count": row["count"],
                "key": keys.get(row["saga_id"], ""),
                "since": when(row["since"]),
                "names": _names(row),
                "error": row.get("error", ""),
            },
            advice=advice(row),
            saga_id=row["saga_id"],
            link={"saga": str(row["saga_id"]), **link},
        )
        for row in rows
    ]


def _names(row: _Row) -> str:
    return ", ".join(dict.fromkeys((row["first"], row["last"])))


def _keys(rows: Sequence[_Row]) -> dict[UUID, str]:
    return dict(SagaLog.objects.filter(id__in=[row["saga_id"] for row in rows]).values_list("id", "key"))


def _parked(now: datetime) -> QuerySet[Any, Any]:
    return groups_before(now - PARKED_AFTER)


def _find_parked(now: datetime, part: slice) -> list[_Row]:
    return [{**row, "since": row["first_at"]} for row in newest_groups(now - PARKED_AFTER, part)]


def _describe_parked(rows: Sequence[_Row]) -> list[Item]:
    pruned = pruned_at((row["stream"], row["key"]) for row in rows)
    return [_parked_item(row, pruned.get((row["stream"], row["key"]))) for row in rows]


def _parked_item(row: _Row, pruned: datetime | None) -> Item:
    sentence = ngettext(
        "%(count)d event of %(key)s does not match any saga.",
        "%(count)d events of %(key)s do not match any saga.",
        row["count"],
    ) % {"count": row["count"], "key": row["key"] or row["alone"]}
    advice = _("Attach the key to its saga, start a saga from it, or dismiss it with a reason.")
    if pruned is not None:
        sentence += " " + _("The saga of this key had ended and was pruned at %(when)s.") % {"when": when(pruned)}
        advice = _("The events arrived too late: ask the service why, then dismiss them with a reason.")
    return Item(
        kind="parked",
        since=row["since"],
        latest=row["latest"],
        count=row["count"],
        sentence=sentence,
        advice=advice,
        saga_id=UUID(row["likely"]) if row["likely"] and row["likely"] == row["likely_last"] else None,
        link={"stream": row["stream"], "key": row["key"], "entity": row["alone"], "event": row["first_event"]},
    )


def _find_quarantined(_now: datetime, part: slice) -> Sequence[_Row]:
    """Group open messages by code, of which there are about ten."""
    open_ones = Quarantined.objects.filter(status=QuarantineStatus.OPEN).order_by()
    counted = open_ones.values("code").annotate(since=Min("received_at"), latest=Max("received_at"), count=Count("id"))
    return list(counted.order_by("-latest", "code"))[part]


def _describe_quarantined(rows: Sequence[_Row]) -> list[Item]:
    return [
        _wrong_topic_item(row) if row["code"] == QuarantineCode.WRONG_TOPIC else _unreadable_item(row) for row in rows
    ]


def _unreadable_item(row: _Row) -> Item:
    text = ngettext(
        "%(count)d message could not be read: %(why)s.", "%(count)d messages could not be read: %(why)s.", row["count"]
    )
    return _quarantined_item(
        row,
        text % {"count": row["count"], "why": _why(row["code"])},
        _("Check the reason. Requeue after a fix, otherwise dismiss."),
    )


def _wrong_topic_item(row: _Row) -> Item:
    """Show who wrote to which topic: a misconfigured service, or one that pretends to be another."""
    open_ones = Quarantined.objects.filter(status=QuarantineStatus.OPEN, code=row["code"]).order_by()
    places = open_ones.values_list("topic", "producer").annotate(number=Count("id"))
    busiest = list(places.order_by("-number", "topic", "producer")[: WRITERS + 1])
    shown = [
        _("%(producer)s to %(topic)s (%(count)d)")
        % {"producer": producer[:SHOWN_LETTERS] or "–", "topic": topic, "count": number}
        for topic, producer, number in busiest[:WRITERS]
    ]
    text = ngettext(
        "%(count)d message has a type that its topic does not accept, by producer: %(places)s.",
        "%(count)d messages have types that their topics do not accept, by producer: %(places)s.",
        row["count"],
    )
    return _quarantined_item(
        row,
        text % {"count": row["count"], "places": ", ".join(shown) + ("…" if len(busiest) > WRITERS else "")},
        _(
            "Check who may write to these topics: the broker's permissions decide, a producer's name proves nothing. "
            "Then dismiss the messages."
        ),
    )


def _quarantined_item(row: _Row, sentence: str, advice: str) -> Item:
    return Item(
        kind="quarantined",
        since=row["since"],
        latest=row["latest"],
        count=row["count"],
        sentence=sentence,
        advice=advice,
        link={"code": row["code"], "status": QuarantineStatus.OPEN.value},
    )


def _why(code: str) -> str:
    return str(QuarantineCode(code).label) if code in QuarantineCode.values else code


def _set_aside(_now: datetime) -> QuerySet[Any, Any]:
    return SagaLog.objects.filter(set_aside_at__isnull=False).order_by().values("id")


def _find_set_aside(_now: datetime, part: slice) -> list[_Row]:
    rows = SagaLog.objects.filter(set_aside_at__isnull=False).order_by("-set_aside_at", "id")
    return list(rows.values("id", "key", error=F("set_aside_error"), since=F("set_aside_at"))[part])


def _describe_set_aside(rows: Sequence[_Row]) -> list[Item]:
    return [
        Item(
            kind="set_aside",
            since=row["since"],
            latest=row["since"],
            count=1,
            sentence=_("Saga %(key)s is blocked by an error: its events could not be applied (%(error)s).")
            % {"key": row["key"], "error": row["error"]},
            advice=_("This is an error in this service. Have it fixed, then resume the saga."),
            saga_id=row["id"],
            link={"saga": str(row["id"])},
        )
        for row in rows
    ]


def _without_progress(now: datetime) -> QuerySet[SagaLog]:
    """Filter by both clocks: a saga whose old events arrived only now is making progress."""
    before = now - STALLED_AFTER
    return SagaLog.objects.filter(
        status__in=[SagaStatusChoice.STARTED, SagaStatusChoice.COMPENSATING],
        # Redundant, but there is an index on it: a saga starts before its last event.
        start_time__lt=before,
        last_event_at__lt=before,
        updated_at__lt=before,
        set_aside_at__isnull=True,
    )


def _stalled(now: datetime) -> QuerySet[Any, Any]:
    return _without_progress(now).order_by().values("id")


def _find_stalled(now: datetime, part: slice) -> list[_Row]:
    rows = _without_progress(now).order_by("-last_event_at", "id")
    return list(rows.values("id", "key", "status", "saga_type", "version", since=F("last_event_at"))[part])


def _describe_stalled(rows: Sequence[_Row]) -> list[Item]:
    return [
        Item(
            kind="stalled",
            since=row["since"],
            latest=row["since"],
            count=1,
            sentence=_("Saga %(key)s (%(status)s) has made no progress since %(since)s.")
            % {"key": row["key"], "status": SagaStatusChoice(row["status"]).label, "since": when(row["since"])},
            advice=_stalled_advice(row),
            saga_id=row["id"],
            link={"saga": str(row["id"])},
        )
        for row in rows
    ]


def _unclear_log(now: datetime) -> QuerySet[SagaEvent]:
    """Return the log rows of unclear events in sagas that still wait: another event may have told it meanwhile."""
    events = Event.objects.filter(unclear=True, received_at__gte=now - UNCLEAR_SHOWN).order_by().values("id")
    return SagaEvent.objects.filter(
        event__in=events, note__has_key="unclear", saga__status=SagaStatusChoice.STARTED
    ).order_by()


def _unclear(now: datetime) -> QuerySet[Any, Any]:
    return _unclear_log(now).values("saga_id").distinct()


def _find_unclear(now: datetime, part: slice) -> list[_Row]:
    grouped = _unclear_log(now).values("saga_id")
    found = grouped.annotate(since=Min("applied_at"), latest=Max("applied_at"), count=Count("event"))
    return list(found.order_by("-latest", "saga_id")[part])


def _describe_unclear(rows: Sequence[_Row]) -> list[Item]:
    keys = _keys(rows)
    return [
        Item(
            kind="unclear",
            since=row["since"],
            latest=row["latest"],
            count=row["count"],
            sentence=ngettext(
                "%(count)d event of saga %(key)s does not say whether the work succeeded, or what failed: "
                "it changed nothing.",
                "%(count)d events of saga %(key)s do not say whether the work succeeded, or what failed: "
                "they changed nothing.",
                row["count"],
            )
            % {"count": row["count"], "key": keys.get(row["saga_id"], "")},
            advice=_(
                "Check it in the service. Undo it if the work failed; otherwise ask the service to send the "
                "event again with a status that it documents."
            ),
            saga_id=row["saga_id"],
            link={"saga": str(row["saga_id"])},
        )
        for row in rows
    ]


def _stalled_advice(row: _Row) -> str:
    """Advise to close the retrieval where no event may ever do so. Nothing failed: nothing is to be undone."""
    try:
        counts_lanes = definitions.get(row["saga_type"], row["version"]).counts_lanes
    except definitions.UnknownDefinition:
        counts_lanes = False
    if counts_lanes and row["status"] == SagaStatusChoice.STARTED:
        return _(
            "Its page shows what it is waiting for. Ask that service; if no further images will arrive, close the "
            "retrieval."
        )
    return _("Its page shows what it is waiting for. Ask that service.")


def _find_paused(_now: datetime, part: slice) -> Sequence[_Row]:
    """Find the switches that hold commands back; there are no more than services."""
    switches = list(Switch.objects.filter(paused=True).order_by("-changed_at", "service"))
    if not switches:
        return []
    waiting = _by_service(released())
    held = ((switch, _held_by(switch, waiting)) for switch in switches)
    return [{"switch": switch, "count": count} for switch, count in held if count][part]


def _held_by(switch: Switch, waiting: Mapping[str, int]) -> int:
    return sum(waiting.values()) if switch.service == EVERYTHING else waiting.get(switch.service, 0)


def _describe_paused(rows: Sequence[_Row]) -> list[Item]:
    return [_paused_item(row["switch"], row["count"]) for row in rows]


def _paused_item(switch: Switch, count: int) -> Item:
    text = ngettext(
        "%(count)d command is waiting: sending to %(service)s was paused by %(who)s.",
        "%(count)d commands are waiting: sending to %(service)s was paused by %(who)s.",
        count,
    )
    service = service_title(switch.service)
    return Item(
        kind="paused",
        since=switch.changed_at,
        latest=switch.changed_at,
        count=count,
        sentence=text % {"service": service, "who": switch.changed_by or switch.reason, "count": count},
        advice=_("Withdraw the commands that must not be sent, then resume sending."),
        link={"service": switch.service},
    )


def _by_service(commands: QuerySet[Command]) -> dict[str, int]:
    return dict(commands.order_by().values_list("service").annotate(count=Count("id")))


def _find_breakers(_now: datetime, part: slice) -> Sequence[_Row]:
    """Find circuit breakers that hold commands back, the open ones first, with the number of unsent commands."""
    found = list(Breaker.objects.exclude(state=BreakerState.CLOSED).order_by("-changed_at", "service"))
    if not found:
        return []
    found.sort(key=lambda breaker: breaker.state != BreakerState.OPEN)
    services = [breaker.service for breaker in found]
    waiting = _by_service(Command.objects.filter(status__in=UNSENT, service__in=services))
    return [{"breaker": breaker, "count": waiting.get(breaker.service, 0)} for breaker in found][part]


def _describe_breakers(rows: Sequence[_Row]) -> list[Item]:
    return [_breaker_item(row["breaker"], row["count"]) for row in rows]


def _breaker_item(breaker: Breaker, count: int) -> Item:
    if breaker.state == BreakerState.OPEN:
        sentence = holding.breaker_text(breaker)
        advice = _(
            "Withdraw the commands that must not be sent, then resume: ten commands are sent first, the others if "
            "these succeed."
        )
    else:
        sentence = holding.canary_text(breaker)
        advice = _("Wait for the service's answers: one refusal or missed deadline pauses it again.")
    waiting = ngettext("%(count)d command is waiting.", "%(count)d commands are waiting.", count) % {"count": count}
    return Item(
        kind="breaker",
        since=breaker.changed_at,
        latest=breaker.changed_at,
        count=count,
        sentence=f"{sentence} {waiting}",
        advice=advice,
        link={"service": breaker.service},
    )


def _find_counted(_now: datetime, part: slice) -> Sequence[_Row]:
    rows = sorted(quarantine.counted_beside_open(), key=lambda row: row["last_at"], reverse=True)
    return [{**row, "since": row["first_at"]} for row in rows][part]


def _describe_counted(rows: Sequence[_Row]) -> list[Item]:
    return [
        Item(
            kind="counted",
            since=row["since"],
            latest=row["last_at"],
            count=row["number"],
            sentence=ngettext(
                "%(count)d more message on topic %(topic)s could not be read and was only counted, at %(last)s: "
                "%(why)s.",
                "%(count)d more messages on topic %(topic)s could not be read and were only counted, the last at "
                "%(last)s: %(why)s.",
                row["number"],
            )
            % {
                "count": row["number"],
                "topic": row["topic"],
                "last": when(row["last_at"]),
                "why": _why(row["last_code"]),
            },
            advice=_(
                "Ask the service to stop sending them. This item disappears once the stored messages of the topic are "
                "requeued or dismissed."
            ),
            link={"topic": row["topic"], "status": QuarantineStatus.OPEN.value},
        )
        for row in rows
    ]


def _find_blocked(now: datetime, part: slice) -> Sequence[_Row]:
    """Find topics that refuse waiting commands. A refusal that no command waits for any more is not a problem."""
    topics = blocked_topics(now - BLOCKED_AFTER)
    if not topics:
        return []
    waiting = dict(
        released()
        .filter(topic__in=[topic.topic for topic in topics])
        .order_by()
        .values_list("topic")
        .annotate(count=Count("id"))
    )
    held = [topic for topic in topics if topic.topic in waiting]
    held.sort(key=lambda topic: topic.since, reverse=True)
    return [
        {"since": topic.since, "topic": topic.topic, "reason": topic.reason_text, "count": waiting[topic.topic]}
        for topic in held
    ][part]


def _describe_blocked(rows: Sequence[_Row]) -> list[Item]:
    return [
        Item(
            kind="blocked",
            since=row["since"],
            latest=row["since"],
            count=row["count"],
            sentence=ngettext(
                "%(count)d command is waiting because topic %(topic)s has refused commands since %(since)s: %(why)s.",
                "%(count)d commands are waiting because topic %(topic)s has refused commands since %(since)s: %(why)s.",
                row["count"],
            )
            % {"topic": row["topic"], "since": when(row["since"]), "count": row["count"], "why": row["reason"]},
            advice=_("Fix the reason that Pulsar gives. The commands are then sent, and no attempt is lost."),
            link={"topic": row["topic"]},
        )
        for row in rows
    ]


def _find_unread(_now: datetime, part: slice) -> Sequence[_Row]:
    topics = sorted(heartbeats.unread_topics(), key=lambda topic: topic.since, reverse=True)
    return [topic._asdict() for topic in topics][part]


def _find_undelivered(_now: datetime, part: slice) -> Sequence[_Row]:
    topics = sorted(backlog.waiting(), key=lambda row: row.since, reverse=True)
    return [{"topic": row} for row in topics][part]


def _describe_undelivered(rows: Sequence[_Row]) -> list[Item]:
    now = clock.now()
    return [_undelivered_item(row["topic"], now) for row in rows]


def _undelivered_item(topic: UndeliveredTopic, now: datetime) -> Item:
    sentence = ngettext(
        "%(count)d message on topic %(topic)s has not been delivered since %(since)s.",
        "%(count)d messages on topic %(topic)s have not been delivered since %(since)s.",
        topic.undelivered,
    ) % {"count": topic.undelivered, "topic": topic.topic, "since": when(topic.since)}
    services, until = ", ".join(services_on(topic.topic)), hold_ends(topic)
    if services and now < until:
        more = _("Deadlines of %(services)s are on hold until %(until)s at the latest.")
        sentence += " " + more % {"services": services, "until": when(until)}
    elif services:
        more = _(
            "Deadlines of %(services)s have been running again since %(until)s: the undelivered messages may contain "
            "answers."
        )
        sentence += " " + more % {"services": services, "until": when(until)}
    return Item(
        kind="undelivered",
        since=topic.since,
        latest=topic.since,
        count=topic.undelivered,
        sentence=sentence,
        advice=_("Check whether the number falls. If not, restart the bridges so that they subscribe again."),
        link={"topic": topic.topic},
    )


def _describe_unread(rows: Sequence[_Row]) -> list[Item]:
    return [
        Item(
            kind="unread",
            since=row["since"],
            latest=row["since"],
            count=1,
            sentence=_("No messages have been read from topic %(topic)s since %(since)s: %(why)s.")
            % {"topic": row["topic"], "since": when(row["since"]), "why": reasons.text(row["reason"])},
            advice=_("Fix the reason that Pulsar gives. The bridge tries again automatically; deadlines are on hold."),
            link={"topic": row["topic"]},
        )
        for row in rows
    ]


def _find_never_answered(_now: datetime, part: slice) -> Sequence[_Row]:
    kinds = sorted(never_answered(registry.commands()), key=lambda kind: kind.latest, reverse=True)
    return [{"kind": kind} for kind in kinds][part]


def _describe_never_answered(rows: Sequence[_Row]) -> list[Item]:
    return [_never_answered_item(row["kind"]) for row in rows]


def _never_answered_item(kind: NeverAnswered) -> Item:
    names = {"count": kind.sent, "command": kind.command, "service": kind.service, "topic": kind.topic}
    return Item(
        kind="never_answered",
        since=kind.since,
        latest=kind.latest,
        count=kind.sent,
        sentence=ngettext(
            "%(count)d %(command)s command was sent to %(service)s, and it was never answered.",
            "%(count)d %(command)s commands were sent to %(service)s, and none was ever answered.",
            kind.sent,
        )
        % names,
        advice=_(
            "Check that %(service)s subscribes to topic %(topic)s and answers such commands. If it cannot, set "
            "%(command)s to manual in SAGA_CONFIRMATIONS, and mark as done what you have verified."
        )
        % names,
        link={"service": kind.service, "command": kind.command},
    )


# The most severe first: what only a person can move on, then what is held back, then what may resolve automatically.
_KINDS = (
    _Kind("set_aside", _set_aside, _find_set_aside, _describe_set_aside),
    _Kind("exhausted", _exhausted, _find_exhausted, _describe_exhausted),
    _Kind("held", _held, _find_held, _describe_held),
    _Kind("never_answered", None, _find_never_answered, _describe_never_answered),
    _Kind("unread", None, _find_unread, _describe_unread),
    _Kind("undelivered", None, _find_undelivered, _describe_undelivered),
    _Kind("overdue", _overdue, _find_overdue, _describe_overdue),
    _Kind("confirmed_unsent", _confirmed_unsent, _find_confirmed_unsent, _describe_confirmed_unsent),
    _Kind("overtaken", _overtaken, _find_overtaken, _describe_overtaken),
    _Kind("breaker", None, _find_breakers, _describe_breakers),
    _Kind("blocked", None, _find_blocked, _describe_blocked),
    _Kind("paused", None, _find_paused, _describe_paused),
    _Kind("unclear", _unclear, _find_unclear, _describe_unclear),
    _Kind("stalled", _stalled, _find_stalled, _describe_stalled),
    _Kind("quarantined", None, _find_quarantined, _describe_quarantined),
    _Kind("counted", None, _find_counted, _describe_counted),
    _Kind("parked", _parked, _find_parked, _describe_parked),
)
# The names of the kinds, the most severe first.
KINDS = tuple(kind.name for kind in _KINDS)
