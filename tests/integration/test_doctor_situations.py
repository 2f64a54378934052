"""Situations in which the doctor once said "All checks passed", or did not come back. Now each is told."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis
from celery import current_app
from django.core.management import call_command
from django.db import connection
from django.utils import timezone
from kombu import pools

from bridge import event_log, heartbeats, quarantine
from bridge.catalog import get_catalog
from bridge.codec import get_codec
from bridge.envelope import Envelope, Message
from bridge.models import Event, Heartbeat, Quarantined
from bridge.topics import get_topics
from compensation import delivery, outbox, statements, switches
from compensation.models import AttemptOutcome, Command
from devtools.embedded import postgres
from devtools.embedded import valkey as embedded_valkey
from devtools.embedded.process import Process
from sagaproject import doctor, env
from sagaproject.doctor import database, finding, service, statistics
from sagaproject.doctor.celery import check_celery_broker
from sagaproject.doctor.finding import Finding, FindingLevel, bounded
from sagaproject.doctor.pulsar import check_token, check_transport
from sagaproject.management.commands.doctor import verdict
from sagas.models import SagaLog
from tests.integration import fake_pulsar_admin
from tests.integration.commands import NOW, FakePublisher, later, new_command
from tests.integration.fake_pulsar_admin import FakeAdmin, stats
from tests.integration.test_queries import failed_saga


def assert_told(found: Finding, level: FindingLevel, *words: str) -> None:
    assert found.level == level, found
    for word in words:
        assert word in found.says, found
    assert found.do
    assert "All checks passed" not in verdict([found])


# --- what the settings say


@pytest.mark.parametrize("token", ["", "a.b.c"])
@pytest.mark.parametrize("scheme", ["pulsar", "pulsar+ssl"])
@pytest.mark.parametrize("environment", ["dev", "prod"])
def test_production_without_a_token_or_without_tls(token: str, scheme: str, environment: str, settings: Any) -> None:
    settings.ENVIRONMENT = environment
    settings.PULSAR = {**settings.PULSAR, "token": token, "service_url": f"{scheme}://broker:6650"}
    is_prod = environment == "prod"
    assert check_token().level == (FindingLevel.WARNING if is_prod and not token else FindingLevel.OK)
    assert check_transport().level == (FindingLevel.WARNING if is_prod and scheme == "pulsar" else FindingLevel.OK)


# --- answers


def sent(**changes: Any) -> Command:
    command = new_command(str(uuid4()), **changes)
    outbox.plan([command])
    delivery.publish_due(FakePublisher(), "host:1", clock=lambda: NOW)
    return Command.objects.get(id=command.id)


def end(command: Command, outcome: AttemptOutcome, at: datetime) -> None:
    statements.end_attempts([{"command_id": str(command.id), "outcome": outcome, "ended_at": at, "error": ""}])


def miss(command: Command) -> None:
    end(command, AttemptOutcome.DEADLINE, later(300))
    Command.objects.filter(id=command.id).update(status="waiting", next_at=later(301), deadline_at=None)


@pytest.mark.django_db
def test_commands_that_are_sent_and_never_answered() -> None:
    for _ in range(3):
        miss(sent())
    assert_told(
        service.check_answers(),
        FindingLevel.WARNING,
        "DeleteRetrievedImage (topic data-retrieval-commands): 3 sent, none ever confirmed or refused",
    )


@pytest.mark.django_db
@pytest.mark.parametrize("answer", ["confirmed", "refused", "young", "manual", "by hand", "never sent"])
def test_what_was_answered_once_or_is_young_is_no_trouble(answer: str) -> None:
    if answer not in ("young", "manual"):
        miss(sent())
    other = sent(**({"confirmation": "manual"} if answer == "manual" else {}))
    if answer == "confirmed":
        Command.objects.filter(id=other.id).update(status="confirmed", settled_at=NOW, deadline_at=None)
    elif answer == "refused":
        end(other, AttemptOutcome.REFUSED, NOW)
        Command.objects.filter(id=other.id).update(status="waiting", next_at=NOW, deadline_at=None)
    elif answer == "by hand":
        Command.objects.filter(id=other.id).update(status="confirmed", by_hand=True, settled_at=NOW, deadline_at=None)
    elif answer == "never sent":
        unsent = {"confirmed_unsent_at": NOW, "settled_at": NOW, "deadline_at": None}
        Command.objects.filter(id=other.id).update(status="confirmed", **unsent)
    assert service.check_answers().well == (answer not in ("by hand", "never sent"))


# --- events


def received(kind: str, topic: str, producer: str = "") -> None:
    """A message of this type comes on this topic."""
    names = get_topics().names(get_topics().full(topic))
    said = {
        "id": str(uuid4()),
        "type": kind,
        "task_id": "task",
        "image_id": "image",
        "timestamp": "2026-03-01T12:00:00",
    }
    message = Message(
        names.shown, names.short, str(uuid4()), 1_772_366_400_000, json.dumps(said).encode(), {}, producer=producer
    )
    found = get_codec().decode(message, timezone.now())
    event_log.store_batch(*(([found], []) if isinstance(found, Envelope) else ([], [found])))


@pytest.mark.django_db
def test_messages_on_a_topic_that_their_type_does_not_declare() -> None:
    catalog = get_catalog()
    for event_type in catalog.event_types:
        for topic in event_type.topics:
            received(event_type.name, topic.replace("{region}", "latam"))
    received("NoSuchType", "image-processed")
    assert service.check_event_topics().level == FindingLevel.OK
    received("ImageDeletionCompleted", "image-processed", "gateway")
    received("ProcessingFailed", "image-processed", "gateway")
    received("ImageDeletionCompleted", "processing.latam.failed")
    assert_told(
        service.check_event_topics(),
        FindingLevel.WARNING,
        "3 came on a topic that does not accept their type",
        "image-processed, from gateway, processing.latam.failed, from a producer without a name",
    )
    for row in Quarantined.objects.filter(code="wrong-topic"):
        quarantine.dismiss(row.pk, actor="ana", why="a wrong client")
    assert service.check_event_topics().level == FindingLevel.OK


@pytest.mark.django_db
def test_a_topic_that_is_called_otherwise_here_is_the_declared_one(settings: Any) -> None:
    event_type = get_catalog().event_types[0]
    settings.PULSAR = {**settings.PULSAR, "topics": {event_type.topics[0]: "our-own-name"}}
    get_topics.cache_clear()
    try:
        received(event_type.name, event_type.topics[0])
        assert Event.objects.get().topic == "our-own-name"
        assert service.check_event_topics().level == FindingLevel.OK
    finally:
        get_topics.cache_clear()


# --- definitions


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("status", ["STARTED", "COMPENSATING", "COMPENSATION_FAILED", "COMPLETED"])
def test_open_sagas_of_a_definition_that_this_release_lacks(status: str) -> None:
    failed_saga()
    assert service.check_definitions().level == FindingLevel.OK
    SagaLog.objects.update(version=99, status=status)
    found = service.check_definitions()
    if status == "COMPLETED":
        assert found.level == FindingLevel.OK
    else:
        assert_told(found, FindingLevel.ERROR, "image_processing version 99")


# --- clocks


@pytest.mark.django_db
@pytest.mark.parametrize("seconds", [-30, -6, 0, 6, 30])
@pytest.mark.parametrize("kind", ["bridge", "sweeper", "publisher"])
def test_a_process_whose_clock_differs(kind: str, seconds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as there:
        moment = timezone.now() + timedelta(seconds=seconds)
        there.setattr(timezone, "now", lambda: moment)
        heartbeats.beat(f"{kind}:there:1", kind, connected=True)
    found = service.check_clocks()
    if seconds:
        assert_told(found, FindingLevel.WARNING, f"{kind}:there:1 by {seconds:+d} s")
    else:
        assert found.level == FindingLevel.OK


@pytest.mark.django_db
def test_this_hosts_clock_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = timezone.now() - timedelta(hours=1)
    monkeypatch.setattr(timezone, "now", lambda: moment)
    assert_told(service.check_clocks(), FindingLevel.WARNING, "this host", "by -3600 s")


# --- publishing


@pytest.mark.django_db
def test_a_pause_is_reported_with_its_service_time_and_person() -> None:
    heartbeats.beat("publisher", "publisher", connected=True)
    assert service.check_publisher().level == FindingLevel.OK
    switches.set_switch("ANONYMIZATION", True, "ana", "look first")
    assert_told(service.check_publisher(), FindingLevel.WARNING, "by ana: ANONYMIZATION.", "deadlines are on hold")
    Heartbeat.objects.update(beat_at=timezone.now() - timedelta(minutes=5))
    assert_told(
        service.check_publisher(), FindingLevel.ERROR, "No worker has contacted Pulsar for", "by ana: ANONYMIZATION."
    )


# --- the database


@pytest.mark.django_db
def test_a_database_that_takes_no_writes_by_its_settings() -> None:
    assert database.check_writes().level == FindingLevel.OK
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL default_transaction_read_only = on")
    assert_told(database.check_writes(), FindingLevel.ERROR, "default_transaction_read_only")


@pytest.mark.django_db
@pytest.mark.parametrize(("code", "kind"), [("53100", "OperationalError"), ("42501", "ProgrammingError")])
def test_a_database_that_refuses_to_write(code: str, kind: str) -> None:
    """As on a full disk (53100), or without a grant (42501)."""
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$ BEGIN RAISE EXCEPTION 'secret words' USING ERRCODE = '{code}'; END $$;"
            " CREATE TRIGGER refuse BEFORE INSERT ON bridge_heartbeat FOR EACH ROW EXECUTE FUNCTION refuse()"
        )
    found = database.check_writes()
    assert_told(found, FindingLevel.ERROR, f"({kind} {code})")
    assert "secret" not in found.says


@pytest.mark.django_db
def test_the_write_leaves_nothing() -> None:
    assert database.check_writes().level == FindingLevel.OK
    assert not Heartbeat.objects.exists()


@contextlib.contextmanager
def connected_to(**settings: Any) -> Iterator[Any]:
    """Give a connection to another database."""
    there = connection.copy()
    there.settings_dict.update(settings)
    try:
        yield there
    finally:
        there.close()


@pytest.mark.django_db(transaction=True)
def test_a_database_that_does_not_store_utf8() -> None:
    with connection.cursor() as cursor:
        cursor.execute("DROP DATABASE IF EXISTS in_latin1")
        cursor.execute("CREATE DATABASE in_latin1 ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    with connected_to(NAME="in_latin1") as there:
        assert_told(database.check_database(there), FindingLevel.ERROR, "the encoding LATIN1")
    with connection.cursor() as cursor:
        cursor.execute("DROP DATABASE in_latin1")


@pytest.mark.django_db(transaction=True)
def test_a_standby_server(tmp_path: Path) -> None:
    server = postgres.PostgresServer(tmp_path / "postgres", tmp_path / "postgres.log", ("fsync=off", "hot_standby=on"))
    process = Process(server.prepare())
    try:
        process.wait_ready()
        server.make_database()
        process.stop(time.monotonic() + 10)
        (server.data / "standby.signal").touch()
        process = Process(server.prepare())
        process.wait_ready()
        entry = env.read({"ENVIRONMENT": "dev", "DATABASE_URL": server.url}).database
        place = {name: entry[name] for name in ("HOST", "PORT", "USER", "PASSWORD", "NAME")}
        with connected_to(**place) as there:
            assert_told(database.check_writes(there), FindingLevel.ERROR, "standby")
    finally:
        process.stop(time.monotonic() + 10)
        server.discard()


# --- Celery's broker


@pytest.fixture
def valkey(tmp_path: Path, settings: Any) -> Iterator[redis.Redis]:
    """Give a client of a Valkey that is Celery's broker for the time of the test."""
    app: Any = current_app
    before = (app.conf.broker_url, app.conf.broker_transport_options)
    with embedded_valkey.temporary(tmp_path) as url, redis.Redis.from_url(url) as client:
        settings.CELERY_BROKER_URL = app.conf.broker_url = url
        app.conf.broker_transport_options = {"global_keyprefix": "saga:", "socket_timeout": 5}
        pools.reset()
        app._after_fork()
        yield client
        pools.reset()
        app._after_fork()
    app.conf.broker_url, app.conf.broker_transport_options = before


