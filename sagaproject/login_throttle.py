"""Limit the requests of one login to the API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from sagaproject.limiter import limiter

if TYPE_CHECKING:
    # DRF's views import this module while they are imported.
    from rest_framework.views import APIView

# The number of blocks in which a process takes a login's requests from the database: each block costs a statement.
BLOCKS = 20


class LoginThrottle(BaseThrottle):
    """Limit the requests of one login; AnonymousThrottle limits those without a login."""

    _wait = 0.0

    def allow_request(self, request: Request, view: APIView) -> bool:
        rate = settings.REQUEST_RATES.get("login")
        if not rate or not request.user or not request.user.is_authenticated:
            return True
        self._wait = limiter("login", rate, BLOCKS).spend(str(request.user.pk))
        return not self._wait

    def wait(self) -> float:
        return self._wait
