"""A broker that is killed, that is full, that keeps what was read; an outage of an hour; going live on old topics."""

import json
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pulsar
import pytest
from django.conf import settings

from bridge.models import Duplicate, Event
from bridge.publisher import OutgoingMessage, Publisher
from bridge.pulsar.outlet import Outlet
from bridge.reasons import english
from bridge.topics import Topics
from devtools.embedded import ports
from devtools.simulator.api import opener
from sagaproject import health, stack_file
from tests.apache.rig import MANAGE, Broker, Space, bridges, clean, doctor, eventually, fact, starts
from tests.chaos.proxy import Proxy

pytestmark = [pytest.mark.apache, pytest.mark.timeout(900)]

TOPIC = "retrieval-started"
# Every wait a hundredth of what it is in production.
HUNDREDTH = {
    "SAGA_CONFIRMATION_TIMEOUT": "3",
    "SAGA_RETRY_INITIAL_INTERVAL": "0.01",
    "SAGA_RETRY_MAXIMUM_INTERVAL": "1",
}
AN_HOUR = 36.0


def is_ready() -> bool:
    return bool(health.report()["pulsar_consumer_status"] == "ready")


def unacknowledged(space: Space) -> int:
    return sum(each["unackedMessages"] for each in space.stats(TOPIC)["subscriptions"]["saga"]["consumers"])


def test_a_broker_that_is_killed_gives_again_what_was_not_acknowledged(
    apache: Broker, space: Space, tmp_path: Path
) -> None:
    proxy = Proxy(int(space.environment["DATABASE_URL"].rpartition(":")[2].partition("/")[0]))
    proxy.start()
    behind = space.environment["DATABASE_URL"].replace(f":{proxy.target}/", f":{proxy.port}/")
    try:
        with bridges({**space.environment, "DATABASE_URL": behind}, tmp_path):
            space.publish(TOPIC, starts(300))
            assert eventually(lambda: Event.objects.count() == 300)
            assert eventually(lambda: space.backlog(TOPIC) == 0)
            proxy.refuse()
            space.publish(TOPIC, starts(200))
            assert eventually(lambda: unacknowledged(space) > 0)

            apache.kill()
            proxy.heal()
            assert eventually(lambda: not is_ready())
            said = doctor(space.environment)
            assert "No server answers at" in said["pulsar"]["says"]
            assert "An outage exhausts nothing" in said["pulsar"]["do"]

            apache.start()
            space.publish(TOPIC, starts(10))
            assert eventually(lambda: Event.objects.count() == 510, 120)
            assert eventually(lambda: space.backlog(TOPIC) == 0)
            assert eventually(is_ready)
    finally:
        proxy.stop()
    # What had been acknowledged did not come again.
    assert Duplicate.objects.count() <= 200


def test_messages_that_are_kept_can_be_read_again_and_change_nothing(
    apache: Broker, transactional_db: None, tmp_path: Path
) -> None:
    """Retention is what a restored backup needs (docs/operations.md): the cursor is moved back, and all comes again."""
    space = apache.space({"retention": {"retentionTimeInMinutes": 60, "retentionSizeInMB": 100}})
    began = int(time.time() * 1000) - 1000
    bodies = starts(100)
    space.publish(TOPIC, bodies)
    with bridges(space.environment, tmp_path):
        assert eventually(lambda: Event.objects.count() == 100)
        assert eventually(lambda: space.backlog(TOPIC) == 0)
        apache.ask("POST", f"persistent/public/{space.name}/{TOPIC}/subscription/saga/resetcursor/{began}")
        assert eventually(lambda: Duplicate.objects.count() == 100)
        assert eventually(lambda: space.backlog(TOPIC) == 0)
    # Another name reads everything that the topics still hold, from the beginning.
    with bridges({**space.environment, "PULSAR_SUBSCRIPTION": "another"}, tmp_path):
        assert eventually(lambda: Duplicate.objects.count() == 200)
    assert set(Event.objects.values_list("event_id", flat=True)) == {json.loads(body)["id"] for body in bodies}


