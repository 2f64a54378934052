"""The corpus of bad messages on a real broker, through a real bridge, with good ones between them; then every page."""

import json
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pulsar
import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.urls import reverse

from bridge.models import Duplicate, Event, Pending, Quarantined
from bridge.quarantine import KEPT_BYTES
from devtools.embedded import pulsar as embedded
from devtools.simulator import wire
from devtools.simulator.transport import Broker
from sagas.applying.apply import run_apply
from sagas.models import Parked, SagaEvent, SagaLog
from tests.acceptance.test_run_bridge import run_bridge
from tests.corpus.bad import HARM, LIMIT, Bad, Fate, corpus, original

pytestmark = [pytest.mark.acceptance, pytest.mark.django_db(transaction=True), pytest.mark.timeout(1800)]

Place = tuple[str, str]
# Pages whose text comes from messages must not hold these as they came.
LIVE = (HARM, "<img src=x", "49debug")
# Of some three thousand pages CI opens every so many; THOROUGH=1 opens them all.
PAGES_STEP = 1 if os.environ.get("THOROUGH") else 6


@dataclass
class Sent:
    """What was published, by its place."""

    bad: dict[Place, Bad] = field(default_factory=dict)
    good: dict[str, list[Place]] = field(default_factory=lambda: defaultdict(list))

    @property
    def places(self) -> set[Place]:
        return {*self.bad, *(place for places in self.good.values() for place in places)}


class Producers:
    """Sends a message and tells its place, as the log names it."""

    def __init__(self, url: str) -> None:
        self._broker = Broker(url)
        self._client = self._broker.connect()
        self._producers: dict[str, pulsar.Producer] = {}

    def send(self, topic: str, body: bytes) -> Place:
        if topic not in self._producers:
            self._producers[topic] = self._client.create_producer(self._broker.full_name(topic), batching_enabled=False)
        place = self._producers[topic].send(body, properties={"kind": HARM})
        return topic, f"{place.ledger_id()}:{place.entry_id()}:{place.partition()}:{place.batch_index()}"

    def close(self) -> None:
        self._client.close()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[str]:
    """Give the URL of a broker of its own: the topics are the real ones."""
    with embedded.temporary(tmp_path / "pulsar") as url:
        yield url


def publish(url: str, messages: list[Bad]) -> Sent:
    """Each bad message between two good ones of its own task."""
    sent = Sent()
    producers = Producers(url)
    for bad in messages:
        start, end = original("RetrievalStarted"), original("RetrievalCompleted")
        started = {**start.fields, **wire.retrieval_started(bad.task)}
        completed = {**end.fields, **wire.retrieval_completed(bad.task, 3, 1)}
        places = [producers.send(start.topic, wire.encode(started))]
        sent.bad[producers.send(bad.topic, bad.body)] = bad
        places.append(producers.send(end.topic, wire.encode(completed)))
        sent.good[bad.task.task_id] = places
    producers.close()
    return sent


def database_url() -> str:
    said = connection.settings_dict
    return f"postgresql://{said['USER']}:{said['PASSWORD']}@{said['HOST']}:{said['PORT']}/{said['NAME']}"


def taken_in() -> set[Place]:
    """Where what is in the log, in quarantine or known as a repeat came from.

    Places, not how many: the broker may give some of them again before it gives the last for the first time.
    """
    return {
        place
        for rows in (Event.objects.filter(source="pulsar"), Quarantined.objects, Duplicate.objects)
        for place in rows.values_list("topic", "message_id")
    }


def through_the_bridge(url: str, valkey_url: str, log: Path, sent: Sent) -> None:
    environment = {
        "DATABASE_URL": database_url(),
        "CELERY_BROKER_URL": valkey_url,
        "PULSAR_SERVICE_URL": url,
        "BRIDGE_SILENCE_SECONDS": "4",
    }
    with run_bridge(log, **environment) as process:
        deadline = time.monotonic() + 240
        while sent.places - taken_in() and time.monotonic() < deadline:
            assert process.poll() is None, log.read_text()[-3000:]
            time.sleep(0.3)


