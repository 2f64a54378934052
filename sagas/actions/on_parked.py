"""Decisions on unmatched events: attach a key or one event, start a saga from a key, dismiss.

For each: when it is possible, and how it is carried out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from django.db.models import Min, QuerySet
from django.utils.translation import gettext as _

from bridge import event_log, look_up, readings, routing
from bridge.event_log import NewFact
from bridge.models import Event, Pending
from sagas import nouns, targets
from sagas.actions.action import (
    ActionContext,
    ActionRequest,
    ActionResult,
    carry_out,
    previewed,
    routing_key,
    saga_row,
)
from sagas.actions.on_saga import current, note_status, set_aside
from sagas.actions.spec import ActionSpec, NothingToDo, Refusal, Values
from sagas.applying import statements
from sagas.definitions import registry
from sagas.engine import facts as kinds
from sagas.engine.definition import Entity
from sagas.errors import Invalid, NotFound, Refused
from sagas.models import Attachment, Decision, Lane, Parked, SagaKey, SagaLog
from sagas.targets import DecisionTarget


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyUse:
    """Which sagas use a key already: as their own, by an attachment (with its lane), or by events applied to them."""

    stream: str
    key: str
    own: UUID | None = None
    attached: tuple[UUID, str | None] | None = None
    went_to: frozenset[UUID] = frozenset()

    @property
    def takers(self) -> frozenset[UUID]:
        """Return the sagas that have events of this key; if there is one, no other saga can take the key."""
        return self.went_to | ({self.attached[0]} if self.attached else set())


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyView:
    """All unmatched events of a key, and the saga (or lane of it) that would take them, if one is named.

    `waits`: whether one of the events is not dismissed.
    """

    use: KeyUse
    saga: SagaLog | None = None
    lane: str | None = None
    waits: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class EventView:
    """One unmatched event, and the saga that would take it, if one is named."""

    row: Parked
    saga: SagaLog | None = None


# --- when each is possible --------------------------------------------------------------------------------------------


def may_attach(view: KeyView | EventView) -> Refusal:
    """Refuse a saga that is blocked or of another type, and a key of which another saga has events."""
    stream = view.row.stream if isinstance(view, EventView) else view.use.stream
    if view.saga is not None:
        refusal = set_aside(view.saga)
        if refusal is None and view.saga.saga_type != stream:
            return _("the saga and the events have different saga types")
        return refusal if refusal or isinstance(view, EventView) else _key_refusal(view.saga, view.use, view.lane)
    return None if isinstance(view, EventView) else _no_saga_refusal(view.use)


def may_adopt(view: KeyView) -> Refusal:
    """Refuse an empty key, a key whose saga exists, and one that is attached to a saga."""
    use = view.use
    if not use.key:
        return _("events without a key cannot start a saga: attach them to one instead")
    if use.stream not in registry.current_definitions():
        return _("unknown saga type %(name)s") % {"name": use.stream}
    if use.own is not None:
        return _("a saga with this key already exists")
    return _("this key is already attached to another saga") if use.attached is not None else None


def may_dismiss(view: KeyView | EventView) -> Refusal:
    """Allow it always; to dismiss what is dismissed changes nothing."""
    waits = view.waits if isinstance(view, KeyView) else view.row.dismissed_at is None
    return None if waits else NothingToDo(_("No change: this is already the case."))


def _key_refusal(saga: SagaLog, use: KeyUse, lane: str | None) -> Refusal:
    """Return why a saga cannot take the key."""
    if use.key == saga.key:
        return _("this is the saga's own key: its events already belong to it. Attach single events instead")
    if use.own is not None:
        return _("this key belongs to another saga")
    if use.attached is not None and use.attached != (saga.id, lane):
        return _("this key is already attached to saga %(saga)s") % {"saga": use.attached[0]}
    elsewhere = min(use.went_to - {saga.id}, default=None)
    if elsewhere is not None:
        return _("events of this key already belong to saga %(saga)s") % {"saga": elsewhere}
    return None


def _no_saga_refusal(use: KeyUse) -> Refusal:
    """Return why no saga that a person may still name can take the key."""
    if not use.key:
        return _("the key or event id must not be empty")
    if use.own is not None:
        return _("this key belongs to another saga")
    taker = min(use.takers, default=None)
    return _("events of this key already belong to saga %(saga)s") % {"saga": taker} if taker else None


# --- how they are carried out -----------------------------------------------------------------------------------------


def attach(spec: ActionSpec, values: Values, request: ActionRequest) -> ActionResult:
    """Attach all events of a key, past and future, or one parked event, to a saga or to one lane of it.

    values: `saga`, `key` or `event` (the event's id), perhaps `lane`. Opens its own transaction. Raises NotFound,
    Invalid, Refused (some already belong to another saga).
    """
    key, event, lane = values.get("key"), values.get("event"), values.get("lane")
    if (key is None) == (event is None):
        raise Invalid(_("specify either a key or one event to attach"))
    _check_named(key, event)
    saga = saga_row(values["saga"])
    if key is not None:
        return _attach_key(spec, saga, key, lane, request)
    return _attach_event(spec, saga, event or "", lane, request)


def adopt(spec: ActionSpec, values: Values, request: ActionRequest) -> ActionResult:
    """Start a saga from the parked events of a key for which no starting event arrived. Opens its own transaction.

    values: `key`, perhaps `saga_type`. Raises NotFound (no parked event has the key), Invalid (several saga types have
    it and none was given), Refused.
    """
    key: str = values["key"]
    stream = _stream_of(key, values.get("saga_type"))
    routed = routing.routing_key(stream, key)

    def work(context: ActionContext) -> None:
        context.apply(routed)
        spec.check(KeyView(use=uses_of_keys([(stream, key)])[stream, key]))
        unmatched = Event.objects.filter(id__in=readings.events_of(_parked(stream, key).values("event")))
        started_at = unmatched.aggregate(at=Min("occurred_at"))
        with previewed(context, routed):
            event_log.append(
                [
                    NewFact(
                        source=kinds.OPERATOR,
                        event_id=str(context.id),
                        stream=stream,
                        type=spec.fact or "",
                        key=key,
                        entity="",
                        occurred_at=context.now,
                        payload={
                            "reason": request.reason,
                            "actor": request.actor,
                            "started_at": started_at["at"].isoformat() if started_at["at"] else None,
                        },
                        routing_key=routed,
                    )
                ]
            )
            context.apply(routed)
            saga = SagaLog.objects.get(saga_type=stream, key=key)
            context.saga_id = saga.id
        context.effects |= {"saga": str(saga.id), "events": saga.events_count, "status_after": saga.status}

    target = DecisionTarget("key", {"key": key, "saga_type": stream})
    once = spec.once.format(stream=stream, key=key)

    def named(_context: ActionContext) -> str:
        return once + _after(spec, stream, key, target.name)

    return carry_out(spec.name, target, request, work, locks=[routed], once=named)


def _after(spec: ActionSpec, stream: str, key: str, target: str) -> str:
    """Distinguish the adoption of a key from an earlier one whose saga has been pruned: that does not prevent it."""
    now = SagaLog.objects.filter(saga_type=stream, key=key).values("id")
    of_stream = spec.once.format(stream=stream, key="")
    earlier = Decision.objects.filter(action=spec.name, target=target, once__startswith=of_stream)
    last = earlier.exclude(saga__in=now).order_by("-decided_at").first()
    return f" after {last.saga}" if last else ""


def dismiss(spec: ActionSpec, values: Values, request: ActionRequest) -> ActionResult:
    """Remove the parked events of a key, or one parked event, from the attention list.

    The events are kept, and still applied if their saga appears. values: `key` or `event`, perhaps `saga_type`: without
    it, for all saga types that have them. Opens its own transaction. Raises NotFound, Invalid.
    """
    key, event = values.get("key"), values.get("event")
    if (key is None) == (event is None):
        raise Invalid(_("specify either a key or one event to dismiss"))
    _check_named(key, event)
    saga_type = values.get("saga_type")
    target = DecisionTarget("event", {"event": event}) if key is None else DecisionTarget("key", {"key": key})

    def work(context: ActionContext) -> None:
        found = _parked_of(key, event)
        if saga_type is not None:
            found = found.filter(stream=saga_type)
        if not found.exists():
            raise NotFound(_("no unmatched event has this key or event id"))
        context.effects["events"] = found.filter(dismissed_at=None).update(dismissed_at=context.now)

    return carry_out(spec.name, target, request, work)


def _attach_key(spec: ActionSpec, saga: SagaLog, key: str, lane: str | None, request: ActionRequest) -> ActionResult:
    stream = saga.saga_type
    foreign = routing.routing_key(stream, key)

    def work(context: ActionContext) -> None:
        now = current(context, saga)
        _check_lane(now, lane)
        context.apply(foreign)
        spec.check(KeyView(use=uses_of_keys([(stream, key)])[stream, key], saga=now, lane=lane))
        Attachment.objects.get_or_create(
            stream=stream,
            key=key,
            defaults={"saga": now, "lane": lane, "created_at": context.now, "created_by": request.actor},
        )
        with previewed(context, routing_key(now), foreign):
            context.effects["events"] = statements.unpark("stream = %s AND key = %s", [stream, key])
            context.apply(foreign)
        _note_still_parked(context, _parked(stream, key))
        note_status(context, now)

    target = targets.attached("key", key, saga.id, stream, lane)
    once = spec.once.format(what=f":{stream}:{key}", saga=saga.id, lane=lane or "")
    locks = [routing_key(saga), foreign]
    return carry_out(spec.name, target, request, work, locks=locks, saga_id=saga.id, once=lambda _context: once)


def _attach_event(
    spec: ActionSpec, saga: SagaLog, event_id: str, lane: str | None, request: ActionRequest
) -> ActionResult:
    def work(context: ActionContext) -> None:
        now = current(context, saga)
        _check_lane(now, lane)
        parked = _parked_of(None, event_id).filter(stream=now.saga_type).first()
        if parked is None:
            raise Refused(_("no unmatched event has this id: it already belongs to a saga, or was never received"))
        spec.check(EventView(row=parked, saga=now))
        with previewed(context, routing_key(now)):
            # Deleting the row decides the race with a saga that starts at this moment and takes the event.
            gone, _each = Parked.objects.filter(event=parked.event).delete()
            if gone:
                Pending.objects.create(id=parked.event, key=routing_key(now), lane=lane)
            context.apply(routing_key(now))
        if not gone or Parked.objects.filter(event=parked.event).exists():
            raise Refused(
                nouns.of(now.saga_type).fill(_("this event lacks its %(entity_id)s: specify the %(entity_noun)s"))
            )
        context.effects["events"] = 1
        note_status(context, now)

    target = targets.attached("event", event_id, saga.id, saga.saga_type, lane)
    once = spec.once.format(what=f"-event:{event_id}", saga=saga.id, lane=lane or "")
    locks = [routing_key(saga)]
    return carry_out(spec.name, target, request, work, locks=locks, saga_id=saga.id, once=lambda _context: once)


def _check_named(key: str | None, event: str | None) -> None:
    """Refuse an empty key or id: an empty key would match every event without one."""
    if not (key or event):
        raise Invalid(_("the key or event id must not be empty"))


def _check_lane(saga: SagaLog, lane: str | None) -> None:
    if lane is not None and not Lane.objects.filter(saga=saga, entity=lane, known=True).exists():
        raise NotFound(nouns.of(saga.saga_type).fill(_("the saga has no %(entity_noun)s %(lane)s"), lane=lane))


def uses_of_keys(keys: Iterable[tuple[str, str]]) -> dict[tuple[str, str], KeyUse]:
    """Return for each (stream, key) which sagas use it already. Three queries, none without keys."""
    wanted = set(keys)
    if not wanted:
        return {}
    names = {key for _stream, key in wanted}
    own = {
        (stream, key): saga
        for stream, key, saga in SagaLog.objects.filter(key__in=names).values_list("saga_type", "key", "id")
    }
    attached = {
        (stream, key): (saga, lane)
        for stream, key, saga, lane in Attachment.objects.filter(key__in=names).values_list(
            "stream", "key", "saga_id", "lane"
        )
    }
    went: dict[tuple[str, str], set[UUID]] = defaultdict(set)
    for stream, key, saga in SagaKey.objects.filter(key__in=names).values_list("stream", "key", "saga_id"):
        went[stream, key].add(saga)
    return {
        name: KeyUse(
            stream=name[0],
            key=name[1],
            own=own.get(name),
            attached=attached.get(name),
            went_to=frozenset(went.get(name, ())),
        )
        for name in wanted
    }


def missing_lane(values: Values) -> str:
    """Return why a lane must be named with an event; empty if none needs to be. Two queries."""
    event_id = values.get("event")
    stream = values.get("stream")
    if not event_id or values.get("lane") or not _needs_lane(event_id, stream):
        return ""
    words = nouns.of(stream) if stream else nouns.shared()
    return words.fill(_("The event does not name %(the_entity)s. Enter its id."))


def _needs_lane(event_id: str, saga_type: str | None) -> bool:
    """Return whether an event with this id needs a lane and names none, as this saga type reads it, or as any does."""
    pks = look_up.by_event_id([event_id], [kinds.WIRE])
    found = readings.ids_of(Event.objects.filter(id__in=pks, source=kinds.WIRE))
    events = readings.events([row["id"] for row in found]).values()
    named = [(one.stream, one.type, one.entity) for one in events if saga_type in (None, one.stream)]
    current_ = registry.current_definitions()
    return any(
        not entity
        and stream in current_
        and current_[stream].entity_field
        and (spec := current_[stream].event_of.get(type_)) is not None
        and spec.entity is Entity.LANE
        for stream, type_, entity in named
    )


def _stream_of(key: str, saga_type: str | None) -> str:
    if not key:
        raise Invalid(_("events without a key cannot start a saga: attach them to one instead"))
    if saga_type is not None and saga_type not in registry.current_definitions():
        raise NotFound(_("unknown saga type %(name)s") % {"name": saga_type})
    found = set(Parked.objects.filter(key=key).values_list("stream", flat=True))
    found |= set(SagaLog.objects.filter(key=key).values_list("saga_type", flat=True)) if not found else set()
    if saga_type is not None:
        found &= {saga_type}
    if not found:
        raise NotFound(_("no unmatched event has the key %(key)s") % {"key": key})
    if len(found) > 1:
        raise Invalid(
            _("several saga types have this key (%(names)s): specify one") % {"names": ", ".join(sorted(found))}
        )
    return found.pop()


def _parked(stream: str, key: str) -> QuerySet[Parked]:
    return Parked.objects.filter(stream=stream, key=key)


def _parked_of(key: str | None, event_id: str | None) -> QuerySet[Parked]:
    if key is not None:
        return Parked.objects.filter(key=key)
    found = Event.objects.filter(id__in=look_up.by_event_id([event_id]) if event_id else [])
    return Parked.objects.filter(event__in=readings.ids_of(found))


def _note_still_parked(context: ActionContext, parked: QuerySet[Parked]) -> None:
    """Note how many events are still parked, because they need a lane and name none."""
    left = parked.count()
    if left:
        context.effects["still_parked"] = left
