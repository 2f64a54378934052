"""What all decisions have in common: who requests one, its result, and how a repeated request is recognized."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from celery.exceptions import SoftTimeLimitExceeded
from django.db import DatabaseError, OperationalError, transaction
from django.utils.translation import gettext as _

from bridge import clock, instants, routing
from compensation import switches
from compensation.models import UNSENT, Command, CommandStatus
from sagas import targets
from sagas.actions.reason import is_blank
from sagas.applying import breakers, shared_entities, statements
from sagas.applying.apply import after_commit, apply_key
from sagas.applying.batch import ApplyResult
from sagas.applying.fold import error_location
from sagas.error_text import shown_effects
from sagas.errors import Busy, DecisionError, Invalid, NotFound, Refused
from sagas.models import Decision, EntryPoint, SagaLog
from sagas.statements import LIMIT_LOCK_WAIT
from sagas.targets import DecisionTarget

REASON_LIMIT = 1000
LOCK_WAIT = "5s"
# How many commands are stored with a result: enough to read, whatever the saga's size.
KEPT_COMMANDS = 1000
MAY_BE_SENT = (*UNSENT, CommandStatus.PUBLISHING, CommandStatus.PUBLISHED)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionRequest:
    """Who requests a decision, through which entry point (`door`), and why. With `dry_run` it is only previewed.

    asked: the values of the decision's own fields, set by `ActionSpec.decide`: an idempotency key stands for them too.
    job: the job that carries it out, or that it is about.
    """

    actor: str
    door: str
    reason: str = ""
    dry_run: bool = False
    idempotency_key: str | None = None
    asked: Mapping[str, Any] | None = None
    job: UUID | None = None


@dataclass(frozen=True, slots=True)
class CommandPreview:
    """One command that a decision creates or changes. `body` is its message, as long as it may still be sent.

    `leaves`: it may be sent from now on (unless sending is paused); otherwise it waits for another of its lane.
    `released`: the decision was not about this command; it was waiting and may be sent because of the decision.
    `held_by`: the other saga that knows its entity, while it is held for a person because of that.
    If a dry run starts a saga, the ids of that saga and its commands are valid in that run only.
    """

    id: UUID
    name: str
    entity: str
    service: str
    topic: str
    status_before: str | None
    status_after: str
    body: Mapping[str, Any] | None = None
    leaves: bool = False
    released: bool = False
    held_by: UUID | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "id": str(self.id),
            "name": self.name,
            "entity": self.entity,
            "service": self.service,
            "topic": self.topic,
            "status_before": self.status_before,
            "status_after": self.status_after,
            "body": self.body,
            "leaves": self.leaves,
            "released": self.released,
            "held_by": str(self.held_by) if self.held_by else None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionResult:
    """What a decision did, or (`dry_run`) would do, or (`repeated`) did at the first request.

    `effects["released"]` counts the released commands by name, also if the list of commands is shortened;
    `effects["publishing_paused"]` lists the services to which commands could be sent if sending were not paused;
    `effects["after_canary"]` those to which they are sent when the first commands after a resumption are confirmed;
    `effects["held"]` counts the held commands, by the other saga that knows their entities.
    """

    action: str
    target: DecisionTarget
    actor: str
    accepted_at: datetime
    decision_id: UUID | None = None
    commands: Sequence[CommandPreview] = ()
    effects: Mapping[str, Any] = field(default_factory=dict)
    repeated: bool = False
    dry_run: bool = False

    def as_json(self, *, payload: bool = False) -> dict[str, Any]:
        """Return the answer of the API and the commands; error texts are included only with `payload`."""
        return {
            "decision_id": str(self.decision_id) if self.decision_id else None,
            "action": self.action,
            "target": self.target.name,
            "actor": self.actor,
            "accepted_at": instants.for_programs(self.accepted_at),
            "commands": [command.as_json() for command in self.commands],
            "effects": shown_effects(self.effects, payload=payload),
            "repeated": self.repeated,
            "dry_run": self.dry_run,
        }


class SagaSnapshot(NamedTuple):
    """A saga and its commands at one moment; all fields are empty if no saga has the key."""

    saga_id: UUID | None
    status: str
    events_count: int
    commands: Mapping[UUID, CommandPreview]


class EventsNotApplicable(Refused):
    """The engine raised while applying events, so the decision cannot be carried out. `place` is where it raised."""

    def __init__(self, place: str) -> None:
        text = _("the events of the saga cannot be applied: %(error)s. Nothing was changed")
        super().__init__(text % {"error": place})
        self.place = place


@dataclass
class ActionContext:
    """A decision while it is carried out, in its transaction.

    `held`: the routing keys that it has locked. `before`: a snapshot of each of them when it was locked, inside
    `previewed`; otherwise None. `only`: the commands that these snapshots contain; None for all. `not_ordered` counts
    the commands, by service, that events planned which had waited: no preview shows them as a result of this decision.
    """

    action: str
    target: DecisionTarget
    request: ActionRequest
    now: datetime
    id: UUID
    saga_id: UUID | None = None
    once: str | None = None
    commands: list[CommandPreview] = field(default_factory=list)
    effects: dict[str, Any] = field(default_factory=dict)
    applied: list[ApplyResult] = field(default_factory=list)
    held: set[str] = field(default_factory=set)
    before: dict[str, SagaSnapshot] | None = None
    only: Sequence[UUID] | None = None
    not_ordered: Counter[str] = field(default_factory=Counter)
    changed: list[tuple[str, str]] = field(default_factory=list)  # (saga type, entity) whose holds are to be looked at

    def hold(self, *keys: str) -> None:
        """Lock routing keys until the transaction ends. Raises Busy if a lock is not free within LOCK_WAIT.

        A key that is locked later is not in the common order of locks: if two decisions wait for each other, the
        database detects the deadlock, and one of them raises Busy.
        """
        for key in sorted(set(keys) - self.held):
            try:
                statements.lock(key)
            except OperationalError:
                raise Busy(_("another process is working on this saga: try again in a moment")) from None
            self.held.add(key)
            if self.before is not None:
                self.before[key] = snapshot(key, self.only)

    def status_before(self, key: str) -> str | None:
        """Return the earlier status of the saga of a routing key, inside `previewed`; None if there was no saga."""
        was = (self.before or {}).get(key)
        return was.status or None if was else None

    def apply(self, *keys: str) -> None:
        """Apply what waits under these routing keys and everything that follows from it, locking keys as needed.

        What follows: events that are rerouted to another key, parked events of lanes that open, holds of commands that
        start or end because two sagas know their entity or no longer do, and what the outbox reports about commands
        that it plans. All of it would be applied right after the commit, so it belongs to the decision and to its
        preview. Raises Busy, EventsNotApplicable.
        """
        for key in keys:
            self.hold(key)
            self._follow(key, self._apply(key))
        self._look_again()

    def follow(self, key: str, applied: ApplyResult) -> None:
        """Apply what follows from something that was applied under a routing key."""
        self._follow(key, applied)
        self._look_again()

    def _follow(self, key: str, applied: ApplyResult) -> None:
        self.applied.append(applied)
        self.changed += applied.opened + applied.undone
        if self.before is None:
            self.not_ordered.update(applied.uncounted)
        again = {key} if applied.moved or applied.to_publish else set()
        opened = statements.unparked_entities(applied.opened) if applied.opened else []
        waiting = sorted({*again, *applied.rerouted_to, *opened})
        self.hold(*waiting)
        for next_key in waiting:
            more = self._apply(next_key)
            if more.moved:
                self._follow(next_key, more)

    def _look_again(self) -> None:
        """Set and end the holds of commands of entities whose lanes opened or were undone, in any saga.

        It locks commands of sagas whose keys are not held, so it comes after all waits for keys: who has such a key may
        wait for these commands.
        """
        entities, self.changed = self.changed, []
        if not entities:
            return
        if self.before is not None:
            for key in shared_entities.routing_keys(entities):
                self.before[key] = self.before.get(key) or snapshot(key, self.only)
        shared_entities.look_again(entities)

    def _apply(self, key: str) -> ApplyResult:
        try:
            return apply_key(key)
        except (DecisionError, DatabaseError, SoftTimeLimitExceeded):
            raise
        except Exception as error:
            raise EventsNotApplicable(error_location(error)) from error

    def outcome(self) -> ActionResult:
        """Return the result, with the effects that follow from the list of commands."""
        released = Counter(command.name for command in self.commands if command.released)
        if released:
            self.effects.setdefault("released", dict(sorted(released.items())))
        leaving = [command for command in self.commands if command.leaves]
        if leaving:
            self._note_what_waits(leaving, switches.read())
        held = Counter(command.held_by for command in self.commands if command.held_by)
        if held:
            self.effects["held"] = by_saga(held)
        return ActionResult(
            decision_id=None if self.request.dry_run else self.id,
            action=self.action,
            target=self.target,
            actor=self.request.actor,
            accepted_at=self.now,
            commands=self.commands,
            effects=self.effects,
            dry_run=self.request.dry_run,
        )

    def _note_what_waits(self, leaving: Sequence[CommandPreview], standing: switches.Switches) -> None:
        """Name the services whose commands may leave, but are kept by a pause or until a canary is confirmed."""
        paused = {command.service for command in leaving if standing.is_paused(command.service)}
        later = {command.service for command in leaving if standing.canary_before(command.service, command.id)}
        for name, services in (("publishing_paused", paused), ("after_canary", later - paused)):
            self.effects |= {name: sorted(services)} if services else {}


def carry_out(
    action: str,
    target: DecisionTarget,
    request: ActionRequest,
    work: Callable[[ActionContext], None],
    *,
    locks: Sequence[str] = (),
    saga_id: UUID | None = None,
    once: Callable[[ActionContext], str | None] = lambda _context: None,
) -> ActionResult:
    """Lock, check for an earlier request, do the work and write the audit row, in one transaction.

    action: the decision's name. locks: routing keys; if empty, the target itself is locked, so that concurrent
    requests run one after another. once: returns a name of the decision, so that a repeated request is answered as the
    first was; called under the locks, but not for a dry run, and it may apply events. Opens its own transaction, so it
    must not be called inside one. Raises what `work` and `once` raise.
    """
    _check(request)
    context = ActionContext(action, target, request, clock.now(), uuid.uuid4(), saga_id)
    with _transaction():
        context.hold(*(locks or [f"decision:{target.name}"]), *_request_lock(request))
        outcome = None if request.dry_run else _of_request(request, action, target) or _of_name(context, once)
        if outcome is None:
            work(context)
            outcome = context.outcome()
            if request.dry_run:
                transaction.set_rollback(True)
                return outcome
            _audit(context, outcome)
        breakers.count(context.not_ordered)
    for applied in context.applied:
        after_commit(applied)
    return outcome


def as_uuid(value: UUID | str) -> UUID:
    """Parse a UUID. Raises ValueError for any other text."""
    return value if isinstance(value, UUID) else UUID(str(value))


def saga_row(saga_id: UUID | str) -> SagaLog:
    """Return the saga. Raises NotFound."""
    try:
        return SagaLog.objects.get(id=as_uuid(saga_id))
    except (SagaLog.DoesNotExist, ValueError):
        raise NotFound(_("Saga with ID %(id)s not found") % {"id": saga_id}) from None


def by_saga(counts: Mapping[UUID, int]) -> dict[str, dict[str, Any]]:
    """Return counts by saga, each with the saga's task id and status; both are empty for a saga that does not exist."""
    found = SagaLog.objects.filter(id__in=counts).values_list("id", "key", "status")
    known = {saga_id: (key, status) for saga_id, key, status in found}
    result: dict[str, dict[str, Any]] = {}
    for saga_id, count in sorted(counts.items()):
        key, status = known.get(saga_id, ("", ""))
        result[str(saga_id)] = {"task_id": key, "status": status, "count": count}
    return result


