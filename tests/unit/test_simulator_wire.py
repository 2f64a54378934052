"""What the simulator puts on the wire, held against the table of the wire contract and against the bridge's codec."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from random import Random

import pytest

from bridge.codec import Codec
from bridge.envelope import Envelope, Message, Rejected
from devtools.simulator import mischief, scenario, wire
from devtools.simulator.mischief import Kind, Sending
from devtools.simulator.options import Options, started_at
from devtools.simulator.scenario import Script
from devtools.simulator.wire import Quirk, SimulatedEvent
from sagaproject.composition import bridge_catalog

RUN = "20260131T154500-a1b2c3"
OPTIONS = Options(
    sagas=400,
    images=(0, 4),
    failure_rate=0.7,
    duplicate_rate=0.1,
    shuffle=True,
    garbage_rate=0.2,
    quirk_rate=0.3,
    own_task_rate=0.1,
    seed=3,
)

# The table of the wire contract: fields besides id, timestamp and type; those after | only in some producers.
TABLE = {
    "RetrievalStarted": "task_id batch_id source_metadata | correlation_id",
    "RetrievalCompleted": "task_id source location result | correlation_id",
    "RetrievalFailed": "task_id error_message source | correlation_id",
    "ImagesRetrieved": "task_id source number_of_images batch_id image_ids | correlation_id",
    "ImageUploadFailed": "task_id filename error_message source format modality region stack_trace | correlation_id",
    "ImageReadyForAnonymization": "image_id task_id source modality region file_path | correlation_id",
    "AnonymizationRequested": (
        "image_id task_id image_type source modality region file_path destination_service | correlation_id"
    ),
    "AnonymizationCompleted": "image_id task_id image_type result_file_path processing_time_ms |",
    "AnonymizationFailed": "image_id task_id image_type error_message |",
    "ImageReadyForProcessing": (
        "image_id task_id image_type anonymized_file_path original_file_path source modality region |"
    ),
    "AnonymizationRolledBack": "task_id image_id reason |",
    "ProcessingStarted": "task_id image_type region | image_id",
    "ProcessingCompleted": "task_id status message region | image_id",
    "ProcessingFailed": "task_id error_message region | image_id",
    "ImageDeletionCompleted": "image_id task_id reason |",
    "ImageDeletionFailed": "image_id task_id error_message reason |",
}
PROCESSING_TOPICS = {
    "ProcessingStarted": "processing-started usa-processing-started latam-processing-started processing.usa.started "
    "processing.latam.started",
    "ProcessingCompleted": "image-processed usa-processing-completed latam-processing-completed "
    "processing.usa.completed processing.latam.completed",
    "ProcessingFailed": "processing-failed usa-processing-failed latam-processing-failed processing.usa.failed "
    "processing.latam.failed",
}


@pytest.fixture(scope="module")
def script() -> Script:
    return scenario.write_script(OPTIONS, RUN)


@pytest.fixture(scope="module")
def sendings(script: Script) -> list[Sending]:
    return mischief.order(script, OPTIONS)


def events_of(script: Script) -> Iterator[SimulatedEvent]:
    return (event for task in script.tasks for event in task.events)


def decode(topic: str, body: bytes) -> Envelope | Rejected:
    now = started_at(RUN) + timedelta(minutes=5)
    message = Message(topic, topic, "1:2:-1:0", int(now.timestamp() * 1000), body, {})
    return codec().decode(message, now)


@cache
def codec() -> Codec:
    """Made once: it compares every topic with every other."""
    return Codec(bridge_catalog(), 1_048_576)


def test_every_event_has_the_fields_of_the_contract(script: Script) -> None:
    seen = set()
    for event in events_of(script):
        always, _, sometimes = TABLE[event.type].partition("|")
        fields = set(event.fields)
        assert set(always.split()) <= fields <= {*always.split(), *sometimes.split()}, event.type
        seen.add(event.type)
    assert seen == set(TABLE) - {"ImageDeletionFailed"}  # that one is an answer only


def test_every_event_goes_to_a_topic_of_the_contract(script: Script) -> None:
    seen: dict[str, set[str]] = {kind: set() for kind in PROCESSING_TOPICS}
    for event in events_of(script):
        if event.type in PROCESSING_TOPICS:
            seen[event.type].add(event.topic)
        else:
            assert event.topic == wire.TOPICS[event.type]
    assert seen == {kind: set(topics.split()) for kind, topics in PROCESSING_TOPICS.items()}


def test_a_region_that_no_one_has_heard_of_has_topics_of_its_own() -> None:
    assert wire.processing_topics("ProcessingFailed", "north") == ("processing-failed", "processing.north.failed")


def test_processing_says_no_type_and_the_others_do(script: Script) -> None:
    for event in events_of(script):
        assert ("type" in json.loads(event.body())) is (event.type not in PROCESSING_TOPICS)


def test_times_are_naive_but_for_the_quirks() -> None:
    at = datetime(2026, 1, 31, 15, 45, 0, 123456, tzinfo=UTC)
    assert wire.timestamp(at) == "2026-01-31T15:45:00.123456"
    assert wire.timestamp(at, Quirk.ZULU) == "2026-01-31T15:45:00.123456Z"
    assert wire.timestamp(at, Quirk.OFFSET) == "2026-01-31T10:45:00.123456-05:00"


def test_the_bridge_reads_every_event_as_it_is_meant(script: Script) -> None:
    for event in events_of(script):
        seen = decode(event.topic, event.body())
        assert isinstance(seen, Envelope), (event, seen)
        assert (seen.type, seen.key) == (event.type, event.fields["task_id"])
        assert seen.entity == (event.fields.get("image_id") or "")
        if event.quirk is not Quirk.NAMELESS:
            assert seen.event_id == event.event_id
        if event.quirk is not Quirk.TIMELESS:
            assert seen.occurred_at == event.at


def test_the_bridge_reads_no_rubbish(sendings: list[Sending]) -> None:
    kinds = set()
    for sending in sendings:
        if sending.spoil is not None and sending.spoil is not mischief.twin:
            kinds.add(sending.spoil)
            seen = decode(sending.event.topic, sending.body())
            assert isinstance(seen, Rejected), (sending.spoil, sending.body()[:400])
    assert kinds == {*mischief.SPOILERS, mischief.too_large} - {mischief.twin}


def test_a_twin_has_an_id_that_is_known_and_other_content(script: Script, sendings: list[Sending]) -> None:
    bodies = {event.event_id: event.body() for event in events_of(script)}
    twins = [sending for sending in sendings if sending.spoil is mischief.twin]
    assert twins
    assert len({sending.event.event_id for sending in twins}) == len(twins)
    for sending in twins:
        assert isinstance(decode(sending.event.topic, sending.body()), Envelope)
        assert sending.body() != bodies[sending.event.event_id]


def test_a_twin_has_no_repeats_beside_it(sendings: list[Sending]) -> None:
    repeated = {sending.event.event_id for sending in sendings if sending.kind is Kind.DUPLICATE}
    assert not repeated & {sending.event.event_id for sending in sendings if sending.spoil is mischief.twin}


def test_mischief_loses_no_event(script: Script, sendings: list[Sending]) -> None:
    sent = [sending.event.event_id for sending in sendings if sending.kind is Kind.EVENT]
    assert sorted(sent) == sorted(event.event_id for event in events_of(script))


def test_a_repeat_is_the_same_to_the_byte(script: Script, sendings: list[Sending]) -> None:
    bodies = {event.event_id: event.body() for event in events_of(script)}
    repeats = [sending for sending in sendings if sending.kind is Kind.DUPLICATE]
    assert repeats
    assert all(sending.body() == bodies[sending.event.event_id] for sending in repeats)
    assert not any(sending.event.quirk is Quirk.NAMELESS for sending in repeats)


def test_what_is_late_comes_last(sendings: list[Sending]) -> None:
    late = [sending.late for sending in sendings]
    assert late == sorted(late)
    assert any(late)


def test_shuffling_moves_the_events_of_a_task_among_its_own_places(script: Script) -> None:
    plain = mischief.order(script, Options(sagas=400, quirk_rate=0, seed=3))
    assert [s.event.event_id for s in plain] != [s.event.event_id for s in mischief.order(script, OPTIONS)]
    assert [s.position for s in plain if not s.late] == sorted(s.position for s in plain if not s.late)


def test_rubbish_is_the_same_at_each_reading(sendings: list[Sending]) -> None:
    for sending in sendings[:2000]:
        assert sending.body() == sending.body()


def test_deletion_refusals_have_the_fields_of_the_contract() -> None:
    fields = wire.image_deletion_failed("t", "i", "Saga compensation")
    assert set(fields) == set(TABLE["ImageDeletionFailed"].partition("|")[0].split())


def test_truncated_rubbish_is_never_a_whole_message() -> None:
    event = SimulatedEvent(
        "RetrievalStarted", "retrieval-started", "e", datetime(2026, 1, 31, tzinfo=UTC), {"task_id": "t"}
    )
    for number in range(50):
        with pytest.raises(ValueError):
            json.loads(mischief.not_json(event, Random(number)))
