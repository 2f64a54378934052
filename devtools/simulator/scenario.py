"""Write the script of a run: for each task its images, its events, the answers to our commands, and the expected end.

Pure: the same options and the same run give exactly the same script. The seed determines what happens (which images
fail, when, and how commands are answered); the run determines the ids and times.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from random import Random
from uuid import UUID

from devtools.simulator import answers, naming, options, plots, predictor
from devtools.simulator.answers import ServiceAnswer
from devtools.simulator.naming import dice
from devtools.simulator.options import Options
from devtools.simulator.predictor import CommandKey, Expectation
from devtools.simulator.wire import COMMAND_TOPICS, Image, SimulatedEvent, Task

ORPHAN = "never_started"
# What the screen says of a task besides its plot.
STARTED_AGAIN, WITHOUT_RESULT = ", started_again", ", no_end_reported"
LONGEST_SPAN = 600.0  # seconds of simulated time over which the starts of the tasks are spread
PLACES = (("HOSPITAL-NORTE", "Lima"), ("CLINICA-ANDES", "Quito"), ("IMAGING-CENTER", "Houston"))
MODALITIES = ("CT", "MR", "XR", "US")


@dataclass(frozen=True, slots=True)
class TaskScript:
    """One task. `expected` is None if no saga may result; `parked`: number of parked events by key."""

    number: int
    plot: str
    task: Task
    images: tuple[Image, ...]
    begins: datetime
    events: tuple[SimulatedEvent, ...]
    answers: Mapping[CommandKey, ServiceAnswer]
    expected: Expectation | None
    parked: Mapping[str, int]

    @property
    def correlation_id(self) -> str:
        """The expected correlation id of the saga: that of its events, else the task id."""
        return self.task.correlation_id or self.task.task_id


@dataclass(frozen=True)
class Script:
    """All tasks of a run, in the order in which they begin."""

    run: str
    began: datetime
    tasks: tuple[TaskScript, ...]

    @cached_property
    def by_task(self) -> Mapping[str, TaskScript]:
        """The tasks by id."""
        return {script.task.task_id: script for script in self.tasks}

    @property
    def sagas(self) -> list[TaskScript]:
        """The tasks for which a saga must result."""
        return [script for script in self.tasks if script.expected is not None]

    def foreseen(self) -> dict[str, int]:
        """Return how many sagas must end in each status."""
        return dict(Counter(script.expected.status for script in self.tasks if script.expected is not None))


def write_script(given: Options, run: str) -> Script:
    """Write the script of a run. Raises OptionError if `run` is not the name of a run."""
    began = options.started_at(run)
    gap = min(0.1, LONGEST_SPAN / max(1, given.sagas + given.orphans))
    tasks = []
    for number in range(given.sagas + given.orphans):
        begins = began + timedelta(seconds=number * gap)
        tasks.append(_write_task(given, run, began, begins, number))
    return Script(run, began, tuple(tasks))


def _write_task(given: Options, run: str, began: datetime, begins: datetime, number: int) -> TaskScript:
    ids, rng = dice(f"{run}/{number}"), dice(f"{given.seed}/{number}")
    orphan = number >= given.sagas
    author = _author(given, began, begins, ids, rng)
    images = tuple(author.images)
    platform = dice(f"{given.seed}/{number}/platform")
    author.completes = platform.random() < given.complete_rate
    fails = rng.random() < given.failure_rate
    plot = plots.choose(len(images), fails=fails, completes=author.completes, rng=rng)
    plot.write(author)
    if not orphan and author.images and platform.random() < given.none_rate:
        plots.with_missing_ids(author)
    restarts = not orphan and platform.random() < given.restart_rate
    if restarts:
        again = [_image(given, len(images) + more, ids, platform) for more in range(platform.randint(1, 3))]
        plots.start_again(author, again)
        images = (*images, *again)
    events = plots.without_start(author.events) if orphan else author.events
    chosen_answers = _answers(given, images, dice(f"{given.seed}/{number}/answers"))
    task_id = author.task.task_id
    expected = (
        None
        if orphan
        else predictor.predict(task_id, events, chosen_answers, given.failure_scope, silence=given.intake_silence > 0)
    )
    waiting = expected.parked if expected else Counter(event.fields["task_id"] for event in events)
    return TaskScript(
        number=number,
        plot=ORPHAN if orphan else plot.name + STARTED_AGAIN * restarts + WITHOUT_RESULT * (not author.completes),
        task=author.task,
        images=images,
        begins=begins,
        events=tuple(sorted(events, key=lambda event: event.at)),
        answers=chosen_answers,
        expected=expected,
        parked=dict(waiting),
    )


def _author(given: Options, began: datetime, begins: datetime, ids: Random, rng: Random) -> plots.Author:
    source, location = rng.choice(PLACES)
    task = Task(
        task_id=naming.task_id(began, ids),
        batch_id=_uuid(ids),
        source=source,
        location=location,
        correlation_id=f"order-{_uuid(ids)[:13]}" if rng.random() < 0.1 else "",
    )
    images = [_image(given, number, ids, rng) for number in range(rng.randint(*given.images))]
    return plots.Author(task, images, ids, rng, begins, given.own_task_rate, given.quirk_rate, given.status_rate)


def _image(given: Options, number: int, ids: Random, rng: Random) -> Image:
    return Image(
        image_id=_uuid(ids),
        number=number,
        modality=rng.choice(MODALITIES),
        region=rng.choice(given.regions),
        own_task=_uuid(ids),
        own_rollback=_uuid(ids),
    )


def _answers(given: Options, images: tuple[Image, ...], rng: Random) -> dict[CommandKey, ServiceAnswer]:
    return {
        (command, image.image_id): answers.choose(command, given, rng) for image in images for command in COMMAND_TOPICS
    }


def _uuid(ids: Random) -> str:
    return str(UUID(int=ids.getrandbits(128), version=4))
