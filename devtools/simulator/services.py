"""The services' side of a compensation: answer our commands as Data Retrieval and the anonymizer do.

Without threads and broker: takes a command and returns the replies with their delays.
"""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID, uuid4

from devtools.simulator import naming, wire
from devtools.simulator.answers import Manner, ServiceAnswer, Voice
from devtools.simulator.predictor import Expectation
from devtools.simulator.scenario import Script, TaskScript
from devtools.simulator.wire import COMMAND_TOPICS, DELETE, ROLLBACK, Fields, SimulatedEvent

DATA = {DELETE: {"image_id", "task_id", "reason"}, ROLLBACK: {"image_id", "task_id", "reason"}}
SHAPE = {"type", "id", "correlation_id", "timestamp", "data"}


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of a service, to be sent `after` this number of seconds.

    again: the answers to the same copy of the command, which the service receives again after it refused it.
    """

    after: float
    event: SimulatedEvent
    again: Callable[[datetime], list["Reply"]] | None = None
    redelivered: bool = False


@dataclass(frozen=True, slots=True)
class Complaint:
    """A command that should not have been sent, or not in this form."""

    task_id: str
    command: str
    expected: str
    seen: str


@dataclass(slots=True)
class ServiceCounts:
    """Counts of a run so far. `answers`: number of distinct answers in each saga's history; `refusals`: of these."""

    received: int = 0
    again: int = 0
    confirmed: int = 0
    refused: int = 0
    unanswered: int = 0
    strangers: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    parked: Counter[str] = field(default_factory=Counter)


class Services:
    """Both services that receive commands.

    answer_all: also answer for tasks that are not of this run, except those of a simulator that started later.
    redeliver: seconds after which a refused command is delivered again, as Pulsar does after a nack; 0: never.
    """

    def __init__(self, script: Script, *, answer_all: bool = False, redeliver: float = 0.0) -> None:
        self.script = script
        self.answer_all = answer_all
        self.redeliver = redeliver
        self.tally = ServiceCounts()
        self.complaints: list[Complaint] = []
        self.healed = False
        self._bodies: dict[tuple[str, str, str], Fields] = {}  # by task, command and image: the first message
        self._tries: Counter[str] = Counter()
        self._done: dict[str, SimulatedEvent] = {}  # by command id: its confirmation
        self._deleted = {script.task.task_id: _deleted_by_story(script) for script in script.tasks}

    def heal(self) -> None:
        """Confirm every command from now on, also those that were never answered, and record no complaints."""
        self.healed = True

    def receive(self, topic: str, body: bytes, now: datetime) -> list[Reply]:
        """Handle one message of a command topic (short name). Messages that are not our commands are ignored."""
        message = _read(body)
        name = message.get("type")
        data = message.get("data")
        if name not in COMMAND_TOPICS or not isinstance(data, dict):
            return []
        task = self.script.by_task.get(str(data.get("task_id")))
        if task is None:
            return self._strange(message, now)
        wrong = self._wrong(topic, message, task)
        if wrong:
            return self._complain(task, message, *wrong)
        return self._take(message, task, now)

    def _take(self, message: Fields, task: TaskScript, now: datetime) -> list[Reply]:
        name, image_id = message["type"], message["data"]["image_id"]
        key = (task.task.task_id, name, image_id)
        first = self._bodies.setdefault(key, message)
        self.tally.received += first is message
        self.tally.again += first is not message
        if first != message and not self.healed:
            self._complain(task, message, "the same id and body at each attempt", _difference(first, message))
        if task.expected is not None and not self._expected(task.expected, name, image_id) and not self.healed:
            self._complain(task, message, "no such command: it is not required", f"{name} for image {image_id}")
        return self._answer(message, task, task.answers.get((name, image_id), ServiceAnswer()), now)

    def _answer(self, message: Fields, task: TaskScript, answer: ServiceAnswer, now: datetime) -> list[Reply]:
        command = message["id"]
        self._tries[command] += 1
        if command in self._done:
            return [Reply(answer.after, self._done[command])]
        manner = Manner.CONFIRM if self.healed else answer.manner
        match manner:
            case Manner.SILENT:
                self.tally.unanswered += self._tries[command] == 1
                return []
            case Manner.NAMELESS:
                self.tally.unanswered += self._tries[command] == 1
                return [Reply(answer.after, self._nameless(task, message, answer, now))]
            case Manner.RELENT:
                refusal = Reply(answer.after, self._refusal(message, now))  # confirmed before it could come again
                return [refusal, *self._confirm(message, task, answer, now, after=answer.after + 0.3)]
            case _ if manner is Manner.STUBBORN or (self._tries[command] <= answer.times and not self.healed):
                return [self._refuse(message, task, answer, now)]
        return self._confirm(message, task, answer, now, after=answer.after)

    def _expected(self, expected: Expectation, name: str, image_id: str) -> bool:
        return (name, image_id) in expected.commands or image_id in expected.overtaken

    def _refuse(self, message: Fields, task: TaskScript, answer: ServiceAnswer, now: datetime) -> Reply:
        refusal = Reply(answer.after, self._refusal(message, now))
        if not self.redeliver:
            return refusal

        def again(later: datetime) -> list[Reply]:
            replies = self._answer(message, task, answer, later)
            return [replace(reply, after=reply.after + self.redeliver, redelivered=True) for reply in replies]

        return replace(refusal, again=again)

    def _confirm(
        self, message: Fields, task: TaskScript, answer: ServiceAnswer, now: datetime, *, after: float
    ) -> list[Reply]:
        replies = []
        if message["type"] == DELETE:
            deleted = self._deleted[task.task.task_id]
            deleted.add(message["data"]["image_id"])
            if deleted == {image.image_id for image in task.images}:
                replies.append(Reply(after, self._echo(task, now)))
        confirmation = _confirmation(message, task, answer, now)
        self._done[message["id"]] = confirmation
        self.tally.confirmed += 1
        self.tally.answers[task.task.task_id] += 1
        # Slightly later than the echo, which comes first.
        return [*replies, Reply(after + 0.01 * bool(replies), confirmation)]

    def _echo(self, task: TaskScript, now: datetime) -> SimulatedEvent:
        self.tally.answers[task.task.task_id] += 1
        # Later than all that the script says: it is about the last run of the task.
        at = max(now, *(event.at for event in task.events)) if task.events else now
        return _event("RetrievalFailed", wire.retrieval_failed(task.task, f"{wire.ECHO}: all images deleted"), at)

    def _refusal(self, message: Fields, now: datetime) -> SimulatedEvent:
        data = message["data"]
        self.tally.refused += 1
        self.tally.answers[data["task_id"]] += 1
        self.tally.refusals[data["task_id"]] += 1
        fields = wire.image_deletion_failed(data["task_id"], data["image_id"], data["reason"])
        return _event("ImageDeletionFailed", fields, now)

    def _nameless(self, task: TaskScript, message: Fields, answer: ServiceAnswer, now: datetime) -> SimulatedEvent:
        image = next(image for image in task.images if image.image_id == message["data"]["image_id"])
        task_id = image.own_rollback if answer.voice is Voice.OWN_TASK else task.task.task_id
        self.tally.parked[task_id] += 1
        fields = wire.anonymization_rolled_back(task_id, None, message["data"]["reason"])
        return _event("AnonymizationRolledBack", fields, now)

    def _strange(self, message: Fields, now: datetime) -> list[Reply]:
        data = message["data"]
        if not self.answer_all or "image_id" not in data:
            return []
        began = naming.began(str(data["task_id"]))
        if began is not None and began >= int(self.script.began.timestamp()):
            return []
        self.tally.strangers += 1
        return [Reply(0.1, _plain_confirmation(message, now))]

    def _wrong(self, topic: str, message: Fields, task: TaskScript) -> tuple[str, str] | None:
        """Return what is expected and what was seen, if the command's form or topic is wrong."""
        name, data = message["type"], message["data"]
        if COMMAND_TOPICS[name] != topic:
            return COMMAND_TOPICS[name], f"{name} on topic {topic}"
        if set(message) != SHAPE or set(data) != DATA[name]:
            return "exactly the fields of the contract", f"fields {sorted(message)}, data {sorted(data)}"
        # A command is frozen when it is planned: the saga's correlation id may have become known only later.
        if message["correlation_id"] not in (task.correlation_id, task.task.task_id):
            return f"correlation_id {task.correlation_id}", f"{message['correlation_id']}"
        if not all(map(_is_uuid, (message["id"], data["image_id"], data["task_id"]))):
            return "ids that are UUIDs", f"id {message['id']}, image_id {data['image_id']}"
        if data["image_id"] not in {image.image_id for image in task.images}:
            return "an image of this task", f"image_id {data['image_id']}"
        return None

    def _complain(self, task: TaskScript, message: Fields, expected: str, seen: str) -> list[Reply]:
        command = f"{message['type']} {message.get('id')}"
        self.complaints.append(Complaint(task.task.task_id, command, expected, seen))
        return []


