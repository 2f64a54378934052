"""Decisions on a saga or a lane of it: when each is possible, and how it is carried out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, ClassVar

from django.db import DatabaseError
from django.db.models import Max
from django.utils.translation import gettext as _

from bridge import event_log, readings
from bridge.event_log import NewFact
from bridge.models import Event, Source
from compensation import outbox
from sagas import nouns, targets
from sagas.actions import many
from sagas.actions.action import (
    ActionContext,
    ActionRequest,
    ActionResult,
    CommandPreview,
    EventsNotApplicable,
    carry_out,
    previewed,
    routing_key,
    saga_row,
)
from sagas.actions.spec import ActionSpec, Refusal, Values
from sagas.applying import statements
from sagas.applying.fold import error_location
from sagas.definitions import registry
from sagas.engine import facts as kinds
from sagas.engine.decide import SagaIdentity, saga_failed
from sagas.engine.evolve import when
from sagas.engine.facts import Fact
from sagas.engine.state import saga_from
from sagas.engine.status import latest_counts
from sagas.errors import Busy, Invalid, NotFound, Refused
from sagas.models import Decision, Lane, SagaEvent, SagaLog, SagaStatusChoice

UNFINISHED = (SagaStatusChoice.STARTED, SagaStatusChoice.COMPENSATING)
OPEN = (*UNFINISHED, SagaStatusChoice.COMPENSATION_FAILED)
# More than any intake brings; a typing error of this size would keep a saga open.
MOST_LANES = 1_000_000
ANY_TIME = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class WholeSagaView:
    """A saga as it is stored."""

    saga: SagaLog
    lane: ClassVar[None] = None


@dataclass(frozen=True, slots=True)
class OneLaneView:
    """One lane of a saga as it is stored."""

    saga: SagaLog
    lane: Lane


# --- when each is possible --------------------------------------------------------------------------------------------


def may_force(view: WholeSagaView | OneLaneView) -> Refusal:
    """Refuse for a saga or a lane that already failed."""
    return set_aside(view.saga) or _failed_already(view)


def may_cancel(view: WholeSagaView | OneLaneView) -> Refusal:
    """Refuse for a saga that is no longer running, or what already failed."""
    refusal = may_force(view)
    if refusal is None and view.saga.status not in UNFINISHED:
        text = _("the saga is %(status)s and no longer running: force compensation to undo what it did")
        return text % {"status": view.saga.status}
    return refusal


def may_close(view: WholeSagaView) -> Refusal:
    """Refuse for a saga that has ended, or whose number of lanes a service reported, or that announces none."""
    saga = view.saga
    words = nouns.of(saga.saga_type)
    refusal = set_aside(saga) or unknown_version(saga)
    if refusal is not None:
        return refusal
    # Commands that failed do not end the intake: further lanes may still be awaited.
    if saga.status not in OPEN:
        return words.fill(_("the saga is %(status)s: its %(intake_noun)s is over"), status=saga.status)
    if not registry.get(saga.saga_type, saga.version).counts_lanes:
        return words.fill(_("this kind of saga has no %(intake_noun)s that could be closed"))
    latest = saga_from(saga.state).latest
    if latest.intake_over and latest.announced is not None:
        text = _("the service reported that %(the_intake)s is over and brought %(count)d: its number counts")
        return words.fill(text, count=latest.announced.lanes)
    return None


def may_terminate(view: WholeSagaView) -> Refusal:
    """Refuse for a saga that has ended, or was terminated."""
    saga = view.saga
    if saga.set_aside_at is not None:
        return set_aside(saga)
    if saga.status not in OPEN:
        return _("the saga is %(status)s: there is nothing to terminate") % {"status": saga.status}
    if saga_from(saga.state).latest.claimed is not None:
        return _("the saga was already terminated: commands sent before may still finish")
    return None


def may_resume(view: WholeSagaView) -> Refusal:
    """Refuse for a saga that is not blocked. Whether its events can be applied now shows only when it is resumed."""
    if view.saga.set_aside_at is None:
        return _("the saga is not blocked by an error: there is nothing to resume")
    return None


def set_aside(saga: SagaLog) -> Refusal:
    """Refuse for a saga that is blocked by an error: it can only be resumed."""
    return _("the saga is blocked by an error: resume it first") if saga.set_aside_at is not None else None


def unknown_version(saga: SagaLog) -> Refusal:
    """Refuse if this release does not know the version of the definition that the saga runs on."""
    try:
        registry.get(saga.saga_type, saga.version)
    except registry.UnknownDefinition:
        text = _("this release does not support %(type)s version %(version)d: use a release that does")
        return text % {"type": saga.saga_type, "version": saga.version}
    return None


def _failed_already(view: WholeSagaView | OneLaneView) -> Refusal:
    if view.lane is not None:
        text = _("%(the_entity)s already failed: its compensation is in progress or was decided")
        return nouns.of(view.saga.saga_type).fill(text) if view.lane.failed else None
    refusal = unknown_version(view.saga)
    if refusal is None and saga_has_failed(view.saga):
        return _("the saga already failed: its compensation is in progress or was decided")
    return refusal


def saga_has_failed(saga: SagaLog) -> bool:
    """Return whether the saga as a whole failed, by the failure scope that it was started with."""
    identity = SagaIdentity(registry.get(saga.saga_type, saga.version), saga.failure_scope, str(saga.id), saga.key)
    return saga_failed(identity, saga_from(saga.state))


def sagas_like(status: str = "", saga_type: str = "", *, blocked: bool = False) -> list[WholeSagaView]:
    """Return a view for each state that sagas of a status and type may be in, of any if none is given. No queries.

    blocked: only sagas that are blocked by an error.
    """
    return [
        WholeSagaView(
            SagaLog(
                saga_type=definition.name,
                version=definition.version,
                status=one,
                state={},
                set_aside_at=ANY_TIME if is_blocked else None,
            )
        )
        for definition in registry.current_definitions().values()
        if saga_type in ("", definition.name)
        for one in ([status] if status else SagaStatusChoice.values)
        for is_blocked in {True, blocked}
    ]


# --- how they are carried out -----------------------------------------------------------------------------------------


def record(spec: ActionSpec, values: Values, request: ActionRequest) -> ActionResult:
    """Append the decision's fact to the log of a saga, or of one lane of it, and apply it.

    values: `saga`, perhaps `lane`, and the decision's own fields. Opens its own transaction. Raises NotFound, Invalid,
    Refused.
    """
    saga, lane = saga_row(values["saga"]), values.get("lane")

    def work(context: ActionContext) -> None:
        now = current(context, saga)
        spec.check(WholeSagaView(now) if lane is None else OneLaneView(now, _lane(now, lane)))
        with previewed(context, routing_key(saga)):
            run = {} if lane is not None else of_run(now)
            append(context, now, spec.fact or "", {**spec.content(spec, now, values), **run}, lane or "")
        note_status(context, now)

    return _on_saga(spec, saga, request, work, lane=lane)


def each(spec: ActionSpec, values: Values, request: ActionRequest) -> ActionResult:
    """Carry out a decision on many sagas, each in a transaction of its own.

    Those for which it is not possible are left out; `effects` has {eligible, not_eligible: [{id, task_id, code,
    reason}], sagas, status_counts: of the others afterwards}. values: `ids`, and the decision's own fields, the same
    for all. Raises Invalid.
    """
    ids = many.as_ids(values["ids"], empty=_("the list of sagas is empty"), malformed=_("a saga's id is a UUID"))
    target = many.target_of(ids, "sagas")
    earlier = many.begin(spec, target, request, len(ids))
    if earlier is not None:
        return earlier
    keys = dict(SagaLog.objects.filter(id__in=ids).values_list("id", "key"))
    single = replace(request, idempotency_key=None)
    commands: list[CommandPreview] = []
    refused: list[dict[str, Any]] = []
    statuses: Counter[str] = Counter()
    for identity in sorted(ids):
        try:
            outcome = spec.effect(spec, {**values, "saga": identity}, single)
        except (NotFound, Refused, Busy) as error:
            code = "not_found" if isinstance(error, NotFound) else "refused"
            refused.append(many.not_eligible(identity, code, str(error), task_id=keys.get(identity, "")))
            continue
        commands += outcome.commands
        statuses[outcome.effects["status_after"]] += 1
    effects = {
        "eligible": len(ids) - len(refused),
        "not_eligible": refused,
        "sagas": len(ids),
        "status_counts": dict(sorted(statuses.items())),
    }
    return many.remember(spec, many.result(spec, request, commands, effects), target, request)


def close(spec: ActionSpec, values: Values, request: ActionRequest) -> ActionResult:
    """Close the intake of a saga's latest run with the number of its lanes, and apply that.

    values: `saga` and `images`; of many sagas the number may be omitted, and is then that of the known lanes. `effects`
    has the number, how many of them are known, and how many are still awaited. A number below those that are known is
    refused: it would be wrong, and end nothing sooner. Opens its own transaction. Raises NotFound, Invalid, Refused.
    """
    saga, given = saga_row(values["saga"]), values.get("images")
    words = nouns.of(saga.saga_type)
    is_omitted = given is None and (values.get("ids") is not None or request.job is not None)
    if not is_omitted and (not isinstance(given, int) or not 0 <= given <= MOST_LANES):
        raise Invalid(words.fill(_("the number of %(entity_nouns)s must be from 0 to %(most)d"), most=MOST_LANES))

    def work(context: ActionContext) -> None:
        now = current(context, saga)
        spec.check(WholeSagaView(now))
        known = known_lanes(now)
        if is_omitted and not known:
            raise Refused(words.fill(_("no %(entity_noun)s of it is known: close it alone, with the number")))
        images = known if given is None else given
        if images < known:
            text = _("%(known)d %(things)s already known: enter at least this number")
            raise Refused(text % {"known": known, "things": words.entities(known)})
        with previewed(context, routing_key(saga)):
            append(context, now, spec.fact or "", {"lanes": images, **of_run(now)})
        context.effects |= {"images": images, "images_known": known, "images_awaited": images - known}
        note_status(context, now)

    return _on_saga(spec, saga, request, work)


def known_lanes(saga: SagaLog) -> int:
    """Return how many lanes of a saga's latest run are known, including those that failed."""
    return latest_counts(saga_from(saga.state, statements.counts_of(saga))).known


