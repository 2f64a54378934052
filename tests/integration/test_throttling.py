"""Requests without a valid login are counted by address, in all processes together, and refused before any look-up."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import DatabaseError, InterfaceError, connection
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from knox.models import AuthToken

from sagaproject import clients, limiter, request_counts, throttling
from sagaproject.models import RequestCount
from tests.integration.api import BASE, user
from tests.integration.test_api_edges import ADDRESSES, held, read_only
from tests.integration.test_web_server import Web

pytestmark = pytest.mark.django_db

__all__ = ["read_only"]

HEALTH = {f"{BASE}health", "/health"}
# In development, which the tests run in, these may be read without login.
OPEN_IN_DEV = {"/api/schema", "/api/docs"}
WRONG = {
    "no token": {},
    "a wrong token": {"authorization": "Token " + "e" * 64},
    "bytes": {"authorization": "Token \xff"},
}
ADDRESS = "203.0.113.7"


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """What this process remembers belongs to one test."""
    limiter.limiter.cache_clear()
    throttling.known.__init__()  # type: ignore[misc]
    yield
    limiter.limiter.cache_clear()


@pytest.fixture(autouse=True)
def rates(settings: Any) -> dict[str, str]:
    settings.API_OPEN_READS = False
    settings.REQUEST_RATES = {"address": "3/min", "login": "40/min"}
    found: dict[str, str] = settings.REQUEST_RATES
    return found


def client(address: str = ADDRESS, **headers: str) -> Client:
    return Client(raise_request_exception=False, REMOTE_ADDR=address, headers=headers)


def with_token(name: str, *rights: str) -> dict[str, str]:
    return {"authorization": f"Token {AuthToken.objects.create(user(name, *rights))[1]}"}


@pytest.mark.parametrize("headers", WRONG.values(), ids=WRONG)
def test_each_401_of_each_address_counts_until_there_are_too_many(headers: dict[str, str]) -> None:
    addresses = set(ADDRESSES) - HEALTH - (set() if headers else OPEN_IN_DEV)
    for number, path in enumerate(sorted(addresses)):
        asking = client(f"10.0.{number}.1", **headers)
        assert [asking.get(path).status_code for _ in range(3)] == [401] * 3, path
        answer = asking.get(path)
        assert "Expected available in" in held(answer, 429)["detail"]
        assert 0 < int(answer["Retry-After"]) <= 60


def test_other_addresses_are_not_concerned_and_health_never_is() -> None:
    for _ in range(5):
        client().get(f"{BASE}sagas")
    assert client().get(f"{BASE}sagas").status_code == 429
    assert client("203.0.113.8").get(f"{BASE}sagas").status_code == 401
    assert {client().get(path + end).status_code for path in HEALTH for end in ("", "/")} == {200}


def test_what_is_refused_is_not_looked_up() -> None:
    headers = with_token("vera", "view_sagalog")
    for _ in range(4):
        client().get(f"{BASE}sagas", headers=WRONG["a wrong token"])
    with CaptureQueriesContext(connection) as asked:
        for said in (*WRONG.values(), headers):
            assert client().get(f"{BASE}sagas", headers=said).status_code == 429
    assert len(asked) == 0


def test_who_was_let_in_before_goes_on_at_an_address_that_is_refused() -> None:
    headers = with_token("vera", "view_sagalog")
    session = client()
    session.force_login(user("olga", "view_sagalog"))
    assert {client(**headers).get(f"{BASE}sagas").status_code, session.get(f"{BASE}sagas").status_code} == {200}
    for _ in range(5):
        client().get(f"{BASE}sagas")
    assert client(**WRONG["a wrong token"]).get(f"{BASE}sagas").status_code == 429
    assert client(**headers).get(f"{BASE}sagas").status_code == 200
    assert session.get(f"{BASE}sagas").status_code == 200
    AuthToken.objects.all().delete()
    assert [client(**headers).get(f"{BASE}sagas").status_code for _ in range(2)] == [429, 429]


def test_a_request_that_is_let_in_costs_no_statement_of_its_own(settings: Any) -> None:
    headers = with_token("vera", "view_sagalog")
    asking = client(**headers)
    asking.get(f"{BASE}sagas")  # takes the first block
    with CaptureQueriesContext(connection) as counted:
        assert asking.get(f"{BASE}sagas").status_code == 200
    settings.REQUEST_RATES = {}
    with CaptureQueriesContext(connection) as uncounted:
        assert asking.get(f"{BASE}sagas").status_code == 200
    assert len(counted) == len(uncounted)


@pytest.mark.parametrize(("right", "code"), [("view_sagalog", 200), ("view_parked", 403)])
def test_the_requests_of_one_login_are_limited_allowed_or_not(right: str, code: int) -> None:
    asking = client(**with_token("vera", right))
    assert [asking.get(f"{BASE}sagas").status_code for _ in range(40)] == [code] * 40
    answer = asking.get(f"{BASE}sagas")
    held(answer, 429)
    assert 0 < int(answer["Retry-After"]) <= 60
    assert client(**with_token("olga", "view_sagalog")).get(f"{BASE}sagas").status_code == 200


def test_the_log_shows_once_that_an_address_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "sagaproject.limiter"):
        for _ in range(10):
            client(authorization="Token secret-words").get(f"{BASE}sagas")
    (record,) = (found for found in caplog.records if found.name == "sagaproject.limiter")
    assert (record.scope, record.who) == ("address", ADDRESS)  # type: ignore[attr-defined]
    assert len(caplog.records) == 4  # and one for each request that was not refused
    assert "secret-words" not in caplog.text


def test_a_limit_is_one_for_all_processes() -> None:
    """Each limiter stands for a process: they share the database, no memory."""
    processes = [limiter.Limiter("login", 100, 60, block=5) for _ in range(3)]
    let_through = sum(not process.spend("7") for _ in range(80) for process in processes)
    assert let_through == 100
    assert all(process.spend("7") > 0 for process in processes)
    assert not processes[0].spend("8")


def test_a_window_ends_and_old_counters_go() -> None:
    process, other = (limiter.Limiter("address", 2, 60, block=1) for _ in range(2))
    assert [bool(process.spend("a")) for _ in range(3)] == [False, False, True]
    request_counts.add("address:b", 1, 60)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE sagaproject_request_count SET ends_at = now() - interval '2 hours'")
    assert request_counts.add("address:a", 1, 60)[0] == 1
    request_counts.add("address:c", 1, 60)
    assert set(RequestCount.objects.values_list("key", flat=True)) == {"address:a", "address:c"}
    assert not other.spend("a")


def test_two_servers_count_together(tmp_path: Path, transactional_db: None) -> None:
    prod = {
        "ENVIRONMENT": "prod",
        "SECRET_KEY": "kT9x2Lw8QzR4vB7nM1pY6cF3hJ5gD0sA-uEiOoXbVqWzPlKmJn",
        "ALLOWED_HOSTS": "localhost",
        "SAGA_PUBLISHING": "paused",
        "API_HTTPS": "false",
        "API_BEHIND_PROXY": "true",
        "API_THROTTLE_ANON": "10/hour",
    }
    servers = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        servers.append(Web(tmp_path / name, "--workers", "2", **prod))
    try:
        # A client writes what it likes into the header; the proxy adds whom it sees.
        codes = [
            server.get("/api/v1/saga/sagas", **{"X-Forwarded-For": f"10.9.9.{number}, 198.51.100.4"})[0]
            for number in range(20)
            for server in servers
        ]
        assert (codes.count(401), codes.count(429)) == (10, 30)
        assert servers[0].get("/api/v1/saga/sagas", **{"X-Forwarded-For": "198.51.100.5"})[0] == 401
        assert servers[0].get("/health")[0] == 200
    finally:
        for server in servers:
            server.stop()


@pytest.mark.django_db(transaction=True)
def test_a_database_that_takes_no_changes_makes_no_fault(request: pytest.FixtureRequest) -> None:
    session = client("203.0.113.9")
    session.force_login(User.objects.create_superuser("root", "root@example.org", "x"))
    request.getfixturevalue("read_only")
    assert [client().get(f"{BASE}sagas").status_code for _ in range(5)] == [401, 401, 401, 429, 429]
    assert session.get(f"{BASE}sagas").status_code == 200


@pytest.mark.parametrize("kind", [DatabaseError, InterfaceError])
def test_a_database_that_is_away_makes_no_fault(kind: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> None:
        raise kind

    monkeypatch.setattr(request_counts, "add", fail)
    assert [client().get(f"{BASE}sagas").status_code for _ in range(5)] == [401, 401, 401, 429, 429]


def test_failed_logins_count_too_whatever_the_name() -> None:
    for number in range(3):
        answer = client().post("/admin/login/", {"username": f"n{number}", "password": "wrong"})
        assert answer.status_code == 200
    answer = client().post("/admin/login/", {"username": "other", "password": "wrong"})
    assert (answer.status_code, "Too many failed logins" in answer.content.decode()) == (429, True)
    assert 0 < int(answer["Retry-After"]) <= 60
    assert client().get(f"{BASE}sagas").status_code == 429
    assert client().get("/admin/login/").status_code == 200


def test_who_is_logged_in_cannot_try_names_without_end() -> None:
    session = client()
    session.force_login(user("olga", "view_sagalog"))
    assert session.get(f"{BASE}sagas").status_code == 200
    codes = [
        session.post("/admin/login/", {"username": f"n{number}", "password": "wrong"}).status_code
        for number in range(5)
    ]
    assert codes == [200, 200, 200, 429, 429]
    assert session.get(f"{BASE}sagas").status_code == 200


def test_a_limiter_remembers_only_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limiter, "_MAX_WINDOWS", 3)
    process = limiter.Limiter("address", 1, 60, block=1)
    for number in range(10):
        assert not process.spend(str(number))
    assert len(process._windows) <= 3
    assert process.spend("0") > 0  # the database remembers


@pytest.mark.parametrize(
    ("proxies", "connected", "forwarded", "expected"),
    [
        (0, "198.51.100.1", "203.0.113.1", "198.51.100.1"),
        (1, "10.0.0.1", "1.1.1.1, 203.0.113.1", "203.0.113.1"),
        (2, "10.0.0.1", "1.1.1.1, 203.0.113.1, 10.0.0.2", "203.0.113.1"),
        (2, "10.0.0.1", "203.0.113.1", "203.0.113.1"),
        (1, "10.0.0.1", "", "10.0.0.1"),
        (1, "10.0.0.1", "nonsense", "10.0.0.1"),
        (1, "10.0.0.1", "203.0.113.1:4711", "203.0.113.1"),
        (1, "10.0.0.1", "[2001:db8::7]:4711", "2001:db8::"),
        (0, "2001:db8:0:1:aaaa::1", "", "2001:db8:0:1::"),
        (0, "2001:db8:0:1:bbbb::2", "", "2001:db8:0:1::"),
        (0, "::ffff:203.0.113.1", "", "203.0.113.1"),
        (0, "", "", "0.0.0.0"),
        (0, "a\x00b", "", "0.0.0.0"),
    ],
)
def test_whose_address_it_is(proxies: int, connected: str, forwarded: str, expected: str, settings: Any) -> None:
    settings.TRUSTED_PROXIES = proxies
    more: dict[str, Any] = {"HTTP_X_FORWARDED_FOR": forwarded} if forwarded else {}
    assert clients.address(RequestFactory(REMOTE_ADDR=connected, **more).get("/")) == expected


def test_known_credentials_are_few_and_grow_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttling, "_MOST_KNOWN", 2)
    found = throttling.KnownCredentials()
    for digest in ("a", "b", "c"):
        found.note(digest)
    assert [found.has(digest) for digest in ("a", "b", "c", "")] == [False, True, True, False]
    later = time.monotonic() + throttling._KNOWN_SECONDS + 1
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert not found.has("c")