@pytest.mark.django_db(transaction=True)
def test_a_valkey_without_memory(valkey: redis.Redis) -> None:
    assert check_celery_broker().level == FindingLevel.OK
    valkey.config_set("maxmemory", "1mb")
    assert_told(check_celery_broker(), FindingLevel.ERROR, "accepts no writes (OutOfMemoryError)")
    findings = {found.name: found for found in doctor.examine()}
    assert findings["worker"].says == "Not checked: it needs Celery's broker."
    assert set(findings) >= {"beat", "pulsar", "bridge", "regions"}


def test_a_valkey_that_is_nearly_full_or_drops_what_it_likes(valkey: redis.Redis) -> None:
    # The server fills the gap: a long value in the command would also count as a buffer until that is freed.
    valkey.setrange("ballast", 50_000_000, b"x")
    used = int(valkey.info("memory")["used_memory"])
    valkey.config_set("maxmemory", str(int(used * 1.05)))
    assert_told(check_celery_broker(), FindingLevel.WARNING, "of its maxmemory")
    valkey.config_set("maxmemory", "1gb")
    valkey.config_set("maxmemory-policy", "allkeys-lru")
    assert_told(check_celery_broker(), FindingLevel.WARNING, "allkeys-lru")


def test_a_valkey_that_is_a_replica(valkey: redis.Redis) -> None:
    valkey.replicaof("127.0.0.1", "1")
    found = check_celery_broker()
    assert_told(found, FindingLevel.ERROR, "accepts no writes (ReadOnlyError)")
    assert "Set CELERY_BROKER_URL to the primary" in found.do


