"""The doctor says which part is ill and what to do, and never that all is well when it is not."""

import base64
import io
import json
import socket
import threading
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone

from bridge.errors import BrokerUnavailable
from bridge.models import Heartbeat
from sagaproject import pulsar_address
from sagaproject.doctor import pulsar as doctor_pulsar
from sagaproject.doctor.celery import check_beat, check_celery_broker
from sagaproject.doctor.pulsar import check_pulsar, check_token, check_topics
from sagaproject.doctor.service import check_bridge


def beat(kind: str, age: float = 0, **more: Any) -> None:
    at = timezone.now() - timedelta(seconds=age)
    fields = {"connected": True, "well_since": at, **more}
    Heartbeat.objects.create(name=f"{kind}:here:1", kind=kind, started_at=at, beat_at=at, **fields)


def token(**claims: Any) -> str:
    def part(content: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")

    return f"{part({'alg': 'none'})}.{part(claims)}.x"


@pytest.mark.django_db
def test_with_nothing_running_it_says_so_of_each_part_and_exits_with_1() -> None:
    out = io.StringIO()

    with pytest.raises(SystemExit) as ended:
        call_command("doctor", "--json", stdout=out)

    findings = {finding["name"]: finding for finding in json.loads(out.getvalue())["findings"]}
    assert ended.value.code == 1
    assert list(findings) == [
        *("database", "migrations", "database writes", "celery broker", "worker", "beat", "token", "tls", "pulsar"),
        *("topics", "bridge", "publishing", "queue", "answers", "event topics", "definitions"),
        *("confirmations", "clocks", "command topics", "backlogs", "regions"),
    ]
    assert {name for name, finding in findings.items() if finding["well"]} == {
        *("database", "migrations", "database writes", "celery broker", "token", "tls", "queue", "answers"),
        *("event topics", "definitions", "confirmations", "clocks", "command topics", "backlogs", "regions"),
    }
    assert all(finding["do"] for finding in findings.values() if not finding["well"])


@pytest.mark.django_db
def test_beat_is_judged_by_its_last_sweep() -> None:
    assert not check_beat().well

    beat("sweeper", age=60)
    assert "60 s ago" in check_beat().says

    Heartbeat.objects.update(beat_at=timezone.now())
    assert check_beat().well


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("age", "connected", "well", "words"),
    [(0, True, True, "1 connected"), (0, False, False, "not connected"), (300, True, False, "No heartbeat for 5 min")],
)
def test_bridge_is_judged_by_its_heartbeat(age: float, connected: bool, well: bool, words: str) -> None:
    beat("bridge", age=age, connected=connected)

    found = check_bridge()

    assert found.well is well
    assert words in found.says


@pytest.mark.parametrize(
    ("given", "well", "words"),
    [
        ("", True, "No PULSAR_TOKEN"),
        ("not-a-jwt", True, "A token is set."),
        (token(sub="saga"), True, "A token is set."),
        (token(exp=4102444800), True, "expires on 2100-01-01"),
        (token(exp=946684800), False, "expired on 2000-01-01"),
    ],
)
def test_token(settings: Any, given: str, well: bool, words: str) -> None:
    settings.PULSAR = {**settings.PULSAR, "token": given}

    found = check_token()

    assert found.well is well
    assert words in found.says
    assert not given or given not in found.says


@pytest.mark.parametrize(
    ("answer", "given", "advice"),
    [
        ("Timeout", "", "may be a missing token: PULSAR_TOKEN is not set"),
        ("Timeout", token(sub="saga"), "may be a wrong token: check PULSAR_TOKEN"),
        (
            "AuthorizationError",
            token(sub="stranger"),
            "Grant the token's role 'produce' and 'consume' on public/default",
        ),
    ],
)
def test_a_broker_that_answers_but_does_not_do_it(
    answer: str, given: str, advice: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Publisher:
        def probe(self) -> None:
            raise BrokerUnavailable(f"what it means: {answer}", answer)

    settings.PULSAR = {**settings.PULSAR, "token": given}
    monkeypatch.setattr(pulsar_address, "answers", lambda url: True)
    monkeypatch.setattr(doctor_pulsar, "get_publisher", Publisher)

    found = check_pulsar()

    assert not found.well
    assert f"what it means: {answer}" in found.says
    assert advice in found.do
    assert not given or given not in found.do


@pytest.mark.django_db
@pytest.mark.parametrize(("is_pulsar_ok", "advice"), [(True, "Grant the token's role"), (False, "See pulsar, above")])
def test_what_a_bridge_complains_of_is_first_pulsars(is_pulsar_ok: bool, advice: str) -> None:
    beat("bridge", connected=False, detail={"error": "no answer"})

    found = check_topics(is_pulsar_ok)

    assert found.says == "The bridge reports: no answer"
    assert advice in found.do


@pytest.mark.parametrize(
    ("url", "addresses"),
    [
        ("pulsar://one", [("one", 6650)]),
        ("pulsar+ssl://one:7000,two", [("one", 7000), ("two", 6651)]),
        ("pulsar://[::1]:6650", [("::1", 6650)]),
    ],
)
def test_addresses_of_a_pulsar_url(url: str, addresses: list[tuple[str, int]]) -> None:
    assert pulsar_address.addresses(url) == addresses


def test_a_port_that_speaks_no_tls_is_distinguished_from_one_that_does(settings: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def answer_in_plain() -> None:
            for _ in range(2):
                connection, _address = server.accept()
                with connection:
                    connection.recv(1000)
                    connection.sendall(b"this is no handshake")

        thread = threading.Thread(target=answer_in_plain, daemon=True)
        thread.start()
        assert not pulsar_address.only_speaks_tls(f"pulsar://127.0.0.1:{port}")
        assert "TLS" in pulsar_address.tls_complaint(
            {**settings.PULSAR, "service_url": f"pulsar+ssl://127.0.0.1:{port}", "tls_trust_certs_file": ""}
        )
        thread.join(5)


def test_places_are_shown_without_passwords(settings: Any) -> None:
    settings.CELERY_BROKER_URL = "redis://:hunter2@valkey:6379/0"

    assert "hunter2" not in check_celery_broker().says
