"""The decisions as functions, for tests: each is the registry's effect with its values by name."""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypedDict, Unpack
from uuid import UUID

from sagas import actions
from sagas.actions import ActionRequest, ActionResult, Target, is_anything_unsent, on_commands, sentences, services

__all__ = ["ActionRequest", "ActionResult", "is_anything_unsent", "sentences", "services"]

Id = UUID | str


class CommandSelection(dict[str, Any]):
    """Which commands: by id, of a saga, or planned before a time."""

    def __init__(self, *, ids: Any = None, saga: Id | None = None, planned_before: datetime | None = None) -> None:
        super().__init__(ids=ids, saga=saga, planned_before=planned_before)

    def find(self, action: str) -> list[UUID]:
        spec = actions.get(action)
        effect = spec.effect
        assert isinstance(effect, on_commands.CommandEffect)
        return on_commands.CommandSelection(**self).find(spec, effect.of_saga)


def decide(action: str, request: ActionRequest, /, **values: Any) -> ActionResult:
    return actions.get(action).decide(values, request)


def force_compensation(saga_id: Id, lane: str | None = None, *, request: ActionRequest) -> ActionResult:
    return decide("force_compensation", request, saga=saga_id, lane=lane)


def cancel(saga_id: Id, lane: str | None = None, *, request: ActionRequest) -> ActionResult:
    return decide("cancel", request, saga=saga_id, lane=lane)


def terminate(saga_id: Id, *, request: ActionRequest) -> ActionResult:
    return decide("terminate", request, saga=saga_id)


def resume(saga_id: Id, *, request: ActionRequest) -> ActionResult:
    return decide("resume", request, saga=saga_id)


def replay(saga_id: Id, apply: bool = False, *, request: ActionRequest) -> ActionResult:
    return decide("replay", request, saga=saga_id, apply=apply)


def decide_command(action: str, command_id: Id, *, request: ActionRequest) -> ActionResult:
    return actions.get(action, Target.COMMANDS).decide({"command": command_id}, request)


def decide_commands(action: str, selection: CommandSelection, *, request: ActionRequest) -> ActionResult:
    return actions.get(action, Target.COMMANDS).decide(selection, request)


class _Parked(TypedDict, total=False):
    key: str | None
    event: str | None


def attach(*, saga_id: Id, request: ActionRequest, lane: str | None = None, **what: Unpack[_Parked]) -> ActionResult:
    return decide("attach", request, saga=saga_id, lane=lane, **what)


def adopt(key: str, saga_type: str | None = None, *, request: ActionRequest) -> ActionResult:
    return decide("adopt", request, key=key, saga_type=saga_type)


def dismiss(*, request: ActionRequest, **what: Unpack[_Parked]) -> ActionResult:
    return decide("dismiss", request, **what)


def requeue_message(message: int, *, request: ActionRequest) -> ActionResult:
    return decide("requeue", request, message=message)


def dismiss_message(message: int, *, request: ActionRequest) -> ActionResult:
    return decide("dismiss_message", request, message=message)


def set_publishing(
    paused: bool, service: str | None = None, *, request: ActionRequest, only: str | None = None
) -> ActionResult:
    return decide("pause_publishing" if paused else "resume_publishing", request, service=service, only=only)
