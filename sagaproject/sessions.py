"""Sessions in the database, whose keys come from cookies, that is from anybody."""

from typing import Any

from django.contrib.sessions.backends import db


class SessionStore(db.SessionStore):
    """Django's own; a key of other letters than Django makes is no session, where PostgreSQL would refuse a NUL."""

    def _validate_session_key(self, key: Any) -> bool:
        return bool(super()._validate_session_key(key) and str(key).isascii() and str(key).isalnum())  # type: ignore[misc]
