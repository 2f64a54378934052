"""The predictor, told small stories: one line of the status table each, and the rules of what is owed."""

from datetime import UTC, datetime, timedelta

import pytest

from devtools.simulator import predictor, wire
from devtools.simulator.answers import Manner, ServiceAnswer
from devtools.simulator.predictor import Expectation
from devtools.simulator.wire import DELETE, ROLLBACK, Fields, Image, SimulatedEvent, Task

TASK = Task("task", "batch", "PACS", "Lima")
ONE, TWO = (Image(f"image-{n}", n, "CT", "usa", f"own-{n}", f"undo-{n}") for n in (1, 2))
BEGAN = datetime(2026, 1, 31, tzinfo=UTC)


def told(*story: tuple[str, Fields], scope: str = "lane", **answers: ServiceAnswer) -> Expectation:
    """Foresee a story; answers are named delete_1, rollback_2 and so on."""
    events = [
        SimulatedEvent(kind, "", f"e{number}", BEGAN + timedelta(seconds=number), fields)
        for number, (kind, fields) in enumerate(story)
    ]
    words = {"delete": DELETE, "rollback": ROLLBACK}
    by_command = {(words[name.split("_")[0]], f"image-{name.split('_')[1]}"): how for name, how in answers.items()}
    return predictor.predict("task", events, by_command, scope)


STARTED = ("RetrievalStarted", wire.retrieval_started(TASK))
BOTH = ("ImagesRetrieved", wire.images_retrieved(TASK, [ONE, TWO]))
FIRST = ("ImagesRetrieved", wire.images_retrieved(TASK, [ONE]))
RETRIEVAL_FAILED = ("RetrievalFailed", wire.retrieval_failed(TASK, "disk"))
ECHO = ("RetrievalFailed", wire.retrieval_failed(TASK, f"{wire.ECHO}: all"))
SILENT = ServiceAnswer(Manner.SILENT)


def result(total: int, failed: int = 0) -> tuple[str, Fields]:
    return "RetrievalCompleted", wire.retrieval_completed(TASK, total, failed)


def anonymized(image: Image) -> tuple[str, Fields]:
    return "AnonymizationCompleted", wire.anonymization_completed(TASK, image)


def not_anonymized(image: Image, message: str = "name in the pixels") -> tuple[str, Fields]:
    return "AnonymizationFailed", wire.anonymization_failed(TASK, image, message)


def processing(kind: str, image: Image | None, task: str = "task") -> tuple[str, Fields]:
    return kind, wire.processing(kind, task, "usa", image)


def processed(image: Image | None, task: str = "task") -> tuple[str, Fields]:
    return processing("ProcessingCompleted", image, task)


@pytest.mark.parametrize(
    ("story", "status"),
    [
        ([STARTED], "STARTED"),
        ([STARTED, BOTH, result(2)], "STARTED"),
        ([STARTED, BOTH, result(2), processed(ONE)], "STARTED"),
        ([STARTED, BOTH, processed(ONE), processed(TWO)], "STARTED"),
        ([STARTED, FIRST, result(2), processed(ONE)], "STARTED"),
        ([STARTED, BOTH, result(2), processed(ONE), processed(TWO)], "COMPLETED"),
        ([STARTED, BOTH, result(3, 1), processed(ONE), processed(TWO)], "COMPLETED"),
        ([STARTED, BOTH, result(2), processed(ONE), not_anonymized(TWO)], "COMPLETED"),
        ([STARTED, result(0)], "COMPLETED"),
        ([STARTED, result(2, 2)], "FAILED"),
        ([STARTED, RETRIEVAL_FAILED], "FAILED"),
        ([STARTED, result(0), ("ImageUploadFailed", wire.image_upload_failed(TASK, 1))], "FAILED"),
        ([STARTED, BOTH, RETRIEVAL_FAILED], "COMPENSATION_SUCCEEDED"),
        ([STARTED, BOTH, result(2), not_anonymized(ONE), not_anonymized(TWO)], "COMPENSATION_SUCCEEDED"),
        ([STARTED, BOTH, not_anonymized(ONE), not_anonymized(TWO)], "COMPENSATION_SUCCEEDED"),
        ([STARTED, BOTH, result(3), not_anonymized(ONE), not_anonymized(TWO)], "STARTED"),
        ([STARTED, BOTH, result(2), processing("ProcessingFailed", None)], "COMPENSATION_SUCCEEDED"),
        ([STARTED, BOTH, result(2), processed(ONE), processed(TWO), ECHO], "COMPLETED"),
        ([STARTED, BOTH, result(2), anonymized(ONE), anonymized(TWO), processed(None)], "COMPLETED"),
        ([STARTED, BOTH, result(2), anonymized(ONE), processed(None)], "STARTED"),
    ],
)
def test_status(story: list[tuple[str, Fields]], status: str) -> None:
    assert told(*story).status == status
    assert told(*reversed(story)).status == status


