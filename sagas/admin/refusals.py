"""Why a decision is not possible: who decided what and when, and what can still be decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.utils.translation import gettext as _

from bridge.models import Quarantined
from compensation.models import Command, CommandStatus
from sagas import actions
from sagas.actions import Action, ActionSpec, MessageView, Target
from sagas.admin import buttons
from sagas.admin.buttons import Button
from sagas.errors import Refused
from sagas.models import Attachment, Decision, Lane, SagaLog
from sagas.queries.holding import when


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusalText:
    """The text of a decision that is not possible. `still`: the possible decisions on the same target."""

    sentence: str
    still: Sequence[Button] = ()

    @property
    def only_mark_done(self) -> bool:
        """Return whether marking as done is the only possible decision."""
        return [button.action for button in self.still] == [Action.MARK_DONE]


def explain(spec: ActionSpec, fields: Mapping[str, Any], error: Exception) -> RefusalText:
    """Return why a decision was refused. Earlier decisions are looked up only if the state forbids it."""
    if not isinstance(error, Refused):
        return RefusalText(sentence=str(error))
    earlier, still = _about(spec, fields)
    why = _describe(earlier) if earlier is not None else str(error)
    return RefusalText(sentence=why, still=[button for button in still if button.action != spec.name])


_Earlier = tuple[str, str, datetime]


def _about(spec: ActionSpec, fields: Mapping[str, Any]) -> tuple[_Earlier | None, Sequence[Button]]:
    """Return who decided before on the same target, and the decisions possible now."""
    if fields.get("message"):
        return _message(fields["message"])
    ids = fields.get("ids") or []
    if len(ids) == 1:
        return _command(ids[0])
    if spec.target in (Target.PARKED, Target.KEY) and spec.already:
        return _key(fields.get("stream") or "", fields.get("key") or ""), ()
    if fields.get("saga") and not ids:
        return _saga(fields["saga"], fields.get("lane") or "")
    return None, ()


def _message(pk: int) -> tuple[_Earlier | None, Sequence[Button]]:
    row = Quarantined.objects.filter(pk=pk).first()
    if row is None:
        return None, ()
    still = buttons.of_message(actions.possible(MessageView(row)), row.pk)
    if row.decided_at is None:
        return None, still
    [action] = _settling(row.status, Target.MESSAGE)
    return (action, row.decided_by, row.decided_at), still


def _command(command_id: UUID) -> tuple[_Earlier | None, Sequence[Button]]:
    command = Command.objects.filter(id=command_id).defer("body", "result").first()
    if command is None:
        return None, ()
    saga = SagaLog.objects.filter(id=command.saga_id).first()
    still = buttons.of_command(command, saga)
    if saga is not None and saga.set_aside_at is not None:
        return None, still
    ending = _settling(command.status, Target.COMMANDS, Target.SAGA)
    if not ending and command.round > 1:
        ending = [Action.RETRY]
    if command.status == CommandStatus.CONFIRMED and not command.by_hand:
        ending = []
    named = Decision.objects.filter(
        saga=command.saga_id, action__in=ending, answer__commands__contains=[{"id": str(command.id)}]
    )
    return _last(named), still


def _settling(status: str, *targets: Target) -> list[str]:
    """Return the decisions that give a message or a command its status."""
    return [spec.name for spec in actions.of_target(*targets) if spec.settles == status]


def _saga(saga_id: UUID, lane: str) -> tuple[_Earlier | None, Sequence[Button]]:
    saga = SagaLog.objects.filter(id=saga_id).first()
    if saga is None:
        return None, ()
    if lane:
        row = Lane.objects.filter(saga=saga, entity=lane, known=True).select_related("saga").first()
        still = buttons.of_lane(row) if row is not None else []
    else:
        still = buttons.of_saga(saga, None)
    if saga.set_aside_at is not None:
        return None, [button for button in buttons.of_saga(saga, None) if button.action == Action.RESUME]
    target = f"saga {saga.id} lane {lane}" if lane else f"saga {saga.id}"
    once = [spec.name for spec in actions.of_target(Target.SAGA) if spec.once and spec.already]
    return _last(Decision.objects.filter(saga=saga.id, action__in=once, target=target)), still


def what_became_of(stream: str, key: str) -> str:
    """Return the sentence on who attached a key to a saga or started one from it; empty if nobody did."""
    earlier = _key(stream, key)
    return _describe(earlier) if earlier is not None else ""


def _describe(earlier: _Earlier) -> str:
    action, actor, at = earlier
    return str(actions.get(action).already % {"actor": actor or _("unknown"), "time": when(at)})


def _key(stream: str, key: str) -> _Earlier | None:
    """Return who attached the key to a saga, or started one from it."""
    if not key:
        return None
    attached = Attachment.objects.filter(key=key, **({"stream": stream} if stream else {})).first()
    if attached is not None:
        return Action.ATTACH, attached.created_by, attached.created_at
    born = SagaLog.objects.filter(key=key, **({"saga_type": stream} if stream else {})).values("id")
    return _last(Decision.objects.filter(saga__in=born, action=Action.ADOPT))


def _last(found: Any) -> _Earlier | None:
    row = found.order_by("-decided_at").values_list("action", "actor", "decided_at").first()
    return (row[0], row[1], row[2]) if row else None
