"""Decisions on commands, one or many: retry, skip, mark as done, withdraw, release a held one."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _

from bridge import clock
from compensation import held
from compensation.held import Unclaimed
from compensation.models import SETTLED, UNSENT, Command, CommandStatus
from compensation.queries import planned_before
from sagas.actions.action import (
    ActionContext,
    ActionRequest,
    ActionResult,
    CommandPreview,
    as_uuid,
    by_saga,
    carry_out,
    check_reason,
    previewed,
    routing_key,
    saga_row,
)
from sagas.actions.on_saga import append, check_not_set_aside, current, refusal
from sagas.applying.shared_entities import others_by_saga
from sagas.engine import facts as kinds
from sagas.errors import DecisionError, Invalid, NotFound, Refused
from sagas.models import Action, Decision, SagaLog

KINDS = {
    Action.RETRY: kinds.COMMANDS_RETRIED,
    Action.SKIP: kinds.COMMANDS_SKIPPED,
    Action.MARK_DONE: kinds.COMMANDS_MARKED_DONE,
    Action.WITHDRAW: kinds.COMMANDS_WITHDRAWN,
}
# A release is no fact of the log: it does not change the saga, only when its commands may be sent.
ACTIONS = (*KINDS, Action.RELEASE)
_ANY_TIME = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandSelection:
    """Which commands: by id, of a saga, or planned before a time (a cut-over). Exactly one must be given.

    The list of commands is fixed before anything is decided: later commands are not included.
    """

    ids: Sequence[UUID | str] | None = None
    saga: UUID | str | None = None
    planned_before: datetime | None = None

    def find(self, action: Action) -> list[UUID]:
        """Return the ids of the commands; of a saga, those that the action applies to. Raises Invalid, NotFound."""
        given = [name for name in ("ids", "saga", "planned_before") if getattr(self, name) is not None]
        if len(given) != 1:
            raise Invalid(_("select the commands by exactly one of ids, saga and planned_before"))
        if self.ids is not None:
            return _as_ids(self.ids)
        return list(self._found(action).values_list("id", flat=True))

    def _found(self, action: Action) -> QuerySet[Command]:
        if self.planned_before is not None:
            if action is not Action.WITHDRAW:
                raise Invalid(_("planned_before selects unsent commands, which can only be withdrawn"))
            return planned_before(self.planned_before)
        return _applicable_of(saga_row(self.saga or "").id, action).order_by("entity", "-name")


def decide_command(action: Action | str, command_id: UUID | str, *, request: ActionRequest) -> ActionResult:
    """Carry out one decision on one command, in its own transaction.

    Raises NotFound, Invalid, Refused (a retry of a command that is not exhausted, any decision after a confirmation).
    """
    chosen = _action(action)
    command = _command(command_id)
    return _decide(chosen, saga_id=command.saga_id, ids=[command.id], request=request, target=f"command {command.id}")


def decide_commands(action: Action | str, selection: CommandSelection, *, request: ActionRequest) -> ActionResult:
    """Carry out one decision on many commands, one transaction per saga; skip commands that are not eligible.

    `effects` has {eligible, not_eligible: [{id, code, reason}], sagas, status_counts: of these sagas afterwards}.
    Raises Invalid, NotFound.
    """
    chosen = _action(action)
    ids = selection.find(chosen)
    if not request.dry_run:
        check_reason(request.reason)
    target = _name_of(selection)
    earlier = _same_request(chosen, target, request)
    if earlier is not None:
        return earlier
    total = _each_saga(chosen, ids, replace(request, idempotency_key=None))
    return _remember(total, chosen, target, request)


def _each_saga(action: Action, ids: Sequence[UUID], request: ActionRequest) -> ActionResult:
    by_saga: dict[UUID, list[UUID]] = defaultdict(list)
    found = set()
    for identity, saga_id in Command.objects.filter(id__in=ids).order_by("id").values_list("id", "saga_id"):
        by_saga[saga_id].append(identity)
        found.add(identity)
    refused = [
        {"id": str(identity), "code": "not_found", "reason": _("no such command")}
        for identity in ids
        if identity not in found
    ]
    named = frozenset(ids)
    commands: list[CommandPreview] = []
    statuses: Counter[str] = Counter()
    known_to: dict[str, dict[str, Any]] = {}
    for saga_id, group in sorted(by_saga.items()):
        try:
            target = f"saga {saga_id}"
            outcome = _decide(action, saga_id=saga_id, ids=group, request=request, target=target, bulk=named)
        except DecisionError as error:
            refused += [_not_eligible(identity, str(error)) for identity in group]
            continue
        commands += outcome.commands
        refused += outcome.effects.get("not_eligible", [])
        statuses[outcome.effects["status_after"]] += 1
        for other, known in outcome.effects.get("also_known_to", {}).items():
            known_to[other] = {**known, "count": known["count"] + known_to.get(other, {}).get("count", 0)}
    effects = {
        "eligible": len(ids) - len(refused),
        "not_eligible": refused,
        "sagas": len(by_saga),
        "status_counts": dict(sorted(statuses.items())),
        **({"also_known_to": known_to} if known_to else {}),
    }
    return ActionResult(
        action=action.value,
        target="",
        actor=request.actor,
        accepted_at=clock.now(),
        commands=commands,
        effects=effects,
        dry_run=request.dry_run,
    )


def _remember(total: ActionResult, action: Action, target: str, request: ActionRequest) -> ActionResult:
    """Write the audit row of the bulk decision itself, in addition to those of its sagas."""

    def work(context: ActionContext) -> None:
        context.commands += total.commands
        context.effects |= total.effects

    return carry_out(action, target, request, work)


def _same_request(action: Action, target: str, request: ActionRequest) -> ActionResult | None:
    """Return the result of the same bulk request, if it was completed; checked first, as the work may take long."""
    if not request.idempotency_key or request.dry_run:
        return None
    known = Decision.objects.filter(actor=request.actor, request_key=request.idempotency_key).exists()
    return carry_out(action, target, request, _never) if known else None


def _never(context: ActionContext) -> None:
    raise AssertionError("the earlier decision answers")


def _decide(
    action: Action,
    *,
    saga_id: UUID,
    ids: Sequence[UUID],
    request: ActionRequest,
    target: str,
    bulk: frozenset[UUID] = frozenset(),
) -> ActionResult:
    """Carry out a decision for one saga. bulk: all commands of a decision that may be about several sagas."""
    saga = saga_row(saga_id)

    def work(context: ActionContext) -> None:
        now = current(context, saga)
        chosen, refused = _split_by_eligibility(action, ids)
        if refused and not bulk:
            raise Refused(refused[0]["reason"])
        targets = [command.id for command in chosen]
        # An answer releases other commands of its lane; only a retry and a release affect no other command.
        only = targets if action in (Action.RETRY, Action.RELEASE) else None
        if action is Action.RELEASE and chosen:
            context.effects["also_known_to"] = _known_to(chosen)
        with previewed(context, routing_key(saga), targets=bulk or targets, only=only):
            if action is Action.RELEASE:
                held.release(targets, context.now)
            elif chosen:
                append(context, now, KINDS[action], {"commands": [_named(action, command) for command in chosen]})
        context.effects |= {"not_eligible": refused} if bulk else {}
        context.effects |= {"status_before": now.status, "status_after": saga_row(saga.id).status}

    once = (lambda: None) if bulk else (lambda: _once(action, ids[0]))
    return carry_out(action, target, request, work, locks=[routing_key(saga)], saga_id=saga.id, once=once)


def _known_to(commands: Sequence[Command]) -> dict[str, dict[str, Any]]:
    """Return the other sagas that know entities of the commands, each with the number of entities that it knows."""
    unclaimed = [Unclaimed(str(c.id), str(c.saga_id), c.stream, c.entity) for c in commands]
    return by_saga({saga: len(known) for saga, known in others_by_saga(unclaimed).items()})


def _once(action: Action, command_id: UUID) -> str:
    """Name the decision: a retry is a new decision in each round, the others can be taken once."""
    if action is not Action.RETRY:
        return f"{action.value}:{command_id}"
    command = _command(command_id)
    opens = command.round + 1 if command.status == CommandStatus.EXHAUSTED else command.round
    return f"{action.value}:{command_id}:{opens}"


def possible_on_command(command: Command, saga: SagaLog | None) -> frozenset[Action]:
    """Return the decisions on one command that its state and its saga's allow now. No queries."""
    if saga is None or refusal(check_not_set_aside, saga):
        return frozenset()
    return frozenset(action for action in ACTIONS if not _refusal_reason(action, command))


