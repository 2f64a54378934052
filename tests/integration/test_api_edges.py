"""Every error of the API is JSON of the contract, whatever was asked, and whatever is away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from io import BytesIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.signals import request_finished, request_started
from django.db import OperationalError, close_old_connections, connection
from django.test import Client, RequestFactory
from django.urls import URLPattern, URLResolver, get_resolver
from knox.models import AuthToken

from sagaproject.wsgi import application
from sagas.models import Decision
from tests.integration.api import BASE, Api, operator, user
from tests.integration.decided import running

pytestmark = pytest.mark.django_db

DEEP = "[" * 5_000
TYPES = ("application/json", "application/x-www-form-urlencoded")


def held(answer: Any, *codes: int) -> dict[str, Any]:
    """An error as the contract tells of it: {"detail"}, with "errors" only where the request is wrong."""
    assert answer.status_code in codes, (answer.status_code, answer.content[:300])
    assert answer["Content-Type"] == "application/json", answer.content[:300]
    found: dict[str, Any] = json.loads(answer.content)
    assert set(found) <= ({"detail", "errors"} if answer.status_code == 400 else {"detail"})
    assert isinstance(found["detail"], str)
    return found


@pytest.fixture
def client() -> Client:
    return Client(raise_request_exception=False)


@pytest.fixture
def staff() -> Client:
    client = Client(raise_request_exception=False)
    client.force_login(user("olga", "view_sagalog", "operate_saga", "view_job", "run_job"))
    return client


def reads() -> list[str]:
    """Every address of the API, with something in the place of what varies."""
    found: list[str] = []

    def walk(patterns: list[Any], before: str) -> None:
        for item in patterns:
            route = before + str(item.pattern).replace("^", "").replace("$", "").replace("/?", "")
            if isinstance(item, URLResolver):
                walk(item.url_patterns, route)
            elif isinstance(item, URLPattern) and route.startswith("api/"):
                found.append("/" + plain(route))

    walk(get_resolver().url_patterns, "")
    return sorted(set(found))


def plain(route: str) -> str:
    while "(?P<" in route:
        start = route.index("(?P<")
        end, depth = start, 0
        for end in range(start, len(route)):
            depth += {"(": 1, ")": -1}.get(route[end], 0)
            if depth == 0:
                break
        route = route[:start] + "7" + route[end + 1 :]
    return route


ADDRESSES = reads()


def test_the_walk_finds_the_addresses() -> None:
    assert {f"{BASE}sagas/7", f"{BASE}commands/7/retry", "/api/schema", "/api/docs", f"{BASE}health"} <= set(ADDRESSES)
    assert len(ADDRESSES) > 50


@pytest.mark.parametrize(
    "token",
    [b"\xff\xfe", b"a\x80b", "ñandú".encode(), b"\x00" * 64, b"x" * 100_000, b"e" * 64, b"", b"a b c", "٣".encode()],
)
def test_no_token_is_a_fault(token: bytes, client: Client, settings: Any) -> None:
    for opened in (True, False):
        settings.API_OPEN_READS = opened
        for header in (b"Token " + token, b"token  " + token, b"Token" + token):
            answer = client.get(f"{BASE}sagas", HTTP_AUTHORIZATION=header.decode("latin-1"))
            if not (answer.status_code == 200 and opened):
                held(answer, 401)


def test_a_good_token_is_taken(settings: Any) -> None:
    settings.API_OPEN_READS = False
    token = AuthToken.objects.create(user("vera", "view_sagalog"))[1]
    assert Client().get(f"{BASE}sagas", headers={"authorization": f"Token {token}"}).status_code == 200


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (DEEP, TYPES[0]),
        ('{"reason": ' + DEEP, TYPES[0]),
        ('{"a":' * 5_000, TYPES[0]),
        (b"\xff\xfe", TYPES[0]),
        ('{"reason": NaN}', TYPES[0]),
        ('{"reason": "\\ud800"}', TYPES[0]),
        ('{"reason": "a\\u0000b"}', TYPES[0]),
        ('{"paused": ' + "9" * 5_000 + "}", TYPES[0]),
        ('"text"', TYPES[0]),
        ("null", TYPES[0]),
        ("[]", TYPES[0]),
        ("&" * 5_000, TYPES[1]),
        ("a=1&" * 5_000, TYPES[1]),
        ("reason=%ff%00", TYPES[1]),
    ],
)
def test_no_body_is_a_fault(body: Any, kind: str, staff: Client) -> None:
    saga, _images = running()
    for path in (f"sagas/{saga.id}/cancel", "publishing", "parked/attach", "commands/decide"):
        held(staff.post(f"{BASE}{path}", body, kind), 400)
    assert not Decision.objects.exists()


@pytest.mark.parametrize("kind", TYPES)
def test_a_body_that_is_too_large_is_reported(kind: str, settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 10_000
    saga, _images = running()
    body = json.dumps({"reason": "x" * 10_000}) if kind == TYPES[0] else "reason=" + "x" * 10_000
    token = AuthToken.objects.create(user("tom", "operate_saga"))[1]
    by_session = Client(raise_request_exception=False, enforce_csrf_checks=True)
    by_session.force_login(operator())
    by_token: dict[str, Any] = {"headers": {"authorization": f"Token {token}"}}
    for client, more in ((Client(), by_token), (Client(), {}), (by_session, {})):
        answer = client.post(f"{BASE}sagas/{saga.id}/cancel", body, kind, **more)
        held(answer, *([413] if more else [413, 401, 403]))
    assert Client().post("/api/nothing", body, kind).status_code == 404


def test_an_unfit_body_type_and_an_unfit_answer_type(staff: Client) -> None:
    saga, _images = running()
    path = f"{BASE}sagas/{saga.id}/cancel"
    for kind in ("text/xml", "multipart/form-data; boundary=x", "application/octet-stream", "", "nonsense"):
        held(staff.post(path, b"<a/>", kind), 415, 400)
    for accept in ("application/xml", "image/png", "nonsense", "*", ";", "\xff"):
        held(staff.get(f"{BASE}sagas", headers={"accept": accept}), 406)
    held(staff.get(f"{BASE}sagas", {"format": "xml"}), 404)


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_wrong_method_is_reported_in_json(address: str, staff: Client) -> None:
    for method in ("DELETE", "PUT", "PATCH", "TRACE", "PROPFIND", "POST", "GET"):
        answer = staff.generic(method, address, headers={"accept": "*/*"})
        if answer.status_code >= 400:
            held(answer, 400, 404, 405, 409, 415)
        else:
            assert method in ("GET", "POST"), (method, answer.status_code)


@pytest.mark.parametrize(
    "path",
    [
        "/api",
        "/api/",
        "/api/nothing",
        "/api/v1",
        "/api/v2/saga/sagas",
        f"{BASE}nothing",
        f"{BASE}sagas/7/none",
        f"{BASE}%00",
    ],
)
def test_an_address_that_there_is_not(path: str, client: Client, settings: Any) -> None:
    for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS"):
        held(client.generic(method, path), 404)
    settings.API_OPEN_READS = False
    held(client.get(path), 404, 401)


@pytest.mark.parametrize("address", ADDRESSES)
def test_without_a_login_each_address_says_so_in_json(address: str, client: Client, settings: Any) -> None:
    settings.API_OPEN_READS = False
    if address == f"{BASE}health":
        return
    for method in ("GET", "POST"):
        if not address.startswith(("/api/docs", "/api/schema")):  # whose rights are made at the start
            assert held(client.generic(method, address), 401)


def test_a_forged_form_is_refused_in_json(client: Client) -> None:
    forged = Client(enforce_csrf_checks=True, raise_request_exception=False)
    forged.force_login(operator())
    saga, _images = running()
    for kind in TYPES:
        assert "CSRF" in held(forged.post(f"{BASE}sagas/{saga.id}/cancel", "", kind), 403)["detail"]
    held(forged.post(f"{BASE}health"), 405)
    held(forged.post("/api/nothing"), 404)


def test_a_host_that_is_not_ours(client: Client) -> None:
    for path in (f"{BASE}sagas", "/api/nothing", f"{BASE}health", "/api/schema"):
        held(client.get(path, headers={"host": "evil.example"}), 400)
        held(client.get(path, headers={"host": "a b\x00"}), 400)


def test_too_many_requests(client: Client, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from rest_framework.throttling import AnonRateThrottle

    from sagas.api.base import ApiView

    class Once(AnonRateThrottle):
        rate = "1/day"

    monkeypatch.setattr(ApiView, "throttle_classes", [Once])
    assert client.get(f"{BASE}sagas", REMOTE_ADDR="203.0.113.9").status_code == 200
    held(client.get(f"{BASE}sagas", REMOTE_ADDR="203.0.113.9"), 429)


@pytest.mark.parametrize("raised", [RuntimeError("MRN 123"), KeyError("MRN 123"), RecursionError("MRN 123")])
def test_a_fault_is_500_in_json_and_shows_nothing(
    raised: Exception, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise raised

    monkeypatch.setattr("sagas.queries.list_sagas", fail)
    assert held(client.get(f"{BASE}sagas"), 500) == {"detail": "Internal error"}


def test_a_database_that_is_away_is_503_also_outside_of_views(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise OperationalError("host db.internal, user saga")

    monkeypatch.setattr("sagas.queries.list_sagas", fail)
    assert "internal" not in held(client.get(f"{BASE}sagas"), 503)["detail"]
    monkeypatch.undo()
    monkeypatch.setattr("django.middleware.common.CommonMiddleware.process_request", fail)
    assert "internal" not in held(client.get(f"{BASE}sagas"), 503)["detail"]


@pytest.fixture
def read_only() -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = on")
    yield
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = off")


@pytest.mark.django_db(transaction=True)
def test_a_database_that_takes_no_changes(request: pytest.FixtureRequest) -> None:
    saga, _images = running()
    token = AuthToken.objects.create(user("tom", "operate_saga"))[1]
    stale = AuthToken.objects.create(User.objects.get(username="tom"))[0]
    AuthToken.objects.filter(pk=stale.pk).update(expiry="2020-01-01T00:00:00Z")  # knox would delete it on the way
    operating = Api(operator())
    request.getfixturevalue("read_only")
    paths = (f"sagas/{saga.id}/cancel", f"sagas/{saga.id}/force-compensation", "publishing")
    for path in paths:
        body = {"reason": "x", **({"paused": True} if path == "publishing" else {})}
        assert "read-only" in held(operating.post(path, body), 503)["detail"]
    by_token = Client(raise_request_exception=False, headers={"authorization": f"Token {token}"})
    held(by_token.get(f"{BASE}sagas/{saga.id}"), 503)
    assert operating.get(f"sagas/{saga.id}").status_code == 200
    assert operating.get("attention").status_code == 200


@pytest.mark.parametrize(
    "moment",
    [
        "0001-01-01T00:00:00+23:00",
        "2026-03-01T00:00:00+23:00",
        "2026-03-01T00:00:00-23:59",
        "9999-12-31T23:59:59-23:00",
        "0001-01-01",
        "9999-12-31",
        "0000-01-01",
        "20260301123045-0500",
        "2026-W10-1",
        "2026-03-01x12:00",
        "2026-03-01T24:00",
        "2026-03-01T12:00:60",
        "2026-03-01T12:00:00+24:00",
        "٢٠٢٦-03-01",
        "2026-03-01T12:00:00.1234567890123Z",
        "\x00",
    ],
)
def test_no_time_is_a_fault(moment: str) -> None:
    wrong = {"0001-01-01T00:00:00+23:00", "9999-12-31T23:59:59-23:00", "2026-W10-1"}
    for name in ("from_date", "to_date"):
        answer = Api().get("sagas", {name: moment})
        assert answer.status_code in ((400,) if moment in wrong else (200, 400))
        if answer.status_code == 400:
            assert list(answer.json()["errors"]) == [name]


def test_a_time_is_taken_as_its_offset_says() -> None:
    saga, _images = running()
    at = Api().get(f"sagas/{saga.id}").json()["start_time"]
    for hours in ("+23:00", "-23:00", "+2300", "+23"):
        sign = 1 if hours[0] == "+" else -1
        there = (datetime.fromisoformat(at) + timedelta(hours=23 * sign)).strftime("%Y-%m-%dT%H:%M:%S.%f") + hours
        assert Api().get("sagas", {"from_date": there, "to_date": there}).json()["total"] == 1


def served(path: str, **environ: Any) -> tuple[int, str, bytes]:
    """What the WSGI application answers: (status, content type, body). Django's client makes requests of its own."""
    told: dict[str, Any] = {}

    def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        told["status"], told["headers"] = int(status.split(maxsplit=1)[0]), dict(headers)

    path, _mark, query = path.partition("?")
    answer = application(RequestFactory()._base_environ(PATH_INFO=path, QUERY_STRING=query, **environ), start)  # type: ignore[attr-defined]
    body = b"".join(answer)
    return told["status"], told["headers"].get("Content-Type", ""), body


