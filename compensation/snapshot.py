"""How one command stands, and where each thing that can happen takes it. Pure: clock and chance come in as arguments.

Every move gives a new Standing. A move that the present standing forbids gives the same one back, so that the order in
which words arrive cannot matter: the highest rank holds.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from compensation.errors import bounded
from compensation.models import SETTLED, AttemptOutcome, CommandStatus, ConfirmationKind, ExhaustedBy
from compensation.retry import RetryPolicy

# A publish that did not reach the broker costs no attempt; this keeps one sick topic from being tried without pause.
UNREACHABLE_MAXIMUM_SECONDS = 60.0

NO_ANSWER = "This service does not answer: mark it done by hand when it is."

# Stands before the words of a service in `last_error`; all other words there are this service's own.
REFUSED = "The service refused it"

SettlementStatus = Literal["confirmed", "skipped", "withdrawn", "retried"]


@dataclass(frozen=True, slots=True)
class CommandSnapshot:
    """What decides about a command (first part, never changed), and how far it has come (second part)."""

    id: str
    stream: str
    key: str
    routing_key: str
    entity: str
    name: str
    service: str
    confirmation: str
    invalid: str
    policy: RetryPolicy
    confirmation_timeout: float

    status: str = CommandStatus.PLANNED
    round: int = 1
    attempt: int = 0
    next_at: datetime | None = None
    claimed_at: datetime | None = None
    published_at: datetime | None = None
    deadline_at: datetime | None = None
    settled_at: datetime | None = None
    by_hand: bool = False
    settled_event: str = ""
    confirmed_unsent_at: datetime | None = None
    exhausted_by: str = ""
    last_error: str = ""

    @property
    def settled(self) -> bool:
        return self.status in SETTLED

    @property
    def in_flight(self) -> bool:
        """Whether it has an attempt that has not ended."""
        return self.status in (CommandStatus.PUBLISHING, CommandStatus.PUBLISHED)

    def released(self, at: datetime) -> "CommandSnapshot":
        """It may be published for the first time."""
        return replace(self, next_at=at)

    def never_sent(self, at: datetime) -> "CommandSnapshot":
        """What the service would refuse for its shape needs a person at once. The body is frozen, so in every round."""
        return self._exhausted(ExhaustedBy.INVALID, self.invalid, at)

    def sent(self, at: datetime) -> "CommandSnapshot":
        """The broker took it. A service that is known not to answer is a person's business from here."""
        sent = replace(self, status=CommandStatus.PUBLISHED, claimed_at=None, published_at=at)
        if self.confirmation == ConfirmationKind.MANUAL:
            return sent._exhausted(ExhaustedBy.MANUAL, NO_ANSWER, at)
        if self.confirmation == ConfirmationKind.PUBLISHED:
            return sent
        return replace(sent, deadline_at=at + timedelta(seconds=self.confirmation_timeout))

    def failed(
        self, outcome: AttemptOutcome, error: str, at: datetime, random: float, permanent: bool = False
    ) -> "CommandSnapshot":
        """The attempt under way came to nothing: the next one is due by the policy, or there is none in this round.

        `permanent`: the broker will never take this message. `random` is from 0 up to 1.
        """
        if not self.in_flight:
            return self
        words = self._words(outcome, error)
        entry = self.policy.non_retryable(error) if error else None
        if permanent:
            return self._exhausted(
                ExhaustedBy.PERMANENT, f"Not tried again, the broker will never take it. {words}", at
            )
        if entry is not None:
            how = "is" if entry == error else "begins with"
            why = f"Not tried again, because the error {how} «{entry}». {words}"
            return self._exhausted(ExhaustedBy.NON_RETRYABLE, why, at)
        if self.policy.exhausted(self.attempt):
            why = f"All {self.policy.maximum_attempts} attempts are used up. {words}"
            return self._exhausted(ExhaustedBy.ATTEMPTS, why, at)
        delay = self.policy.delay(self.attempt, random)
        return self._waiting(at + timedelta(seconds=delay), words)

    def publish_unreachable(
        self, error: str, at: datetime, times: int, outcome: AttemptOutcome = AttemptOutcome.UNREACHABLE
    ) -> "CommandSnapshot":
        """The publish did not reach the broker, or its topic takes nothing: the attempt does not count.

        times: how often that came before. outcome: UNREACHABLE or BLOCKED.
        """
        if self.status != CommandStatus.PUBLISHING:
            return self
        delay = min(2.0 ** min(times, 10), UNREACHABLE_MAXIMUM_SECONDS)
        waiting = self._waiting(at + timedelta(seconds=delay), self._words(outcome, error))
        return replace(waiting, attempt=self.attempt - 1)

    def deadline_moved(self, to: datetime) -> "CommandSnapshot":
        """Time that did not count has passed: the answer is due later."""
        return replace(self, deadline_at=to)

    def settle(
        self, word: SettlementStatus, at: datetime, by_hand: bool = False, event_id: str = "", round: int = 0
    ) -> "CommandSnapshot":
        """Apply one word of the owner, if its rank allows it."""
        if word == "retried":
            return self._retried(round, at)
        if self.status == CommandStatus.CONFIRMED or (self.settled and word != "confirmed"):
            return self
        rest = self._at_rest()
        return replace(
            rest, status=CommandStatus(word), settled_at=at, by_hand=by_hand, settled_event=event_id, exhausted_by=""
        )

    def confirmed_unsent(self, at: datetime) -> "CommandSnapshot":
        """A service's event confirmed it, and nothing was ever sent that the event could answer. `at`: our clock."""
        return replace(self, confirmed_unsent_at=at)

    def _retried(self, round: int, at: datetime) -> "CommandSnapshot":
        if self.settled or round <= self.round:
            return self
        status = CommandStatus.PLANNED if self.status == CommandStatus.PLANNED else CommandStatus.WAITING
        rest = self._at_rest()
        fresh = replace(rest, status=status, round=round, attempt=0, next_at=at, settled_at=None, exhausted_by="")
        return fresh.never_sent(at) if self.invalid else fresh

    def _waiting(self, next_at: datetime, words: str) -> "CommandSnapshot":
        return replace(self._at_rest(), status=CommandStatus.WAITING, next_at=next_at, last_error=bounded(words))

    def _exhausted(self, why: ExhaustedBy, words: str, at: datetime) -> "CommandSnapshot":
        return replace(
            self._at_rest(), status=CommandStatus.EXHAUSTED, settled_at=at, exhausted_by=why, last_error=bounded(words)
        )

    def _at_rest(self) -> "CommandSnapshot":
        return replace(self, next_at=None, claimed_at=None, deadline_at=None)

    def _words(self, outcome: AttemptOutcome, error: str) -> str:
        words = {
            AttemptOutcome.REFUSED: REFUSED,
            AttemptOutcome.DEADLINE: f"No answer within {self.confirmation_timeout:g} seconds",
            AttemptOutcome.FAILED: "It could not be sent",
            AttemptOutcome.UNREACHABLE: "The message broker could not be reached",
            AttemptOutcome.BLOCKED: "The topic takes no commands",
            AttemptOutcome.SUPERSEDED: "The process that was sending it did not come back",
        }[outcome]
        return f"{words}: {error}" if error else f"{words}."


def ended_as(before: CommandSnapshot, after: CommandSnapshot) -> AttemptOutcome | None:
    """What a word of the owner makes of the attempt under way; None if there is none or it goes on."""
    if not before.in_flight or after is before:
        return None
    return AttemptOutcome.CONFIRMED if after.status == CommandStatus.CONFIRMED else AttemptOutcome.SUPERSEDED


def split_error(last_error: str) -> tuple[str, str]:
    """Split a command's `last_error` into this service's own words and those of the service that refused it."""
    own, mark, said = last_error.partition(f"{REFUSED}: ")
    return own + mark, said
