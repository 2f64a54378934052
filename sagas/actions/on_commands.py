"""Decisions on commands, one or many: when each is possible, and how it is carried out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Q
from django.utils.translation import gettext as _

from compensation import held
from compensation.held import Unclaimed
from compensation.models import INACTIVE, UNSENT, Command, CommandStatus
from compensation.queries import planned_before
from sagas import nouns, targets
from sagas.actions import many
from sagas.actions.action import (
    ActionContext,
    ActionRequest,
    ActionResult,
    CommandPreview,
    as_uuid,
    by_saga,
    carry_out,
    previewed,
    routing_key,
    saga_row,
)
from sagas.actions.on_saga import ANY_TIME, append, current, set_aside
from sagas.actions.spec import ActionSpec, Refusal, Values
from sagas.applying.shared_entities import others_by_saga
from sagas.errors import DecisionError, Invalid, NotFound, Refused
from sagas.models import SagaLog
from sagas.targets import DecisionTarget


@dataclass(frozen=True, slots=True)
class CommandView:
    """A command as it is stored, with its saga, which may be pruned.

    `of_many`: as one of all commands of its saga; what only its own id can name is left out of them.
    """

    command: Command
    saga: SagaLog | None
    of_many: bool = False


# --- when each is possible --------------------------------------------------------------------------------------------


def may_mark_done(view: CommandView) -> Refusal:
    """Refuse for a command that is confirmed, and for one that was never sent unless its own id names it.

    All commands of a saga include those that wait for another one: an image whose deletion is marked as done together
    with a rollback would never be deleted.
    """
    if view.of_many and view.command.status == CommandStatus.PLANNED:
        return _("never sent: it can only be marked as done by its own id")
    return _may_answer(view)


def _may_answer(view: CommandView) -> Refusal:
    if view.saga is None:
        return _("Saga with ID %(id)s not found") % {"id": view.command.saga_id}
    if view.command.status == CommandStatus.CONFIRMED:
        return set_aside(view.saga) or _("already confirmed: no decision is needed")
    if view.command.status == CommandStatus.NOT_REQUIRED:
        text = _("no longer required, as %(the_key)s was started again: no decision is needed")
        return set_aside(view.saga) or nouns.of(view.saga.saga_type).fill(text)
    return set_aside(view.saga)


def may_give_up(view: CommandView) -> Refusal:
    """Refuse for a command that is confirmed, skipped or withdrawn."""
    refusal, command = _may_answer(view), view.command
    if refusal is None and command.status in (CommandStatus.SKIPPED, CommandStatus.WITHDRAWN):
        return _("already %(status)s: you can still mark it as done") % {"status": command.get_status_display()}
    return refusal


def may_retry(view: CommandView) -> Refusal:
    """Refuse for a command that needs no decision, or that the service would refuse again."""
    refusal, command = may_give_up(view), view.command
    if refusal is None and command.status != CommandStatus.EXHAUSTED:
        return _("still in progress (%(status)s): only a command that needs a decision can be retried") % {
            "status": command.get_status_display()
        }
    if refusal is None and command.invalid:
        return _("the service would refuse it again: %(why)s") % {"why": command.invalid_text}
    return refusal


def may_release(view: CommandView) -> Refusal:
    """Refuse for a command that is not held."""
    refusal = _may_answer(view)
    if refusal is None and not view.command.held_since:
        return _("not held: there is nothing to release")
    return refusal


def views_of(saga: SagaLog) -> list[CommandView]:
    """Return a view for each state that unanswered commands of a saga are in. One query."""
    found = Command.objects.filter(saga_id=saga.id).exclude(status__in=INACTIVE)
    found = found.annotate(unfit=Q(invalid__gt=""), held=Q(held_since__isnull=False))
    states = found.order_by().values_list("status", "unfit", "held").distinct()
    return [CommandView(_like(status, unfit=unfit, held=held), saga, of_many=True) for status, unfit, held in states]


def views_in(status: str = "", *, invalid: bool = False) -> list[CommandView]:
    """Return a view for each state that commands of a status may be in, of any status if none is given. No queries."""
    statuses = [status] if status else list(CommandStatus.values)
    return [
        CommandView(_like(one, unfit=invalid, held=is_held), SagaLog())
        for one in statuses
        for is_held in {False, one == CommandStatus.PLANNED}
    ]


def _like(status: str, *, unfit: bool, held: bool) -> Command:
    """Build a command with the fields that the rules read."""
    return Command(status=status, invalid="unfit" if unfit else "", held_since=ANY_TIME if held else None)


def is_anything_unsent() -> bool:
    """Return whether a cut-over would find a command to withdraw. One query."""
    return Command.objects.filter(status__in=UNSENT).exists()


# --- which commands ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandSelection:
    """Which commands: by id, of a saga, or planned before a time (a cut-over). Exactly one must be given.

    The list of commands is fixed before anything is decided: later commands are not included.
    """

    ids: Sequence[UUID | str] | None = None
    saga: UUID | str | None = None
    planned_before: datetime | None = None

    def find(self, spec: ActionSpec, of_saga: Q) -> list[UUID]:
        """Return the ids of the commands. Raises Invalid, NotFound.

        Of a saga, those that match `of_saga`, without those that the decision's rule leaves out.
        """
        given = [name for name in ("ids", "saga", "planned_before") if getattr(self, name) is not None]
        if len(given) != 1:
            raise Invalid(_("select the commands by exactly one of ids, saga and planned_before"))
        if self.ids is not None:
            return many.as_ids(
                self.ids, empty=_("the list of commands is empty"), malformed=_("a command's id is a UUID")
            )
        if self.planned_before is not None:
            if not any(field.selects for field in spec.fields):
                raise Invalid(_("planned_before selects unsent commands, which can only be withdrawn"))
            return list(planned_before(self.planned_before).values_list("id", flat=True))
        saga = saga_row(self.saga or "")
        found = Command.objects.filter(of_saga, saga_id=saga.id).only("status", "invalid", "held_since")
        views = (CommandView(command, saga, of_many=True) for command in found.order_by("entity", "-name"))
        return [view.command.id for view in views if not _is_left_out(spec, view)]

    @property
    def target(self) -> DecisionTarget:
        """Return the target of the decision."""
        if self.saga is not None:
            return DecisionTarget("commands-of-saga", {"saga": str(self.saga)})
        if self.planned_before is not None:
            return DecisionTarget("commands-planned-before", {"time": self.planned_before.isoformat()})
        return many.target_of(self.ids or (), "commands")


def ids_of(spec: ActionSpec, values: Values) -> list[UUID]:
    """Return the commands that the values of a decision on commands choose. Raises Invalid, NotFound."""
    if values.get("command") is not None:
        return [as_uuid(values["command"])]
    effect = spec.effect
    selection = CommandSelection(**{name: values.get(name) for name in _SELECTED_BY})
    return selection.find(spec, effect.of_saga if isinstance(effect, CommandEffect) else Q())


# --- how they are carried out -----------------------------------------------------------------------------------------

Change = Callable[["CommandEffect", ActionSpec, ActionContext, SagaLog, Sequence[Command]], None]


def _append(
    effect: CommandEffect, spec: ActionSpec, context: ActionContext, saga: SagaLog, chosen: Sequence[Command]
) -> None:
    """Append the decision's fact, which names the commands, each with its round."""
    named = [[command.entity, command.name, command.round + effect.opens_round] for command in chosen]
    append(context, saga, spec.fact or "", {"commands": named})