def of_run(saga: SagaLog) -> dict[str, str]:
    """Return the run that a decision on a whole saga is about, the latest: by the time of its greatest event.

    Not by the time of the decision: a start that arrives later, though it occurred before the decision, would move it
    to a run that its operator has never seen. One query, if the saga's task may be started again.
    """
    if not registry.get(saga.saga_type, saga.version).restarts:
        return {}
    log = SagaEvent.objects.filter(saga_id=saga.id).values("event")
    events = Event.objects.filter(id__in=readings.events_of(log), source=Source.PULSAR)
    last = events.aggregate(last=Max("occurred_at"))["last"]
    return {} if last is None else {kinds.RUN: last.isoformat()}


def claimed(_spec: ActionSpec, saga: SagaLog, _values: Values) -> dict[str, Any]:
    """Return the commands that a worker has claimed: they go on when their saga is terminated."""
    return {"claimed": [str(identity) for identity in outbox.claimed_ids(saga.id)]}


def resume(spec: ActionSpec, values: Values, request: ActionRequest) -> ActionResult:
    """Resume a saga that was blocked by an error, after the error is fixed: its events are applied again.

    Opens its own transaction. Raises NotFound, Invalid, Refused (it is not blocked, or the engine still raises on its
    events).
    """
    saga = saga_row(values["saga"])

    def work(context: ActionContext) -> None:
        spec.check(WholeSagaView(saga_row(saga.id)))
        with previewed(context, routing_key(saga)):
            SagaLog.objects.filter(id=saga.id).update(set_aside_at=None, set_aside_error="")
            # Each waits under the key that it names, which may differ from the saga's.
            keys = statements.unparked("suggestion = %s AND reason = 'set_aside'", [saga.id])
            context.effects["events"] = len(keys)
            _apply_again(context, [routing_key(saga), *sorted(set(keys))])
        note_status(context, saga)

    return _on_saga(spec, saga, request, work)