def test_the_last_result_counts() -> None:
    story = [STARTED, BOTH, result(4), processed(ONE), processed(TWO)]
    assert told(*story).status == "STARTED"
    assert told(*story, result(2)).status == "COMPLETED"


def test_a_silent_service_ends_in_compensation_failed() -> None:
    story = (STARTED, FIRST, result(1), not_anonymized(ONE))
    assert told(*story, delete_1=SILENT).status == "COMPENSATION_FAILED"
    assert told(*story, delete_1=ServiceAnswer(Manner.STUBBORN)).status == "COMPENSATION_FAILED"
    assert told(*story, delete_1=ServiceAnswer(Manner.REFUSE, 2)).status == "COMPENSATION_SUCCEEDED"


def test_a_lane_failed_before_its_anonymization_requires_the_deletion_alone() -> None:
    assert told(STARTED, FIRST, not_anonymized(ONE)).commands == {(DELETE, "image-1"): {"confirmed"}}


@pytest.mark.parametrize(
    "proof",
    [
        anonymized(ONE),
        ("ImageReadyForProcessing", wire.image_ready_for_processing(TASK, ONE)),
        processing("ProcessingStarted", ONE),
        processed(ONE, "own-1"),
    ],
)
def test_a_lane_known_to_be_anonymized_requires_the_rollback_too(proof: tuple[str, Fields]) -> None:
    assert told(STARTED, FIRST, proof, RETRIEVAL_FAILED).commands.keys() == {(ROLLBACK, "image-1"), (DELETE, "image-1")}


def test_a_deletion_waits_for_its_rollback() -> None:
    seen = told(STARTED, FIRST, anonymized(ONE), RETRIEVAL_FAILED, rollback_1=SILENT)
    assert seen.commands == {(ROLLBACK, "image-1"): {"exhausted"}, (DELETE, "image-1"): {"planned", "confirmed"}}
    assert seen.lanes == {"image-1": "undoing"}


def test_an_undo_by_another_party_fails_the_lane_and_is_never_sent() -> None:
    gone = ("ImageDeletionCompleted", wire.image_deletion_completed("task", "image-1", "retention"))
    seen = told(STARTED, FIRST, result(1), processed(ONE), gone, delete_1=SILENT)
    assert seen.commands == {(ROLLBACK, "image-1"): {"confirmed"}, (DELETE, "image-1"): {"confirmed"}}
    assert (seen.status, seen.lanes) == ("COMPENSATION_SUCCEEDED", {"image-1": "undone"})


def test_a_reversal_is_no_failure_but_an_undo() -> None:
    seen = told(STARTED, FIRST, anonymized(ONE), not_anonymized(ONE, f"{wire.REVERSED} por saga"), rollback_1=SILENT)
    assert seen.commands[ROLLBACK, "image-1"] == {"confirmed"}


def test_a_processing_task_of_its_own_finds_the_saga_by_image_or_is_parked() -> None:
    seen = told(STARTED, BOTH, result(2), processed(ONE, "own-1"), processed(None, "own-2"))
    assert seen.lanes == {"image-1": "processed", "image-2": "open"}
    assert (seen.status, seen.parked, seen.events) == ("STARTED", {"own-2": 1}, 4)


def test_a_rollback_that_names_no_image_is_parked_even_under_our_task() -> None:
    seen = told(STARTED, FIRST, ("AnonymizationRolledBack", wire.anonymization_rolled_back("task", None, "done")))
    assert (seen.parked, seen.events) == ({"task": 1}, 2)


def test_where_a_lane_fails_the_saga_all_its_lanes_are_undone() -> None:
    story = [STARTED, BOTH, result(2), processed(ONE), not_anonymized(TWO)]
    assert told(*story).status == "COMPLETED"
    seen = told(*story, scope="saga")
    assert (seen.status, set(seen.lanes.values())) == ("COMPENSATION_SUCCEEDED", {"undone"})


def test_where_a_lane_fails_the_saga_so_does_a_failed_upload() -> None:
    assert told(STARTED, FIRST, result(2, 1), processed(ONE)).status == "COMPLETED"
    assert told(STARTED, FIRST, result(2, 1), processed(ONE), scope="saga").status == "COMPENSATION_SUCCEEDED"
