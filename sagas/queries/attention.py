"""All that needs a person, the oldest first: each with its age, how many, and one sentence on what to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import Count, F, Max, Min
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from bridge.models import QuarantineCode, Quarantined, QuarantineStatus
from compensation.models import DUE_SOMETIME, Command, Switch
from compensation.models import Status as CommandStatus
from sagas.models import SagaLog, Status
from sagas.queries.pages import Page
from sagas.queries.parked import older_groups, pruned_at
from sagas.queries.waiting import when

# What may still solve itself is shown only after a while.
PARKED_AFTER = timedelta(minutes=5)
STALLED_AFTER = timedelta(minutes=30)
OVERDUE_AFTER = timedelta(minutes=1)
# Of each kind at most so many lines: nobody works off more from one page, and each line names how many it stands for.
LINES = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One thing that needs a person. `sentence` says what it is, `advice` what to do; `count` is of what it stands for.

    kind: exhausted, overdue, parked, quarantined, set_aside, stalled, paused. `link` is what leads a page there.
    """

    kind: str
    since: datetime
    count: int
    sentence: str
    advice: str
    saga_id: UUID | None = None
    link: Mapping[str, Any] = field(default_factory=dict)

    def age(self, now: datetime) -> timedelta:
        """How long it has waited."""
        return now - self.since


_Row = Mapping[str, Any]


class _Kind(NamedTuple):
    """One kind of thing that needs a person: what there is of it, oldest first, each with its `since`; and its words.

    Only what is on the page is put into words: that costs more than finding it.
    """

    find: Callable[[datetime], Sequence[_Row]]
    tell: Callable[[Sequence[_Row]], list[Item]]


def attention(offset: int = 0, limit: int = 100) -> Page[Item]:
    """A page of what needs a person, the oldest first. Eleven queries at most; of each kind at most LINES lines."""
    now = timezone.now()
    found = [(kind, row) for kind in _KINDS for row in kind.find(now)]
    found.sort(key=lambda line: line[1]["since"])  # stable: what began at the same moment stays in its kind's order
    page = found[offset : offset + limit]
    told = {kind: iter(kind.tell([row for other, row in page if other is kind])) for kind in {kind for kind, _ in page}}
    return Page(len(found), offset, limit, [next(told[kind]) for kind, _ in page])


def _find_exhausted(_now: datetime) -> list[_Row]:
    return _by_saga(Command.objects.filter(status=CommandStatus.EXHAUSTED), "settled_at")


def _tell_exhausted(rows: Sequence[_Row]) -> list[Item]:
    keys = _keys(rows)
    return [
        Item(
            kind="exhausted",
            since=row["since"],
            count=row["count"],
            sentence=ngettext(
                "%(count)d command of saga %(key)s is given up: %(names)s. %(error)s",
                "%(count)d commands of saga %(key)s are given up: %(names)s. %(error)s",
                row["count"],
            )
            % {"count": row["count"], "key": keys.get(row["saga_id"], ""), "names": _names(row), "error": row["error"]},
            advice=_("Look at what each attempt came to; then retry, skip, or mark done what was undone by hand."),
            saga_id=row["saga_id"],
            link={"saga": str(row["saga_id"]), "status": CommandStatus.EXHAUSTED.value},
        )
        for row in rows
    ]


def _find_overdue(now: datetime) -> list[_Row]:
    """Deadlines pass by themselves within seconds; where one has not, something keeps them at rest."""
    late = Command.objects.filter(status=CommandStatus.PUBLISHED, deadline_at__lt=now - OVERDUE_AFTER)
    return _by_saga(late, "deadline_at")


def _tell_overdue(rows: Sequence[_Row]) -> list[Item]:
    keys = _keys(rows)
    return [
        Item(
            kind="overdue",
            since=row["since"],
            count=row["count"],
            sentence=ngettext(
                "%(count)d confirmation for saga %(key)s is overdue since %(since)s: %(names)s.",
                "%(count)d confirmations for saga %(key)s are overdue, the first since %(since)s: %(names)s.",
                row["count"],
            )
            % {
                "count": row["count"],
                "key": keys.get(row["saga_id"], ""),
                "since": when(row["since"]),
                "names": _names(row),
            },
            advice=_("Deadlines rest while the bridge is not connected or behind, or publishing is paused: mend that."),
            saga_id=row["saga_id"],
            link={"saga": str(row["saga_id"]), "status": CommandStatus.PUBLISHED.value},
        )
        for row in rows
    ]


def _by_saga(commands: Any, since: str) -> list[_Row]:
    counted = (
        commands.order_by()
        .values("saga_id")
        .annotate(since=Min(since), count=Count("id"), first=Min("name"), last=Max("name"), error=Max("last_error"))
    )
    return list(counted.order_by("since", "saga_id")[:LINES])


def _names(row: _Row) -> str:
    return ", ".join(dict.fromkeys((row["first"], row["last"])))


def _keys(rows: Sequence[_Row]) -> dict[UUID, str]:
    return dict(SagaLog.objects.filter(id__in=[row["saga_id"] for row in rows]).values_list("id", "key"))


def _find_parked(now: datetime) -> list[_Row]:
    return [{**row, "since": row["first_at"]} for row in older_groups(now - PARKED_AFTER, LINES)]


def _tell_parked(rows: Sequence[_Row]) -> list[Item]:
    pruned = pruned_at((row["stream"], row["key"]) for row in rows)
    return [_parked_item(row, pruned.get((row["stream"], row["key"]))) for row in rows]