def _apply_again(context: ActionContext, keys: Sequence[str]) -> None:
    text = _("its events still cannot be applied: %(error)s. Fix this first")
    try:
        context.apply(*keys)
    except EventsNotApplicable as error:
        raise Refused(text % {"error": error.place}) from error
    except DatabaseError as error:
        raise Refused(text % {"error": error_location(error)}) from error


def append(context: ActionContext, saga: SagaLog, kind: str, content: Mapping[str, Any], lane: str = "") -> None:
    """Append the decision to the log and apply it, in the caller's transaction, which holds the saga's lock."""
    event_log.append(
        [
            NewFact(
                source=kinds.OPERATOR,
                event_id=str(context.id),
                stream=saga.saga_type,
                type=kind,
                key=saga.key,
                entity=lane,
                occurred_at=context.now,
                payload={"reason": context.request.reason, "actor": context.request.actor, **content},
                routing_key=routing_key(saga),
            )
        ]
    )
    context.apply(routing_key(saga))


def current(context: ActionContext, saga: SagaLog) -> SagaLog:
    """Apply all events that wait for the saga and return it. Raises Refused if it is blocked by an error."""
    context.apply(routing_key(saga))
    now = saga_row(saga.id)
    refusal = set_aside(now)
    if refusal:
        raise Refused(refusal)
    return now