def test_a_full_topic_counts_no_attempt(apache: Broker) -> None:
    """Nobody takes the commands of a service that is away for a day: they wait, and none is exhausted by that."""
    quota = {"limitSize": 100_000, "limitTime": -1, "policy": "producer_exception"}
    space = apache.space({"backlogQuota?backlogQuotaType=destination_storage": quota})
    with space.client() as client:
        client.subscribe(space.full("commands"), "a service that is away").close()
    options = {**settings.PULSAR, "service_url": apache.server.url, "operation_timeout_seconds": 10}
    topics = Topics("public", space.name, {}, ())
    publisher = Publisher(lambda: Outlet(options), topics, "commands")

    def publish() -> list[Any]:
        page = [OutgoingMessage(str(number), "commands", b"x" * 10_000) for number in range(20)]
        return list(publisher.publish(page))

    try:
        assert all(result.message_id for result in publish())
        refused: list[Any] = []

        def is_full() -> bool:
            refused[:] = [result for result in publish() if result.error]
            return bool(refused)

        assert eventually(is_full, 90)
        assert {(result.reachable, result.permanent, result.blocked) for result in refused} == {(True, False, True)}
        assert "the topic is full" in english(refused[0].error or "")
        publisher.probe()  # the broker itself is there

        apache.ask(
            "POST", f"persistent/public/{space.name}/commands/subscription/a%20service%20that%20is%20away/skip_all"
        )
        assert eventually(lambda: all(result.message_id for result in publish()), 90)
    finally:
        publisher.close()


# --- the whole service, on a broker that it does not start itself ---


