"""Send commands: claim a page and count its attempts, publish it outside any transaction, record each outcome."""

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from random import random
from typing import Any, Protocol

import orjson
from django.db import transaction

from bridge import blocked, clock, heartbeats
from bridge.errors import BrokerUnavailable
from bridge.models import HeartbeatKind
from bridge.publisher import OutgoingMessage, PublishResult
from compensation import facts, held, queries, statements, switches
from compensation.held import Unclaimed
from compensation.models import AttemptOutcome, CommandStatus
from compensation.snapshot import CommandSnapshot
from compensation.statements import AttemptRecord, Claim

logger = logging.getLogger(__name__)

# A page is sent with one flush; it is also the most that is still sent after a pause.
PAGE = 500
# Seconds. Well below the soft time limit of a task: a run that is interrupted within a page leaves lost claims behind.
RUN_SECONDS = 20.0
HEARTBEAT = "publisher"

# Failures that are not caused by the command must not use up its attempts.
_UNCOUNTED = frozenset({AttemptOutcome.UNREACHABLE, AttemptOutcome.BLOCKED})

_ENVELOPE = ("type", "id", "correlation_id", "timestamp", "data")


class CommandPublisher(Protocol):
    """What delivery needs from `bridge.publisher`."""

    def probe(self) -> None:
        """Raise BrokerUnavailable if the broker does not answer."""

    def publish(self, page: Sequence[OutgoingMessage]) -> list[PublishResult]:
        """Send all messages and return the result of each. Does not raise if the broker is unavailable."""


def publish_due(
    publisher: CommandPublisher, worker: str, *, clock: Callable[[], datetime] = clock.now, page: int = PAGE
) -> bool:
    """Publish page after page; return False when nothing is due any more, True if the time is up and there may be more.

    clock: the database's, except in tests. May run in any number of processes concurrently. Opens its own transactions
    and must not be called inside one.
    Raises BrokerUnavailable if the broker is unavailable; then no attempt is counted and nothing is lost.
    """
    began = clock()
    if not queries.is_anything_due(began, switches.read()):
        return False
    # Before the first claim, so that an outage creates no attempts.
    reach(publisher)
    while (now := clock()) < began + timedelta(seconds=RUN_SECONDS):
        claims = claim(now, worker, page)
        if not claims:
            return False
        results, away = _publish(publisher, claims)
        sent = clock()
        record(claims, results, sent)
        _note_blocked(claims, results, sent)
        _log(claims, results)
        if away:
            raise away
    return True


def reach(publisher: CommandPublisher) -> None:
    """Check that the broker answers, and store the result in the heartbeat. Raises BrokerUnavailable."""
    try:
        publisher.probe()
    except BrokerUnavailable as error:
        detail = {"error": error.code}
        heartbeats.beat(HEARTBEAT, HeartbeatKind.PUBLISHER, connected=False, detail=detail)
        raise
    heartbeats.beat(HEARTBEAT, HeartbeatKind.PUBLISHER, connected=True)


def claim(now: datetime, worker: str, page: int = PAGE) -> list[Claim]:
    """Claim a page of due commands and count an attempt of each, in a transaction of its own that is committed.

    Commands whose entity another saga knows too are held instead, in a separate transaction, and the page is claimed
    again without them.
    """
    while True:
        try:
            with transaction.atomic(durable=True):
                current = switches.read()
                claims = [] if current.everything_paused else statements.claim(now, current.paused, worker, page)
                # After the claim: a separate statement sees every lane that was committed before it.
                held.check([Unclaimed(c.id, c.saga_id, c.stream, c.entity) for c in claims if c.first])
                return claims
        except held.KnownToOthers as found:
            held.hold(found.others, now)


def record(claims: Sequence[Claim], results: Mapping[str, PublishResult], at: datetime) -> None:
    """Store the result of each publish, in transactions of its own; a command without a result stays claimed.

    A command that was confirmed, refused, skipped, withdrawn or claimed again in the meantime is not changed: only the
    message id is stored, with its attempt.
    """
    waiting = {claim.id: claim for claim in claims if claim.id in results}
    times = statements.unreachable_before(c for id_, c in waiting.items() if _failure(results[id_]) in _UNCOUNTED)
    while waiting:
        for done in _record(statements.lock_available, waiting, results, times, at):
            del waiting[done]
        if waiting:
            # The rest is locked by `settle` or `refuse`. Locking one at a time, holding no other, cannot deadlock.
            first = dict([next(iter(waiting.items()))])
            _record(statements.lock, first, results, times, at)
            del waiting[next(iter(first))]


