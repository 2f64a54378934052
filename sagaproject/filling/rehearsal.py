"""Plays the simulator's stories through the real parts, on a clock of their own, in the caller's transaction.

Everything that the service writes is written by the service's own functions: codec, event log, apply, outbox. Only the
loops around them are here, because theirs commit and go by the time of day.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from django.db.models import F

from bridge import event_log, quarantine
from bridge.codec import get_codec
from bridge.envelope import Envelope, Message, Rejected
from bridge.models import Pending, Quarantined, QuarantineStatus
from bridge.topics import get_topics
from compensation import delivery, facts
from compensation import statements as command_rows
from compensation.models import UNSENT, AttemptOutcome, Command, CommandStatus
from compensation.statements import AttemptEnd, AttemptRecord
from sagaproject.simulator import mischief
from sagaproject.simulator.naming import dice
from sagaproject.simulator.options import Options
from sagaproject.simulator.scenario import Script, write_script
from sagaproject.simulator.services import Services
from sagaproject.simulator.wire import Quirk, SimulatedEvent
from sagas import apply, statements
from sagas.models import Parked, SagaLog

# A time that no real row has: whatever says it is part of a story.
BEGINS = "20010203T000000"
# The ledger of every message of a story, for the same reason.
LEDGER = "987654321"
WORKER = "worker@filled"

# How much happens at once: a second's events, and in the long waits for a service that does not answer more.
_TICK, _IDLE_TICK = timedelta(seconds=1), timedelta(seconds=15)
_WIRE = timedelta(milliseconds=30)
_PAGE = 500
_EVERYTHING = 100_000
_LONGEST = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class RehearsedSaga:
    """What came of one task: whose rows are its own. `saga` is None where none came to be."""

    number: int
    saga: str | None
    status: str
    keys: frozenset[str]  # its task's and its images' own
    message_ids: frozenset[str]  # of what could not be read


class Rehearsal:
    """One cast of stories. Must run in a transaction that is rolled back."""

    def __init__(self, options: Options, *, garbage: bool = False) -> None:
        self.options = options
        self.script: Script = write_script(options, f"{BEGINS}-{options.seed:x}")
        self.clock = self.script.began
        self._services = Services(self.script)
        self._rng = dice(f"{options.seed}/rehearsal")
        self._order = itertools.count(1)
        self._due: list[tuple[datetime, int, SimulatedEvent, bytes]] = []
        self._rubbish: dict[str, set[str]] = {}
        self._garbage = garbage

    def play(self, until: datetime | None = None) -> list[RehearsedSaga]:
        """Plays until nothing is left to happen, or until then by the story's clock; returns what came of each task."""
        for task in self.script.tasks:
            for event in task.events:
                self._send(event, event.at)
        newest = self._newest_pending()
        while (at := self._next()) is not None and (until is None or at <= until):
            self.clock = at + (_TICK if self._due else _IDLE_TICK)
            self._store()
            self._apply(newest)
            self._publish()
            self._pass_deadlines()
            self._apply(newest)
        if self._garbage:
            self._store_garbage()
        return list(self._stories())

    # --- the wire ---

    def _send(self, event: SimulatedEvent, at: datetime) -> None:
        """Lets an event come at that time. No two say the same instant: ids must not decide."""
        number = next(self._order)
        said = replace(event, at=event.at.replace(microsecond=event.at.microsecond // 1000 * 1000 + number % 1000))
        heapq.heappush(self._due, (at, number, said, said.body()))
        if said.quirk is not Quirk.NAMELESS and self._rng.random() < self.options.duplicate_rate:
            heapq.heappush(self._due, (at + timedelta(seconds=1), next(self._order), said, said.body()))

    def _store(self) -> None:
        envelopes: list[Envelope] = []
        while self._due and self._due[0][0] <= self.clock:
            at, number, event, body = heapq.heappop(self._due)
            read = get_codec().decode(_message(event, number, at, body), at + _WIRE)
            if isinstance(read, Rejected):
                raise ValueError(f"a story's event cannot be read: {read.reason}")
            envelopes.append(read)
        event_log.store_batch(envelopes)

    def _store_garbage(self) -> None:
        """Rubbish made of each task's last event, for quarantine; a person has looked at most of it."""
        rejected = []
        for task in self.script.tasks:
            number, event = next(self._order), task.events[-1]
            spoil = self._rng.choice([one for one in mischief.SPOILERS if one not in (mischief.twin, mischief.deep)])
            at = event.at + _TICK
            message = _message(event, number, at, spoil(event, self._rng))
            read = get_codec().decode(message, at + _WIRE)
            if isinstance(read, Rejected):
                rejected.append(read)
                self._rubbish.setdefault(task.task.task_id, set()).add(message.message_id)
        quarantine.keep(rejected)
        for row in Quarantined.objects.filter(message_id__startswith=f"{LEDGER}:"):
            if self._rng.random() < 0.8:
                at = row.received_at + timedelta(hours=1)
                quarantine.decide(row, QuarantineStatus.DISMISSED, at, "ana", "nothing of ours")
        parked = Parked.objects.filter(key__in=[key for task in self.script.tasks for key in task.parked])
        parked.exclude(key=self.script.tasks[-1].task.task_id).update(dismissed_at=F("since") + timedelta(hours=1))

    # --- the parts of the service, by the story's clock ---

    def _next(self) -> datetime | None:
        """When something happens next: an event comes, a command is due, or its answer is overdue."""
        due = Command.objects.filter(status__in=UNSENT, released_at__isnull=False)
        sent = Command.objects.filter(status=CommandStatus.PUBLISHED)
        # Stories are older than anything real, so the first of all commands is theirs, if they have one.
        firsts = [
            *due.order_by("next_at").values_list("next_at", flat=True)[:1],
            *sent.order_by("deadline_at").values_list("deadline_at", flat=True)[:1],
        ]
        times = [self._due[0][0]] if self._due else []
        times += [at for at in firsts if at is not None and at - self.script.began < _LONGEST]
        return min(times, default=None)

    def _newest_pending(self) -> int:
        return Pending.objects.order_by("-id").values_list("id", flat=True).first() or 0

    def _apply(self, after: int) -> None:
        """Until nothing moves: what one transaction of the service's leaves to the next is applied here at once."""
        while page := statements.claim(after, _EVERYTHING):
            applied = apply.apply_inside(page, self.clock)
            if applied.opened:
                statements.unpark_entities(applied.opened)
            if not applied.moved:
                return

    def _publish(self) -> None:
        while claims := command_rows.claim(self.clock, [], WORKER, _PAGE):
            changed = []
            records: list[AttemptRecord] = []
            by_id = {claim.id: claim for claim in claims}
            for before in command_rows.lock(by_id):
                after, claim = before.sent(self.clock), by_id[before.id]
                changed.append((after, self.clock))
                records.append(
                    {
                        "id": claim.attempt_id,
                        "message_id": f"{LEDGER}:{next(self._order)}:-1:0",
                        "outcome": AttemptOutcome.PUBLISHED,
                        "counted": True,
                        "ended_at": None,
                        "error": "",
                    }
                )
                for reply in self._services.receive(claim.topic, delivery.wire_body(claim.body), self.clock):
                    at = self.clock + timedelta(seconds=reply.after)
                    self._send(replace(reply.event, at=at), at)
            command_rows.write([standing for standing, _ in changed])
            command_rows.record_attempts(records)
            facts.append_facts(changed)

    def _pass_deadlines(self) -> None:
        while overdue := command_rows.lock_overdue(self.clock, [], _PAGE):
            after = [one.failed(AttemptOutcome.DEADLINE, "", self.clock, self._rng.random()) for one in overdue]
            ends: list[AttemptEnd] = [
                {"command_id": one.id, "outcome": AttemptOutcome.DEADLINE, "ended_at": self.clock, "error": ""}
                for one in overdue
            ]
            command_rows.write(after)
            command_rows.end_attempts(ends)
            facts.append_facts([(standing, self.clock) for standing in after])

    # --- what came of it ---

    def _stories(self) -> Iterator[RehearsedSaga]:
        sagas = SagaLog.objects.filter(key__in=self.script.by_task).values_list("key", "id", "status")
        found = {key: (str(saga_id), status) for key, saga_id, status in sagas}
        for task in self.script.tasks:
            saga, status = found.get(task.task.task_id, (None, ""))
            own = {key for image in task.images for key in (image.own_task, image.own_rollback)}
            keys = frozenset({task.task.task_id, *own})
            yield RehearsedSaga(task.number, saga, status, keys, frozenset(self._rubbish.get(task.task.task_id, ())))


def _message(event: SimulatedEvent, number: int, at: datetime, body: bytes) -> Message:
    topics = get_topics()
    names = topics.names(topics.full(event.topic))
    published = int(at.timestamp() * 1000)
    return Message(names.shown, names.short, f"{LEDGER}:{number}:-1:0", published, body, {})
