"""Why a decision is not carried out. Each message is for a person: what is wrong, what to do."""


class DecisionError(Exception):
    """The base class of all errors of decisions."""


class NotFound(DecisionError):
    """The target of the decision does not exist."""


class Invalid(DecisionError):
    """The request itself is wrong: a reason is missing, a selection is contradictory."""


class Refused(DecisionError):
    """The current state does not allow the decision."""


class Busy(Refused):
    """The saga's lock was not free in time: another process is working on the saga."""