def wire_body(body: Mapping[str, Any]) -> bytes:
    """Return the message as bytes, the envelope in the order of the contract. Equal bodies always give equal bytes."""
    return orjson.dumps({**{name: body[name] for name in _ENVELOPE if name in body}, **body})


def _publish(
    publisher: CommandPublisher, claims: Sequence[Claim]
) -> tuple[dict[str, PublishResult], BrokerUnavailable | None]:
    """Publish topic by topic, so that an unreachable topic does not affect the commands of other topics.

    Returns the result of each, and the error if the broker itself turned out to be unavailable.
    """
    results: dict[str, PublishResult] = {}
    away = None
    for _, group in groupby(sorted(claims, key=_topic), key=_topic):
        page = [OutgoingMessage(claim.id, claim.topic, wire_body(claim.body)) for claim in group]
        # Each unreachable topic costs a time-out, and a run must end well before the time limit of its task.
        answers = _unreachable(page, away.code) if away else publisher.publish(page)
        results |= {answer.id: answer for answer in answers}
        if not away and not any(answer.reachable for answer in answers):
            away = _away(publisher)
    return results, away


def _topic(claim: Claim) -> str:
    return claim.topic


def _away(publisher: CommandPublisher) -> BrokerUnavailable | None:
    try:
        reach(publisher)
    except BrokerUnavailable as error:
        return error
    return None


def _unreachable(page: Sequence[OutgoingMessage], error: str) -> list[PublishResult]:
    return [PublishResult(message.id, None, error, reachable=False, permanent=False) for message in page]


def _record(
    lock: Callable[[Sequence[str]], list[CommandSnapshot]],
    claims: Mapping[str, Claim],
    results: Mapping[str, PublishResult],
    times: Mapping[str, int],
    at: datetime,
) -> list[str]:
    """Record the claims whose commands `lock` returns; return their ids."""
    with transaction.atomic(durable=True):
        snapshots = lock(list(claims))
        changed: list[tuple[CommandSnapshot, datetime]] = []
        records: list[AttemptRecord] = []
        for before in snapshots:
            claim, result = claims[before.id], results[before.id]
            after = _outcome(before, claim, result, times.get(before.id, 0), at)
            if after is not before:
                changed.append((after, at))
            records.append(_attempt(claim, result, after, at))
        statements.write([snapshot for snapshot, _ in changed])
        statements.record_attempts(records)
        facts.append_facts(changed)
    return [snapshot.id for snapshot in snapshots]


def _outcome(before: CommandSnapshot, claim: Claim, result: PublishResult, times: int, at: datetime) -> CommandSnapshot:
    if not before.is_leased_to(claim.round, claim.attempt):
        return before
    if result.error is None:
        return before.sent(at)
    failure = _failure(result)
    if failure in _UNCOUNTED:
        return before.publish_unreachable(result.error, at, times, failure)
    return before.failed(AttemptOutcome.FAILED, result.error, at, random(), permanent=result.permanent)  # noqa: S311 (jitter)


def _attempt(claim: Claim, result: PublishResult, after: CommandSnapshot, at: datetime) -> AttemptRecord:
    outcome = AttemptOutcome.PUBLISHED if result.error is None else _failure(result)
    return {
        "id": claim.attempt_id,
        "message_id": result.message_id or "",
        "outcome": outcome,
        "counted": outcome not in _UNCOUNTED,
        "ended_at": None if after.status == CommandStatus.PUBLISHED else at,
        "error": result.error or "",
    }


def _failure(result: PublishResult) -> AttemptOutcome:
    """Return the outcome of an attempt whose message was not sent."""
    if result.blocked:
        return AttemptOutcome.BLOCKED
    return AttemptOutcome.FAILED if result.reachable else AttemptOutcome.UNREACHABLE


def _note_blocked(claims: Sequence[Claim], results: Mapping[str, PublishResult], at: datetime) -> None:
    answers = [(claim.topic, results[claim.id]) for claim in claims if claim.id in results]
    refused = {topic: answer.error or "" for topic, answer in answers if answer.blocked}
    blocked.note(refused, {topic for topic, answer in answers if answer.error is None}, at)


def _log(claims: Sequence[Claim], results: Mapping[str, PublishResult]) -> None:
    sent = sum(result.error is None for result in results.values())
    level = logging.INFO if sent == len(claims) else logging.WARNING
    logger.log(level, "published %d of %d commands", sent, len(claims))