def routing_key(saga: SagaLog) -> str:
    """Return the key under which the saga's events wait; it is also the name of its lock."""
    return routing.routing_key(saga.saga_type, saga.key)


@contextmanager
def previewed(
    context: ActionContext, *keys: str, targets: Collection[UUID] = (), only: Sequence[UUID] | None = None
) -> Iterator[None]:
    """Record what the block changes: which commands are created, changed or released, and the status of other sagas.

    keys: routing keys that are locked already; every key that is locked inside the block is added. targets: the
    commands that the decision is about; only: the commands to compare, if no other can be affected.
    """
    context.only = only
    context.before = {key: snapshot(key, only) for key in keys}
    yield
    before, context.before = context.before, None
    changed: dict[str, Any] = {}
    for key, was in before.items():
        now = snapshot(key, only)
        context.commands += _moved(was.commands, now.commands, targets)
        if now.saga_id is not None and (was.status, was.events_count) != (now.status, now.events_count):
            changed[str(now.saga_id)] = {"status_before": was.status or None, "status_after": now.status}
    others = {saga: moved for saga, moved in sorted(changed.items()) if saga != str(context.saga_id)}
    if others:
        context.effects["other_sagas"] = others


def snapshot(key: str, only: Sequence[UUID] | None = None) -> SagaSnapshot:
    """Return the saga of a routing key with all its commands, or only the given ones."""
    stream, name = routing.split(key)
    found = SagaLog.objects.filter(saga_type=stream, key=name).values_list("id", "status", "events_count").first()
    if found is None:
        return SagaSnapshot(None, "", 0, {})
    return SagaSnapshot(*found, _commands(found[0], only))


