"""The state machine of one command. Pure: the time and random numbers are arguments.

Every transition returns a new snapshot. A transition that the current state does not allow returns the same object, so
that the order in which events and decisions arrive does not matter: the highest rank wins.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from bridge.reasons import Reason, reason
from compensation.errors import bounded
from compensation.models import SETTLED, AttemptOutcome, CommandStatus, ConfirmationKind, ExhaustedBy
from compensation.retry import RetryPolicy

# A publish that did not reach the broker does not count as an attempt. This is the longest wait before the next one, so
# that an unreachable topic is not tried continuously.
UNREACHABLE_MAXIMUM_SECONDS = 60.0

# Precedes the error text of a service in a `last_error` that an earlier release stored; all other text there is ours.
_REFUSED = "The service refused it"

SettlementStatus = Literal["confirmed", "skipped", "withdrawn", "retried"]


@dataclass(frozen=True, slots=True)
class CommandSnapshot:
    """One command: what is fixed about it (first part) and its state (second part)."""

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
    overtaken_at: datetime | None = None
    exhausted_by: str = ""
    # The code of a reason and its parameters; in rows of earlier releases an English text.
    last_error: str = ""
    last_error_data: Mapping[str, Any] | None = None

    @property
    def settled(self) -> bool:
        return self.status in SETTLED

    @property
    def in_flight(self) -> bool:
        """Whether the command has an attempt that has not ended."""
        return self.status in (CommandStatus.PUBLISHING, CommandStatus.PUBLISHED)

    def is_leased_to(self, round: int, attempt: int) -> bool:
        """Return whether a claim still holds its lease, by the number of the attempt that it began.

        The numbers of a command's attempts only grow, except that an attempt that did not count leaves its number to
        the next one, and records nothing after that. So a record of an attempt that was ended in the meantime, by an
        answer, a decision or the end of its lease, finds no lease, or that of another attempt.
        """
        return self.status == CommandStatus.PUBLISHING and (self.round, self.attempt) == (round, attempt)

    def released(self, at: datetime) -> "CommandSnapshot":
        """Make the command due for the first time."""
        return replace(self, next_at=at)

    def never_sent(self, at: datetime) -> "CommandSnapshot":
        """Exhaust a command that the service would refuse for its form: the body is fixed, so in every round."""
        return self._exhausted(ExhaustedBy.INVALID, Reason(self.invalid), at)

    def sent(self, at: datetime) -> "CommandSnapshot":
        """Record that the broker accepted the message. If the service never confirms, a person has to from now on."""
        sent = replace(self, status=CommandStatus.PUBLISHED, claimed_at=None, published_at=at)
        if self.confirmation == ConfirmationKind.MANUAL:
            return sent._exhausted(ExhaustedBy.MANUAL, reason("no-confirmation"), at)
        if self.confirmation == ConfirmationKind.PUBLISHED:
            return sent
        return replace(sent, deadline_at=at + timedelta(seconds=self.confirmation_timeout))

    def failed(
        self, outcome: AttemptOutcome, error: str, at: datetime, random: float, permanent: bool = False
    ) -> "CommandSnapshot":
        """End the open attempt without success: the next one is due by the policy, or there is none in this round.

        error: the text of the service that refused it, or the code of the reason why it was not sent. permanent: the
        broker will never accept this message. random: at least 0, less than 1.
        """
        if not self.in_flight:
            return self
        if permanent:
            why = reason("permanent", last=self._reason(outcome, error).nested)
            return self._exhausted(ExhaustedBy.PERMANENT, why, at)
        ended = self._ended(outcome, error, at)
        if ended is not None:
            return ended
        delay = self.policy.delay(self.attempt, random)
        return self._waiting(at + timedelta(seconds=delay), self._reason(outcome, error))

    def refused(self, error: str, at: datetime, now: datetime, has_open_attempt: bool) -> "CommandSnapshot":
        """Count a refusal as an attempt: the open one, or one more.

        The service keeps a command that it refused and tries it again automatically, so nothing is sent while it
        refuses: the next copy leaves when a whole deadline has passed without an answer, from `now` on. A command of
        which no copy left in this round is not changed. at: by the service's clock.
        """
        was_sent = self.in_flight or (self.status == CommandStatus.WAITING and self.attempt > 0)
        if not was_sent:
            return self
        counted = self if has_open_attempt else replace(self, attempt=self.attempt + 1)
        ended = counted._ended(AttemptOutcome.REFUSED, error, at)
        if ended is not None:
            return ended
        why = self._reason(AttemptOutcome.REFUSED, error)
        return replace(
            counted._idle(),
            status=CommandStatus.PUBLISHED,
            published_at=self.published_at or at,
            deadline_at=now + timedelta(seconds=self.confirmation_timeout),
            last_error=why.code,
            last_error_data=why.data,
        )

    def publish_unreachable(
        self, error: str, at: datetime, times: int, outcome: AttemptOutcome = AttemptOutcome.UNREACHABLE
    ) -> "CommandSnapshot":
        """End an attempt whose publish did not reach the broker, or whose topic accepts nothing: it does not count.

        times: how often that happened before in this attempt. outcome: UNREACHABLE or BLOCKED.
        """
        if self.status != CommandStatus.PUBLISHING:
            return self
        delay = min(2.0 ** min(times, 10), UNREACHABLE_MAXIMUM_SECONDS)
        waiting = self._waiting(at + timedelta(seconds=delay), self._reason(outcome, error))
        return replace(waiting, attempt=self.attempt - 1)

    def deadline_postponed(self, to: datetime) -> "CommandSnapshot":
        """Postpone the deadline, because some of the time did not count."""
        return replace(self, deadline_at=to)

    def settle(
        self, status: SettlementStatus, at: datetime, by_hand: bool = False, event_id: str = "", round: int = 0
    ) -> "CommandSnapshot":
        """Apply a settlement or a retry, if its rank allows it."""
        if status == "retried":
            return self._retried(round, at)
        if self.status == CommandStatus.CONFIRMED or (self.settled and status != "confirmed"):
            return self
        idle = self._idle()
        return replace(
            idle, status=CommandStatus(status), settled_at=at, by_hand=by_hand, settled_event=event_id, exhausted_by=""
        )

    def confirmed_unsent(self, at: datetime) -> "CommandSnapshot":
        """Mark that a service's event confirmed the command although it was never sent. at: by the database's clock."""
        return replace(self, confirmed_unsent_at=at)

    def _ended(self, outcome: AttemptOutcome, error: str, at: datetime) -> "CommandSnapshot | None":
        """Return the exhausted command, if the policy allows no attempt after this one; else None."""
        last = self._reason(outcome, error)
        entry = self.policy.non_retryable(error) if error else None
        if entry is not None:
            code = "non-retryable" if entry == error else "non-retryable-prefix"
            return self._exhausted(ExhaustedBy.NON_RETRYABLE, reason(code, entry=entry, last=last.nested), at)
        if self.policy.exhausted(self.attempt):
            why = reason("attempts", count=self.policy.maximum_attempts, last=last.nested)
            return self._exhausted(ExhaustedBy.ATTEMPTS, why, at)
        return None

    def overtaken(self, at: datetime) -> "CommandSnapshot":
        """Mark that it was done although it was no longer required: it had been sent. at: by the database's clock."""
        return replace(self, overtaken_at=at)

    def not_required(self) -> "CommandSnapshot":
        """End the requirement of a command that is not settled. If it was sent, its confirmation still counts."""
        if self.settled:
            return self
        return replace(self._idle(), status=CommandStatus.NOT_REQUIRED, settled_at=None)

    def required_again(self, at: datetime, exhausted: bool) -> "CommandSnapshot":
        """Require a command again that was not required any more, or whose withdrawal does not count any more.

        A new round begins. A command that was never claimed stays in its first one, so that it can still be held,
        unless that one is exhausted. exhausted: whether its last round was.
        """
        if self.status not in (CommandStatus.NOT_REQUIRED, CommandStatus.WITHDRAWN):
            return self
        claimed = exhausted or self.attempt > 0 or self.round > 1
        status = CommandStatus.WAITING if claimed else CommandStatus.PLANNED
        again = replace(self._idle(), status=status, round=self.round + claimed, attempt=0, next_at=at, settled_at=None)
        again = replace(again, by_hand=False, settled_event="", exhausted_by="")
        return again.never_sent(at) if self.invalid else again

    def _retried(self, round: int, at: datetime) -> "CommandSnapshot":
        if self.settled or self.status == CommandStatus.NOT_REQUIRED or round <= self.round:
            return self
        status = CommandStatus.PLANNED if self.status == CommandStatus.PLANNED else CommandStatus.WAITING
        idle = self._idle()
        fresh = replace(idle, status=status, round=round, attempt=0, next_at=at, settled_at=None, exhausted_by="")
        return fresh.never_sent(at) if self.invalid else fresh

    def _waiting(self, next_at: datetime, why: Reason) -> "CommandSnapshot":
        idle = self._idle()
        return replace(
            idle, status=CommandStatus.WAITING, next_at=next_at, last_error=why.code, last_error_data=why.data
        )

    def _exhausted(self, by: ExhaustedBy, why: Reason, at: datetime) -> "CommandSnapshot":
        return replace(
            self._idle(),
            status=CommandStatus.EXHAUSTED,
            settled_at=at,
            exhausted_by=by,
            last_error=why.code,
            last_error_data=why.data,
        )

    def _idle(self) -> "CommandSnapshot":
        return replace(self, next_at=None, claimed_at=None, deadline_at=None)

    def _reason(self, outcome: AttemptOutcome, error: str) -> Reason:
        if outcome == AttemptOutcome.DEADLINE:
            return reason("deadline", seconds=f"{self.confirmation_timeout:g}")
        if not error:
            return reason(outcome.value)
        if outcome == AttemptOutcome.REFUSED:
            return reason("refused-because", error=bounded(error))
        return reason(f"{outcome.value}-because", cause={"code": error})


def ended_as(before: CommandSnapshot, after: CommandSnapshot) -> AttemptOutcome | None:
    """Return the outcome that a settlement gives the open attempt; None if there is none or it stays open."""
    if not before.in_flight or after is before:
        return None
    return AttemptOutcome.CONFIRMED if after.status == CommandStatus.CONFIRMED else AttemptOutcome.SUPERSEDED


def split_error(last_error: str) -> tuple[str, str]:
    """Split a text that an earlier release stored into our own part and that of the service that refused."""
    own, mark, theirs = last_error.partition(f"{_REFUSED}: ")
    return own + mark, theirs
