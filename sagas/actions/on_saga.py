"""Decisions on a saga or a lane of it: force compensation, cancel, terminate, resume."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from django.db import DatabaseError
from django.utils.translation import gettext as _

from bridge import event_log
from bridge.event_log import NewFact
from compensation import outbox
from sagas import nouns
from sagas.actions.action import (
    ActionContext,
    ActionRequest,
    ActionResult,
    EventsNotApplicable,
    carry_out,
    previewed,
    routing_key,
    saga_row,
)
from sagas.applying import statements
from sagas.applying.fold import error_location
from sagas.definitions import registry
from sagas.engine import facts as kinds
from sagas.engine.decide import SagaIdentity, saga_failed
from sagas.engine.state import SagaCounts, saga_from
from sagas.errors import NotFound, Refused
from sagas.models import Action, Lane, SagaLog, SagaStatusChoice

UNFINISHED = (SagaStatusChoice.STARTED, SagaStatusChoice.COMPENSATING)
OPEN = (*UNFINISHED, SagaStatusChoice.COMPENSATION_FAILED)


def force_compensation(saga_id: UUID | str, lane: str | None = None, *, request: ActionRequest) -> ActionResult:
    """Mark a saga, or one lane of it, as failed, even if completed: everything done so far is then undone.

    Opens its own transaction. Raises NotFound, Invalid, Refused (it already failed).
    """
    return _fail(Action.FORCE_COMPENSATION, kinds.COMPENSATION_FORCED, saga_id, lane, request)


def cancel(saga_id: UUID | str, lane: str | None = None, *, request: ActionRequest) -> ActionResult:
    """Do the same for a saga that is still running.

    Opens its own transaction. Raises NotFound, Invalid, Refused (it is no longer running, or already failed).
    """
    return _fail(Action.CANCEL, kinds.SAGA_CANCELLED, saga_id, lane, request)


def terminate(saga_id: UUID | str, *, request: ActionRequest) -> ActionResult:
    """Close a saga without undoing it: commands already sent continue, all others are withdrawn permanently.

    Opens its own transaction. Raises NotFound, Invalid, Refused (it has ended).
    """
    saga = saga_row(saga_id)

    def work(context: ActionContext) -> None:
        now = current(context, saga)
        check(Action.TERMINATE, now)
        claimed = [str(identity) for identity in outbox.claimed_ids(now.id)]
        with previewed(context, routing_key(saga)):
            append(context, now, kinds.SAGA_TERMINATED, {"claimed": claimed})
        note_status(context, now)

    return _on_saga(Action.TERMINATE, saga, request, work, once=f"terminate:{saga.id}")


def resume(saga_id: UUID | str, *, request: ActionRequest) -> ActionResult:
    """Resume a saga that was blocked by an error, after the error is fixed: its events are applied again.

    Opens its own transaction. Raises NotFound, Invalid, Refused (it is not blocked, or the engine still raises on its
    events).
    """
    saga = saga_row(saga_id)

    def work(context: ActionContext) -> None:
        check(Action.RESUME, saga_row(saga.id))
        with previewed(context, routing_key(saga)):
            SagaLog.objects.filter(id=saga.id).update(set_aside_at=None, set_aside_error="")
            # Each waits under the key that it names, which may differ from the saga's.
            keys = statements.unparked("suggestion = %s AND reason = 'set_aside'", [saga.id])
            context.effects["events"] = len(keys)
            _apply_again(context, [routing_key(saga), *sorted(set(keys))])
        note_status(context, saga)

    return _on_saga(Action.RESUME, saga, request, work)


def _apply_again(context: ActionContext, keys: Sequence[str]) -> None:
    text = _("its events still cannot be applied: %(error)s. Fix this first")
    try:
        context.apply(*keys)
    except EventsNotApplicable as error:
        raise Refused(text % {"error": error.place}) from error
    except DatabaseError as error:
        raise Refused(text % {"error": error_location(error)}) from error


def append(context: ActionContext, saga: SagaLog, kind: str, content: dict[str, Any], lane: str = "") -> None:
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
    check_not_set_aside(now)
    return now


def check_not_set_aside(saga: SagaLog) -> None:
    """Raise Refused for a saga that is blocked by an error: it can only be resumed."""
    if saga.set_aside_at is not None:
        raise Refused(_("the saga is blocked by an error: resume it first"))


def check(action: Action, saga: SagaLog, lane: Lane | None = None) -> None:
    """Raise Refused if the stored state of a saga, or of one lane of it, forbids a decision. No queries."""
    if action is Action.RESUME:
        if saga.set_aside_at is None:
            raise Refused(_("the saga is not blocked by an error: there is nothing to resume"))
        return
    check_not_set_aside(saga)
    if action is Action.REPLAY:
        check_known_version(saga)
    elif action is Action.TERMINATE:
        _check_may_terminate(saga)
    else:
        _check_may_fail(action, saga, lane)


def possible_on_saga(saga: SagaLog) -> frozenset[Action]:
    """Return the decisions on the whole saga that its stored state allows now. No queries.

    Whether the events of a saga that is blocked by an error can be applied now is known only after it is resumed.
    """
    actions = (Action.FORCE_COMPENSATION, Action.CANCEL, Action.TERMINATE, Action.RESUME, Action.REPLAY)
    return frozenset(action for action in actions if not refusal(check, action, saga))


def possible_on_lane(lane: Lane) -> frozenset[Action]:
    """Return the decisions on one lane that its state and its saga's allow now."""
    actions = (Action.FORCE_COMPENSATION, Action.CANCEL)
    return frozenset(action for action in actions if not refusal(check, action, lane.saga, lane))


