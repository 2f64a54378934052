"""The grants of docs/security.md on a broker that asks for them: enough for everybody, and no more."""

from __future__ import annotations

import http.client
import json
import uuid
from pathlib import Path

import pulsar
import pytest

from bridge.models import Event
from devtools.embedded import ports
from sagaproject import health
from tests import grants
from tests.apache.conftest import Guarded
from tests.apache.rig import Space, bridges, doctor, eventually, fact
from tests.grants import Commands, Grant

pytestmark = [pytest.mark.apache, pytest.mark.timeout(400)]

SERVICES = ("data-retrieval", "anonymization", "processing", "front-end")
BRIDGE, PUBLISHER = "saga-bridge", "saga-publisher"


class Granted:
    """A namespace with the page's grants and no others, and what each role has to say to use it."""

    def __init__(self, guarded: Guarded, folder: Path) -> None:
        self.guarded = guarded
        self.space = guarded.space()
        self.namespace = f"public/{self.space.name}"
        self.commands: Commands = grants.of_the_page(folder, self.namespace)
        for topic in self.commands.topics:
            self.create(topic)
        for grant in self.commands.grants:
            self.give(grant)

    def create(self, topic: str) -> None:
        self.space.broker.ask("PUT", topic.replace("://", "/"))

    def give(self, grant: Grant) -> None:
        self.space.broker.ask("POST", *grant.as_request())

    def of(self, role: str) -> Space:
        """Give the namespace as a role sees it."""
        token = pulsar.AuthenticationToken(self.guarded.mint.token(role))
        return Space(self.space.broker, self.space.name, options={"authentication": token})

    def environment(self, role: str, **more: str) -> dict[str, str]:
        return {**self.space.environment, "PULSAR_TOKEN": self.guarded.mint.token(role), **more}

    def admin(self, role: str, method: str, path: str) -> int:
        """Ask the admin interface as a role, and give the status of its answer."""
        connection = http.client.HTTPConnection(ports.LOOPBACK, self.space.broker.server.admin_port, timeout=15)
        try:
            token = self.guarded.mint.token(role)
            connection.request(method, f"/admin/v2/{path}", headers={"Authorization": f"Bearer {token}"})
            return connection.getresponse().status
        finally:
            connection.close()


@pytest.fixture(scope="module")
def granted(guarded: Guarded, tmp_path_factory: pytest.TempPathFactory) -> Granted:
    return Granted(guarded, tmp_path_factory.mktemp("grants"))


def is_ready() -> bool:
    return bool(health.report()["pulsar_consumer_status"] == "ready")


def may_produce(client: pulsar.Client, topic: str) -> bool:
    try:
        client.create_producer(topic).close()
    except pulsar.AuthorizationError:
        return False
    return True


def may_subscribe(client: pulsar.Client, topic: str, subscription: str) -> bool:
    try:
        client.subscribe(topic, subscription, consumer_type=pulsar.ConsumerType.Shared).close()
    except pulsar.AuthorizationError:
        return False
    return True


def test_they_are_enough(granted: Granted, transactional_db: None, tmp_path: Path) -> None:
    task, image = str(uuid.uuid4()), str(uuid.uuid4())
    sent = {
        ("data-retrieval", "images-retrieved"): fact("ImagesRetrieved", task=task, image_ids=[image]),
        ("anonymization", "anonymization-completed"): fact("AnonymizationCompleted", task=task, image_id=image),
        ("processing", "processing.usa.started"): fact("ProcessingStarted", task=task, image_id=image),
    }
    with bridges(granted.environment(BRIDGE), tmp_path):
        assert eventually(is_ready)
        for (role, topic), body in sent.items():
            granted.of(role).publish(topic, [body])
        assert eventually(lambda: Event.objects.count() == len(sent))
        # The workers' token: it asks for a sign of life, and has a producer on each topic of commands.
        said = doctor(granted.environment(PUBLISHER))
        assert all(said[name]["well"] for name in ("token", "pulsar", "topics", "bridge")), said


def test_no_one_writes_on_a_topic_that_is_not_granted(granted: Granted) -> None:
    topics = [*granted.commands.topics, granted.space.full("a-new-one")]
    for role in (*SERVICES, BRIDGE, PUBLISHER):
        expected = {grant.of for grant in granted.commands.grants if (grant.role, grant.action) == (role, "produce")}
        with granted.of(role).client() as client:
            assert {topic for topic in topics if may_produce(client, topic)} == expected, role


def test_the_bridges_subscription_is_the_bridges_alone(granted: Granted) -> None:
    topic, other = granted.space.full("image-anonymization"), granted.space.full("retrieval-started")
    path = topic.replace("://", "/")
    with granted.of(BRIDGE).client() as client:
        assert may_subscribe(client, topic, "saga")
        assert may_subscribe(client, other, "saga")
    with granted.of("anonymization").client() as client:
        assert may_subscribe(client, topic, "anonymization")
        assert not may_subscribe(client, topic, "saga")
        assert not may_subscribe(client, other, "anonymization")
    for method, what in (("POST", "/skip_all"), ("GET", "/position/1"), ("POST", "/resetcursor/1"), ("DELETE", "")):
        assert granted.admin("anonymization", method, f"{path}/subscription/saga{what}") == 401
        assert granted.admin(PUBLISHER, method, f"{path}/subscription/saga{what}") == 401


def test_what_the_admin_interface_says_to_whom(granted: Granted) -> None:
    listed, stats = f"persistent/{granted.namespace}", f"persistent/{granted.namespace}/image-anonymization/stats"
    assert (granted.admin(BRIDGE, "GET", stats), granted.admin(PUBLISHER, "GET", stats)) == (200, 401)
    assert granted.admin(BRIDGE, "GET", listed) == 403
    assert granted.admin(BRIDGE, "DELETE", f"{listed}/image-anonymization") == 403


def test_a_topic_must_be_there_for_a_grant_and_loses_it_when_it_is_deleted(granted: Granted) -> None:
    topic = granted.space.full("short-lived")
    grant = Grant("topic", topic, "processing", "produce")
    status, _ = granted.space.broker.server.admin("POST", f"/admin/v2/{grant.as_request()[0]}", ["produce"])
    assert status == 404
    granted.create(topic)
    granted.give(grant)
    path = topic.replace("://", "/")
    assert granted.space.broker.ask("GET", f"{path}/permissions") == {"processing": ["produce"]}
    granted.space.broker.ask("DELETE", path)
    granted.create(topic)
    assert granted.space.broker.ask("GET", f"{path}/permissions") == {}


def test_regions_in_a_namespace_of_their_own(granted: Granted, transactional_db: None, tmp_path: Path) -> None:
    place = granted.guarded.space().name
    names = [f"processing.{{region}}.{end}" for end in ("started", "completed", "failed")]
    regional = {name: f"public/{place}/{name}" for name in names}
    environment = granted.environment(BRIDGE, PULSAR_REGIONS="*", PULSAR_TOPICS=json.dumps(regional))
    granted.give(Grant("namespace", f"public/{place}", "processing", "produce"))
    with bridges(environment, tmp_path) as (bridge,):
        # A pattern takes a grant on the whole namespace, and the client names its lack like this.
        assert eventually(lambda: "LookupError" in bridge.words)
        granted.give(Grant("namespace", f"public/{place}", BRIDGE, "consume"))
        Space(granted.space.broker, place, options=granted.of("processing").options).publish(
            "processing.peru.started", [fact("ProcessingStarted", task=str(uuid.uuid4()))]
        )
        assert eventually(lambda: Event.objects.filter(type="ProcessingStarted").exists(), 120)