def _release(
    _effect: CommandEffect, _spec: ActionSpec, context: ActionContext, _saga: SagaLog, chosen: Sequence[Command]
) -> None:
    """Release held commands. It is no fact of the log: it changes only when they may be sent, not their saga."""
    held.release([command.id for command in chosen], context.now)


def _note_also_known(context: ActionContext, chosen: Sequence[Command]) -> None:
    """Note the other sagas that know entities of the commands, each with the number of entities that it knows."""
    unclaimed = [Unclaimed(str(c.id), str(c.saga_id), c.stream, c.entity) for c in chosen]
    known = {saga: len(entities) for saga, entities in others_by_saga(unclaimed).items()}
    context.effects["also_known_to"] = by_saga(known)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandEffect:
    """Carry out a decision on one command (`command`), or on many, one transaction per saga.

    of_saga: which commands of a saga it applies to. only_targets: it affects no other command; an answer releases
    others of its lane. opens_round: 1 if it opens a new round, else 0.
    """

    change: Change = _append
    before: Callable[[ActionContext, Sequence[Command]], None] | None = None
    of_saga: Q
    only_targets: bool = False
    opens_round: int = 0

    def __call__(self, spec: ActionSpec, values: Values, request: ActionRequest) -> ActionResult:
        """Carry out the decision.

        Of many commands, those that are not eligible are left out; `effects` has {eligible, not_eligible: [{id, code,
        reason}], sagas, status_counts: of these sagas afterwards}. values: `command`, or one of `ids`, `saga`,
        `planned_before`. Opens its own transactions. Raises NotFound, Invalid; Refused only for one command.
        """
        if values.get("command") is not None:
            row = _command(values["command"])
            return self._decide(spec, row.saga_id, [row.id], request, targets.of_command(row.id))
        return self._many(spec, CommandSelection(**{name: values.get(name) for name in _SELECTED_BY}), request)

    def _many(self, spec: ActionSpec, selection: CommandSelection, request: ActionRequest) -> ActionResult:
        ids = selection.find(spec, self.of_saga)
        earlier = many.begin(spec, selection.target, request, len(ids))
        if earlier is not None:
            return earlier
        total = self._each_saga(spec, ids, replace(request, idempotency_key=None))
        return many.remember(spec, total, selection.target, request)

    def _each_saga(self, spec: ActionSpec, ids: Sequence[UUID], request: ActionRequest) -> ActionResult:
        by_saga: dict[UUID, list[UUID]] = defaultdict(list)
        found = set()
        for identity, saga_id in Command.objects.filter(id__in=ids).order_by("id").values_list("id", "saga_id"):
            by_saga[saga_id].append(identity)
            found.add(identity)
        refused = [
            many.not_eligible(identity, "not_found", _("no such command")) for identity in ids if identity not in found
        ]
        named = frozenset(ids)
        commands: list[CommandPreview] = []
        statuses: Counter[str] = Counter()
        known_to: dict[str, dict[str, Any]] = {}
        for saga_id, group in sorted(by_saga.items()):
            try:
                outcome = self._decide(spec, saga_id, group, request, None, bulk=named)
            except DecisionError as error:
                refused += [many.not_eligible(identity, "refused", str(error)) for identity in group]
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
        return many.result(spec, request, commands, effects)

    def _decide(
        self,
        spec: ActionSpec,
        saga_id: UUID,
        ids: Sequence[UUID],
        request: ActionRequest,
        target: DecisionTarget | None,
        *,
        bulk: frozenset[UUID] = frozenset(),
    ) -> ActionResult:
        """Carry out a decision for one saga. bulk: all commands of a decision that may be about several sagas.

        target: None for the saga.
        """
        saga = saga_row(saga_id)
        about = target or targets.of_saga(saga.id, saga.saga_type)

        def work(context: ActionContext) -> None:
            now = current(context, saga)
            chosen, refused = _split_by_eligibility(spec, ids, now)
            if refused and not bulk:
                raise Refused(refused[0]["reason"])
            chosen_ids = [command.id for command in chosen]
            if self.before is not None and chosen:
                self.before(context, chosen)
            only = chosen_ids if self.only_targets else None
            with previewed(context, routing_key(saga), targets=bulk or chosen_ids, only=only):
                if chosen:
                    self.change(self, spec, context, now, chosen)
            context.effects |= {"not_eligible": refused} if bulk else {}
            context.effects |= {"status_before": now.status, "status_after": saga_row(saga.id).status}

        def once(_context: ActionContext) -> str | None:
            return None if bulk else self._once(spec, ids[0])

        return carry_out(spec.name, about, request, work, locks=[routing_key(saga)], saga_id=saga.id, once=once)

    def _once(self, spec: ActionSpec, command_id: UUID) -> str:
        """Name the decision: one that opens a round is new in each round, the others can be taken once."""
        if not self.opens_round:
            return spec.once.format(command=command_id)
        command = _command(command_id)
        opens = command.round + (self.opens_round if command.status == CommandStatus.EXHAUSTED else 0)
        return spec.once.format(command=command_id, round=opens)


