"""Predict how a saga must end from the set of its events and the services' answers, independent of their order.

Written from the tables of the design only; imports nothing of the engine that it checks.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from devtools.simulator.answers import ServiceAnswer
from devtools.simulator.wire import DELETE, ECHO, REVERSED, ROLLBACK, SimulatedEvent

CommandKey = tuple[str, str]  # the command's name, the image

OWN_TASKS = ("Anonymization", "Processing")
PROVES_ANONYMIZED = ("AnonymizationCompleted", "ImageReadyForProcessing")
CONFIRMED = frozenset({"confirmed"})
EXHAUSTED = frozenset({"exhausted"})
# Not released while its lane's rollback is unanswered; but it may have been sent before that rollback was required.
BEHIND_AN_EXHAUSTED = frozenset({"planned", "confirmed"})
BEHIND_AND_UNANSWERED = frozenset({"planned", "exhausted"})


@dataclass(slots=True)
class LaneExpectation:
    """What is known of one image."""

    failed: bool = False
    anonymized: bool = False
    processed: bool = False
    undone: set[str] = field(default_factory=set)

    def required(self) -> tuple[str, ...]:
        """Return the commands that undo this lane, in order."""
        if not self.failed:
            return ()
        return (ROLLBACK, DELETE) if self.anonymized else (DELETE,)


@dataclass(frozen=True, slots=True)
class Expectation:
    """The expected end of a saga.

    lanes: image → outcome. commands: → the correct statuses. events: number of distinct facts in its history without
    the answers. parked: key → number of events parked under it.
    """

    status: str
    lanes: Mapping[str, str]
    commands: Mapping[CommandKey, frozenset[str]]
    events: int
    parked: Mapping[str, int]


def predict(
    task_id: str, events: Iterable[SimulatedEvent], answers: Mapping[CommandKey, ServiceAnswer], scope: str
) -> Expectation:
    """Predict the end of the saga of `task_id`, after every event has come and every command was answered or not."""
    mine, parked = route(task_id, events)
    lanes = known_lanes(mine)
    saga_failed = _saga_failed(mine, lanes, scope)
    for lane in lanes.values():
        lane.failed |= saga_failed
    commands = _commands(lanes, answers)
    return Expectation(
        status=_status(mine, lanes, commands, saga_failed=saga_failed),
        lanes={image: _outcome(image, lane, commands) for image, lane in lanes.items()},
        commands=commands,
        events=len(mine),
        parked=parked,
    )


def route(task_id: str, events: Iterable[SimulatedEvent]) -> tuple[list[SimulatedEvent], dict[str, int]]:
    """Separate the events that belong to the saga from the unmatched ones, which are counted by their key."""
    all_events = list(events)
    named = [event for event in all_events if event.fields["task_id"] == task_id]
    images = {image for event in named for image in images_of(event)}
    mine, parked = [], Counter[str]()
    for event in all_events:
        if _matches(event, task_id, images):
            mine.append(event)
        else:
            parked[event.fields["task_id"]] += 1
    return mine, dict(parked)


def images_of(event: SimulatedEvent) -> tuple[str, ...]:
    """Return the images that an event names."""
    if event.type == "ImagesRetrieved":
        return tuple(event.fields["image_ids"])
    image = event.fields.get("image_id")
    return (image,) if image else ()


def _matches(event: SimulatedEvent, task_id: str, images: set[str]) -> bool:
    if event.fields["task_id"] == task_id:
        return bool(images_of(event)) or not event.type.startswith("Anonymization")
    return event.type.startswith(OWN_TASKS) and not images.isdisjoint(images_of(event))


def known_lanes(events: Iterable[SimulatedEvent]) -> dict[str, LaneExpectation]:
    """Return the lanes that these events open, with their facts."""
    lanes: dict[str, LaneExpectation] = {}
    all_processed = False
    for event in events:
        for image in images_of(event):
            _add(lanes.setdefault(image, LaneExpectation()), event)
        all_processed |= event.type == "ProcessingCompleted" and not images_of(event)
    for lane in lanes.values():
        lane.processed |= all_processed and lane.anonymized
    return lanes


def _add(lane: LaneExpectation, event: SimulatedEvent) -> None:
    reversal = event.type == "AnonymizationFailed" and event.fields["error_message"].startswith(REVERSED)
    if event.type == "AnonymizationRolledBack" or reversal:
        lane.undone.add(ROLLBACK)
    elif event.type == "ImageDeletionCompleted":
        lane.undone.add(DELETE)
    elif event.type in ("AnonymizationFailed", "ProcessingFailed"):
        lane.failed = True
    lane.failed |= bool(lane.undone)
    lane.anonymized |= event.type in PROVES_ANONYMIZED or event.type.startswith("Processing")
    lane.processed |= event.type == "ProcessingCompleted"


def _saga_failed(events: list[SimulatedEvent], lanes: Mapping[str, LaneExpectation], scope: str) -> bool:
    for event in events:
        if event.type == "RetrievalFailed" and not event.fields["error_message"].startswith(ECHO):
            return True
        if event.type == "ProcessingFailed" and not images_of(event):
            return True
    if scope == "saga":
        return _upload_failed(events) or any(lane.failed for lane in lanes.values())
    return False


def _upload_failed(events: list[SimulatedEvent]) -> bool:
    if any(event.type == "ImageUploadFailed" for event in events):
        return True
    return any(event.fields["result"]["failed_images"] > 0 for event in events if event.type == "RetrievalCompleted")


def _announced(events: list[SimulatedEvent]) -> int | None:
    """Return how many images the last result announces, or None if there is no result."""
    results = [event for event in events if event.type == "RetrievalCompleted"]
    if not results:
        return None
    result = max(results, key=lambda event: (event.at, event.event_id)).fields["result"]
    count: int = result.get("successful_images", result["total_images"] - result["failed_images"])
    return count


def _commands(
    lanes: Mapping[str, LaneExpectation], answers: Mapping[CommandKey, ServiceAnswer]
) -> dict[CommandKey, frozenset[str]]:
    commands: dict[CommandKey, frozenset[str]] = {}
    for image, lane in lanes.items():
        for name in lane.required():
            undoes = name in lane.undone or answers.get((name, image), ServiceAnswer()).undoes
            blocked = commands.get((ROLLBACK, image)) == EXHAUSTED and name not in lane.undone
            if blocked:
                commands[name, image] = BEHIND_AN_EXHAUSTED if undoes else BEHIND_AND_UNANSWERED
            else:
                commands[name, image] = CONFIRMED if undoes else EXHAUSTED
    return commands


def _outcome(image: str, lane: LaneExpectation, commands: Mapping[CommandKey, frozenset[str]]) -> str:
    if not lane.failed:
        return "processed" if lane.processed else "open"
    return "undone" if all(commands[name, image] == CONFIRMED for name in lane.required()) else "undoing"


def _status(
    events: list[SimulatedEvent],
    lanes: Mapping[str, LaneExpectation],
    commands: Mapping[CommandKey, frozenset[str]],
    *,
    saga_failed: bool,
) -> str:
    if any(statuses != CONFIRMED for statuses in commands.values()):
        return "COMPENSATION_FAILED"
    announced = _announced(events)
    # If no result ever came, Data Retrieval's echo of its last deletion ends the retrieval. It is sent if all images
    # that it knows were deleted, which is the case here if every lane failed: no command of them is open any more.
    all_failed = bool(lanes) and all(lane.failed for lane in lanes.values()) and len(lanes) >= (announced or 0)
    if saga_failed or all_failed:
        return "COMPENSATION_SUCCEEDED" if commands else "FAILED"
    if announced is None:
        return "STARTED"
    if announced == 0 and not lanes:
        return "FAILED" if _upload_failed(events) else "COMPLETED"
    settled = len(lanes) >= announced and all(lane.failed or lane.processed for lane in lanes.values())
    return "COMPLETED" if settled and any(not lane.failed for lane in lanes.values()) else "STARTED"
