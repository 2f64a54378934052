"""What can go wrong at the edge, one root for all of it."""


class BridgeError(Exception):
    """Base of every error that the bridge raises on purpose."""


class BrokerUnavailable(BridgeError):
    """The Pulsar broker could not be reached, gave no answer in the time allowed, or refused.

    answer: what its client calls that, such as Timeout or AuthorizationError; empty if it said nothing.
    """

    def __init__(self, words: str, answer: str = "") -> None:
        super().__init__(words)
        self.answer = answer


class Interrupted(BridgeError):
    """A signal asked the process to end while it was waiting for Pulsar."""


class HistoryIsAppendOnly(BridgeError):
    """Somebody tried to change or delete an event. The event log is only ever added to."""


class NotInQuarantine(BridgeError):
    """There is no quarantined message with this id."""


class AlreadyDecided(BridgeError):
    """A person has already requeued or dismissed this quarantined message."""


class StillUnreadable(BridgeError):
    """A quarantined message was decoded again, and still cannot become an event.

    `reason` says why, in words that quote nothing of the message.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
