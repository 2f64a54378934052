"""The messages of a measurement: sagas as the three services tell them, in the order in which they are published."""

import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from devtools.simulator import wire
from devtools.simulator.wire import Image, Task

# Stands in a body for the time at which it is published, where latency is measured.
NOW = b"@now-with-26-letters-here@"
ONE_IN_TEN = 10


@dataclass(slots=True)
class Load:
    """Messages as (short topic, body). `events` counts those that differ, `sagas` those that start."""

    messages: list[tuple[str, bytes]] = field(default_factory=list)
    events: int = 0
    sagas: int = 0

    @property
    def topics(self) -> list[str]:
        return sorted({topic for topic, _ in self.messages})


class Teller:
    """One saga, told message by message. `stamped`: each message says when it was published, not when it was made."""

    def __init__(self, images: int, *, fails: bool = False, stamped: bool = False) -> None:
        self._stamped = stamped
        self._fails = fails
        self.task = Task(_id(), _id(), "hospital-central", "bogota")
        self.images = [
            Image(_id(), number, "CT", "CHEST", own_task=_id(), own_rollback=_id()) for number in range(images)
        ]

    def whole(self) -> Iterator[tuple[str, bytes]]:
        """The saga from its start to its end: 2 + 5 × images + 1 messages."""
        yield from self.begins()
        for image in self.images:
            yield from self.image(image)
        yield self.completed()

    def begins(self) -> Iterator[tuple[str, bytes]]:
        yield self.message("RetrievalStarted", wire.retrieval_started(self.task))
        yield self.message("ImagesRetrieved", wire.images_retrieved(self.task, self.images))

    def image(self, image: Image) -> Iterator[tuple[str, bytes]]:
        yield from self.anonymized(image)
        yield self.message("ImageReadyForProcessing", wire.image_ready_for_processing(self.task, image))
        failed = self._fails and image.number == 0
        yield self.processed("ProcessingFailed" if failed else "ProcessingCompleted", image)

    def anonymized(self, image: Image) -> Iterator[tuple[str, bytes]]:
        ready = wire.image_ready_for_anonymization(self.task, image)
        yield self.message("ImageReadyForAnonymization", ready)
        yield self.message("AnonymizationRequested", wire.anonymization_requested(self.task, image))
        yield self.message("AnonymizationCompleted", wire.anonymization_completed(self.task, image))

    def processed(self, kind: str, image: Image) -> tuple[str, bytes]:
        return self.message(kind, wire.processing(kind, self.task.task_id, "usa", image))

    def completed(self) -> tuple[str, bytes]:
        return self.message("RetrievalCompleted", wire.retrieval_completed(self.task, len(self.images), 0))

    def retrieval_fails(self) -> tuple[str, bytes]:
        return self.message("RetrievalFailed", wire.retrieval_failed(self.task, "the archive closed the association"))

    def message(self, kind: str, fields: wire.Fields) -> tuple[str, bytes]:
        topic = wire.TOPICS[kind]
        when = NOW.decode() if self._stamped else wire.timestamp(_recently())
        return topic, wire.encode({"id": _id(), "timestamp": when, "type": kind, **fields})


def ordered(sagas: int, images: int, *, stamped: bool = False) -> Load:
    """Saga after saga; one in ten fails in one of its images."""
    tellers = _tellers(sagas, images, stamped=stamped)
    return _load([message for teller in tellers for message in teller.whole()], sagas)


def in_flight(sagas: int, images: int) -> Load:
    """All sagas at once: the first message of each, then the second of each, and so on."""
    stories = [list(teller.whole()) for teller in _tellers(sagas, images)]
    return _load([message for messages in zip(*stories, strict=True) for message in messages], sagas)


def at_once(sagas: int, images: int, in_all: int) -> Load:
    """About `in_all` sagas, never more than `sagas` of them at a time: one wave after the other."""
    waves = [in_flight(sagas, images) for _ in range(max(1, round(in_all / sagas)))]
    return _load([message for wave in waves for message in wave.messages], sagas * len(waves))


def mixed(sagas: int, images: int, seed: int) -> Load:
    """Everything shuffled, one in ten doubled, and half of the sagas start last, so that their events are parked."""
    chance = random.Random(seed)
    load = ordered(sagas, images)
    first = wire.TOPICS["RetrievalStarted"]
    starts = [message for message in load.messages if message[0] == first]
    late = set(chance.sample(range(sagas), sagas // 2))
    early = [message for number, message in enumerate(starts) if number not in late]
    rest = [message for message in load.messages if message[0] != first]
    messages = early + rest + chance.sample(rest, len(load.messages) // 10)
    chance.shuffle(messages)
    load.messages = messages + [starts[number] for number in sorted(late)]
    return load


def undoable(sagas: int, images: int) -> tuple[Load, Load]:
    """Sagas whose images are all anonymized, and the messages that fail each of them: (before, failures)."""
    tellers = [Teller(images) for _ in range(sagas)]
    before = [message for teller in tellers for message in (*teller.begins(), *_anonymized(teller))]
    return _load(before, sagas), _load([teller.retrieval_fails() for teller in tellers], 0)


def _anonymized(teller: Teller) -> Iterator[tuple[str, bytes]]:
    for image in teller.images:
        yield from teller.anonymized(image)


def _tellers(sagas: int, images: int, *, stamped: bool = False) -> list[Teller]:
    return [Teller(images, fails=number % ONE_IN_TEN == 0, stamped=stamped) for number in range(sagas)]


def _load(messages: list[tuple[str, bytes]], sagas: int) -> Load:
    return Load(messages, len(messages), sagas)


def _id() -> str:
    return str(uuid.uuid4())


def _recently() -> datetime:
    return datetime.now(UTC) - timedelta(seconds=1)
