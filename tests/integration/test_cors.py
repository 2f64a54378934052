"""Web pages of other origins: those that are listed may use the API with a token; no other page, and no session."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from tests.integration.api import BASE, Api, viewer

PAGE = "https://viewer.example"
OTHER = "https://elsewhere.example"
ALLOW = "Access-Control-Allow-"
NO_API = ["/admin/", "/admin/login/", "/api/docs", "/api/schema", "/health", "/", "/static/sagas/saga.css"]

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def listed(settings: Any) -> None:
    settings.CORS_ALLOWED_ORIGINS = [PAGE]


def granted(answer: Any) -> dict[str, str]:
    """What an answer allows pages of other origins."""
    return {name.title(): value for name, value in answer.items() if name.lower().startswith("access-control-")}


def preflight(path: str, origin: str = PAGE, method: str = "POST") -> Any:
    """The question that a browser asks before a request with a token."""
    headers = {
        "origin": origin,
        "access-control-request-method": method,
        "access-control-request-headers": "authorization,content-type,idempotency-key",
    }
    return Client().options(path, headers=headers)


def test_a_preflight_names_the_methods_and_headers_that_the_api_needs_and_no_more() -> None:
    answer = preflight(f"{BASE}commands/decide")

    assert answer.status_code == 200
    assert granted(answer) == {
        f"{ALLOW}Origin": PAGE,
        f"{ALLOW}Methods": "GET, POST",
        f"{ALLOW}Headers": "authorization, content-type, idempotency-key",
        "Access-Control-Max-Age": "86400",
        "Access-Control-Expose-Headers": "retry-after",
    }
    assert "origin" in answer["Vary"]


def test_a_listed_page_reads_answers_and_refusals() -> None:
    assert Api(viewer()).client.get(f"{BASE}sagas", headers={"origin": PAGE})[f"{ALLOW}Origin"] == PAGE
    refused = Client().post(f"{BASE}commands/decide", headers={"origin": PAGE})
    assert (refused.status_code, refused[f"{ALLOW}Origin"]) == (401, PAGE)
    assert f"{ALLOW}Credentials" not in refused


@pytest.mark.parametrize(
    "origin", [OTHER, "null", f"{PAGE}.elsewhere.example", "http://viewer.example", f"{PAGE}:8443"]
)
def test_any_other_page_gets_nothing(origin: str) -> None:
    simple = Api(viewer()).client.get(f"{BASE}sagas", headers={"origin": origin})

    assert simple.status_code == 200  # a browser does not show it to the page
    assert granted(simple) == {}
    assert granted(preflight(f"{BASE}sagas", origin)) == {}


def test_no_page_gets_anything_if_none_is_listed(settings: Any) -> None:
    settings.CORS_ALLOWED_ORIGINS = []
    assert granted(Api(viewer()).client.get(f"{BASE}sagas", headers={"origin": PAGE})) == {}
    assert granted(preflight(f"{BASE}sagas")) == {}


@pytest.mark.parametrize("path", NO_API)
def test_only_the_api_answers_other_origins(path: str) -> None:
    assert granted(Client().get(path, headers={"origin": PAGE})) == {}
    assert granted(preflight(path)) == {}
