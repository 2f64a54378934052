"""Permissions: Django's view permissions for reading, and two of our own, to operate and to view payload."""

from __future__ import annotations

from django.http import HttpRequest

from sagas import attention_kinds
from sagas.rights import OPERATE, VIEW_COMMANDS, VIEW_PAYLOAD, VIEW_PUBLISHING, VIEW_SAGAS

__all__ = [
    "VIEW_COMMANDS",
    "VIEW_PAYLOAD",
    "VIEW_PUBLISHING",
    "VIEW_SAGAS",
    "attention_of",
    "may",
    "may_operate",
    "may_view_payload",
]


def may(request: HttpRequest, permission: str) -> bool:
    """Return whether the current user has a permission."""
    return bool(request.user.is_active and request.user.has_perm(permission))  # type: ignore[union-attr, unused-ignore]


def may_operate(request: HttpRequest) -> bool:
    """Return whether the current user may take decisions."""
    return may(request, OPERATE)


def may_view_payload(request: HttpRequest) -> bool:
    """Return whether the current user may see message contents, which may name patients' images."""
    return may(request, VIEW_PAYLOAD)


def attention_of(request: HttpRequest) -> frozenset[str]:
    """Return the kinds of attention items that the current user may see."""
    return attention_kinds.readable(lambda right: may(request, right))