def _moved(
    before: Mapping[UUID, CommandPreview], after: Mapping[UUID, CommandPreview], targets: Collection[UUID]
) -> Iterator[CommandPreview]:
    for identity, now in after.items():
        was = before.get(identity)
        if was is None:
            yield now
        elif (was.status_after, was.leaves, was.held_by) != (now.status_after, now.leaves, now.held_by):
            released = now.leaves and not was.leaves and identity not in targets
            yield replace(now, status_before=was.status_after, released=released)


def _commands(saga_id: UUID, ids: Sequence[UUID] | None) -> dict[UUID, CommandPreview]:
    found = Command.objects.filter(saga_id=saga_id)
    if ids is not None:
        found = found.filter(id__in=ids)
    names = ("id", "name", "entity", "service", "topic", "status", "body", "released_at", "held_by")
    return {
        row[0]: CommandPreview(
            id=row[0],
            name=row[1],
            entity=row[2],
            service=row[3],
            topic=row[4],
            status_before=None,
            status_after=row[5],
            body=row[6] if row[5] in MAY_BE_SENT else None,
            leaves=row[5] in UNSENT and row[7] is not None and row[8] is None,
            held_by=row[8],
        )
        for row in found.order_by("entity", "-name").values_list(*names)
    }


def check_reason(reason: str) -> None:
    """Raise Invalid for a reason without visible text."""
    if is_blank(reason):
        raise Invalid(_("a reason is required"))


