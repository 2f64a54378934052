"""Incidents: the problems of `sagas.queries.attention`, grouped by what they have in common, with what people wrote.

What belongs to an incident is read from the rows themselves whenever it is shown, so counts are exact. The stored row
(`sagas.models.Incident`) keeps what the rows do not: owner, notes, acknowledgement, and when it began and ended.
"""

from sagas.incidents.cases import cases_of
from sagas.incidents.listing import Incidents, ShownIncident, ended, find, listed
from sagas.incidents.record import record, recorded

__all__ = ["Incidents", "ShownIncident", "cases_of", "ended", "find", "listed", "record", "recorded"]
