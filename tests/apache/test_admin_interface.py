"""What the doctor reads from the admin interface of a real Apache Pulsar, as the stand-in of the other tests has it."""

import uuid
from typing import Any

import pulsar
import pytest

from bridge.backlog import Reading
from bridge.pulsar.admin import AdminUnavailable, PulsarAdmin
from bridge.pulsar.backlog import compare, sample
from bridge.topics import get_topics
from sagaproject.doctor import statistics
from sagaproject.doctor.finding import FindingLevel
from tests.apache.conftest import Guarded
from tests.apache.rig import Broker, Space, eventually, fact, starts

pytestmark = [pytest.mark.apache, pytest.mark.timeout(300)]


@pytest.fixture
def there(apache: Broker, space: Space, settings: Any) -> Any:
    """Let the doctor look at the namespace of the test."""
    settings.PULSAR = {
        **settings.PULSAR,
        "service_url": apache.server.url,
        "admin_url": apache.server.admin_url,
        "namespace": space.name,
    }
    get_topics.cache_clear()
    yield space
    get_topics.cache_clear()


def test_subscribers_of_the_command_topics(there: Space) -> None:
    assert statistics.check_subscribers().level == FindingLevel.WARNING
    with there.client() as client:
        for topic in ("anonymization-commands", "data-retrieval-commands"):
            assert "No subscription" in statistics.check_subscribers().says
            client.subscribe(there.full(topic), "service")
        assert eventually(lambda: statistics.check_subscribers().level == FindingLevel.OK)
    assert eventually(lambda: "No consumer is connected" in statistics.check_subscribers().says)


def test_a_backlog_that_stands_and_one_that_moves(there: Space) -> None:
    with there.client() as client:
        consumer = client.subscribe(there.full("retrieval-started"), "saga", receiver_queue_size=1)
        there.publish("retrieval-started", starts(50))
        assert eventually(lambda: there.backlog("retrieval-started") == 50)
        found = statistics.check_backlogs()
        assert found.level == FindingLevel.ERROR
        assert "50 messages wait" in found.says

        def take(_seconds: float) -> None:
            for _ in range(20):
                consumer.acknowledge(consumer.receive(timeout_millis=10_000))
            assert eventually(lambda: there.backlog("retrieval-started") == 30)

        assert statistics.check_backlogs(take).level == FindingLevel.OK


def test_what_waits_undelivered_is_reported_by_two_looks(there: Space, settings: Any) -> None:
    topic = there.full("retrieval-started")
    admin = PulsarAdmin(settings.PULSAR)
    with there.client() as client:
        shared = pulsar.ConsumerType.Shared
        consumer = client.subscribe(topic, "saga", consumer_type=shared, receiver_queue_size=10)
        there.publish("retrieval-started", starts(50))
        assert eventually(lambda: there.backlog("retrieval-started") == 50)
        # The broker sends ten and waits: that they reached the client says nothing of who takes them out of it.
        assert eventually(lambda: sample(admin, [topic])[topic].unsent == 40)
        first = sample(admin, [topic])
        assert compare({}, first) == []
        assert compare(first, sample(admin, [topic])) == [Reading("retrieval-started", 50, stalled=True)]
        for _ in range(20):
            consumer.acknowledge(consumer.receive(timeout_millis=10_000))
        assert eventually(lambda: there.backlog("retrieval-started") == 30)
        [moves] = compare(first, sample(admin, [topic]))
        assert not moves.stalled
        assert 20 <= moves.undelivered < 30
        for _ in range(30):
            consumer.acknowledge(consumer.receive(timeout_millis=10_000))
        assert eventually(lambda: compare(first, sample(admin, [topic])) == [Reading("retrieval-started", 0, False)])


def test_a_region_that_no_one_reads(there: Space) -> None:
    started = [fact("ProcessingStarted", task=str(uuid.uuid4()))]
    there.publish("processing.usa.started", started)
    assert statistics.check_regions().level == FindingLevel.OK
    there.publish("processing.brasil.started", started)
    assert "processing.brasil.started" in statistics.check_regions().says


def test_a_partitioned_topic_and_one_that_is_not_there(there: Space, apache: Broker, settings: Any) -> None:
    admin = PulsarAdmin(settings.PULSAR)
    assert admin.stats(there.full("nowhere")) is None
    apache.ask("PUT", f"persistent/public/{there.name}/in-parts/partitions", 2)
    with there.client() as client:
        client.subscribe(there.full("in-parts"), "service", consumer_type=pulsar.ConsumerType.Shared)
        found = admin.stats(there.full("in-parts"))
        assert found is not None
        assert found["subscriptions"]["service"]["msgBacklog"] == 0
        assert found["subscriptions"]["service"]["consumers"]


def test_a_token_opens_it_and_without_one_it_is_closed(guarded: Guarded, transactional_db: None, settings: Any) -> None:
    space = guarded.space("saga")
    said = {**settings.PULSAR, "admin_url": guarded.broker.server.admin_url, "namespace": space.name}
    assert isinstance(PulsarAdmin({**said, "token": guarded.mint.token("admin")}).topics(f"public/{space.name}"), list)
    with pytest.raises(AdminUnavailable, match="status 401"):
        PulsarAdmin({**said, "token": ""}).topics(f"public/{space.name}")