def _check(request: ActionRequest) -> None:
    if request.door not in EntryPoint.values:
        raise Invalid(_("unknown entry point %(door)s") % {"door": request.door})
    if is_blank(request.actor):
        raise Invalid(_("the actor must not be empty"))
    if not request.dry_run:
        check_reason(request.reason)
    if len(request.reason) > REASON_LIMIT or "\0" in request.reason:
        raise Invalid(_("the reason must be plain text of at most %(limit)d characters") % {"limit": REASON_LIMIT})
    key = request.idempotency_key
    if key is not None and not (0 < len(key) <= 200 and key.isprintable()):
        raise Invalid(_("an idempotency key must be 1 to 200 printable characters"))


@contextmanager
def _transaction() -> Iterator[None]:
    """Open a transaction that waits at most LOCK_WAIT for each lock."""
    with transaction.atomic(durable=True):
        LIMIT_LOCK_WAIT.rows([LOCK_WAIT])
        yield


def _request_lock(request: ActionRequest) -> list[str]:
    if request.idempotency_key is None or request.dry_run:
        return []
    return [f"request:{request.actor}:{request.idempotency_key}"]


def _of_request(request: ActionRequest, action: str, target: DecisionTarget) -> ActionResult | None:
    """Return the result of an earlier request with the same idempotency key, if there is one.

    Raises Refused if that was another decision, also if only a value differs: it would be answered as taken.
    """
    if not request.idempotency_key:
        return None
    known = Decision.objects.filter(actor=request.actor, request_key=request.idempotency_key).first()
    if known is None:
        return None
    asked = known.answer.get("asked")  # the decisions of earlier releases lack it
    if (known.action, known.target) != (action, target.name) or asked not in (None, _asked(request)):
        other = f"{known.action} {targets.text(known.target, known.target_data)}"
        raise Refused(_("this idempotency key was already used for another decision: %(other)s") % {"other": other})
    return _answer(known)


