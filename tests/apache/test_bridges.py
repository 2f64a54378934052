"""Many bridges, regions that appear, entries of many messages, large bodies: what the small broker cannot show."""

import json
import time
import uuid
from hashlib import sha256
from pathlib import Path

import pytest

from bridge.models import Event, Heartbeat, Quarantined
from bridge.quarantine import KEPT_BYTES
from sagaproject import health
from tests.apache.rig import Space, bridges, doctor, eventually, fact, starts
from tests.chaos.proxy import Proxy

pytestmark = [pytest.mark.apache, pytest.mark.timeout(240)]


def are_connected(count: int) -> bool:
    return Heartbeat.objects.filter(kind="bridge", connected=True).count() == count


def received() -> list[int]:
    return sorted(row.detail.get("received", 0) for row in Heartbeat.objects.filter(kind="bridge"))


def test_three_bridges_share_a_subscription_and_one_is_killed(space: Space, tmp_path: Path) -> None:
    with bridges({**space.environment, "BRIDGE_RECEIVER_QUEUE_SIZE": "50"}, tmp_path, 3) as running:
        assert eventually(lambda: are_connected(3))
        sent = []
        for page in range(10):
            bodies = starts(400)
            sent += [json.loads(body)["id"] for body in bodies]
            space.publish("retrieval-started", bodies, batch=20)
            if page == 4:
                assert eventually(lambda: all(received()), 20)  # each has its share
                running[1].kill()
        assert eventually(lambda: Event.objects.count() == len(sent), 60)
        assert eventually(lambda: space.backlog("retrieval-started") == 0)

        assert set(Event.objects.values_list("event_id", flat=True)) == set(sent)
        assert not Quarantined.objects.exists()
        assert health.report()["pulsar_consumer_status"] == "ready"
        said = doctor(space.environment)
        assert said["pulsar"]["well"]
        assert said["topics"]["well"]
        assert said["bridge"]["says"].startswith(("2 connected", "3 connected"))


def test_a_region_that_appears_while_running_is_read_from_its_first_message(space: Space, tmp_path: Path) -> None:
    def in_region(region: str, count: int) -> list[str]:
        ids = [str(uuid.uuid4()) for _ in range(count)]
        bodies = [fact("ProcessingStarted", task=str(uuid.uuid4()), event_id=id_) for id_ in ids]
        space.publish(f"processing.{region}.started", bodies)
        return ids

    first = in_region("usa", 3)
    # Its dots are dots: this one only looks alike.
    space.publish("processingXusaXstarted", starts(1))
    with bridges({**space.environment, "PULSAR_REGIONS": "*"}, tmp_path):
        assert eventually(lambda: Event.objects.count() == 3)
        second = in_region("brasil", 5)
        # The client looks for new topics once a minute, and whenever the bridge subscribes again.
        assert eventually(lambda: Event.objects.count() == 8, 100)
        assert set(Event.objects.values_list("event_id", flat=True)) == {*first, *second}
        assert set(Event.objects.values_list("topic", flat=True)) == {
            "processing.usa.started",
            "processing.brasil.started",
        }
        assert doctor({**space.environment, "PULSAR_REGIONS": "*"})["topics"]["well"]


def test_a_bridge_that_dies_within_an_entry_of_many_messages_loses_none(space: Space, tmp_path: Path) -> None:
    """An entry of 100 messages is acknowledged as a whole or not at all: what came again is known as a repetition."""
    bodies = starts(2000)
    space.publish("retrieval-started", bodies, batch=100)
    small = {**space.environment, "BRIDGE_BATCH_SIZE": "30", "BRIDGE_RECEIVER_QUEUE_SIZE": "30"}
    with bridges(small, tmp_path) as running:
        assert eventually(lambda: 0 < Event.objects.count() < 2000)
        running[0].kill()
    stored = Event.objects.count()
    assert stored < 2000
    with bridges(small, tmp_path):
        assert eventually(lambda: Event.objects.count() == 2000, 60)
        assert eventually(lambda: space.backlog("retrieval-started") == 0)
    assert set(Event.objects.values_list("event_id", flat=True)) == {json.loads(body)["id"] for body in bodies}


def test_who_wrote_a_message_is_kept_also_of_one_on_a_wrong_topic(space: Space, tmp_path: Path) -> None:
    with space.client() as client:
        producer = client.create_producer(space.full("image-processed"), producer_name="gateway-3")
        for kind in ("ProcessingCompleted", "ImageDeletionCompleted"):
            producer.send(fact(kind, task=str(uuid.uuid4())))
    with bridges(space.environment, tmp_path):
        assert eventually(lambda: Event.objects.count() + Quarantined.objects.count() == 2)
    assert list(Event.objects.values_list("type", "producer")) == [("ProcessingCompleted", "gateway-3")]
    assert list(Quarantined.objects.values_list("code", "producer")) == [("wrong-topic", "gateway-3")]


@pytest.mark.parametrize(
    ("size", "is_stored"),
    [(1_000_000, True), (1_100_000, False), (5_000_000, False)],
    ids=["below ours", "above ours", "near the broker's"],
)
def test_large_bodies_are_events_or_in_quarantine_and_disturb_no_one(
    size: int, is_stored: bool, space: Space, tmp_path: Path
) -> None:
    large = fact("RetrievalStarted", task=str(uuid.uuid4()), padding="x" * size)
    space.publish("retrieval-started", [*starts(5), large, *starts(5)])
    with bridges(space.environment, tmp_path) as running:
        assert eventually(lambda: Event.objects.count() + Quarantined.objects.count() == 11)
        assert eventually(lambda: space.backlog("retrieval-started") == 0)
        assert Event.objects.count() == (11 if is_stored else 10)
        if not is_stored:
            (kept,) = Quarantined.objects.all()
            assert (kept.code, bytes(kept.body)) == ("too-large", large[:KEPT_BYTES])
            assert (kept.size, bytes(kept.sha256 or b"")) == (len(large), sha256(large).digest())
            assert "too-large" in running[0].words


def test_a_bridge_whose_database_is_away_takes_no_more_than_its_window(space: Space, tmp_path: Path) -> None:
    proxy = Proxy(int(space.environment["DATABASE_URL"].rpartition(":")[2].partition("/")[0]))
    proxy.start()
    behind = space.environment["DATABASE_URL"].replace(f":{proxy.target}/", f":{proxy.port}/")
    try:
        environment = {**space.environment, "DATABASE_URL": behind, "BRIDGE_RECEIVER_QUEUE_SIZE": "50"}
        with bridges(environment, tmp_path) as running:
            assert eventually(lambda: are_connected(1))
            proxy.refuse()
            space.publish("retrieval-started", starts(3000))
            assert eventually(lambda: "the database does not accept" in running[0].words, 60)
            time.sleep(2)  # time in which it might take more
            (consumer,) = space.stats("retrieval-started")["subscriptions"]["saga"]["consumers"]
            assert 0 < consumer["unackedMessages"] <= 600  # a batch and a window
            assert space.backlog("retrieval-started") == 3000
            proxy.heal()
            assert eventually(lambda: Event.objects.count() == 3000, 60)
            assert eventually(lambda: space.backlog("retrieval-started") == 0)
    finally:
        proxy.stop()