def refusal(check_: Callable[..., None], *arguments: Any) -> str:
    """Return why a check refuses, as a text for people; empty if it does not."""
    try:
        check_(*arguments)
    except Refused as refused:
        return str(refused)
    return ""


def _fail(action: Action, kind: str, saga_id: UUID | str, lane: str | None, request: ActionRequest) -> ActionResult:
    saga = saga_row(saga_id)

    def work(context: ActionContext) -> None:
        now = current(context, saga)
        check(action, now, None if lane is None else _lane(now, lane))
        with previewed(context, routing_key(saga)):
            append(context, now, kind, {}, lane or "")
        note_status(context, now)

    return _on_saga(action, saga, request, work, once=f"{action.value}:{saga.id}:{lane or ''}", lane=lane)


def _lane(saga: SagaLog, entity: str) -> Lane:
    """Return the lane. Raises NotFound."""
    row = Lane.objects.filter(saga=saga, entity=entity, known=True).first()
    if row is None:
        raise NotFound(nouns.of(saga.saga_type).fill(_("the saga has no %(entity_noun)s %(lane)s"), lane=entity))
    return row


def _check_may_fail(action: Action, saga: SagaLog, lane: Lane | None) -> None:
    if lane is not None:
        if lane.failed:
            text = _("%(the_entity)s already failed: its compensation is in progress or was decided")
            raise Refused(nouns.of(saga.saga_type).fill(text))
    else:
        check_known_version(saga)
        if saga_has_failed(saga):
            raise Refused(_("the saga already failed: its compensation is in progress or was decided"))
    if action is Action.CANCEL and saga.status not in UNFINISHED:
        text = _("the saga is %(status)s and no longer running: force compensation to undo what it did")
        raise Refused(text % {"status": saga.status})


def _check_may_terminate(saga: SagaLog) -> None:
    if saga.status not in OPEN:
        raise Refused(_("the saga is %(status)s: there is nothing to terminate") % {"status": saga.status})
    if saga_from(saga.state, SagaCounts()).claimed is not None:
        raise Refused(_("the saga was already terminated: commands sent before may still finish"))


def check_known_version(saga: SagaLog) -> None:
    """Raise Refused if this release does not know the version of the definition that the saga runs on."""
    try:
        registry.get(saga.saga_type, saga.version)
    except registry.UnknownDefinition:
        text = _("this release does not support %(type)s version %(version)d: use a release that does")
        raise Refused(text % {"type": saga.saga_type, "version": saga.version}) from None


def saga_has_failed(saga: SagaLog) -> bool:
    """Return whether the saga as a whole failed, by the failure scope that it was started with."""
    identity = SagaIdentity(registry.get(saga.saga_type, saga.version), saga.failure_scope, str(saga.id), saga.key)
    return saga_failed(identity, saga_from(saga.state, SagaCounts()))


def note_status(context: ActionContext, saga: SagaLog) -> None:
    """Note the saga's status before the decision (`saga` as it was read then) and after it."""
    context.effects["status_before"] = saga.status
    context.effects["status_after"] = saga_row(saga.id).status


def _on_saga(
    action: Action,
    saga: SagaLog,
    request: ActionRequest,
    work: Any,
    *,
    once: str | None = None,
    lane: str | None = None,
) -> ActionResult:
    target = f"saga {saga.id}" if lane is None else f"saga {saga.id} lane {lane}"
    return carry_out(action, target, request, work, locks=[routing_key(saga)], saga_id=saga.id, once=lambda: once)
