"""Hypothesis over everything that anybody may send to the API and the admin: no answer is a fault, errors are JSON.

`API_EXAMPLES` says how many requests of each kind (make nightly: many).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.db.models import Model
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from compensation.models import Command
from sagas.api import parameters
from tests.integration import decided
from tests.integration.api import BASE
from tests.integration.test_admin_parameters import declared
from tests.integration.test_api_edges import ADDRESSES

pytestmark = [pytest.mark.django_db, pytest.mark.timeout(900)]

EXAMPLES = int(os.environ.get("API_EXAMPLES", "6"))
HOW = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)
LISTS = sorted(admin.site._registry, key=lambda model: model._meta.label)

# What broke something once, or is known to break something somewhere.
NASTY = (
    *(
        "",
        "0",
        "-1",
        "9" * 30,
        "9" * 5_000,
        "1e999",
        "NaN",
        "true",
        "null",
        "[]",
        "{}",
        "\x00",
        "a\x00b",
        "\u202e",
        "'",
        '"',
        "%",
    ),
    *("2026-03-01T00:00:00+23:00", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-02-30", "1", "٣"),
    *(
        "00000000-0000-0000-0000-000000000000",
        "image_processing",
        "exhausted",
        "STARTED",
        "\\",
        "../..",
        "a" * 10_000,
        "\ufffe",
        "😀",
    ),
)
texts = st.one_of(st.sampled_from(NASTY), st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
# Percent-encoded bytes, of which not all are UTF-8.
raw = st.one_of(texts.map(quote_plus), st.binary(max_size=10).map(quote))
NAMES = sorted(
    {
        name
        for form in vars(parameters).values()
        if isinstance(form, type) and issubclass(form, parameters.Parameters)
        for name in form.base_filters
    }
    | {"format", "page", "cursor", "ordering", "payload__a", "\x00"}
)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
)
FIELDS = (
    "reason",
    "dry_run",
    "lane",
    "apply",
    "action",
    "ids",
    "saga",
    "planned_before",
    "service",
    "paused",
    "key",
    "event",
    "saga_type",
)
bodies = st.one_of(
    st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=5).map(json.dumps).map(str.encode),
    json_values.map(json.dumps).map(str.encode),
    st.dictionaries(st.sampled_from(FIELDS), raw, max_size=4).map(
        lambda said: "&".join(f"{k}={v}" for k, v in said.items()).encode()
    ),
    st.binary(max_size=50),
)
HEADERS = (
    *("Authorization", "Accept", "Accept-Language", "Cookie", "Idempotency-Key", "X-Forwarded-For"),
    *("X-Forwarded-Proto", "Referer", "Origin", "X-CSRFToken", "Range", "X-HTTP-Method-Override"),
)
# A server hands headers over as Latin-1, and none with a line end or a NUL.
header_values = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=40)
headers = st.dictionaries(
    st.sampled_from(HEADERS),
    st.one_of(
        header_values, header_values.map("Token {}".format), header_values.map("sessionid={}; csrftoken=a".format)
    ),
    max_size=3,
)
KINDS = st.sampled_from(
    ["application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain", ""]
)


@pytest.fixture(params=["operator", "nobody"])
def client(request: pytest.FixtureRequest) -> Client:
    decided.failed()
    decided.quarantined()
    client = Client(raise_request_exception=False)
    if request.param == "operator":
        client.force_login(User.objects.create_superuser("root", "root@example.org", "x"))
    return client


def ids() -> list[str]:
    command = Command.objects.first()
    assert command is not None
    return [str(command.id), str(command.saga_id), "image_processing"]


@pytest.mark.parametrize("address", [address for address in ADDRESSES if not address.endswith("/")])
def test_the_api_answers_anything_in_json(address: str, client: Client) -> None:
    known = ids()

    @HOW
    @given(
        st.sampled_from(["GET", "POST", "GET", "POST", "HEAD", "OPTIONS", "PUT"]),
        st.one_of(st.sampled_from(known), raw),
        st.lists(st.tuples(st.sampled_from(NAMES), raw), max_size=4),
        headers,
        bodies,
        KINDS,
    )
    def ask(method: str, part: str, query: list[tuple[str, str]], more: dict[str, str], body: bytes, kind: str) -> None:
        path = address.replace("/7", f"/{part}")
        said = {} if method in ("GET", "HEAD", "OPTIONS") else {"data": body, "content_type": kind}
        words = "&".join(f"{quote_plus(name)}={value}" for name, value in query)
        answer = client.generic(method, path, QUERY_STRING=words, headers=more, **said)  # type: ignore[arg-type]
        assert answer.status_code < 500 or address == f"{BASE}health", (answer.status_code, answer.content[:300])
        if answer.status_code >= 400 and "html" not in more.get("Accept", "") and method != "HEAD":
            assert answer["Content-Type"] == "application/json"
            assert isinstance(json.loads(answer.content)["detail"], str)

    ask()


@pytest.fixture
def root() -> Client:
    decided.failed()
    client = Client(raise_request_exception=False)
    client.force_login(User.objects.create_superuser("root", "root@example.org", "x"))
    return client


@pytest.mark.parametrize("model", LISTS, ids=lambda model: model._meta.label)
def test_a_list_of_the_admin_answers_anything(model: type[Model], root: Client) -> None:
    path = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    names = [*declared(model), "p", "all", "e", "q", "o", "_facets", "_to_field", "_popup", "_changelist_filters"]
    actions = st.sampled_from(["retry_chosen", "mark_done_chosen", "delete_selected", "", "\x00"])

    @HOW
    @given(
        st.lists(st.tuples(st.one_of(st.sampled_from(names), texts), raw), max_size=4),
        st.none() | st.tuples(actions, st.lists(texts, max_size=3), st.sampled_from(["0", "1", "x"]), headers),
    )
    def ask(query: list[tuple[str, str]], form: tuple[str, list[str], str, dict[str, str]] | None) -> None:
        words = "&".join(f"{quote_plus(name)}={value}" for name, value in query)
        if form is None:
            answer = root.get(path, QUERY_STRING=words)
        else:
            said = {
                "action": form[0],
                "_selected_action": form[1],
                "index": form[2],
                "select_across": form[2],
                "post": "yes",
            }
            answer = root.post(path, said, QUERY_STRING=words)
        assert answer.status_code < 500, answer.content[:300]
        assert answer["Content-Type"].startswith("text/html")

    ask()


PAGE_NAMES = (
    *("saga", "lane", "ids", "stream", "key", "event", "message", "service", "entity", "planned_before", "dismissed"),
    *("page", "lanes", "commands", "timeline", "steps", "next", "s", "extended", "term", "app_label", "model_name"),
    *("field_name", "language", "_popup", "_to_field"),
)


def pages() -> list[str]:
    """Every address of the admin, with {} for what varies."""
    found: list[str] = []

    def walk(patterns: list[Any], before: str) -> None:
        for item in patterns:
            route = before + str(item.pattern)
            if isinstance(item, URLResolver):
                walk(item.url_patterns, route)
            elif isinstance(item, URLPattern) and route.startswith(("admin/", "i18n/")):
                found.append("/" + _open(route))

    walk(get_resolver().url_patterns, "")
    return sorted(set(found))


def _open(route: str) -> str:
    plain, rest = "", route
    while "<" in rest:
        start, end = rest.index("<"), rest.index(">")
        plain, rest = plain + rest[:start] + "{}", rest[end + 1 :]
    return (plain + rest).replace("(?P{}[a-z]+)", "{}").replace("(?P{}.*)$", "{}").replace("^", "").replace("$", "")


PAGES = pages()


def test_the_walk_finds_the_pages() -> None:
    assert {"/admin/sagas/sagalog/{}/change/", "/admin/auth/user/{}/password/", "/admin/r/{}/{}/"} <= set(PAGES)
    assert len(PAGES) > 40


@pytest.mark.parametrize("address", PAGES)
def test_a_page_of_the_admin_answers_anything(address: str, root: Client) -> None:
    known = ids()
    names = st.sampled_from(PAGE_NAMES)

    @HOW
    @given(
        st.one_of(st.sampled_from([*known, "1", "15"]), raw),
        st.lists(st.tuples(names, st.one_of(st.sampled_from(known), raw)), max_size=4),
        st.booleans(),
    )
    def ask(part: str, query: list[tuple[str, str]], posts: bool) -> None:
        path = address.replace("{}", part)
        words = "&".join(f"{name}={value}" for name, value in query)
        if posts and "logout" not in path and "password_change" not in path:
            answer = root.generic("POST", path, words, "application/x-www-form-urlencoded")
        else:
            answer = root.get(path, QUERY_STRING=words)
        assert answer.status_code < 500, (path, answer.content[:300])

    ask()


@pytest.mark.parametrize("address", [page for page in PAGES if "{}" in page])
def test_no_key_in_an_address_of_the_admin_is_a_fault(address: str, root: Client) -> None:
    for key in ("%00", "a%00b", "abc", "9" * 30, "9" * 5_000, "-1", "_00", "_5Fx", "%ff", "%F0%9F%98%80", "%2F", ".."):
        for path in _filled(address, key):
            assert root.get(path).status_code < 500, path


def _filled(address: str, key: str) -> Iterator[str]:
    yield address.replace("{}", key)
    if address.count("{}") > 1:
        for first in range(1, 25):  # content types
            yield address.replace("{}", str(first), 1).replace("{}", key)