def note_status(context: ActionContext, saga: SagaLog) -> None:
    """Note the saga's status before the decision (`saga` as it was read then) and after it."""
    context.effects["status_before"] = saga.status
    context.effects["status_after"] = saga_row(saga.id).status


def _lane(saga: SagaLog, entity: str) -> Lane:
    """Return the lane. Raises NotFound."""
    row = Lane.objects.filter(saga=saga, entity=entity, known=True).first()
    if row is None:
        raise NotFound(nouns.of(saga.saga_type).fill(_("the saga has no %(entity_noun)s %(lane)s"), lane=entity))
    return row


def _on_saga(
    spec: ActionSpec,
    saga: SagaLog,
    request: ActionRequest,
    work: Callable[[ActionContext], None],
    *,
    lane: str | None = None,
) -> ActionResult:
    target = targets.of_saga(saga.id, saga.saga_type, lane)
    locks = [routing_key(saga)]

    def once(context: ActionContext) -> str | None:
        return _once(spec, saga, lane, context)

    return carry_out(spec.name, target, request, work, locks=locks, saga_id=saga.id, once=once)


def _once(spec: ActionSpec, saga: SagaLog, lane: str | None, context: ActionContext) -> str | None:
    """Return the name of the earlier decision of this kind that still holds; else a new name.

    What was decided on the saga as a whole holds in its run, and a run cannot be named: late events divide and join the
    runs. So the decision is looked for in the run that is now the latest, after all waiting events were applied. What
    was decided on a lane stays with the lane.
    """
    if not spec.once:
        return None
    name = spec.once.format(saga=saga.id, lane=lane or "")
    if lane is not None:
        return name
    context.apply(routing_key(saga))
    taken = in_latest_run(saga_row(saga.id), [spec.name])
    if taken is not None:
        return taken.once
    return f"{name}:{context.id}" if Decision.objects.filter(once=name).exists() else name


def in_latest_run(saga: SagaLog, names: Sequence[str]) -> Decision | None:
    """Return the last decision with one of these names on the saga as a whole in its latest run. Two queries."""
    decisions = {str(row.id): row for row in Decision.objects.filter(saga=saga.id, action__in=names).defer("answer")}
    facts = Event.objects.filter(source=Source.OPERATOR, day=None, event_id__in=decisions, entity="")
    state = saga_from(saga.state)
    found = [
        decisions[event_id]
        for event_id, kind, at, run in facts.values_list("event_id", "type", "occurred_at", "payload__run")
        if state.run_at(when(Fact(event_id, kind, at, kinds.OPERATOR, content={kinds.RUN: run}))) == len(state.runs) - 1
    ]
    return max(found, key=lambda decision: decision.decided_at, default=None)
