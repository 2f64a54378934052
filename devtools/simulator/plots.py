"""The courses that a task and its images may take: each plot writes the events of one task in order."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from random import Random
from uuid import UUID

from devtools.simulator import wire
from devtools.simulator.wire import Fields, Image, Quirk, SimulatedEvent, Task

LATE = timedelta(seconds=4)
AGAIN = timedelta(seconds=1)  # after the end of a task; well below the silence that ends the intake
# Facts whose time decides something keep their timestamp: which of two results is the last, and what belongs to which
# run of a task.
TIMED = frozenset(
    {
        "RetrievalStarted",
        "RetrievalCompleted",
        "RetrievalFailed",
        "ImagesRetrieved",
        "ImageUploadFailed",
        "ImageReadyForAnonymization",
        "ProcessingCompleted",
        "ProcessingFailed",
    }
)

Step = tuple[str, Fields, str, bool]  # type, fields, topic ("" for the type's own), late


class Course(StrEnum):
    """What happens to one image."""

    PROCESSED = "processed"
    ANONYMIZATION_FAILED = "anonymization_failed"
    PROCESSING_FAILED = "processing_failed"
    LATE_FAILURE = "late_failure"  # processed, then a failure
    LATE_ANONYMIZATION = "late_anonymization"  # failed, then anonymized
    DELETED_ELSEWHERE = "deleted_elsewhere"  # deleted by another system although nothing had failed
    ROLLED_BACK_ELSEWHERE = "rolled_back_elsewhere"
    UNDER_WAY = "under_way"  # stops at any step
    ANONYMIZED = "anonymized"  # ready for processing; the remaining events concern the whole task


FAILING = (
    Course.ANONYMIZATION_FAILED,
    Course.PROCESSING_FAILED,
    Course.LATE_FAILURE,
    Course.LATE_ANONYMIZATION,
    Course.DELETED_ELSEWHERE,
    Course.ROLLED_BACK_ELSEWHERE,
)
# How many steps of a successful image these courses take before they differ; the others take all steps.
GOES = {
    Course.ANONYMIZATION_FAILED: 2,
    Course.LATE_ANONYMIZATION: 2,
    Course.ANONYMIZED: 4,
    Course.PROCESSING_FAILED: 5,
}
# Failures without a deletion by another system, for plots that must not depend on one.
PLAIN_FAILING = FAILING[:4]


@dataclass(slots=True)
class Author:
    """Writes the events of one task.

    ids: source of ids (from the run). rng: source of choices (from the seed). clock: the task's current time.
    """

    task: Task
    images: list[Image]
    ids: Random
    rng: Random
    clock: datetime
    own_task_rate: float = 0.0
    quirk_rate: float = 0.0
    status_rate: float = 0.0
    completes: bool = True  # whether its retrieval reports its end
    wave: int = 0
    events: list[SimulatedEvent] = field(default_factory=list)

    def say(self, kind: str, fields: Fields, *, topic: str = "", late: bool = False) -> None:
        """Write one event and advance the clock."""
        self.clock += timedelta(milliseconds=self.rng.randrange(5, 400))
        at = self.clock + LATE if late else self.clock
        event_id = str(UUID(int=self.ids.getrandbits(128), version=4))
        self.events.append(
            SimulatedEvent(kind, topic or wire.TOPICS[kind], event_id, at, fields, late, self._quirk(kind), self.wave)
        )

    def _quirk(self, kind: str) -> Quirk:
        chance, which = self.rng.random(), self.rng.choice(list(Quirk))
        if chance >= self.quirk_rate or (which is Quirk.TIMELESS and kind in TIMED):
            return Quirk.NONE
        return which

    def retrieve(self) -> None:
        """Write the start of the task and the arrival of its images."""
        self.say("RetrievalStarted", wire.retrieval_started(self.task))
        self.receive_images()

    def receive_images(self) -> None:
        """Write the arrival of the images, in one batch or several."""
        rest = list(self.images)
        while rest:
            size = self.rng.randint(1, len(rest))
            batch, rest = rest[:size], rest[size:]
            self.say("ImagesRetrieved", wire.images_retrieved(self.task, batch))

    def finish_retrieval(self, *, failed: int = 0, more: int = 0) -> None:
        """Write the result of the retrieval, if it reports one.

        failed: failed uploads. more: announced images that do not exist.
        """
        for number in range(failed):
            self.say("ImageUploadFailed", wire.image_upload_failed(self.task, number))
        if not self.completes:
            return
        total = len(self.images) + failed + more
        counts = self.rng.random() < 0.8
        self.say("RetrievalCompleted", wire.retrieval_completed(self.task, total, failed, counts_successes=counts))

    def fail_retrieval(self, *, late: bool = False) -> None:
        self.say("RetrievalFailed", wire.retrieval_failed(self.task, "the archive closed the connection"), late=late)

    def follow(self, image: Image, course: Course) -> None:
        """Write the course of one image. The task's clock is restored, because images are handled in parallel."""
        before = self.clock
        for kind, fields, topic, late in self._steps(image, course):
            self.say(kind, fields, topic=topic, late=late)
        self.clock = before

    def _steps(self, image: Image, course: Course) -> list[Step]:
        road, task_id = self._road(image), self.task.task_id
        failed = wire.anonymization_failed(self.task, image, "the pixels hold a name")
        after_all: list[Step] = [(kind, fields, topic, True) for kind, fields, topic, _ in road[2:4]]
        deleted = wire.image_deletion_completed(task_id, image.image_id, "retention period ended")
        withdrawn = wire.anonymization_rolled_back(image.own_rollback, image.image_id, "consent withdrawn")
        turns: dict[Course, list[Step]] = {
            Course.ANONYMIZATION_FAILED: [("AnonymizationFailed", failed, "", False)],
            Course.LATE_ANONYMIZATION: [
                ("AnonymizationFailed", failed, "", False),
                *after_all[: self.rng.randint(1, 2)],
            ],
            Course.PROCESSING_FAILED: [self._processing("ProcessingFailed", road, late=False)],
            Course.LATE_FAILURE: [self._processing("ProcessingFailed", road, late=True)],
            Course.DELETED_ELSEWHERE: [("ImageDeletionCompleted", deleted, "", True)],
            Course.ROLLED_BACK_ELSEWHERE: [("AnonymizationRolledBack", withdrawn, "", True)],
        }
        goes = self.rng.randint(0, 5) if course is Course.UNDER_WAY else GOES.get(course, len(road))
        return road[:goes] + turns.get(course, [])

    def _road(self, image: Image) -> list[Step]:
        """Return the steps of a successful image."""
        handed_over = wire.image_ready_for_anonymization(self.task, image)
        to_process = wire.image_ready_for_processing(self.task, image)
        road: list[Step] = [
            ("ImageReadyForAnonymization", handed_over, "", False),
            ("AnonymizationRequested", wire.anonymization_requested(self.task, image), "", False),
            ("AnonymizationCompleted", wire.anonymization_completed(self.task, image), "", False),
            ("ImageReadyForProcessing", to_process, "", False),
        ]
        own, nameless = self.rng.random() < 0.5, self.rng.random() < self.own_task_rate
        task_id = image.own_task if own or nameless else self.task.task_id
        for kind in ("ProcessingStarted", "ProcessingCompleted"):
            fields = wire.processing(kind, task_id, image.region, None if nameless else image)
            road.append((kind, fields, self._topic(kind, image.region), False))
        return road

    def _processing(self, kind: str, road: list[Step], *, late: bool) -> Step:
        """Return one more Processing event, with the same ids as the road's last event."""
        last = road[-1][1]
        image = next((image for image in self.images if image.image_id == last.get("image_id")), None)
        # A status alone fails an image, but not a task.
        if kind == "ProcessingFailed" and image and self.status_rate and self.rng.random() < self.status_rate:
            kind = "ProcessingCompleted"
        fields = wire.processing(kind, last["task_id"], last["region"], image, status=wire.UNPROCESSED)
        return kind, fields, self._topic(kind, last["region"]), late

    def _topic(self, kind: str, region: str) -> str:
        return self.rng.choice(wire.processing_topics(kind, region))

    def speak_for_task(self, kind: str, *, late: bool = False) -> None:
        """Write an event of Processing about the whole task: without an image, with the retrieval's task id."""
        region = self.images[0].region
        fields = wire.processing(kind, self.task.task_id, region, None)
        self.say(kind, fields, topic=self._topic(kind, region), late=late)