def test_nothing_of_the_corpus_is_lost_or_breaks_a_neighbour(broker: str, valkey_url: str, tmp_path: Path) -> None:
    sent = publish(broker, corpus())
    assert len(sent.bad) > 1_000
    through_the_bridge(broker, valkey_url, tmp_path / "bridge.log", sent)
    run_apply(seconds=300)  # all of it, however slow the machine is

    logged = {(topic, place): pk for pk, topic, place in Event.objects.values_list("pk", "topic", "message_id")}
    kept = {(row.topic, row.message_id): bytes(row.body) for row in Quarantined.objects.all()}
    wrong = [words for place, bad in sent.bad.items() if (words := _wrong(place, bad, logged, kept))]
    assert not wrong
    assert not Pending.objects.exists()
    assert not SagaLog.objects.exclude(set_aside_at=None).exists()
    assert not [task for task, places in sent.good.items() if not _are_applied(task, places, logged)]
    in_a_saga, parked = SagaEvent.objects.count(), Parked.objects.count()
    assert in_a_saga + parked == Event.objects.count()
    call_command("verify_sagas")

    harmful = _open_every_page(sent, logged)
    assert not harmful
    assert (tmp_path / "bridge.log").read_text().count("Traceback") == 0
    assert HARM not in (tmp_path / "bridge.log").read_text()


def _wrong(place: Place, bad: Bad, logged: dict[Place, int], kept: dict[Place, bytes]) -> str:
    """What is not as it must be with a bad message; empty if all is well."""
    if (place in logged) == (place in kept):
        return f"{bad.kind}, {bad.words}: in both" if place in logged else f"{bad.kind}, {bad.words}: lost"
    whole = len(bad.body) <= LIMIT
    if place in kept and kept[place] != (bad.body if whole else bad.body[:KEPT_BYTES]):
        return f"{bad.kind}, {bad.words}: other bytes"
    ended = Fate.LOG if place in logged else Fate.QUARANTINE
    return "" if bad.fate in (ended, Fate.EITHER) else f"{bad.kind}, {bad.words}: ended in {ended}"


def _are_applied(task: str, places: list[Place], logged: dict[Place, int]) -> bool:
    events = [logged[place] for place in places if place in logged]
    return SagaEvent.objects.filter(event__in=events, saga__key=task).count() == len(places)


def _open_every_page(sent: Sent, logged: dict[Place, int]) -> list[str]:
    staff = Client()
    staff.force_login(User.objects.create_superuser("ana", "ana@example.org", "x"))
    return [
        words for address in islice(_addresses(sent, logged), 0, None, PAGES_STEP) if (words := _look(staff, address))
    ]


def _addresses(sent: Sent, logged: dict[Place, int]) -> Iterator[str]:
    """Every page that shows what a bad message said."""
    applied = {pk for place, pk in logged.items() if place in sent.bad}
    for pk in Quarantined.objects.values_list("pk", flat=True):
        yield reverse("admin:bridge_quarantined_change", args=[pk])
    for pk in sorted(applied):
        yield reverse("admin:bridge_event_change", args=[pk])
    for said in Parked.objects.order_by().values("stream", "key", "entity").distinct():
        yield reverse("admin:sagas_parked_group") + f"?{urlencode(said)}"
    sagas = SagaEvent.objects.filter(event__in=applied).order_by().values_list("saga", flat=True).distinct()
    for saga in SagaLog.objects.filter(id__in=sagas):
        yield reverse("admin:sagas_sagalog_change", args=[saga.id])
        yield f"/api/v1/saga/sagas/{saga.id}"
        yield f"/api/v1/saga/sagas/{saga.id}/timeline?limit=100"
        yield f"/api/v1/saga/sagas/{saga.id}/events?limit=100&payload=true"
        for entity in saga.lanes.order_by("entity").values_list("entity", flat=True)[:2]:
            yield reverse("admin:sagas_sagalog_lane", args=[saga.id]) + f"?{urlencode({'lane': entity})}"
    for name in ("bridge_quarantined", "bridge_event", "sagas_sagalog", "sagas_parked"):
        for page in range(1, 8):
            yield reverse(f"admin:{name}_changelist") + (f"?p={page}" if name != "sagas_parked" else f"?page={page}")
    for name in ("quarantine", "parked", "attention"):
        for offset in range(0, 1_000, 100):
            yield f"/api/v1/saga/{name}?limit=100&offset={offset}"


def _look(staff: Client, address: str) -> str:
    answer: Any = staff.get(address)
    if answer.status_code != 200:
        return f"{answer.status_code} {address}"
    text = answer.content.decode()
    if address.startswith("/api/"):
        json.loads(text)
        return ""
    return f"harmful {address}" if any(live in text for live in LIVE) else ""
