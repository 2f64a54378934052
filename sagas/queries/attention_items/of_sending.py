"""What needs attention about sending commands: circuit breakers, topics that accept none, and pauses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from django.db.models import Count, QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from bridge.blocked import blocked_topics
from compensation.models import UNSENT, Breaker, BreakerState, Command, Switch
from compensation.queries import released
from compensation.switches import EVERYTHING
from sagas.queries import holding
from sagas.queries.attention_items.item import Finder, Item, Row
from sagas.queries.holding import service_title, when

# Problems that may resolve automatically are shown only after this time.
BLOCKED_AFTER = timedelta(minutes=5)


def _find_breakers(_now: datetime, part: slice) -> Sequence[Row]:
    """Find circuit breakers that hold commands back, the open ones first, with the number of unsent commands."""
    found = list(Breaker.objects.exclude(state=BreakerState.CLOSED).order_by("-changed_at", "service"))
    if not found:
        return []
    found.sort(key=lambda breaker: breaker.state != BreakerState.OPEN)
    services = [breaker.service for breaker in found]
    waiting = _by_service(Command.objects.filter(status__in=UNSENT, service__in=services))
    return [{"breaker": breaker, "count": waiting.get(breaker.service, 0)} for breaker in found][part]


def _describe_breakers(rows: Sequence[Row]) -> list[Item]:
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


def _find_blocked(now: datetime, part: slice) -> Sequence[Row]:
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


def _describe_blocked(rows: Sequence[Row]) -> list[Item]:
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


def _find_paused(_now: datetime, part: slice) -> Sequence[Row]:
    """Find the switches that hold commands back; there are no more than services."""
    switches = list(Switch.objects.filter(paused=True).order_by("-changed_at", "service"))
    if not switches:
        return []
    waiting = _by_service(released())
    held = ((switch, _held_by(switch, waiting)) for switch in switches)
    return [{"switch": switch, "count": count} for switch, count in held if count][part]


def _describe_paused(rows: Sequence[Row]) -> list[Item]:
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


def _held_by(switch: Switch, waiting: Mapping[str, int]) -> int:
    return sum(waiting.values()) if switch.service == EVERYTHING else waiting.get(switch.service, 0)


def _by_service(commands: QuerySet[Command]) -> dict[str, int]:
    return dict(commands.order_by().values_list("service").annotate(count=Count("id")))


FINDERS = {
    "breaker": Finder(None, _find_breakers, _describe_breakers),
    "blocked": Finder(None, _find_blocked, _describe_blocked),
    "paused": Finder(None, _find_paused, _describe_paused),
}
