"""Sessions in the database, with validation of the keys, which come from cookies and so from any client."""

from typing import Any

from django.contrib.sessions.backends import db


class SessionStore(db.SessionStore):
    """Django's session store, except that a key with characters that Django never uses is not looked up.

    PostgreSQL would raise an error for a NUL in it.
    """

    def _validate_session_key(self, key: Any) -> bool:
        return bool(super()._validate_session_key(key) and str(key).isascii() and str(key).isalnum())  # type: ignore[misc]
