"""Who may read, who may decide, who may see what messages carry. The same rights as in the admin: sagas.rights."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from sagas.rights import OPERATE, VIEW_PAYLOAD, attention_kinds


class MayReadOrOperate(BasePermission):
    """Reading takes the right that the address names (in development none, so that curl works); deciding its own."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        if request.method in SAFE_METHODS:
            return may_read(request, getattr(view, "right", None))
        return bool(request.user.is_authenticated and request.user.has_perm(OPERATE))


def may_read(request: Request, right: str | None) -> bool:
    """Whether this login may read what takes `right`; what takes none is for every login."""
    if settings.API_OPEN_READS:
        return True
    user: Any = request.user
    return bool(user.is_authenticated and (right is None or user.has_perm(right)))


def readable_attention(request: Request) -> frozenset[str]:
    """Return the kinds of attention items that this login may read."""
    return attention_kinds(lambda right: may_read(request, right))


def may_see_payload(request: Request) -> bool:
    """Whether this login may see what messages carry. Never without a login, nowhere."""
    return bool(request.user and request.user.is_authenticated and request.user.has_perm(VIEW_PAYLOAD))
