"""Who may read, decide, and see message contents. The same rights as in the admin: sagas.rights."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from sagas import attention_kinds, incidents
from sagas.rights import OPERATE, VIEW_PAYLOAD


class MayReadOrOperate(BasePermission):
    """Require the address's right for reading (none in development, so that curl works), its permission to decide."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        if request.method in SAFE_METHODS:
            return may_read(request, getattr(view, "right", None))
        permission = getattr(view, "permission", OPERATE)
        return bool(request.user.is_authenticated and request.user.has_perm(permission))


def may_read(request: Request, right: str | None) -> bool:
    """Return whether this login may read what requires `right`; None means any login."""
    if settings.API_OPEN_READS:
        return True
    user: Any = request.user
    return bool(user.is_authenticated and (right is None or user.has_perm(right)))


def readable_attention(request: Request) -> frozenset[str]:
    """Return the kinds of attention items that this login may read."""
    return attention_kinds.readable(lambda right: may_read(request, right))


def readable_incidents(request: Request) -> frozenset[str]:
    """Return the kinds of incidents that this login may read."""
    return incidents.readable(lambda right: may_read(request, right))


def may_see_payload(request: Request) -> bool:
    """Return whether this login may see message contents. Never without a login, in no environment."""
    return bool(request.user and request.user.is_authenticated and request.user.has_perm(VIEW_PAYLOAD))