def start_again(author: Author, images: list[Image]) -> None:
    """A person starts the task again, after everything that happened so far: new images are processed."""
    author.images = images
    author.clock = max(event.at for event in author.events) + AGAIN
    author.wave += 1
    author.say("RetrievalStarted", wire.retrieval_started(author.task))
    author.wave += 1
    author.receive_images()
    for image in author.images:
        author.follow(image, Course.PROCESSED)
    author.finish_retrieval()


def with_missing_ids(author: Author) -> None:
    """The services do not know an id and write "None": no image of that name exists, and no task."""
    image = author.images[-1]
    nowhere = wire.anonymization_completed(author.task, image) | {"image_id": wire.MISSING}
    author.say("AnonymizationCompleted", nowhere)
    by_image = wire.anonymization_requested(author.task, image) | {"task_id": wire.MISSING}
    author.say("AnonymizationRequested", {name: by_image[name] for name in by_image if name != "correlation_id"})


def everything_works(author: Author) -> None:
    """All images are retrieved, anonymized and processed."""
    author.retrieve()
    for image in author.images:
        author.follow(image, Course.PROCESSED)
    author.finish_retrieval()


def processed_as_one(author: Author) -> None:
    """Processing reports the task as a whole, without image ids."""
    author.retrieve()
    for image in author.images:
        author.follow(image, Course.ANONYMIZED)
    author.finish_retrieval()
    author.speak_for_task("ProcessingStarted")
    author.speak_for_task("ProcessingCompleted")