def _read(body: bytes) -> Fields:
    try:
        message = json.loads(body)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


def _event(kind: str, fields: Fields, now: datetime) -> SimulatedEvent:
    return SimulatedEvent(kind, wire.TOPICS[kind], str(uuid4()), now, fields)


def _confirmation(message: Fields, task: TaskScript, answer: ServiceAnswer, now: datetime) -> SimulatedEvent:
    if message["type"] == DELETE or answer.voice is Voice.ROLLED_BACK:
        return _plain_confirmation(message, now)
    data = message["data"]
    image = next(image for image in task.images if image.image_id == data["image_id"])
    if answer.voice is Voice.REVERSED:
        text = f"{wire.REVERSED}: {data['reason']}"
        return _event("AnonymizationFailed", wire.anonymization_failed(task.task, image, text), now)
    fields = wire.anonymization_rolled_back(image.own_rollback, image.image_id, data["reason"])
    return _event("AnonymizationRolledBack", fields, now)


def _plain_confirmation(message: Fields, now: datetime) -> SimulatedEvent:
    data = message["data"]
    task_id, image_id, reason = str(data["task_id"]), str(data["image_id"]), str(data.get("reason", ""))
    if message["type"] == DELETE:
        return _event("ImageDeletionCompleted", wire.image_deletion_completed(task_id, image_id, reason), now)
    return _event("AnonymizationRolledBack", wire.anonymization_rolled_back(task_id, image_id, reason), now)


def _deleted_by_story(script: TaskScript) -> set[str]:
    return {event.fields["image_id"] for event in script.events if event.type == "ImageDeletionCompleted"}


def _difference(first: Fields, again: Fields) -> str:
    keys = sorted(key for key in first.keys() | again.keys() if first.get(key) != again.get(key))
    return "another " + ", ".join(keys)


def _is_uuid(text: object) -> bool:
    try:
        UUID(str(text))
    except ValueError:
        return False
    return True
