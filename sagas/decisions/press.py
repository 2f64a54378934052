"""What every decision has in common: who presses, what it answered, how a second press is told from a new one."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import OperationalError, connection, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from compensation.models import DUE_SOMETIME, Command, Status
from sagas import rows
from sagas.apply import after_commit, apply_key
from sagas.errors import Busy, Invalid, NotFound, Refused
from sagas.models import Action, Decision, Door, SagaLog
from sagas.work import Applied

REASON_LIMIT = 1000
LOCK_WAIT = "5s"
# How many commands an answer is kept with: enough to look at, whatever the saga's size.
KEPT_COMMANDS = 1000
MAY_BE_SENT = (*DUE_SOMETIME, Status.PUBLISHING, Status.PUBLISHED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Who asks, by which door, why. With `dry_run` all is done and rolled back: it shows what would happen."""

    actor: str
    door: str
    reason: str = ""
    dry_run: bool = False
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class CommandPreview:
    """One command that a decision makes or moves. `body` is the message that it carries, while it may still be sent.

    `leaves`: it may be sent from now on (unless publishing is paused); else it waits for another of its lane.
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
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a decision did, or (`dry_run`) would do, or (`repeated`) did when it was pressed first."""

    action: str
    target: str
    actor: str
    accepted_at: datetime
    decision_id: UUID | None = None
    commands: Sequence[CommandPreview] = ()
    effects: Mapping[str, Any] = field(default_factory=dict)
    repeated: bool = False
    dry_run: bool = False

    def as_json(self) -> dict[str, Any]:
        """The answer of API and commands alike."""
        return {
            "decision_id": str(self.decision_id) if self.decision_id else None,
            "action": self.action,
            "target": self.target,
            "actor": self.actor,
            "accepted_at": self.accepted_at.isoformat().replace("+00:00", "Z"),
            "commands": [command.as_json() for command in self.commands],
            "effects": dict(self.effects),
            "repeated": self.repeated,
            "dry_run": self.dry_run,
        }


@dataclass
class Press:
    """A decision while it is carried out, in its transaction."""

    action: Action
    target: str
    request: Request
    now: datetime
    id: UUID
    saga_id: UUID | None = None
    once: str | None = None
    commands: list[CommandPreview] = field(default_factory=list)
    effects: dict[str, Any] = field(default_factory=dict)
    applied: list[Applied] = field(default_factory=list)

    def apply(self, routing_key: str) -> None:
        """Applies what waits under a key whose lock is held; what follows from it happens after the commit."""
        self.applied.append(apply_key(routing_key))

    def outcome(self) -> Outcome:
        return Outcome(
            decision_id=None if self.request.dry_run else self.id,
            action=self.action.value,
            target=self.target,
            actor=self.request.actor,
            accepted_at=self.now,
            commands=self.commands,
            effects=self.effects,
            dry_run=self.request.dry_run,
        )


def carry_out(
    action: Action,
    target: str,
    request: Request,
    work: Callable[[Press], None],
    *,
    locks: Sequence[str] = (),
    saga_id: UUID | None = None,
    once: Callable[[], str | None] = lambda: None,
) -> Outcome:
    """Locks, looks whether it was decided already, does the work, writes the audit row: one transaction.

    `locks` are routing keys (none: the target itself is locked, so that two presses at once are still two in a row).
    `once` names the decision so that a second press of it answers what the first did; it is
    asked under the locks. Opens its own transaction, so it must not be called in one. Raises what `work` raises.
    """
    _check(request)
    press = Press(action, target, request, timezone.now(), uuid.uuid4(), saga_id)
    with _locked([*(locks or [f"decision:{target}"]), *_request_lock(request)]):
        press.once = once()
        earlier = _earlier(press)
        if earlier is not None:
            return earlier
        work(press)
        outcome = press.outcome()
        if request.dry_run:
            transaction.set_rollback(True)
            return outcome
        _audit(press, outcome)
    for applied in press.applied:
        after_commit(applied)
    return outcome


def as_uuid(value: UUID | str) -> UUID:
    """Raises ValueError for anything that is none."""
    return value if isinstance(value, UUID) else UUID(str(value))


def saga_row(saga_id: UUID | str) -> SagaLog:
    """The saga. Raises NotFound."""
    try:
        return SagaLog.objects.get(id=as_uuid(saga_id))
    except (SagaLog.DoesNotExist, ValueError):
        raise NotFound(_("Saga with ID %(id)s not found") % {"id": saga_id}) from None