# --- what the broker's admin interface tells


@pytest.fixture
def admin(settings: Any) -> Iterator[FakeAdmin]:
    with fake_pulsar_admin.running() as fake:
        settings.PULSAR = {**settings.PULSAR, "admin_url": fake.url, "token": "the-token"}
        yield fake


def full(short: str) -> str:
    return f"persistent://public/default/{short}"


def test_without_its_address_it_names_what_is_not_checked() -> None:
    for found in (statistics.check_subscribers(), statistics.check_regions()):
        assert found.level == FindingLevel.SKIPPED
        assert "Not checked without PULSAR_ADMIN_URL" in found.says
        assert "Set PULSAR_ADMIN_URL" in found.do
    assert verdict([found]) == "All checks passed; 1 skipped."


def test_a_command_topic_that_no_one_subscribes_to(admin: FakeAdmin) -> None:
    admin.topics[full("anonymization-commands")] = stats(service={})
    assert_told(statistics.check_subscribers(), FindingLevel.WARNING, "No subscription on data-retrieval-commands")
    admin.topics[full("data-retrieval-commands")] = stats()
    assert_told(statistics.check_subscribers(), FindingLevel.WARNING, "No subscription on data-retrieval-commands")
    admin.topics[full("data-retrieval-commands")] = stats(service={"consumers": []})
    assert_told(
        statistics.check_subscribers(), FindingLevel.WARNING, "No consumer is connected to data-retrieval-commands"
    )
    del admin.topics[full("data-retrieval-commands")]
    admin.partitioned[full("data-retrieval-commands")] = stats(service={})
    assert statistics.check_subscribers().level == FindingLevel.OK
    assert set(admin.tokens) == {"Bearer the-token"}


