"""Read the service's HTTP API like any other client, for the judge."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from http.client import HTTPException
from ipaddress import ip_address
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import OpenerDirector, ProxyHandler, Request, build_opener

PAGE = 100
TIMEOUT = 10.0  # seconds for one answer


class ApiError(Exception):
    """The API gave no usable answer. The text names the call and the reason."""


@dataclass(frozen=True, slots=True)
class SagaSeen:
    """A saga as the API lists it."""

    saga_id: str
    correlation_id: str
    status: str


class ApiClient:
    """A read-only client; every method may raise ApiError.

    url: …/api/v1/saga, without a trailing slash. token: for a service that requires a login for reads.
    """

    def __init__(self, url: str, token: str = "") -> None:
        self._url = url.rstrip("/")
        self._opener = opener(url)
        self._headers = {"Accept": "application/json"}
        if token:
            self._headers["Authorization"] = f"Token {token}"

    def sagas(self, since: datetime) -> list[SagaSeen]:
        """Return the sagas that started at `since` or later."""
        items = self._all("sagas", from_date=since.isoformat())
        return [SagaSeen(item["id"], item["correlation_id"], item["status"]) for item in items]

    def lanes(self, saga_id: str) -> dict[str, str]:
        """Return image → outcome."""
        return {item["entity"]: item["outcome"] for item in self._all(f"sagas/{quote(saga_id)}/lanes")}

    def commands(self, saga_id: str) -> dict[tuple[str, str], str]:
        """Return (command, image) → status."""
        items = self._all(f"sagas/{quote(saga_id)}/commands")
        return {(item["name"], item["entity"]): item["status"] for item in items}

    def events(self, saga_id: str) -> int:
        """Return how many events from Pulsar are in the saga's history (it also contains the service's own facts)."""
        return sum(item["source"] == "pulsar" for item in self._all(f"sagas/{quote(saga_id)}/events"))

    def quarantined(self) -> int:
        """Return how many messages are in quarantine, whatever their status, or were only counted."""
        kept = self._total("quarantine")
        return kept + sum(int(item["count"]) for item in self._all("attention") if item["kind"] == "counted")

    def parked(self) -> Counter[str]:
        """Return how many events are parked under each key."""
        parked = Counter[str]()
        for item in self._all("parked"):
            parked[item["key"]] += item["count"]
        return parked

    def _total(self, path: str) -> int:
        return int(self._get(path, limit=1)["total"])

    def _all(self, path: str, **query: str) -> Iterator[dict[str, Any]]:
        offset, total = 0, 1
        while offset < total:
            page = self._get(path, limit=PAGE, offset=offset, **query)
            yield from page["items"]
            offset, total = offset + PAGE, page["total"]

    def _get(self, path: str, **query: Any) -> dict[str, Any]:
        url = f"{self._url}/{path}?{urlencode(query)}"
        for _ in range(5):
            try:
                with self._opener.open(Request(url, headers=self._headers), timeout=TIMEOUT) as answer:  # noqa: S310
                    body: dict[str, Any] = json.load(answer)
                    return body
            except HTTPError as error:
                if error.code != 429:
                    raise ApiError(f"GET {path}: {error.code} {error.reason}") from error
                time.sleep(min(5.0, float(error.headers.get("Retry-After") or 1)))
            except (OSError, HTTPException, ValueError) as error:
                raise ApiError(f"GET {path}: {error}") from error
        raise ApiError(f"GET {path}: too many requests")


def opener(url: str) -> OpenerDirector:
    """Return an opener for `url`: without a proxy on this machine, elsewhere with the environment's proxy settings."""
    return build_opener(ProxyHandler({})) if _is_loopback(urlsplit(url).hostname or "") else build_opener()


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
