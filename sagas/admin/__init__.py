"""The admin: what support staff see and decide. It shows and asks; it never edits rows.

One noun per file. The admin of the models of compensation and bridge is here too, because imports only point down.
Every decision is one call of `sagas.actions`; every read is one of `sagas.queries`, or a list of rows by an index.
"""

from sagas.admin import audit, command, event, incident, job, logins, parked, publishing, quarantine, saga

__all__ = ["audit", "command", "event", "incident", "job", "logins", "parked", "publishing", "quarantine", "saga"]
