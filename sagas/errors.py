"""What a decision can be told instead of being carried out. Each message is for a person: what is wrong, what to do."""


class DecisionError(Exception):
    """The root of what a decision is refused with."""


class NotFound(DecisionError):
    """There is no such thing to decide on."""


class Invalid(DecisionError):
    """The request itself is wrong: a reason is missing, a selection makes no sense."""


class Refused(DecisionError):
    """The state forbids it."""


class Busy(Refused):
    """The saga's lock could not be had in time: somebody is at work on it."""
