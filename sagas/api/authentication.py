"""API tokens in the header Authorization."""

from __future__ import annotations

from typing import Any

from drf_spectacular.contrib.knox_auth_token import KnoxTokenScheme
from knox.auth import TokenAuthentication as KnoxAuthentication
from rest_framework.exceptions import AuthenticationFailed


class TokenAuthentication(KnoxAuthentication):  # type: ignore[misc]  # knox has no types
    """Knox's tokens; bytes that no token can contain are an invalid token, where knox would raise."""

    def authenticate_credentials(self, token: bytes) -> Any:
        if not token.isalnum():  # for bytes: ASCII only
            raise AuthenticationFailed("Invalid token.")
        return super().authenticate_credentials(token)


class TokenScheme(KnoxTokenScheme):  # type: ignore[no-untyped-call]
    """Describe these tokens in the schema as knox's own."""

    target_class = "sagas.api.authentication.TokenAuthentication"