@pytest.mark.parametrize(
    ("first", "second", "stuck"),
    [
        ({"msgBacklog": 7}, {"msgBacklog": 7}, True),
        ({"msgBacklog": 7}, {"msgBacklog": 9}, True),
        ({"msgBacklog": 7}, {"msgBacklog": 5}, False),
        ({"msgBacklog": 7, "lastAckedTimestamp": 1}, {"msgBacklog": 9, "lastAckedTimestamp": 2}, False),
        ({"msgBacklog": 0}, {"msgBacklog": 9}, False),
    ],
)
def test_a_backlog_that_does_not_move(
    first: dict[str, int], second: dict[str, int], stuck: bool, admin: FakeAdmin, settings: Any
) -> None:
    topic = full("processing.latam.started")
    settings.PULSAR = {**settings.PULSAR, "regions": ["latam"]}
    get_topics.cache_clear()
    admin.topics[topic] = stats(saga=first, another={"msgBacklog": 1000})

    def pass_time(_seconds: float) -> None:
        admin.topics[topic] = stats(saga=second, another={"msgBacklog": 1000})

    found = statistics.check_backlogs(pass_time)
    get_topics.cache_clear()
    if stuck:
        assert_told(found, FindingLevel.ERROR, f"{second['msgBacklog']} messages wait", "processing.latam.started")
    else:
        assert found.level == FindingLevel.OK


