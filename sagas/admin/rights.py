"""Who may do what: reading goes by Django's view permissions, two permissions of our own go beyond them."""

from __future__ import annotations

from django.http import HttpRequest

OPERATE = "sagas.operate_saga"
VIEW_PAYLOAD = "sagas.view_payload"
VIEW_SAGAS = "sagas.view_sagalog"
VIEW_SWITCHES = "compensation.view_switch"


def may(request: HttpRequest, permission: str) -> bool:
    """Whether the person behind the request has a permission."""
    return bool(request.user.is_active and request.user.has_perm(permission))  # type: ignore[union-attr, unused-ignore]


def may_operate(request: HttpRequest) -> bool:
    """Whether they may take decisions."""
    return may(request, OPERATE)


def may_view_payload(request: HttpRequest) -> bool:
    """Whether they may see what messages say, which may name patients' images."""
    return may(request, VIEW_PAYLOAD)