def _of_name(context: ActionContext, once: Callable[[ActionContext], str | None]) -> ActionResult | None:
    """Name the decision, and return the result of the earlier decision of that name, if there is one."""
    context.once = once(context)
    known = Decision.objects.filter(once=context.once).first() if context.once is not None else None
    return _answer(known) if known is not None else None


def _asked(request: ActionRequest) -> dict[str, Any]:
    """Return the values that were asked for, as JSON data, without those that are not given."""
    return {
        name: value if isinstance(value, bool | int | dict) else str(value)
        for name, value in (request.asked or {}).items()
        if value is not None
    }


def _answer(known: Decision) -> ActionResult:
    answer = known.answer
    released, held = set(answer.get("released", ())), answer.get("held", {})
    return ActionResult(
        decision_id=known.id,
        action=known.action,
        target=targets.stored(known.target, known.target_data),
        actor=known.actor,
        accepted_at=known.decided_at,
        commands=[
            CommandPreview(
                **{
                    **item,
                    "id": UUID(item["id"]),
                    "released": item["id"] in released,
                    "held_by": UUID(held[item["id"]]) if item["id"] in held else None,
                }
            )
            for item in answer.get("commands", [])
        ],
        effects=answer.get("effects", {}),
        repeated=True,
    )


def _audit(context: ActionContext, outcome: ActionResult) -> None:
    answer = outcome.as_json()  # without payload: the audit outlives what retention deletes
    kept = [{**command, "body": None} for command in answer["commands"][:KEPT_COMMANDS]]
    # Stored beside the commands: the previous release builds a command from exactly the fields that it knows.
    released = [command["id"] for command in kept if command.pop("released")]
    held = {command["id"]: other for command in kept if (other := command.pop("held_by"))}
    Decision.objects.create(
        id=context.id,
        action=context.action,
        target=context.target.name,
        target_data=context.target.stored,
        saga=context.saga_id,
        actor=context.request.actor,
        door=context.request.door,
        reason=context.request.reason,
        once=context.once,
        request_key=context.request.idempotency_key,
        decided_at=context.now,
        job=context.request.job,
        answer={
            "commands": kept,
            "commands_total": len(answer["commands"]),
            "released": released,
            "held": held,
            "effects": answer["effects"],
            **({"asked": _asked(context.request)} if context.request.idempotency_key else {}),
        },
    )