_SELECTED_BY = ("ids", "saga", "planned_before")
RETRY = CommandEffect(of_saga=Q(status=CommandStatus.EXHAUSTED), only_targets=True, opens_round=1)
ANSWER = CommandEffect(of_saga=~Q(status__in=INACTIVE))
RELEASE = CommandEffect(
    change=_release, before=_note_also_known, of_saga=Q(held_since__isnull=False), only_targets=True
)


def _is_left_out(spec: ActionSpec, view: CommandView) -> bool:
    """Return whether a decision on all commands of a saga is not about this one, although it may name it itself."""
    return bool(spec.refusal(view)) and not spec.refusal(replace(view, of_many=False))


def _split_by_eligibility(
    spec: ActionSpec, ids: Sequence[UUID], saga: SagaLog
) -> tuple[list[Command], list[dict[str, Any]]]:
    chosen, refused = [], []
    for command in Command.objects.filter(id__in=ids).order_by("id"):
        reason = spec.refusal(CommandView(command, saga))
        if reason:
            refused.append(many.not_eligible(command.id, "refused", reason))
        else:
            chosen.append(command)
    return chosen, refused


def _command(command_id: UUID | str) -> Command:
    try:
        return Command.objects.get(id=as_uuid(command_id))
    except (Command.DoesNotExist, ValueError):
        raise NotFound(_("Command with ID %(id)s not found") % {"id": command_id}) from None