def result_corrected(author: Author) -> None:
    """A first result announces images that never come; a second one corrects it."""
    author.retrieve()
    author.finish_retrieval(more=2)
    for image in author.images:
        author.follow(image, Course.PROCESSED)
    author.finish_retrieval()


def nothing_to_retrieve(author: Author) -> None:
    """The retrieval finds no image, which is not a failure."""
    author.images.clear()
    author.retrieve()
    author.finish_retrieval()


def retrieval_failed_early(author: Author) -> None:
    """The retrieval fails before any image: nothing to undo."""
    author.images.clear()
    author.retrieve()
    author.fail_retrieval()


def retrieval_failed_midway(author: Author) -> None:
    """The retrieval fails while its first images are already being handled."""
    author.retrieve()
    for image in author.images:
        author.follow(image, Course.UNDER_WAY)
    author.fail_retrieval()


def retrieval_failed_at_last(author: Author) -> None:
    """The retrieval fails after its result and after all images were processed."""
    everything_works(author)
    author.fail_retrieval(late=True)


def anonymized_after_all(author: Author) -> None:
    """The task fails while images are being anonymized; images that are completed later are rolled back."""
    author.retrieve()
    for image in author.images:
        author.follow(image, Course.UNDER_WAY)
    author.fail_retrieval()
    for image in author.images:
        author.say("AnonymizationCompleted", wire.anonymization_completed(author.task, image), late=True)


def uploads_failed(author: Author) -> None:
    """Some uploads fail; the other images are processed."""
    author.retrieve()
    for image in author.images:
        author.follow(image, Course.PROCESSED)
    author.finish_retrieval(failed=author.rng.randint(1, 2))


def no_upload_worked(author: Author) -> None:
    """All uploads fail."""
    failed = max(1, len(author.images))
    author.images.clear()
    author.retrieve()
    author.finish_retrieval(failed=failed)


def task_failed_in_processing(author: Author) -> None:
    """Processing reports that the whole task has failed."""
    author.retrieve()
    for image in author.images:
        author.follow(image, author.rng.choice((Course.ANONYMIZED, Course.PROCESSED, Course.UNDER_WAY)))
    author.finish_retrieval()
    author.speak_for_task("ProcessingFailed", late=author.rng.random() < 0.5)


def some_images_failed(author: Author) -> None:
    """At least one image fails in some way; the others are processed."""
    author.retrieve()
    unlucky = author.rng.randrange(len(author.images))
    for number, image in enumerate(author.images):
        fails = number == unlucky or author.rng.random() < 0.3
        author.follow(image, author.rng.choice(FAILING) if fails else Course.PROCESSED)
    author.finish_retrieval()


def all_images_failed(author: Author) -> None:
    """Every image fails separately."""
    author.retrieve()
    for image in author.images:
        author.follow(image, author.rng.choice(FAILING))
    author.finish_retrieval()


def all_failed_without_result(author: Author) -> None:
    """Every image fails, and the retrieval's result never comes: only the echo of the last deletion ends the saga."""
    author.retrieve()
    for image in author.images:
        author.follow(image, author.rng.choice(PLAIN_FAILING))


@dataclass(frozen=True, slots=True)
class Plot:
    """A course of a task.

    weight: relative frequency among the plots of its kind. images: the minimum that it needs. by_result: whether only
    the retrieval's own report can end it.
    """

    write: Callable[[Author], None]
    weight: int
    images: int = 1
    by_result: bool = False

    @property
    def name(self) -> str:
        return self.write.__name__


HEALTHY = (
    Plot(everything_works, 14),
    Plot(processed_as_one, 3),
    Plot(result_corrected, 2, by_result=True),
    Plot(nothing_to_retrieve, 1, images=0, by_result=True),
)
TROUBLED = (
    Plot(some_images_failed, 8),
    Plot(all_images_failed, 3),
    Plot(all_failed_without_result, 2),
    Plot(retrieval_failed_early, 2, images=0),
    Plot(retrieval_failed_midway, 3),
    Plot(retrieval_failed_at_last, 2),
    Plot(anonymized_after_all, 2),
    Plot(uploads_failed, 3),
    Plot(no_upload_worked, 1, images=0, by_result=True),
    Plot(task_failed_in_processing, 3),
)
PLOTS: Mapping[str, Plot] = {plot.name: plot for plot in (*HEALTHY, *TROUBLED)}


def choose(images: int, *, fails: bool, completes: bool = True, rng: Random) -> Plot:
    """Choose a plot for a task with this number of images. completes: whether its retrieval reports its end."""
    kind = TROUBLED if fails else HEALTHY
    fitting = [plot for plot in kind if plot.images <= images and (completes or not plot.by_result)]
    if not fitting:  # nothing but the result could end a task without images
        fitting = [plot for plot in kind if plot.images <= images]
    return rng.choices(fitting, [plot.weight for plot in fitting])[0]


def without_start(events: list[SimulatedEvent]) -> list[SimulatedEvent]:
    """Return the events without the task's start, none of them late."""
    return [replace(event, late=False) for event in events if event.type != "RetrievalStarted"]