def possible_on_commands_of(saga: SagaLog) -> frozenset[Action]:
    """Return the decisions on all commands of a saga that at least one command is eligible for. One query."""
    if refusal(check_not_set_aside, saga):
        return frozenset()
    found = _applicable_of(saga.id, Action.WITHDRAW).annotate(unfit=Q(invalid__gt=""), held=Q(held_since__isnull=False))
    states = [_like(*state) for state in found.order_by().values_list("status", "unfit", "held").distinct()]
    return frozenset(action for action in ACTIONS if any(not _refusal_reason(action, command) for command in states))


def possible_in_state(status: str = "", *, invalid: bool = False) -> frozenset[Action]:
    """Return the decisions that commands of a status may allow; of any status if none is given. No queries."""
    states = [status] if status else list(CommandStatus.values)
    commands = [_like(state, invalid, held) for state in states for held in {False, state == CommandStatus.PLANNED}]
    return frozenset(action for action in ACTIONS if any(not _refusal_reason(action, command) for command in commands))


def _like(status: str, unfit: bool, held: bool) -> Command:
    """Build a command with the fields that `_refusal_reason` reads."""
    return Command(status=status, invalid="unfit" if unfit else "", held_since=_ANY_TIME if held else None)


def is_anything_unsent() -> bool:
    """Return whether a cut-over would find a command to withdraw. One query."""
    return Command.objects.filter(status__in=UNSENT).exists()