def routing_key(saga: SagaLog) -> str:
    """What the saga's events wait under, and the name of its lock."""
    return f"{saga.saga_type}:{saga.key}"


@contextmanager
def previewed(press: Press, saga_id: UUID, ids: Sequence[UUID] | None = None) -> Iterator[None]:
    """Notes what happens to a saga's commands inside: which come to be, which move or may leave only now."""
    before = _commands(saga_id, ids)
    yield
    after = _commands(saga_id, ids)
    press.commands += [
        replace(now, status_before=before[identity].status_after if identity in before else None)
        for identity, now in after.items()
        if identity not in before
        or (before[identity].status_after, before[identity].leaves) != (now.status_after, now.leaves)
    ]


def commands_of(saga_id: UUID) -> list[CommandPreview]:
    """All commands of a saga that has just begun."""
    return list(_commands(saga_id, None).values())


def _commands(saga_id: UUID, ids: Sequence[UUID] | None) -> dict[UUID, CommandPreview]:
    found = Command.objects.filter(saga_id=saga_id)
    if ids is not None:
        found = found.filter(id__in=ids)
    names = ("id", "name", "entity", "service", "topic", "status", "body", "released_at")
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
            leaves=row[5] in DUE_SOMETIME and row[7] is not None,
        )
        for row in found.order_by("entity", "-name").values_list(*names)
    }


def _check(request: Request) -> None:
    if request.door not in Door.values:
        raise Invalid(_("unknown door %(door)s") % {"door": request.door})
    if not request.actor.strip():
        raise Invalid(_("a decision needs somebody who takes it"))
    if not request.reason.strip() and not request.dry_run:
        raise Invalid(_("say why: a reason is required"))
    if len(request.reason) > REASON_LIMIT or "\0" in request.reason:
        raise Invalid(_("the reason must be plain text of at most %(limit)d characters") % {"limit": REASON_LIMIT})
    key = request.idempotency_key
    if key is not None and not (0 < len(key) <= 200 and key.isprintable()):
        raise Invalid(_("an idempotency key is 1 to 200 printable characters"))


@contextmanager
def _locked(keys: Sequence[str]) -> Iterator[None]:
    """A transaction that holds these keys' locks, taken in one order everywhere so that nobody can be in a deadlock."""
    with transaction.atomic(durable=True):
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('lock_timeout', %s, true)", [LOCK_WAIT])
        try:
            for key in sorted(set(keys)):
                rows.lock(key)
        except OperationalError:
            raise Busy(_("somebody else is at work on this saga: try again in a moment")) from None
        yield


def _request_lock(request: Request) -> list[str]:
    if request.idempotency_key is None or request.dry_run:
        return []
    return [f"request:{request.actor}:{request.idempotency_key}"]


def _earlier(press: Press) -> Outcome | None:
    """What an earlier press of the same decision, or of the same request, answered."""
    request = press.request
    if request.idempotency_key and not request.dry_run:
        known = Decision.objects.filter(actor=request.actor, request_key=request.idempotency_key).first()
        if known is not None:
            if (known.action, known.target) != (press.action.value, press.target):
                raise Refused(_("this idempotency key was used for another decision: %(other)s") % {"other": known})
            return _answer(known)
    if press.once is None or request.dry_run:
        return None
    known = Decision.objects.filter(once=press.once).first()
    return _answer(known) if known is not None else None


def _answer(known: Decision) -> Outcome:
    answer = known.answer
    return Outcome(
        decision_id=known.id,
        action=known.action,
        target=known.target,
        actor=known.actor,
        accepted_at=known.decided_at,
        commands=[CommandPreview(**{**item, "id": UUID(item["id"])}) for item in answer.get("commands", [])],
        effects=answer.get("effects", {}),
        repeated=True,
    )


def _audit(press: Press, outcome: Outcome) -> None:
    answer = outcome.as_json()
    kept = [{**command, "body": None} for command in answer["commands"][:KEPT_COMMANDS]]
    Decision.objects.create(
        id=press.id,
        action=press.action.value,
        target=press.target,
        saga=press.saga_id,
        actor=press.request.actor,
        door=press.request.door,
        reason=press.request.reason,
        once=press.once,
        request_key=press.request.idempotency_key,
        decided_at=press.now,
        answer={"commands": kept, "commands_total": len(answer["commands"]), "effects": answer["effects"]},
    )
