"""A topic that stands still holds the deadlines of the services that answer there: for a while, and it is told."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db.models import F
from django.test import Client

from bridge import backlog, clock, heartbeats
from bridge.backlog import FRESH, Reading, UndeliveredTopic
from bridge.models import Heartbeat, TopicBacklog
from bridge.pulsar.admin import AdminUnavailable, PulsarAdmin
from bridge.pulsar.backlog import BacklogMonitor, Sample, compare, sample
from compensation import answers, deadlines, delivery, health, outbox
from compensation.deadlines import HoldReason
from compensation.health import Name, State
from compensation.models import Command, CommandStatus, Switch
from sagaproject import composition
from sagaproject.doctor import service, statistics
from sagaproject.doctor.finding import FindingLevel
from sagas import queries
from tests.integration import fake_pulsar_admin
from tests.integration.commands import FakePublisher, new_command
from tests.integration.fake_pulsar_admin import FakeAdmin, stats

pytestmark = pytest.mark.django_db

TOPIC = "data-retrieval-imagedeletioncompleted"
SECOND = timedelta(seconds=1)
HOLD = timedelta(minutes=30)


@pytest.fixture(autouse=True)
def _switch_set_long_ago() -> None:
    Switch.objects.create(service="*", paused=False, changed_at=clock.now() - timedelta(days=1))


@pytest.fixture
def admin(settings: Any) -> Iterator[FakeAdmin]:
    with fake_pulsar_admin.running() as fake:
        settings.PULSAR = {**settings.PULSAR, "admin_url": fake.url, "regions": []}
        yield fake


@pytest.fixture
def topic() -> str:
    """A topic on which DATA_RETRIEVAL answers."""
    return composition.answering_topics()["DATA_RETRIEVAL"][0]


def full(short: str) -> str:
    return f"persistent://public/default/{short}"


def say(fake: FakeAdmin, topic: str, count: int, *, unacked: int = 0, acked: int = 5) -> None:
    fake.topics[full(topic)] = stats(
        saga={"msgBacklog": count, "unackedMessages": unacked, "lastAckedTimestamp": acked}
    )


def watch(settings: Any) -> BacklogMonitor:
    return BacklogMonitor(PulsarAdmin(settings.PULSAR))


def pass_time(span: timedelta) -> None:
    """Let all that is kept become so much older; bridges and broker go on to say the same."""
    TopicBacklog.objects.update(since=F("since") - span, ended_at=F("ended_at") - span)
    Command.objects.update(published_at=F("published_at") - span, deadline_at=F("deadline_at") - span)
    Heartbeat.objects.update(well_since=F("well_since") - span)


def sent(service_name: str = "DATA_RETRIEVAL", entity: str = "a") -> Command:
    """A command that was sent an hour ago and should have been answered long ago; the bridge is well."""
    heartbeats.beat("bridge:here:1", "bridge", connected=True)
    Heartbeat.objects.update(well_since=clock.now() - timedelta(days=1))
    ago = clock.now() - timedelta(hours=1)
    new = new_command(entity, service=service_name, planned_at=ago)
    outbox.plan([new])
    delivery.publish_due(FakePublisher(), "host:1", clock=lambda: ago)
    return Command.objects.get(id=new.id)


def status_of(command: Command) -> str:
    command.refresh_from_db()
    return command.status


# --- what two looks tell


@pytest.mark.parametrize(
    ("first", "last", "told"),
    [
        (None, Sample(202, 202, 1), None),
        (None, Sample(0, 0, 1), (0, False)),
        (Sample(202, 2, 1), Sample(202, 2, 1), (202, True)),
        (Sample(202, 0, 1), Sample(205, 3, 1), (205, True)),
        (Sample(202, 2, 1), Sample(150, 50, 1), (2, False)),
        (Sample(202, 2, 1), Sample(202, 2, 9), (2, False)),
        (Sample(30, 0, 1), Sample(40, 0, 9), (0, False)),
        (Sample(0, 0, 1), Sample(40, 40, 1), (0, False)),
        (Sample(40, 40, 1), Sample(0, 0, 2), (0, False)),
    ],
)
def test_what_two_looks_at_a_topic_tell(first: Sample | None, last: Sample, told: tuple[int, bool] | None) -> None:
    found = compare({} if first is None else {full(TOPIC): first}, {full(TOPIC): last})
    assert found == ([] if told is None else [Reading(TOPIC, *told)])


# --- who answers where


def test_every_service_answers_on_the_topics_of_the_events_that_speak_of_its_commands(topic: str) -> None:
    assert answers.services_on(topic) == ("DATA_RETRIEVAL",)
    assert answers.services_on("retrieval-started") == ()
    told = composition.answering_topics()
    assert set(told) == {"ANONYMIZATION", "DATA_RETRIEVAL"} | set(told)
    assert all(told.values())


# --- the hold


def test_deadlines_are_on_hold_for_who_answers_on_a_topic_that_stands(
    admin: FakeAdmin, settings: Any, topic: str
) -> None:
    late, other = sent(), sent("ANONYMIZATION", "b")
    say(admin, topic, 202, unacked=200)
    bridge = watch(settings)
    bridge.step()
    assert backlog.waiting() == []
    bridge.step()
    [waiting] = backlog.waiting()
    assert (waiting.topic, waiting.undelivered, waiting.stalled) == (topic, 202, True)
    deadlines.pass_deadlines(clock.now())
    assert (status_of(late), status_of(other)) == (CommandStatus.PUBLISHED, CommandStatus.WAITING)
    hold = deadlines.deadline_holds().of(late)
    assert hold is not None
    assert (hold.reason, hold.topics, hold.since) == (HoldReason.UNDELIVERED, (topic,), waiting.since)
    assert deadlines.deadline_holds().everything is None


def test_when_the_messages_are_taken_the_clock_starts_again(admin: FakeAdmin, settings: Any, topic: str) -> None:
    command = sent()
    bridge = watch(settings)
    for count in (202, 202, 0):
        say(admin, topic, count)
        bridge.step()
    assert backlog.waiting() == []
    assert deadlines.deadline_holds().of(command) is None
    assert deadlines.pass_deadlines(clock.now()) == 0
    command.refresh_from_db()
    assert command.deadline_at is not None
    assert abs(command.deadline_at - clock.now() - timedelta(seconds=300)) < 10 * SECOND
    assert deadlines.pass_deadlines(command.deadline_at + SECOND) == 1


def test_a_topic_that_stands_for_good_holds_deadlines_for_half_an_hour(topic: str, settings: Any) -> None:
    assert timedelta(seconds=settings.SAGA_DEADLINE_HOLD) == HOLD
    command = sent()
    backlog.note([Reading(topic, 202, stalled=True)])
    pass_time(HOLD - 5 * SECOND)
    backlog.note([Reading(topic, 202, stalled=True)])
    assert deadlines.deadline_holds().of(command) is not None
    pass_time(10 * SECOND)
    assert deadlines.deadline_holds().of(command) is None
    [waiting] = backlog.waiting()
    assert deadlines.pass_deadlines(clock.now()) == 0
    assert deadlines.pass_deadlines(waiting.since + HOLD + timedelta(seconds=301)) == 1


def test_a_bridge_that_starts_again_does_not_begin_the_time_anew(admin: FakeAdmin, settings: Any, topic: str) -> None:
    say(admin, topic, 202)
    bridge = watch(settings)
    bridge.step()
    bridge.step()
    pass_time(timedelta(minutes=20))
    [before] = backlog.waiting()
    bridge = watch(settings)
    bridge.step()
    assert backlog.waiting() == [before]
    bridge.step()
    [after] = backlog.waiting()
    assert after.since == before.since


def test_after_a_long_silence_of_all_bridges_it_is_a_new_standstill(topic: str) -> None:
    backlog.note([Reading(topic, 202, stalled=True)])
    pass_time(timedelta(hours=3))
    TopicBacklog.objects.update(seen_at=F("seen_at") - timedelta(hours=2))
    backlog.note([Reading(topic, 5, stalled=True)])
    [waiting] = backlog.waiting()
    assert clock.now() - waiting.since < timedelta(minutes=1)


def test_an_old_reading_of_the_broker_holds_nothing(topic: str) -> None:
    command = sent()
    backlog.note([Reading(topic, 202, stalled=True)])
    pass_time(timedelta(minutes=10))
    TopicBacklog.objects.update(seen_at=F("seen_at") - FRESH)
    assert backlog.waiting() == []
    assert deadlines.deadline_holds().of(command) is None
    seen: datetime = TopicBacklog.objects.get().seen_at
    assert backlog.read() == [UndeliveredTopic(topic, 202, True, TopicBacklog.objects.get().since, seen)]


def test_silence_alone_holds_no_deadline(admin: FakeAdmin, settings: Any) -> None:
    command = sent()
    bridge = watch(settings)
    bridge.step()
    bridge.step()
    assert deadlines.pass_deadlines(clock.now()) == 1
    assert status_of(command) == CommandStatus.WAITING


def test_without_an_answer_of_the_interface_nothing_is_held_and_no_one_falls(
    admin: FakeAdmin, settings: Any, topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    sent()
    say(admin, topic, 202)
    admin.status = 403
    bridge = watch(settings)
    for _ in range(3):
        bridge.step()
    assert deadlines.pass_deadlines(clock.now()) == 1
    assert caplog.text.count("the backlog of the topics is not known: Pulsar's admin interface: it answers with") == 1
    admin.status, admin.topics[full(topic)] = 200, {"subscriptions": {"saga": {"consumers": None}}}
    bridge.step()
    assert "the backlog of the topics is not known: TypeError" in caplog.text
    with pytest.raises(AdminUnavailable):
        PulsarAdmin({**settings.PULSAR, "admin_url": "http://127.0.0.1:1"}).topics("public/default")


def test_a_broker_without_the_topic_names_the_one_that_has_it(admin: FakeAdmin, topic: str, settings: Any) -> None:
    say(admin, topic, 202)
    with fake_pulsar_admin.running() as other:
        other.status, other.elsewhere = 307, admin.url
        asked = PulsarAdmin({**settings.PULSAR, "admin_url": other.url, "token": "the-token"})
        assert sample(asked, [full(topic)])[full(topic)].messages == 202
        assert admin.tokens == ["Bearer the-token"]
        for elsewhere in ("", other.url, "https://127.0.0.1:1"):
            other.elsewhere = elsewhere
            with pytest.raises(AdminUnavailable, match="status 307"):
                asked.stats(full(topic))


@pytest.mark.django_db(transaction=True)
def test_the_watch_looks_from_a_thread_of_its_own(admin: FakeAdmin, settings: Any, topic: str) -> None:
    say(admin, topic, 202)
    bridge = BacklogMonitor(PulsarAdmin(settings.PULSAR), seconds=0.01)
    bridge.start()
    try:
        until = clock.now() + timedelta(seconds=20)
        while not backlog.waiting() and clock.now() < until:
            pass
        assert backlog.waiting()
    finally:
        bridge.stop()
        bridge._thread.join(10)
    assert not bridge._thread.is_alive()
    watch(settings).stop()


# --- told


def test_it_is_reported_from_its_start(topic: str, client: Client) -> None:
    heartbeats.beat("bridge:here:1", "bridge", connected=True)
    assert health.measure().part(Name.BRIDGE).state == State.HEALTHY
    backlog.note([Reading(topic, 202, stalled=True)])
    [item] = queries.attention(kind="undelivered").items
    assert item.sentence.startswith(f"202 messages on topic {topic} have not been delivered since ")
    assert "Deadlines of DATA_RETRIEVAL are on hold until" in item.sentence
    pass_time(HOLD + SECOND)
    [item] = queries.attention(kind="undelivered").items
    assert "Deadlines of DATA_RETRIEVAL have been running again since" in item.sentence
    part = health.measure().part(Name.BRIDGE)
    assert (part.state, part.is_error, part.topics) == (State.STALLED, True, (topic,))
    found = service.check_bridge()
    assert found.level == FindingLevel.ERROR
    assert topic in found.says
    answer = client.get("/health").json()
    assert (answer["status"], answer["pulsar_consumer_status"]) == ("degraded", "error")
    backlog.note([Reading(topic, 0, stalled=False)])
    assert queries.attention(kind="undelivered").items == []
    assert service.check_bridge().level == FindingLevel.OK


def test_a_topic_that_moves_is_reported_but_does_not_degrade(topic: str) -> None:
    heartbeats.beat("bridge:here:1", "bridge", connected=True)
    backlog.note([Reading(topic, 9, stalled=False), Reading("retrieval-started", 1, stalled=False)])
    told = {item.link["topic"]: item.sentence for item in queries.attention(kind="undelivered").items}
    assert "on hold until" in told[topic]
    assert "Deadlines" not in told["retrieval-started"]
    assert health.measure().part(Name.BRIDGE).state == State.HEALTHY


def test_the_doctor_calls_a_topic_that_stands_an_error(admin: FakeAdmin, topic: str) -> None:
    say(admin, topic, 202)
    found = statistics.check_backlogs(lambda _seconds: None)
    assert (found.level, "202 messages wait" in found.says) == (FindingLevel.ERROR, True)


def test_a_bridge_that_is_behind_names_its_topics() -> None:
    command = sent()
    heartbeats.beat("bridge:here:1", "bridge", connected=True, well=False, detail={"behind_topics": ["orders"]})
    hold = deadlines.deadline_holds().of(command)
    assert hold is not None
    assert (hold.reason, hold.topics) == (HoldReason.BRIDGE_BEHIND, ("orders",))
    assert "on orders" in service.check_bridge().says
