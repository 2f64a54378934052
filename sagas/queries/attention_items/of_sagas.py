"""What needs attention about sagas: blocked ones, and those that make no progress or whose events say too little."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, F, Max, Min, Q, QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from bridge import readings
from bridge.models import Event
from sagas import nouns
from sagas.definitions import registry
from sagas.models import SagaEvent, SagaLog, SagaStatusChoice
from sagas.queries.attention_items.item import Finder, Item, Row, SagaName, names_of
from sagas.queries.holding import when

# Problems that may resolve automatically are shown only after this time.
STALLED_AFTER = timedelta(minutes=30)
# Older unclear events are shown by their saga alone, which makes no progress.
UNCLEAR_SHOWN = timedelta(days=7)


def _set_aside(_now: datetime) -> QuerySet[Any, Any]:
    return SagaLog.objects.filter(set_aside_at__isnull=False).order_by().values("id")


def _find_set_aside(_now: datetime, part: slice) -> list[Row]:
    rows = SagaLog.objects.filter(set_aside_at__isnull=False).order_by("-set_aside_at", "id")
    return list(rows.values("id", "key", error=F("set_aside_error"), since=F("set_aside_at"))[part])


def _describe_set_aside(rows: Sequence[Row]) -> list[Item]:
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


def without_progress(now: datetime) -> QuerySet[SagaLog]:
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
    return without_progress(now).order_by().values("id")


def _find_stalled(now: datetime, part: slice) -> list[Row]:
    rows = without_progress(now).order_by("-last_event_at", "id")
    return list(rows.values("id", "key", "status", "saga_type", "version", since=F("last_event_at"))[part])


def _describe_stalled(rows: Sequence[Row]) -> list[Item]:
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


def _stalled_advice(row: Row) -> str:
    """Advise to close the intake where no event may ever do so. Nothing failed: nothing is to be undone."""
    if row["status"] == SagaStatusChoice.STARTED and registry.counts_lanes(row["saga_type"], row["version"]):
        text = _(
            "Its page shows what it is waiting for. Ask that service; if no further %(entity_nouns)s will arrive, "
            "close %(the_intake)s."
        )
        return nouns.of(row["saga_type"]).fill(text)
    return _("Its page shows what it is waiting for. Ask that service.")


def unclear_log(now: datetime) -> QuerySet[SagaEvent]:
    """Return the log rows of unclear events in sagas that still wait: another event may have told it meanwhile.

    And those in sagas of versions that count such an event as a success, unless something was undone there.
    """
    # Read before: of a query for both the planner expects much more, and reads the whole log of each saga that waits.
    events = dict(
        Event.objects.filter(unclear=True, received_at__gte=now - UNCLEAR_SHOWN).order_by().values_list("id", "type")
    )
    events |= readings.further(events)
    waiting = Q(note__has_key="unclear", saga__status=SagaStatusChoice.STARTED)
    for (saga_type, version), types in registry.always_successes().items():
        waiting |= Q(
            event__in=[id_ for id_, type_ in events.items() if type_ in types],
            saga__saga_type=saga_type,
            saga__version=version,
            saga__status__in=[SagaStatusChoice.STARTED, SagaStatusChoice.COMPLETED],
        )
    return SagaEvent.objects.filter(waiting, event__in=list(events)).order_by()


def _unclear(now: datetime) -> QuerySet[Any, Any]:
    return unclear_log(now).values("saga_id").distinct()


def _find_unclear(now: datetime, part: slice) -> list[Row]:
    grouped = unclear_log(now).values("saga_id", saga_type=F("saga__saga_type"), version=F("saga__version"))
    found = grouped.annotate(since=Min("applied_at"), latest=Max("applied_at"), count=Count("event"))
    return list(found.order_by("-latest", "saga_id")[part])


def _describe_unclear(rows: Sequence[Row]) -> list[Item]:
    names, successes = names_of(rows), registry.always_successes()
    found = []
    for row in rows:
        counts = (row["saga_type"], row["version"]) in successes
        sentence, advice = _counted_unclear(row["count"]) if counts else _waiting_unclear(row["count"])
        key = names.get(row["saga_id"], SagaName()).key
        found.append(
            Item(
                kind="unclear",
                since=row["since"],
                latest=row["latest"],
                count=row["count"],
                sentence=sentence % {"count": row["count"], "key": key, "version": row["version"]},
                advice=advice,
                saga_id=row["saga_id"],
                link={"saga": str(row["saga_id"])},
            )
        )
    return found


def _waiting_unclear(count: int) -> tuple[str, str]:
    sentence = ngettext(
        "%(count)d event of saga %(key)s does not say whether the work succeeded, or what failed: it changed nothing.",
        "%(count)d events of saga %(key)s do not say whether the work succeeded, or what failed: they changed nothing.",
        count,
    )
    advice = _(
        "Check it in the service. Undo it if the work failed; otherwise ask the service to send the "
        "event again with a status that it documents."
    )
    return sentence, advice


def _counted_unclear(count: int) -> tuple[str, str]:
    sentence = ngettext(
        "%(count)d event of saga %(key)s does not say whether the work succeeded, but counts as a success by version "
        "%(version)d of its definition.",
        "%(count)d events of saga %(key)s do not say whether the work succeeded, but count as a success by version "
        "%(version)d of its definition.",
        count,
    )
    return sentence, _("Check it in the service. Undo it if the work failed.")


FINDERS = {
    "set_aside": Finder(_set_aside, _find_set_aside, _describe_set_aside),
    "unclear": Finder(_unclear, _find_unclear, _describe_unclear),
    "stalled": Finder(_stalled, _find_stalled, _describe_stalled),
}
