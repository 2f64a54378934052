"""What needs attention about commands: decisions, holds, missing answers, and answers that nobody expected."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Max, Min, QuerySet, TextField
from django.db.models.functions import Cast, JSONObject
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from compensation import deadlines
from compensation.deadlines import DeadlineHolds
from compensation.models import Command, CommandStatus
from compensation.never_answered import NeverAnswered, never_answered
from compensation.queries import held
from sagas.definitions import registry
from sagas.queries import holding
from sagas.queries.attention_items.item import Finder, Item, Row, SagaName, names_of
from sagas.queries.holding import when

# Problems that may resolve automatically are shown only after this time.
OVERDUE_AFTER = timedelta(minutes=1)
# These need no decision, so they disappear automatically; the mark stays on the command.
UNSENT_SHOWN = timedelta(days=7)


def _exhausted(_now: datetime) -> QuerySet[Any, Any]:
    return Command.objects.filter(status=CommandStatus.EXHAUSTED).order_by().values("saga_id").distinct()


def _find_exhausted(_now: datetime, part: slice) -> list[Row]:
    return _by_saga(Command.objects.filter(status=CommandStatus.EXHAUSTED), "settled_at", part)


def _describe_exhausted(rows: Sequence[Row]) -> list[Item]:
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


def _find_held(_now: datetime, part: slice) -> list[Row]:
    return _by_saga(held(), "held_since", part)


def _describe_held(rows: Sequence[Row]) -> list[Item]:
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


def late(now: datetime) -> QuerySet[Command]:
    """Return commands whose deadline passed a while ago without effect: it is on hold, or no worker runs the sweep."""
    return Command.objects.filter(status=CommandStatus.PUBLISHED, deadline_at__lt=now - OVERDUE_AFTER)


def _overdue(now: datetime) -> QuerySet[Any, Any]:
    return late(now).order_by().values("saga_id").distinct()


def _find_overdue(now: datetime, part: slice) -> list[Row]:
    return _by_saga(late(now), "deadline_at", part)


def _describe_overdue(rows: Sequence[Row]) -> list[Item]:
    def sentence(count: int) -> str:
        return ngettext(
            "%(count)d confirmation for saga %(key)s has been overdue since %(since)s: %(names)s.",
            "%(count)d confirmations for saga %(key)s are overdue, the first since %(since)s: %(names)s.",
            count,
        )

    holds = deadlines.deadline_holds()
    status = CommandStatus.PUBLISHED.value
    return _items_of_sagas("overdue", rows, sentence, lambda row: _overdue_advice(row, holds), status=status)


def _overdue_advice(row: Row, holds: DeadlineHolds) -> str:
    services = dict.fromkeys((row["first_service"], row["last_service"]))
    found = (holding.of_service(service, holds) for service in services)
    held = next((hold for hold in found if hold is not None), None)
    return (
        held.sentence if held else _("Check that a Celery worker and beat are running: they process missed deadlines.")
    )


def never_sent(now: datetime) -> QuerySet[Command]:
    return Command.objects.filter(confirmed_unsent_at__gte=now - UNSENT_SHOWN)


def _confirmed_unsent(now: datetime) -> QuerySet[Any, Any]:
    return never_sent(now).order_by().values("saga_id").distinct()


def _find_confirmed_unsent(now: datetime, part: slice) -> list[Row]:
    return _by_saga(never_sent(now), "confirmed_unsent_at", part)


def _describe_confirmed_unsent(rows: Sequence[Row]) -> list[Item]:
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


def overtaken_commands(now: datetime) -> QuerySet[Command]:
    return Command.objects.filter(overtaken_at__gte=now - UNSENT_SHOWN)


def _overtaken(now: datetime) -> QuerySet[Any, Any]:
    return overtaken_commands(now).order_by().values("saga_id").distinct()


def _find_overtaken(now: datetime, part: slice) -> list[Row]:
    return _by_saga(overtaken_commands(now), "overtaken_at", part)


def _describe_overtaken(rows: Sequence[Row]) -> list[Item]:
    def sentence(count: int) -> str:
        return ngettext(
            "%(count)d command of saga %(key)s was carried out although its %(key_noun)s was started again: %(names)s.",
            "%(count)d commands of saga %(key)s were carried out although its %(key_noun)s was started again: "
            "%(names)s.",
            count,
        )

    days = UNSENT_SHOWN.days
    advice = ngettext(
        "It was sent, or marked as done, before the restart was known. What it undid has to be done again. "
        "Shown for %(days)d day.",
        "It was sent, or marked as done, before the restart was known. What it undid has to be done again. "
        "Shown for %(days)d days.",
        days,
    ) % {"days": days}
    status = CommandStatus.CONFIRMED.value
    return _items_of_sagas("overtaken", rows, sentence, lambda _row: advice, status=status)


def _by_saga(commands: QuerySet[Command], since: str, part: slice) -> list[Row]:
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
    kind: str, rows: Sequence[Row], sentence: Callable[[int], str], advice: Callable[[Row], str], **link: str
) -> list[Item]:
    """Return an item for each saga of `_by_saga`. sentence: the template for so many commands; advice: for one row."""
    names = names_of(rows)
    return [
        _item_of_saga(kind, row, names.get(row["saga_id"], SagaName()), sentence(row["count"]), advice(row), link)
        for row in rows
    ]


def _item_of_saga(kind: str, row: Row, saga: SagaName, sentence: str, advice: str, link: Mapping[str, str]) -> Item:
    values = {
        "count": row["count"],
        "key": saga.key,
        "since": when(row["since"]),
        "names": _names(row),
        "error": row.get("error", ""),
    }
    return Item(
        kind=kind,
        since=row["since"],
        latest=row["latest"],
        count=row["count"],
        sentence=saga.words.fill(sentence, **values),
        advice=advice,
        saga_id=row["saga_id"],
        link={"saga": str(row["saga_id"]), **link},
    )


def _names(row: Row) -> str:
    return ", ".join(dict.fromkeys((row["first"], row["last"])))


def _find_never_answered(_now: datetime, part: slice) -> Sequence[Row]:
    kinds = sorted(never_answered(registry.commands()), key=lambda kind: kind.latest, reverse=True)
    return [{"kind": kind} for kind in kinds][part]


def _describe_never_answered(rows: Sequence[Row]) -> list[Item]:
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


FINDERS = {
    "exhausted": Finder(_exhausted, _find_exhausted, _describe_exhausted),
    "held": Finder(_held, _find_held, _describe_held),
    "never_answered": Finder(None, _find_never_answered, _describe_never_answered),
    "overdue": Finder(_overdue, _find_overdue, _describe_overdue),
    "confirmed_unsent": Finder(_confirmed_unsent, _find_confirmed_unsent, _describe_confirmed_unsent),
    "overtaken": Finder(_overtaken, _find_overtaken, _describe_overtaken),
}