class House:
    """A stack of its own, as `make up` starts it; commands and questions as from a second terminal."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.told: dict[str, Any] = stack_file.running(folder) or {}

    def manage(self, *words: str, seconds: float = 90) -> subprocess.CompletedProcess[str]:
        environment = clean({"STACK_DIR": str(self.folder)})
        return subprocess.run(
            [*MANAGE, *words], env=environment, capture_output=True, text=True, check=False, timeout=seconds
        )

    def ask(self, path: str) -> Any:
        with opener(self.told["api_url"]).open(f"{self.told['api_url']}/{path}", timeout=20) as answer:
            return json.load(answer)

    def health(self) -> Any:
        return self.ask("health")

    def sagas(self, status: str) -> int:
        return int(self.ask(f"sagas?status={status}&limit=1")["total"])


@contextmanager
def up(space: Space, folder: Path, extra: Mapping[str, str]) -> Iterator[House]:
    folder.mkdir()
    environment = {
        **extra,
        "ENVIRONMENT": "dev",
        "STACK_DIR": str(folder),
        "API_PORT": str(ports.free()),
        "PULSAR_SERVICE_URL": space.broker.server.url,
        "PULSAR_NAMESPACE": space.name,
    }
    with (folder / "screen").open("a") as screen:
        process = subprocess.Popen([*MANAGE, "up"], env=clean(environment), stdout=screen, stderr=screen)
    try:
        assert eventually(lambda: stack_file.running(folder) or process.poll() is not None, 300)
        assert process.poll() is None, (folder / "screen").read_text()
        yield House(folder)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)


def test_an_outage_of_an_hour_exhausts_no_command(apache: Broker, tmp_path: Path) -> None:
    space = apache.space()
    with up(space, tmp_path / "var", HUNDREDTH) as house:
        words = ["simulate_services", "--sagas", "60", "--images", "2-4", "--failure-rate", "0.6", "--rate", "60"]
        words += ["--once", "--json", "--timeout", "240"]
        with (tmp_path / "said").open("w") as said, (tmp_path / "screen").open("w") as screen:
            services = subprocess.Popen(
                [*MANAGE, *words], env=clean({"STACK_DIR": str(house.folder)}), stdout=said, stderr=screen
            )
        try:
            assert eventually(lambda: house.sagas("COMPENSATING") > 2)
            apache.kill()
            over = time.monotonic() + AN_HOUR
            assert eventually(lambda: house.health()["pulsar_consumer_status"] == "error")
            assert eventually(lambda: house.health()["pulsar_publisher_status"] == "error", 90)
            doctor_said = house.manage("doctor").stdout
            assert "No server answers at" in doctor_said
            assert "An outage exhausts nothing: commands wait." in doctor_said
            eventually(lambda: time.monotonic() > over, AN_HOUR)
            assert house.sagas("COMPENSATION_FAILED") == 0
            assert house.sagas("COMPENSATING") > 0

            apache.start()
            assert services.wait(300) == 0, (tmp_path / "screen").read_text()[-3000:]
        finally:
            services.kill()
            services.wait()
        verdict = json.loads((tmp_path / "said").read_text().splitlines()[-1])
        assert verdict["unexpected"] == []
        assert verdict["commands"]["exhausted"] == 0
        assert house.health()["status"] == "ok"
        assert house.manage("verify_sagas").returncode == 0


def failed_saga(task: str, image: str) -> list[tuple[str, bytes]]:
    """A saga of one image, which was anonymized and then failed: two commands are owed."""
    return [
        (TOPIC, fact("RetrievalStarted", task=task)),
        ("images-retrieved", fact("ImagesRetrieved", task=task, number_of_images=1, image_ids=[image])),
        ("anonymization-completed", fact("AnonymizationCompleted", task=task, image_id=image)),
        ("processing-failed", fact("ProcessingFailed", task=task, error_message="no model")),
    ]


def test_going_live_paused_on_topics_full_of_history(apache: Broker, tmp_path: Path) -> None:
    space = apache.space()
    commands: list[dict[str, Any]] = []
    for _ in range(10):
        for topic, body in failed_saga(str(uuid.uuid4()), str(uuid.uuid4())):
            space.publish(topic, [body])
    with space.client() as client:
        takers = [
            client.subscribe(
                space.full(topic),
                "services",
                pulsar.ConsumerType.Shared,
                initial_position=pulsar.InitialPosition.Earliest,
            )
            for topic in ("anonymization-commands", "data-retrieval-commands")
        ]

        def take() -> list[dict[str, Any]]:
            for taker in takers:
                for message in taker.batch_receive():
                    commands.append(json.loads(message.data()))
                    taker.acknowledge(message)
            return commands

        with up(space, tmp_path / "var", {"SAGA_PUBLISHING": "paused"}) as house:
            assert eventually(lambda: house.sagas("COMPENSATING") == 10, 90)
            assert house.health()["pulsar_publisher_status"] == "disabled"
            assert not eventually(take, 5)

            cut_over = datetime.now(UTC).isoformat()
            withdrawn = house.manage(
                "withdraw_commands", "--before", cut_over, "--reason", "the earlier system did these", "--yes", "--json"
            )
            assert withdrawn.returncode == 0, withdrawn.stderr
            assert len(json.loads(withdrawn.stdout)["commands"]) == 20
            assert house.sagas("FAILED") == 10

            later = {str(uuid.uuid4()) for _ in range(3)}
            for task in later:
                for topic, body in failed_saga(task, str(uuid.uuid4())):
                    space.publish(topic, [body])
            assert eventually(lambda: house.sagas("COMPENSATING") == 3)
            assert not eventually(take, 3)

            resumed = house.manage("resume_publishing", "--reason", "we are live", "--yes")
            assert resumed.returncode == 0, resumed.stderr
            # The rollbacks leave; a deletion waits for its lane's rollback.
            assert eventually(lambda: len(take()) >= 3)
            eventually(lambda: len(take()) > 3, 5)
            assert {command["data"]["task_id"] for command in commands} == later
            assert eventually(lambda: house.health()["pulsar_publisher_status"] == "ready")
            assert house.manage("doctor").returncode == 0
