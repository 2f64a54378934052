"""What needs attention about messages: not read, not delivered, unreadable, or without a saga."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Count, Max, Min, QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from bridge import backlog, clock, heartbeats, quarantine, reasons
from bridge.backlog import UndeliveredTopic
from bridge.models import QuarantineCode, Quarantined, QuarantineStatus
from compensation.answers import services_on
from compensation.undelivered import hold_ends
from sagas.queries.attention_items.item import Finder, Item, Row
from sagas.queries.holding import when
from sagas.queries.parked import groups_before, newest_groups, pruned_at

# Problems that may resolve automatically are shown only after this time.
PARKED_AFTER = timedelta(minutes=5)
# How many (producer, topic) pairs of messages on wrong topics are named, the busiest first.
WRITERS = 3
SHOWN_LETTERS = 60


def _find_unread(_now: datetime, part: slice) -> Sequence[Row]:
    topics = sorted(heartbeats.unread_topics(), key=lambda topic: topic.since, reverse=True)
    return [topic._asdict() for topic in topics][part]


def _describe_unread(rows: Sequence[Row]) -> list[Item]:
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


def _find_undelivered(_now: datetime, part: slice) -> Sequence[Row]:
    topics = sorted(backlog.waiting(), key=lambda row: row.since, reverse=True)
    return [{"topic": row} for row in topics][part]


def _describe_undelivered(rows: Sequence[Row]) -> list[Item]:
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


def _find_quarantined(_now: datetime, part: slice) -> Sequence[Row]:
    """Group open messages by code, of which there are about ten."""
    open_ones = Quarantined.objects.filter(status=QuarantineStatus.OPEN).order_by()
    counted = open_ones.values("code").annotate(since=Min("received_at"), latest=Max("received_at"), count=Count("id"))
    return list(counted.order_by("-latest", "code"))[part]


def _describe_quarantined(rows: Sequence[Row]) -> list[Item]:
    return [
        _wrong_topic_item(row) if row["code"] == QuarantineCode.WRONG_TOPIC else _unreadable_item(row) for row in rows
    ]


def _unreadable_item(row: Row) -> Item:
    text = ngettext(
        "%(count)d message could not be read: %(why)s.", "%(count)d messages could not be read: %(why)s.", row["count"]
    )
    return _quarantined_item(
        row,
        text % {"count": row["count"], "why": _why(row["code"])},
        _("Check the reason. Requeue after a fix, otherwise dismiss."),
    )


def _wrong_topic_item(row: Row) -> Item:
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


def _quarantined_item(row: Row, sentence: str, advice: str) -> Item:
    return Item(
        kind="quarantined",
        since=row["since"],
        latest=row["latest"],
        count=row["count"],
        sentence=sentence,
        advice=advice,
        link={"code": row["code"], "status": QuarantineStatus.OPEN.value},
    )


def _find_counted(_now: datetime, part: slice) -> Sequence[Row]:
    rows = sorted(quarantine.counted_beside_open(), key=lambda row: row["last_at"], reverse=True)
    return [{**row, "since": row["first_at"]} for row in rows][part]


def _describe_counted(rows: Sequence[Row]) -> list[Item]:
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


def _why(code: str) -> str:
    return str(QuarantineCode(code).label) if code in QuarantineCode.values else code


def _parked(now: datetime) -> QuerySet[Any, Any]:
    return groups_before(now - PARKED_AFTER)


def _find_parked(now: datetime, part: slice) -> list[Row]:
    return [{**row, "since": row["first_at"]} for row in newest_groups(now - PARKED_AFTER, part)]


def _describe_parked(rows: Sequence[Row]) -> list[Item]:
    pruned = pruned_at((row["stream"], row["key"]) for row in rows)
    return [_parked_item(row, pruned.get((row["stream"], row["key"]))) for row in rows]


def _parked_item(row: Row, pruned: datetime | None) -> Item:
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


FINDERS = {
    "unread": Finder(None, _find_unread, _describe_unread),
    "undelivered": Finder(None, _find_undelivered, _describe_undelivered),
    "quarantined": Finder(None, _find_quarantined, _describe_quarantined),
    "counted": Finder(None, _find_counted, _describe_counted),
    "parked": Finder(_parked, _find_parked, _describe_parked),
}
