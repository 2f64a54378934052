"""Who may read, who may decide, who may see what messages carry. Django's own permissions, nothing beside them."""

from __future__ import annotations

from django.conf import settings
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

READ = "sagas.view_sagalog"
OPERATE = "sagas.operate_saga"
PAYLOAD = "sagas.view_payload"


class MayReadOrOperate(BasePermission):
    """Reading takes the permission to view sagas (in development none, so that curl works); deciding always its own."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        if request.method in SAFE_METHODS:
            return settings.API_OPEN_READS or request.user.has_perm(READ) or request.user.has_perm(OPERATE)
        return request.user.is_authenticated and request.user.has_perm(OPERATE)


def may_see_payload(request: Request) -> bool:
    """Whether this login may see what messages carry. Never without a login, nowhere."""
    return bool(request.user and request.user.is_authenticated and request.user.has_perm(PAYLOAD))
