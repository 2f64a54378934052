"""Commands leave: claim a page and count its attempts, publish it outside any transaction, record each outcome."""

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
from compensation.errors import bounded
from compensation.held import Unclaimed
from compensation.models import AttemptOutcome, CommandStatus
from compensation.snapshot import CommandSnapshot
from compensation.statements import AttemptRecord, Claim

logger = logging.getLogger(__name__)

# A page is what one flush carries, and the most that leaves after somebody pressed pause.
PAGE = 500
# Well below the soft time limit of a task: a run that is cut off in mid-page leaves claims to be found as lost.
RUN_SECONDS = 20.0
HEARTBEAT = "publisher"

# What is no fault of the command must not use up its attempts.
_UNCOUNTED = frozenset({AttemptOutcome.UNREACHABLE, AttemptOutcome.BLOCKED})

_ENVELOPE = ("type", "id", "correlation_id", "timestamp", "data")


class CommandPublisher(Protocol):
    """What delivery needs of `bridge.publisher`."""

    def probe(self) -> None:
        """Raise BrokerUnavailable if the broker gives no answer."""

    def publish(self, page: Sequence[OutgoingMessage]) -> list[PublishResult]:
        """Send all, and say of each what became of it. Never raises for a broker that is away."""


def publish_due(
    publisher: CommandPublisher, worker: str, *, clock: Callable[[], datetime] = clock.now, page: int = PAGE
) -> bool:
    """Publish page after page until nothing is due (False) or the time is up (True: there is more).

    clock: the database's, unless a test has another. May run in any number of processes at once. Opens its own
    transactions and must not be called inside one.
    Raises BrokerUnavailable when the broker is away; no attempt is then counted and nothing is lost.
    """
    began = clock()
    if not queries.is_anything_due(began, switches.read()):
        return False
    # Before the first claim, so that an outage makes no rows.
    reach(publisher)
    while (now := clock()) < began + timedelta(seconds=RUN_SECONDS):
        claims = claim(now, worker, page)
        if not claims:
            return False
        results, away = _publish(publisher, claims)
        sent = clock()
        record(claims, results, sent)
        _note_blocked(claims, results, sent)
        _tell(claims, results)
        if away:
            raise away
    return True


def reach(publisher: CommandPublisher) -> None:
    """Ask the broker for a sign of life and let the heartbeat show the answer. Raises BrokerUnavailable."""
    try:
        publisher.probe()
    except BrokerUnavailable as error:
        detail = {"error": bounded(str(error))}
        heartbeats.beat(HEARTBEAT, HeartbeatKind.PUBLISHER, connected=False, detail=detail)
        raise
    heartbeats.beat(HEARTBEAT, HeartbeatKind.PUBLISHER, connected=True)


def claim(now: datetime, worker: str, page: int = PAGE) -> list[Claim]:
    """Take a page of what is due and count an attempt of each, in a committed transaction of its own.

    What another saga knows too is held instead, in a transaction of its own, and the page is claimed again without it.
    """
    while True:
        try:
            with transaction.atomic(durable=True):
                standing = switches.read()
                claims = [] if standing.everything_paused else statements.claim(now, standing.paused, worker, page)
                # After the claim: a statement of its own sees every lane that was committed before it.
                held.check([Unclaimed(c.id, c.saga_id, c.stream, c.entity) for c in claims if c.first])
                return claims
        except held.KnownToOthers as found:
            held.hold(found.others, now)


def record(claims: Sequence[Claim], results: Mapping[str, PublishResult], at: datetime) -> None:
    """Write down what became of each publish, in transactions of its own; a command without a result stays claimed.

    A command that was meanwhile confirmed, refused, given up or claimed anew is not moved: only its attempt learns its
    message id.
    """
    waiting = {claim.id: claim for claim in claims if claim.id in results}
    times = statements.unreachable_before(c for id_, c in waiting.items() if _failure(results[id_]) in _UNCOUNTED)
    while waiting:
        for done in _record(statements.lock_free, waiting, results, times, at):
            del waiting[done]
        if waiting:
            # Somebody has a word on these just now. Waiting for one alone, holding none, cannot be part of a deadlock.
            first = dict([next(iter(waiting.items()))])
            _record(statements.lock, first, results, times, at)
            del waiting[next(iter(first))]


def wire_body(body: Mapping[str, Any]) -> bytes:
    """The message as bytes, its envelope in the order of the contract: the same body gives the same bytes for ever."""
    return orjson.dumps({**{name: body[name] for name in _ENVELOPE if name in body}, **body})


def _publish(
    publisher: CommandPublisher, claims: Sequence[Claim]
) -> tuple[dict[str, PublishResult], BrokerUnavailable | None]:
    """Send topic by topic: one that is out of reach costs its own commands a try, and not their neighbours'.

    Returns what became of each, and the error if the broker itself turned out to be away.
    """
    results: dict[str, PublishResult] = {}
    away = None
    for _, group in groupby(sorted(claims, key=_topic), key=_topic):
        page = [OutgoingMessage(claim.id, claim.topic, wire_body(claim.body)) for claim in group]
        # Each topic tried in vain costs a time-out, and a run must end well before its task's time limit.
        answers = _unreachable(page, str(away)) if away else publisher.publish(page)
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
    """Record those of the claims whose commands `lock` gives; returns their ids."""
    with transaction.atomic(durable=True):
        standings = lock(list(claims))
        changed: list[tuple[CommandSnapshot, datetime]] = []
        records: list[AttemptRecord] = []
        for before in standings:
            claim, result = claims[before.id], results[before.id]
            after = _outcome(before, claim, result, times.get(before.id, 0), at)
            if after is not before:
                changed.append((after, at))
            records.append(_attempt(claim, result, after, at))
        statements.write([standing for standing, _ in changed])
        statements.record_attempts(records)
        facts.append_news(changed)
    return [standing.id for standing in standings]


def _outcome(before: CommandSnapshot, claim: Claim, result: PublishResult, times: int, at: datetime) -> CommandSnapshot:
    if before.status != CommandStatus.PUBLISHING or (before.round, before.attempt) != (claim.round, claim.attempt):
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
        "error": bounded(result.error or ""),
    }


def _failure(result: PublishResult) -> AttemptOutcome:
    """What an attempt came to whose message did not leave."""
    if result.blocked:
        return AttemptOutcome.BLOCKED
    return AttemptOutcome.FAILED if result.reachable else AttemptOutcome.UNREACHABLE


def _note_blocked(claims: Sequence[Claim], results: Mapping[str, PublishResult], at: datetime) -> None:
    answers = [(claim.topic, results[claim.id]) for claim in claims if claim.id in results]
    refused = {topic: bounded(answer.error or "") for topic, answer in answers if answer.blocked}
    blocked.note(refused, {topic for topic, answer in answers if answer.error is None}, at)


def _tell(claims: Sequence[Claim], results: Mapping[str, PublishResult]) -> None:
    sent = sum(result.error is None for result in results.values())
    level = logging.INFO if sent == len(claims) else logging.WARNING
    logger.log(level, "published %d of %d commands", sent, len(claims))