def _applicable_of(saga_id: UUID, action: Action) -> QuerySet[Command]:
    """Return the commands of a saga that an action on the whole saga applies to."""
    found = Command.objects.filter(saga_id=saga_id)
    if action is Action.RETRY:
        return found.filter(status=CommandStatus.EXHAUSTED)
    if action is Action.RELEASE:
        return found.filter(held_since__isnull=False)
    return found.exclude(status__in=SETTLED)


def _split_by_eligibility(action: Action, ids: Sequence[UUID]) -> tuple[list[Command], list[dict[str, Any]]]:
    chosen, refused = [], []
    for command in Command.objects.filter(id__in=ids).order_by("id"):
        reason = _refusal_reason(action, command)
        if reason:
            refused.append(_not_eligible(command.id, reason))
        else:
            chosen.append(command)
    return chosen, refused


def _not_eligible(command_id: UUID, reason: str) -> dict[str, Any]:
    return {"id": str(command_id), "code": "refused", "reason": reason}


def _refusal_reason(action: Action, command: Command) -> str:
    """Return why the command's state forbids the action, as a text for people; empty if it does not."""
    if command.status == CommandStatus.CONFIRMED:
        return _("already confirmed: no decision is needed")
    if action is Action.MARK_DONE:
        return ""
    if action is Action.RELEASE:
        return "" if command.held_since else _("not held: there is nothing to release")
    if command.status in (CommandStatus.SKIPPED, CommandStatus.WITHDRAWN):
        return _("already %(status)s: you can still mark it as done") % {"status": command.get_status_display()}
    if action is not Action.RETRY:
        return ""
    if command.status != CommandStatus.EXHAUSTED:
        return _("still in progress (%(status)s): only a command that needs a decision can be retried") % {
            "status": command.get_status_display()
        }
    if command.invalid:
        return _("the service would refuse it again: %(why)s") % {"why": command.invalid_text}
    return ""


def _named(action: Action, command: Command) -> list[Any]:
    return [command.entity, command.name, command.round + 1 if action is Action.RETRY else command.round]


def _action(action: Action | str) -> Action:
    try:
        chosen = Action(action)
    except ValueError:
        raise Invalid(_("unknown action %(action)s") % {"action": action}) from None
    if chosen not in ACTIONS:
        raise Invalid(_("%(action)s is not a decision on a command") % {"action": action})
    return chosen


def _command(command_id: UUID | str) -> Command:
    try:
        return Command.objects.get(id=as_uuid(command_id))
    except (Command.DoesNotExist, ValueError):
        raise NotFound(_("Command with ID %(id)s not found") % {"id": command_id}) from None


def _as_ids(ids: Sequence[UUID | str]) -> list[UUID]:
    if not ids:
        raise Invalid(_("the list of commands is empty"))
    try:
        return list(dict.fromkeys(as_uuid(value) for value in ids))
    except ValueError:
        raise Invalid(_("a command's id is a UUID")) from None


def _name_of(selection: CommandSelection) -> str:
    if selection.saga is not None:
        return f"commands of saga {selection.saga}"
    if selection.planned_before is not None:
        return f"commands planned before {selection.planned_before.isoformat()}"
    ids = sorted({str(value).lower() for value in selection.ids or ()})
    # The mark tells this selection from every other, also under a request key.
    mark = hashlib.sha256(" ".join(ids).encode()).hexdigest()[:12]
    return f"{len(ids)} commands (selection {mark})"
