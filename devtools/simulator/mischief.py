"""Disturb the messages of a run: shuffle, repeat and delay them, and add unreadable ones.

Unreadable messages are made from real events, so that a bridge which accepts one changes a saga and is detected.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from random import Random
from uuid import UUID

from devtools.simulator.naming import dice
from devtools.simulator.options import Options
from devtools.simulator.scenario import Script, TaskScript
from devtools.simulator.wire import TOPICS, Fields, Quirk, SimulatedEvent, encode, timestamp

TOO_LARGE = 1_100_000  # bytes; the bridge's limit is 1 MiB


class Kind(StrEnum):
    """The kind of a message, for counting."""

    EVENT = "event"
    DUPLICATE = "duplicate"
    GARBAGE = "garbage"


@dataclass(frozen=True, slots=True)
class Sending:
    """One message to send. `late`: sent after everything that is not late."""

    position: float
    late: bool
    kind: Kind
    event: SimulatedEvent
    spoil: Callable[[SimulatedEvent, Random], bytes] | None = None

    @property
    def part(self) -> tuple[int, bool]:
        """The part of the run in which it is sent; there is a pause between two parts."""
        return self.event.wave, self.late

    def body(self) -> bytes:
        """Return the bytes; the same ones each time."""
        if self.spoil is None:
            return self.event.body()
        return self.spoil(self.event, dice(self.event.event_id))


def order(script: Script, options: Options) -> list[Sending]:
    """Return every message of a run in the order in which it is sent."""
    sendings = [sending for task in script.tasks for sending in _of_task(script, task, options)]
    sendings += _garbage(sendings, script, options)
    sendings.sort(key=lambda sending: (sending.part, sending.position))
    return sendings


def _of_task(script: Script, task: TaskScript, options: Options) -> Iterator[Sending]:
    rng = dice(f"{options.seed}/{task.number}/mischief")
    positions = [(event.at - script.began).total_seconds() for event in task.events]
    if options.shuffle:
        rng.shuffle(positions)
    for event, position in zip(task.events, positions, strict=True):
        late = event.late or rng.random() < options.delay_rate
        yield Sending(position, late, Kind.EVENT, event)
        # A message without an id is identified by its position on the topic: sent twice, it is two events.
        if rng.random() < options.duplicate_rate and event.quirk is not Quirk.NAMELESS:
            yield Sending(position + rng.expovariate(1), late or rng.random() < 0.2, Kind.DUPLICATE, event)


def _garbage(sendings: list[Sending], script: Script, options: Options) -> list[Sending]:
    rng, ids = dice(f"{options.seed}/garbage"), dice(f"{script.run}/garbage")
    repeated = {sending.event.event_id for sending in sendings if sending.kind is Kind.DUPLICATE}
    count = round(len(sendings) * options.garbage_rate)
    made = []
    for number in range(count):
        model = rng.choice(sendings)
        spoil = rng.choice(SPOILERS) if number % 100 else too_large
        # Of two messages with one id the first is kept: a repetition of the other would be one more in quarantine.
        if spoil is twin and (model.event.event_id in repeated or model.event.quirk is Quirk.NAMELESS):
            spoil = not_json
        repeated.add(model.event.event_id)
        event_id = model.event.event_id if spoil is twin else str(UUID(int=ids.getrandbits(128), version=4))
        event = replace(model.event, event_id=event_id)
        made.append(Sending(model.position + rng.expovariate(0.5), model.late, Kind.GARBAGE, event, spoil))
    return made


def _plain(event: SimulatedEvent) -> Fields:
    """Return the message as an object with all fields that an envelope can have."""
    message: Fields = json.loads(replace(event, quirk=Quirk.NONE).body())
    return message | {"type": event.type}


def not_json(event: SimulatedEvent, rng: Random) -> bytes:
    body = event.body()
    return body[: rng.randrange(1, len(body) - 1)]


def not_text(event: SimulatedEvent, rng: Random) -> bytes:
    return b'{"id":"\xff\xfe' + event.body()


def not_an_object(event: SimulatedEvent, rng: Random) -> bytes:
    return b"[" + event.body() + b"]"


def empty(event: SimulatedEvent, rng: Random) -> bytes:
    return b""


def no_ids(event: SimulatedEvent, rng: Random) -> bytes:
    message = _plain(event)
    return encode({key: value for key, value in message.items() if key not in ("task_id", "image_id")})


def bad_id(event: SimulatedEvent, rng: Random) -> bytes:
    return encode(_plain(event) | {"task_id": rng.choice(["x" * 201, 12, ["a"], "a\tb"])})


def nul(event: SimulatedEvent, rng: Random) -> bytes:
    return encode(_plain(event) | {"note": "a\0b"})


def half_a_character(event: SimulatedEvent, rng: Random) -> bytes:
    return event.body()[:-1] + b',"note":"\\ud800"}'


def not_a_number(event: SimulatedEvent, rng: Random) -> bytes:
    return event.body()[:-1] + b',"note":NaN}'


def bad_time(event: SimulatedEvent, rng: Random) -> bytes:
    ahead, behind = event.at + timedelta(days=3), event.at.replace(year=1999, month=1, day=1)
    return encode(_plain(event) | {"timestamp": rng.choice([timestamp(ahead), timestamp(behind), "yesterday", 17])})


def unknown_type(event: SimulatedEvent, rng: Random) -> bytes:
    return encode(_plain(event) | {"type": rng.choice(["ImageRetrieved", "retrievalstarted", "SagaEnded"])})


def wrong_topic(event: SimulatedEvent, rng: Random) -> bytes:
    """Return an event of another service on the topic of this one."""
    others = [name for name in TOPICS if name != event.type]
    return encode(_plain(event) | {"type": rng.choice(others)})


def bad_field(event: SimulatedEvent, rng: Random) -> bytes:
    wrong: Fields = rng.choice(
        [
            {"type": "ImagesRetrieved", "image_ids": "all of them"},
            {"type": "ImagesRetrieved", "image_ids": ["a", 5]},
            {"type": "RetrievalCompleted", "result": "done"},
            {"type": "RetrievalCompleted", "result": {"total_images": "three"}},
            {"type": "RetrievalFailed", "error_message": {"code": 5}},
        ]
    )
    return encode(_plain(event) | wrong)


def deep(event: SimulatedEvent, rng: Random) -> bytes:
    return event.body()[:-1] + b',"note":' + b"[" * 3000 + b"]" * 3000 + b"}"


def twin(event: SimulatedEvent, rng: Random) -> bytes:
    """Return the same id with different content of the same meaning: whichever is kept, the saga ends the same."""
    return replace(event, fields={**event.fields, "note": "altered"}).body()


def too_large(event: SimulatedEvent, rng: Random) -> bytes:
    return encode(_plain(event) | {"note": "x" * TOO_LARGE})


SPOILERS = (
    not_json,
    not_text,
    not_an_object,
    empty,
    no_ids,
    bad_id,
    nul,
    half_a_character,
    not_a_number,
    bad_time,
    unknown_type,
    wrong_topic,
    bad_field,
    deep,
    twin,
)