def _parked_item(row: _Row, pruned: datetime | None) -> Item:
    sentence = ngettext(
        "%(count)d event of %(key)s belongs to no saga.",
        "%(count)d events of %(key)s belong to no saga.",
        row["count"],
    ) % {"count": row["count"], "key": row["key"] or row["alone"]}
    advice = _("Attach the key to its saga, start a saga from it, or dismiss it with a reason.")
    if pruned is not None:
        sentence += " " + _("The saga of this key had ended and was pruned at %(when)s.") % {"when": when(pruned)}
        advice = _("They came too late for it: ask the service why, then dismiss them with a reason.")
    return Item(
        kind="parked",
        since=row["since"],
        count=row["count"],
        sentence=sentence,
        advice=advice,
        saga_id=UUID(row["likely"]) if row["likely"] and row["likely"] == row["likely_last"] else None,
        link={"stream": row["stream"], "key": row["key"], "entity": row["alone"], "event": row["first_event"]},
    )


def _find_quarantined(_now: datetime) -> list[_Row]:
    open_ones = Quarantined.objects.filter(status=QuarantineStatus.OPEN).order_by()
    counted = open_ones.values("code").annotate(since=Min("received_at"), count=Count("id"))
    return list(counted.order_by("since", "code"))


def _tell_quarantined(rows: Sequence[_Row]) -> list[Item]:
    return [
        Item(
            kind="quarantined",
            since=row["since"],
            count=row["count"],
            sentence=ngettext(
                "%(count)d message could not be read: %(why)s.",
                "%(count)d messages could not be read: %(why)s.",
                row["count"],
            )
            % {"count": row["count"], "why": _why(row["code"])},
            advice=_("Look at the bytes and the reason; requeue what can be read by now, dismiss the rest."),
            link={"code": row["code"], "status": QuarantineStatus.OPEN.value},
        )
        for row in rows
    ]


def _why(code: str) -> str:
    return str(QuarantineCode(code).label) if code in QuarantineCode.values else code


def _find_set_aside(_now: datetime) -> list[_Row]:
    rows = SagaLog.objects.filter(set_aside_at__isnull=False).order_by("set_aside_at", "id")
    return list(rows.values("id", "key", error=F("set_aside_error"), since=F("set_aside_at"))[:LINES])


def _tell_set_aside(rows: Sequence[_Row]) -> list[Item]:
    return [
        Item(
            kind="set_aside",
            since=row["since"],
            count=1,
            sentence=_("Saga %(key)s is set aside: applying its events failed (%(error)s).")
            % {"key": row["key"], "error": row["error"]},
            advice=_("This is a fault of this service: have it mended, then resume the saga."),
            saga_id=row["id"],
            link={"saga": str(row["id"])},
        )
        for row in rows
    ]


def _find_stalled(now: datetime) -> list[_Row]:
    """By both clocks: events of long ago that came in just now are no standstill."""
    before = now - STALLED_AFTER
    rows = SagaLog.objects.filter(
        status__in=[Status.STARTED, Status.COMPENSATING],
        # What had its last event before then started before then: there is an index on that.
        start_time__lt=before,
        last_event_at__lt=before,
        updated_at__lt=before,
        set_aside_at__isnull=True,
    ).order_by("last_event_at", "id")
    return list(rows.values("id", "key", "status", since=F("last_event_at"))[:LINES])


def _tell_stalled(rows: Sequence[_Row]) -> list[Item]:
    return [
        Item(
            kind="stalled",
            since=row["since"],
            count=1,
            sentence=_("Saga %(key)s is %(status)s and nothing has happened since %(since)s.")
            % {"key": row["key"], "status": Status(row["status"]).label, "since": when(row["since"])},
            advice=_("Its page says what it waits for: ask that service, or cancel it so that it is undone."),
            saga_id=row["id"],
            link={"saga": str(row["id"])},
        )
        for row in rows
    ]


def _find_paused(_now: datetime) -> list[_Row]:
    switches = list(Switch.objects.filter(paused=True).order_by("changed_at", "service"))
    if not switches:
        return []
    waiting = dict(
        Command.objects.filter(status__in=DUE_SOMETIME, released_at__isnull=False)
        .order_by()
        .values_list("service")
        .annotate(count=Count("id"))
    )
    held = ((switch, _held_by(switch, waiting)) for switch in switches)
    return [{"since": switch.changed_at, "switch": switch, "count": count} for switch, count in held if count]


def _held_by(switch: Switch, waiting: Mapping[str, int]) -> int:
    return sum(waiting.values()) if switch.service == "*" else waiting.get(switch.service, 0)


def _tell_paused(rows: Sequence[_Row]) -> list[Item]:
    return [_paused_item(row["switch"], row["count"]) for row in rows]


def _paused_item(switch: Switch, count: int) -> Item:
    words = ngettext(
        "Publishing to %(service)s is paused by %(who)s: %(count)d command waits.",
        "Publishing to %(service)s is paused by %(who)s: %(count)d commands wait.",
        count,
    )
    service = _("all services") if switch.service == "*" else switch.service
    return Item(
        kind="paused",
        since=switch.changed_at,
        count=count,
        sentence=words % {"service": service, "who": switch.changed_by or switch.reason, "count": count},
        advice=_("Withdraw what must not be sent, then resume publishing."),
        link={"service": switch.service},
    )


_KINDS = (
    _Kind(_find_exhausted, _tell_exhausted),
    _Kind(_find_overdue, _tell_overdue),
    _Kind(_find_parked, _tell_parked),
    _Kind(_find_quarantined, _tell_quarantined),
    _Kind(_find_set_aside, _tell_set_aside),
    _Kind(_find_stalled, _tell_stalled),
    _Kind(_find_paused, _tell_paused),
)
