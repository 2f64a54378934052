"""Predict how a saga must end from the set of its events and the services' answers, independent of their order.

Written from the tables of the design only; imports nothing of the engine that it checks.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from devtools.simulator.answers import ServiceAnswer
from devtools.simulator.wire import DELETE, ECHO, MISSING, REVERSED, ROLLBACK, UNPROCESSED, SimulatedEvent

CommandKey = tuple[str, str]  # the command's name, the image

OWN_TASKS = ("Anonymization", "Processing")
PROVES_ANONYMIZED = ("AnonymizationCompleted", "ImageReadyForProcessing")
OPENING = ("ImagesRetrieved", "ImageReadyForAnonymization")
CONFIRMED = frozenset({"confirmed"})
EXHAUSTED = frozenset({"exhausted"})
# Not released while its lane's rollback is unanswered; but it may have been sent before that rollback was required.
BEHIND_AN_EXHAUSTED = frozenset({"planned", "confirmed"})
BEHIND_AND_UNANSWERED = frozenset({"planned", "exhausted"})


@dataclass(slots=True)
class LaneExpectation:
    """What is known of one image.

    opened: the least time of an event that brought it; None if only others name it. failed_at: when it first failed by
    itself, None if it did not.
    """

    failed: bool = False
    anonymized: bool = False
    processed: bool = False
    undone: set[str] = field(default_factory=set)
    opened: datetime | None = None
    failed_at: datetime | None = None

    def required(self) -> tuple[str, ...]:
        """Return the commands that undo this lane, in order."""
        if not self.failed:
            return ()
        return (ROLLBACK, DELETE) if self.anonymized else (DELETE,)


@dataclass(frozen=True, slots=True)
class Expectation:
    """The expected end of a saga.

    lanes: image → outcome. commands: → the correct statuses. events: number of distinct facts in its history without
    the answers. parked: key → number of events parked under it. runs: how often the task was begun. overtaken: healthy
    images of a restarted task that a command may have deleted which left before the restart was known, if messages are
    delayed for long; their commands may then be confirmed or no longer required.
    """

    status: str
    lanes: Mapping[str, str]
    commands: Mapping[CommandKey, frozenset[str]]
    events: int
    parked: Mapping[str, int]
    runs: int = 1
    overtaken: frozenset[str] = frozenset()


def predict(
    task_id: str,
    events: Iterable[SimulatedEvent],
    answers: Mapping[CommandKey, ServiceAnswer],
    scope: str,
    *,
    silence: bool = False,
) -> Expectation:
    """Predict the end of the saga of `task_id`, after every event has come and every command was answered or not.

    silence: the service under test ends the intake of a task whose images have all ended and that says nothing more.
    """
    mine, parked = route(task_id, events)
    lanes = known_lanes(mine)
    begins = _begins(mine, lanes, scope)
    runs = [[event for event in mine if _run_at(event.at, begins) == run] for run in range(len(begins))]
    run_of = {image: _run_of(lane, begins) for image, lane in lanes.items()}
    for run, of_run in enumerate(runs):
        own = {image: lane for image, lane in lanes.items() if run_of[image] == run}
        _speak_for_all(of_run, own, scope)
    commands = _commands(lanes, answers)
    latest = {image: lane for image, lane in lanes.items() if run_of[image] == len(runs) - 1}
    return Expectation(
        status=_status(runs[-1], latest, commands, scope, silence=silence),
        lanes={image: _outcome(image, lane, commands) for image, lane in lanes.items()},
        commands=commands,
        events=len(mine),
        parked=parked,
        runs=len(runs),
        overtaken=_overtaken(mine, lanes, scope, len(runs)),
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
    return (image,) if image and image != MISSING else ()


def _matches(event: SimulatedEvent, task_id: str, images: set[str]) -> bool:
    if event.fields["task_id"] == task_id:
        return bool(images_of(event)) or not event.type.startswith("Anonymization")
    return event.type.startswith(OWN_TASKS) and not images.isdisjoint(images_of(event))


# --- runs: a task that failed or ended may be started again -----------------------------------------------------------


def _begins(events: list[SimulatedEvent], lanes: Mapping[str, LaneExpectation], scope: str) -> list[datetime | None]:
    """Return when each run begins: at a start whose task had failed, or ended its intake, since the start before it.

    In the scope of the saga, a task also failed if an image of its run did. Silence opens none here: it is dated later
    than any restart of the script.
    """
    begins: list[datetime | None] = [None]
    before: datetime | None = None
    for start in sorted({event.at for event in events if event.type == "RetrievalStarted"}):
        segment = [event for event in events if (before is None or event.at >= before) and event.at < start]
        by_image = scope == "saga" and any(_failed_between(lane, begins[-1], start) for lane in lanes.values())
        if by_image or any(_fails_task(event, scope) or event.type == "RetrievalCompleted" for event in segment):
            begins.append(start)
        before = start
    return begins


def _failed_between(lane: LaneExpectation, begin: datetime | None, start: datetime) -> bool:
    """Return whether an image of the run that began at `begin` failed before the next start."""
    if lane.opened is None or lane.failed_at is None:
        return False
    return (begin is None or begin <= lane.opened) and lane.opened < start and lane.failed_at < start


def _run_at(at: datetime, begins: list[datetime | None]) -> int:
    return sum(begin is None or begin <= at for begin in begins) - 1


def _run_of(lane: LaneExpectation, begins: list[datetime | None]) -> int:
    return len(begins) - 1 if lane.opened is None else _run_at(lane.opened, begins)


def _fails_task(event: SimulatedEvent, scope: str) -> bool:
    if event.type == "RetrievalFailed":
        return not event.fields["error_message"].startswith(ECHO)
    if event.type == "ProcessingFailed":
        return not images_of(event)
    return scope == "saga" and _upload_failed([event])


def _speak_for_all(of_run: list[SimulatedEvent], lanes: Mapping[str, LaneExpectation], scope: str) -> None:
    """Apply what concerns all lanes of a run to them: its failure, and events of Processing that name no image."""
    if any(event.type == "ProcessingCompleted" and _processes(event) and not images_of(event) for event in of_run):
        for lane in lanes.values():
            lane.processed |= lane.anonymized
    if _run_failed(of_run, lanes, scope):
        for lane in lanes.values():
            lane.failed = True


def _run_failed(of_run: list[SimulatedEvent], lanes: Mapping[str, LaneExpectation], scope: str) -> bool:
    by_lane = scope == "saga" and any(lane.failed for lane in lanes.values())
    return by_lane or any(_fails_task(event, scope) for event in of_run)


def _overtaken(
    events: list[SimulatedEvent], lanes: Mapping[str, LaneExpectation], scope: str, runs: int
) -> frozenset[str]:
    by_image = scope == "saga" and any(lane.failed_at is not None for lane in lanes.values())
    if runs == 1 or not (by_image or any(_fails_task(event, "lane") for event in events)):
        return frozenset()
    return frozenset(image for image, lane in lanes.items() if not lane.failed)


# --- lanes ------------------------------------------------------------------------------------------------------------


def known_lanes(events: Iterable[SimulatedEvent]) -> dict[str, LaneExpectation]:
    """Return the lanes that these events open, with their own facts."""
    lanes: dict[str, LaneExpectation] = {}
    for event in events:
        for image in images_of(event):
            _add(lanes.setdefault(image, LaneExpectation()), event)
    return lanes


def _add(lane: LaneExpectation, event: SimulatedEvent) -> None:
    reversal = event.type == "AnonymizationFailed" and event.fields["error_message"].startswith(REVERSED)
    failed = False
    if event.type == "AnonymizationRolledBack" or reversal:
        lane.undone.add(ROLLBACK)
        failed = True
    elif event.type == "ImageDeletionCompleted":
        lane.undone.add(DELETE)
        failed = True
    elif event.type in ("AnonymizationFailed", "ProcessingFailed"):
        failed = True
    elif event.type == "ProcessingCompleted":
        failed = not _processes(event)
        lane.processed |= not failed
    if failed:
        lane.failed = True
        lane.failed_at = event.at if lane.failed_at is None else min(lane.failed_at, event.at)
    if event.type in OPENING and (lane.opened is None or event.at < lane.opened):
        lane.opened = event.at
    lane.anonymized |= event.type in PROVES_ANONYMIZED or event.type.startswith("Processing")


def _processes(event: SimulatedEvent) -> bool:
    return event.fields.get("status") != UNPROCESSED


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
    of_run: list[SimulatedEvent],
    lanes: Mapping[str, LaneExpectation],
    commands: Mapping[CommandKey, frozenset[str]],
    scope: str,
    *,
    silence: bool,
) -> str:
    """Return the status by the facts and lanes of the latest run, and by the commands of all runs."""
    if any(statuses != CONFIRMED for statuses in commands.values()):
        return "COMPENSATION_FAILED"
    announced = _announced(of_run)
    # If no result ever came, Data Retrieval's echo of its last deletion ends the retrieval. It is sent if all images
    # that it knows were deleted, which is the case here if every lane failed: no command of them is open any more.
    all_failed = bool(lanes) and all(lane.failed for lane in lanes.values()) and len(lanes) >= (announced or 0)
    if _run_failed(of_run, lanes, scope) or all_failed:
        return "COMPENSATION_SUCCEEDED" if any(lane.required() for lane in lanes.values()) else "FAILED"
    all_ended = bool(lanes) and all(lane.failed or lane.processed for lane in lanes.values())
    if announced is None and not (silence and all_ended):
        return "STARTED"
    if announced == 0 and not lanes:
        return "FAILED" if _upload_failed(of_run) else "COMPLETED"
    settled = len(lanes) >= (announced or 0) and all_ended
    return "COMPLETED" if settled and any(not lane.failed for lane in lanes.values()) else "STARTED"
