"""The admin: what support staff see and decide. It shows and asks; it never edits.

One noun a file. The admin of compensation's and bridge's models lives here too, because imports point down only. Every
decision is one call of `sagas.decisions`; every read is one of `sagas.queries`, or a list of rows by an index.
"""

from sagas.admin import audit, command, event, logins, parked, publishing, quarantine, saga

__all__ = ["audit", "command", "event", "logins", "parked", "publishing", "quarantine", "saga"]
