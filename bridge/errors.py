"""The errors of the bridge, with one root class."""

from bridge.reasons import Reason, english


class BridgeError(Exception):
    """Base of every error that the bridge raises on purpose."""


class BrokerUnavailable(BridgeError):
    """The Pulsar broker could not be reached, did not answer in time, or refused the request.

    code: the reason (see `bridge.reasons`). answer: the client's name for the error, such as Timeout or
    AuthorizationError; empty if there is none.
    """

    def __init__(self, code: str, answer: str = "") -> None:
        super().__init__(english(code))
        self.code = code
        self.answer = answer


class Interrupted(BridgeError):
    """A signal asked the process to end while it was waiting for Pulsar."""


class HistoryIsAppendOnly(BridgeError):
    """Code tried to change or delete a row of an append-only table, such as an event."""


class NotInQuarantine(BridgeError):
    """There is no quarantined message with this id."""


class AlreadyDecided(BridgeError):
    """This quarantined message has already been requeued or dismissed."""


class StillUnreadable(BridgeError):
    """A quarantined message was decoded again and still cannot become an event.

    `reason` quotes nothing of the message.
    """

    def __init__(self, reason: Reason) -> None:
        super().__init__(str(reason))
        self.reason = reason