def test_messages_of_a_region_that_no_one_reads(admin: FakeAdmin) -> None:
    admin.topics = {full("processing.usa.started"): stats(), full("something-else"): stats()}
    assert statistics.check_regions().level == FindingLevel.OK
    admin.topics[full("processing.brasil.started-partition-0")] = stats()
    admin.topics[full("processing.brasil.started-partition-1")] = stats()
    found = statistics.check_regions()
    assert_told(found, FindingLevel.WARNING, "Not read: processing.brasil.started.")
    assert "PULSAR_REGIONS" in found.do


@pytest.mark.parametrize("status", [401, 500])
def test_an_admin_interface_that_does_not_answer_is_reported_and_ends_nothing(status: int, admin: FakeAdmin) -> None:
    admin.status = status
    for check in (statistics.check_subscribers, statistics.check_backlogs, statistics.check_regions):
        assert_told(check(), FindingLevel.WARNING, f"status {status}")


def test_an_admin_address_where_no_one_listens(settings: Any) -> None:
    settings.PULSAR = {**settings.PULSAR, "admin_url": "http://127.0.0.1:1"}
    assert_told(statistics.check_regions(), FindingLevel.WARNING, "ConnectionRefusedError")


@pytest.mark.django_db
@pytest.mark.parametrize(("received", "stuck"), [(5, True), (6, False)])
def test_without_the_admin_interface_a_bridge_that_stands_is_seen_by_its_heartbeat(received: int, stuck: bool) -> None:
    def say(count: int) -> None:
        heartbeats.beat(
            "bridge:a:1", "bridge", connected=True, well=False, detail={"caught_up": False, "received": count}
        )

    say(5)
    found = statistics.check_backlogs(lambda _seconds: say(received))
    if stuck:
        assert_told(found, FindingLevel.ERROR, "received no message", "bridge:a:1")
    else:
        assert found.level == FindingLevel.SKIPPED


# --- checks that fail or hang


def test_a_check_that_fails_is_a_finding_without_its_text() -> None:
    def check() -> Finding:
        raise RuntimeError("Jane Doe")

    found = bounded("part", check)
    assert_told(found, FindingLevel.ERROR, "RuntimeError")
    assert "Jane" not in found.says + found.do


def test_a_check_that_does_not_come_back_is_given_up() -> None:
    let_go = threading.Event()

    def check() -> Finding:
        let_go.wait(60)
        return finding.ok("part", "late")

    began = time.monotonic()
    found = bounded("part", check, 0.2)
    assert time.monotonic() - began < 10
    let_go.set()
    assert_told(found, FindingLevel.ERROR, "No answer within 0 s.")


# --- the last line, and the exit code


@pytest.mark.parametrize(
    ("levels", "words", "code"),
    [
        ([FindingLevel.OK], "All checks passed.", 0),
        ([FindingLevel.OK, FindingLevel.SKIPPED], "All checks passed; 1 skipped.", 0),
        (
            [FindingLevel.OK, FindingLevel.SKIPPED, FindingLevel.WARNING],
            "Problems found: 0 errors, 1 warnings.",
            0,
        ),
        ([FindingLevel.WARNING, FindingLevel.ERROR], "Problems found: 1 errors, 1 warnings.", 1),
    ],
)
def test_the_last_line_and_the_exit_code(
    levels: list[FindingLevel], words: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    findings = [Finding(f"part {number}", level, "so it is", "do it") for number, level in enumerate(levels)]
    monkeypatch.setattr(doctor, "examine", lambda: iter(findings))
    for options in ([], ["--json"]):
        out = io.StringIO()
        try:
            call_command("doctor", *options, stdout=out)
            ended = 0
        except SystemExit as stopped:
            ended = int(stopped.code or 0)
        assert ended == code
    told = json.loads(out.getvalue())
    assert told["well"] == (not {FindingLevel.WARNING, FindingLevel.ERROR} & set(levels))
    assert [item["level"] for item in told["findings"]] == [level.value for level in levels]
    out = io.StringIO()
    with contextlib.suppress(SystemExit):
        call_command("doctor", stdout=out)
    assert out.getvalue().splitlines()[-1] == words
    assert logging.root.manager.disable == logging.NOTSET  # whoever calls it in the same process still gets logs
