"""Who may do what: reading goes by Django's view permissions, two permissions of our own go beyond them."""

from __future__ import annotations

from django.http import HttpRequest

from sagas.rights import OPERATE, VIEW_COMMANDS, VIEW_PAYLOAD, VIEW_PUBLISHING, VIEW_SAGAS, attention_kinds

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
    """Whether the person behind the request has a permission."""
    return bool(request.user.is_active and request.user.has_perm(permission))  # type: ignore[union-attr, unused-ignore]


def may_operate(request: HttpRequest) -> bool:
    """Whether they may take decisions."""
    return may(request, OPERATE)


def may_view_payload(request: HttpRequest) -> bool:
    """Whether they may see what messages say, which may name patients' images."""
    return may(request, VIEW_PAYLOAD)


def attention_of(request: HttpRequest) -> frozenset[str]:
    """The kinds of attention items that they may see."""
    return attention_kinds(lambda right: may(request, right))
