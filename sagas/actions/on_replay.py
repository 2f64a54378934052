"""The decision to replay a saga: fold its log again and show the differences; write them only with `apply`."""

from __future__ import annotations

from dataclasses import replace

from django.utils.translation import gettext as _

from sagas import targets
from sagas.actions.action import (
    ActionContext,
    ActionRequest,
    ActionResult,
    carry_out,
    previewed,
    routing_key,
    saga_row,
)
from sagas.actions.on_saga import WholeSagaView, current, set_aside, unknown_version
from sagas.actions.spec import ActionSpec, Refusal, Values
from sagas.applying import replay as replaying
from sagas.errors import Refused
from sagas.models import SagaLog


def may_replay(view: WholeSagaView) -> Refusal:
    """Refuse for a saga that is blocked, or of an unknown version. Only a preview shows if nothing differs."""
    return set_aside(view.saga) or unknown_version(view.saga)


def replay(spec: ActionSpec, values: Values, request: ActionRequest) -> ActionResult:
    """Fold the saga's log again; `effects.differences` is [{what, stored, folded}]. Writes only with `apply`.

    Without `apply` nothing is written, no reason is needed and no decision is recorded. Opens its own transaction.
    Raises NotFound, Invalid, Refused (with `apply`: the saga is blocked by an error, or there are no differences).
    """
    saga = saga_row(values["saga"])
    if not values.get("apply"):
        return compare(spec, saga, request)

    def work(context: ActionContext) -> None:
        now = current(context, saga)
        spec.check(WholeSagaView(now))
        found = replaying.compare(now.id)
        if not found:
            raise Refused(_("the stored state already matches the event log: there is nothing to rebuild"))
        with previewed(context, routing_key(saga)):
            context.follow(routing_key(saga), replaying.repair(now.id, context.now))
        context.effects |= {"differences": [item._asdict() for item in found], "status_after": saga_row(now.id).status}

    locks = [routing_key(saga)]
    return carry_out(spec.name, targets.of_saga(saga.id, saga.saga_type), request, work, locks=locks, saga_id=saga.id)


def compare(spec: ActionSpec, saga: SagaLog, request: ActionRequest) -> ActionResult:
    """Return the differences, also of a saga that is blocked. Raises Refused if its version is unknown."""
    refusal = unknown_version(saga)
    if refusal:
        raise Refused(refusal)

    def work(context: ActionContext) -> None:
        context.effects["differences"] = [item._asdict() for item in replaying.compare(saga.id)]

    dry = replace(request, dry_run=True, idempotency_key=None)
    locks = [routing_key(saga)]
    return carry_out(spec.name, targets.of_saga(saga.id, saga.saga_type), dry, work, locks=locks, saga_id=saga.id)


def preview(spec: ActionSpec, values: Values, request: ActionRequest) -> ActionResult:
    """Return what a replay would store, or only the comparison if there are no differences."""
    found = replay(spec, {**values, "apply": False}, request)
    return replay(spec, values, request) if found.effects["differences"] else found
