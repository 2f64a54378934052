"""Run the simulator's tasks through the real parts with a simulated clock, in the caller's transaction.

All rows are written by the service's own functions: codec, event log, apply, outbox. Only the loops around them are
reimplemented here, because the service's loops commit and use the real time.
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
from devtools.simulator import mischief
from devtools.simulator.naming import dice
from devtools.simulator.options import Options
from devtools.simulator.scenario import Script, write_script
from devtools.simulator.services import Services
from devtools.simulator.wire import Quirk, SimulatedEvent
from sagas.applying import apply, statements
from sagas.models import Parked, SagaLog

# A time that no real row has, by which the rows of a rehearsal are recognized.
BEGINS = "20010203T000000"
# The ledger of every message of a rehearsal, for the same reason.
LEDGER = "987654321"
WORKER = "worker@filled"

# The time that one step covers: a second, and more in the long waits for a service that does not answer.
_TICK, _IDLE_TICK = timedelta(seconds=1), timedelta(seconds=15)
_WIRE = timedelta(milliseconds=30)
_PAGE = 500
_EVERYTHING = 100_000
_LONGEST = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class RehearsedSaga:
    """The result of one task, and the ids by which its rows are found. `saga` is None if there is none."""

    number: int
    saga: str | None
    status: str
    keys: frozenset[str]  # of its task and of its images
    message_ids: frozenset[str]  # of its unreadable messages


class Rehearsal:
    """A run of all tasks of a script. Must run in a transaction that is rolled back."""

    def __init__(self, options: Options, *, garbage: bool = False) -> None:
        self.options = options
        self.script: Script = write_script(options, f"{BEGINS}-{options.seed:x}")
        self.clock = self.script.began
        self._services = Services(self.script)
        self._rng = dice(f"{options.seed}/rehearsal")
        self._order = itertools.count(1)
        self._due: list[tuple[datetime, int, SimulatedEvent, bytes]] = []
        self._unreadable: dict[str, set[str]] = {}
        self._garbage = garbage

    def play(self, until: datetime | None = None) -> list[RehearsedSaga]:
        """Run until nothing is left to do, or until this simulated time; return the result of each task."""
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
        return list(self._results())

    # --- messages ---

    def _send(self, event: SimulatedEvent, at: datetime) -> None:
        """Schedule an event. Its timestamp is made unique, so that the order of events never depends on their ids."""
        number = next(self._order)
        unique = replace(event, at=event.at.replace(microsecond=event.at.microsecond // 1000 * 1000 + number % 1000))
        heapq.heappush(self._due, (at, number, unique, unique.body()))
        if unique.quirk is not Quirk.NAMELESS and self._rng.random() < self.options.duplicate_rate:
            heapq.heappush(self._due, (at + timedelta(seconds=1), next(self._order), unique, unique.body()))

    def _store(self) -> None:
        envelopes: list[Envelope] = []
        while self._due and self._due[0][0] <= self.clock:
            at, number, event, body = heapq.heappop(self._due)
            decoded = get_codec().decode(_message(event, number, at, body), at + _WIRE)
            if isinstance(decoded, Rejected):
                raise ValueError(f"an event of the simulator was rejected: {decoded.reason}")
            envelopes.append(decoded._replace(further=()))  # it fills sagas of one type
        event_log.store_batch(envelopes)

    def _store_garbage(self) -> None:
        """Quarantine unreadable messages made from each task's last event, and dismiss most of them."""
        rejected = []
        for task in self.script.tasks:
            number, event = next(self._order), task.events[-1]
            spoil = self._rng.choice([one for one in mischief.SPOILERS if one not in (mischief.twin, mischief.deep)])
            at = event.at + _TICK
            message = _message(event, number, at, spoil(event, self._rng))
            decoded = get_codec().decode(message, at + _WIRE)
            if isinstance(decoded, Rejected):
                rejected.append(decoded)
                self._unreadable.setdefault(task.task.task_id, set()).add(message.message_id)
        quarantine.keep(rejected)
        for row in Quarantined.objects.filter(message_id__startswith=f"{LEDGER}:"):
            if self._rng.random() < 0.8:
                at = row.received_at + timedelta(hours=1)
                quarantine.decide(row, QuarantineStatus.DISMISSED, at, "ana", "nothing of ours")
        parked = Parked.objects.filter(key__in=[key for task in self.script.tasks for key in task.parked])
        parked.exclude(key=self.script.tasks[-1].task.task_id).update(dismissed_at=F("since") + timedelta(hours=1))

    # --- the parts of the service, by the simulated clock ---

    def _next(self) -> datetime | None:
        """Return the time of the next event, due command or missed deadline."""
        due = Command.objects.filter(status__in=UNSENT, released_at__isnull=False)
        sent = Command.objects.filter(status=CommandStatus.PUBLISHED)
        # The simulated time is earlier than any real one, so the first of all commands is the rehearsal's, if any.
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
        """Apply until nothing changes: work that the service leaves to its next transaction is done here too."""
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
            command_rows.write([snapshot for snapshot, _ in changed])
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
            facts.append_facts([(snapshot, self.clock) for snapshot in after])

    # --- results ---

    def _results(self) -> Iterator[RehearsedSaga]:
        sagas = SagaLog.objects.filter(key__in=self.script.by_task).values_list("key", "id", "status")
        found = {key: (str(saga_id), status) for key, saga_id, status in sagas}
        for task in self.script.tasks:
            saga, status = found.get(task.task.task_id, (None, ""))
            own = {key for image in task.images for key in (image.own_task, image.own_rollback)}
            keys = frozenset({task.task.task_id, *own})
            yield RehearsedSaga(task.number, saga, status, keys, frozenset(self._unreadable.get(task.task.task_id, ())))


def _message(event: SimulatedEvent, number: int, at: datetime, body: bytes) -> Message:
    topics = get_topics()
    names = topics.names(topics.full(event.topic))
    published = int(at.timestamp() * 1000)
    return Message(names.shown, names.short, f"{LEDGER}:{number}:-1:0", published, body, {})
