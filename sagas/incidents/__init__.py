"""Incidents: the problems of `sagas.queries.attention`, grouped by what they have in common, with what people wrote.

What belongs to an incident is read from the rows themselves whenever it is shown, so counts are exact. The stored row
(`sagas.models.Incident`) keeps what the rows do not: owner, notes, acknowledgement, and when it began and ended.
"""

from sagas.incidents.cases import cases_of, target_of, targets_of
from sagas.incidents.kinds import BY_NAME, KINDS, readable
from sagas.incidents.listing import Incidents, ShownIncident, cause_of, ended, find, history, listed
from sagas.incidents.record import record, recorded

__all__ = [
    "BY_NAME",
    "KINDS",
    "Incidents",
    "ShownIncident",
    "cases_of",
    "cause_of",
    "ended",
    "find",
    "history",
    "listed",
    "readable",
    "record",
    "recorded",
    "target_of",
    "targets_of",
]