CODECS = ("zlib", "rot13", "hex", "undefined", "utf-16", "idna", "unicode_escape", "utf-8", "nothing")


@pytest.mark.parametrize(
    "kind", [*(f"text/plain; charset={name}" for name in CODECS), "a/b; c*=nope''x%ff", "a/b; charset*=nope''x"]
)
@pytest.mark.usefixtures("_kept_connection")
def test_no_content_type_is_a_fault(kind: str) -> None:
    many = "&".join(f"p{n}=1" for n in range(1_001))
    for path in (f"{BASE}sagas?task_id=%ff%e9", f"{BASE}sagas/by-task/x", "/admin/login/?next=%ff", "/health?x=%ff"):
        assert served(path, CONTENT_TYPE=kind)[0] in (200, 503), path
    assert served(f"{BASE}sagas?{many}", CONTENT_TYPE=kind)[:2] == (400, "application/json")
    for header in ("a/b; c*=nope''x%ff", "*/*, a/b; c*=nope''x%ff"):
        assert served(f"{BASE}sagas", CONTENT_TYPE=kind, HTTP_ACCEPT=header)[:2] == (406, "application/json")


@pytest.mark.usefixtures("_kept_connection")
def test_a_body_is_utf8_whatever_charset_it_names() -> None:
    saga, _images = running()
    token = AuthToken.objects.create(user("tom", "operate_saga"))[1]
    bodies = {
        "application/json": '{"reason": "mañana", "dry_run": true}'.encode(),
        "application/x-www-form-urlencoded": b"reason=ma%C3%B1ana&dry_run=true",
    }
    for charset in CODECS:
        for kind, body in bodies.items():
            said = {
                "REQUEST_METHOD": "POST",
                "CONTENT_TYPE": f"{kind}; charset={charset}",
                "CONTENT_LENGTH": str(len(body)),
                "wsgi.input": BytesIO(body),
                "HTTP_AUTHORIZATION": f"Token {token}",
            }
            assert served(f"{BASE}sagas/{saga.id}/cancel", **said)[0] == 200, said


@pytest.fixture
def _kept_connection() -> Iterator[None]:
    """The end of a request is not the end of the test's connection."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@pytest.mark.parametrize(
    "key", ['"\\000aaaaaaaaaaaa"', "ñññññññññññ", "a" * 5_000, "'; drop", '"\\377\\000\\001\\002\\003"']
)
def test_no_session_cookie_is_a_fault(key: str, client: Client, settings: Any) -> None:
    settings.API_OPEN_READS = False
    for path, codes in (
        (f"{BASE}sagas", (401,)),
        ("/admin/", (302,)),
        ("/admin/login/", (200,)),
        ("/health", (200, 503)),
    ):
        answer = client.get(path, headers={"cookie": f"sessionid={key}; csrftoken={key}; django_language={key}"})
        assert answer.status_code in codes, path
