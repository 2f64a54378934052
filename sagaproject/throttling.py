"""Refuse requests of an address with too many failed authentications, before anything is looked up.

DRF counts a request only after it was authenticated and allowed, so it never counts a 401. The requests of a login are
limited by sagaproject.login_throttle.
"""

from __future__ import annotations

import hashlib
import math
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib.auth.signals import user_login_failed
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import resolve_url
from rest_framework.exceptions import Throttled

from sagaproject import clients
from sagaproject.limiter import Limiter, limiter
from sagas.admin import errors as pages

_HEALTH = re.compile(r"/api/v1/saga/health/?")
_KNOWN_SECONDS = 3600.0
_MOST_KNOWN = 1000


class KnownCredentials:
    """Digests of tokens and sessions that were valid recently. May be used by several threads.

    They are still authenticated while their address is refused, so that a client that shares an address with an
    attacker, such as the address of a hospital, can go on working. They do not open a login page: a logged-in client
    could otherwise try names without end.
    """

    def __init__(self) -> None:
        self._until: OrderedDict[str, float] = OrderedDict()
        self._lock = threading.Lock()

    def note(self, digest: str) -> None:
        with self._lock:
            self._until[digest] = time.monotonic() + _KNOWN_SECONDS
            self._until.move_to_end(digest)
            if len(self._until) > _MOST_KNOWN:
                self._until.popitem(last=False)

    def forget(self, digest: str) -> None:
        with self._lock:
            self._until.pop(digest, None)

    def has(self, digest: str) -> bool:
        with self._lock:
            return self._until.get(digest, 0.0) > time.monotonic()


known = KnownCredentials()


class AnonymousThrottle:
    """Middleware that counts each 401 of the API and each failed login by address, and answers 429 if there are many.

    A request that is accepted costs no database statement. Never refuses GET health.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        counter = _address_limiter()
        if counter is None or not (_is_api(request) or _is_login(request)):
            return self.get_response(request)
        address, credential = clients.address(request), _credential(request)
        wait = counter.wait(address)
        if wait and (_is_login(request) or not known.has(credential)):
            return _refusal(request, wait)
        response = self.get_response(request)
        if response.status_code == 401:
            known.forget(credential)
            wait = counter.spend(address)
            return _refusal(request, wait) if wait else response
        # DRF sets `auth` when it authenticates; without it, reading the user would cost a needless query.
        if credential and hasattr(request, "auth") and request.user.is_authenticated:
            known.note(credential)
        return response


@receiver(user_login_failed)
def count_failed_login(request: HttpRequest | None = None, **_more: Any) -> None:
    """Count a failed login by its address."""
    counter = _address_limiter()
    if counter is not None and request is not None:
        counter.spend(clients.address(request))


def _address_limiter() -> Limiter | None:
    rate = settings.REQUEST_RATES.get("address")
    return limiter("address", rate, int(rate.partition("/")[0])) if rate else None


def _is_api(request: HttpRequest) -> bool:
    return request.path_info.startswith("/api/") and not _HEALTH.fullmatch(request.path_info)


def _is_login(request: HttpRequest) -> bool:
    return request.method == "POST" and request.path_info == resolve_url(settings.LOGIN_URL)


def _credential(request: HttpRequest) -> str:
    """Return a digest of the request's token or session key; empty if it has neither."""
    secret = request.META.get("HTTP_AUTHORIZATION") or request.COOKIES.get(settings.SESSION_COOKIE_NAME, "")
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest() if secret else ""


def _refusal(request: HttpRequest, wait: float) -> HttpResponse:
    seconds = max(1, math.ceil(wait))
    if _is_api(request):
        answer: HttpResponse = JsonResponse({"detail": str(Throttled(wait=seconds).detail)}, status=429)
    else:
        answer = pages.too_many_requests(request)
    answer.headers["Retry-After"] = str(seconds)
    # Django would log each refusal; the limiter has logged one for all of them.
    answer._has_been_logged = True  # type: ignore[attr-defined]
    return answer
