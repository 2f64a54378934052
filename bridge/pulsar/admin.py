"""Read Apache Pulsar's admin REST interface, for bridge and doctor. Optional: PULSAR_ADMIN_URL."""

import http.client
import json
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from bridge.pulsar.client import read_token

SECONDS = 3.0
_REDIRECTS = 4


class AdminUnavailable(Exception):
    """The interface does not answer or refuses the request. The text quotes nothing of its answer."""


class PulsarAdmin:
    """A client of the admin interface. Each call opens its own connection and waits at most SECONDS for an answer.

    options: the setting PULSAR.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._url = urlsplit(options["admin_url"])
        self._options = options

    def topics(self, namespace: str) -> list[str]:
        """Return the full names of a namespace's topics ("tenant/name"); of partitioned ones also the base name."""
        found: set[str] = set()
        for part in ("", "/partitioned"):
            found.update(self._get(f"/admin/v2/persistent/{quote(namespace)}{part}") or [])
        return sorted(found)

    def stats(self, topic: str) -> Mapping[str, Any] | None:
        """Return a topic's statistics: backlog, subscriptions, consumers. None if the topic (full name) is unknown."""
        path = "/admin/v2/" + quote(topic.replace("://", "/", 1))
        found = self._get(f"{path}/stats")
        if found is None:
            found = self._get(f"{path}/partitioned-stats?perPartition=false")
        return found if isinstance(found, Mapping) else None

    def _get(self, path: str) -> Any:
        url = self._url._replace(path=self._url.path.rstrip("/") + path.partition("?")[0], query=path.partition("?")[2])
        for _ in range(_REDIRECTS):
            status, body, location = self._request(url)
            if status == 404:
                return None
            if status == 200:
                return _parsed(body)
            target = urlsplit(urljoin(url.geturl(), location))
            # The token is sent again: never follow a redirect from https to http.
            if status not in (302, 307) or not location or target.scheme != url.scheme:
                break
            # In a cluster a broker redirects to the one that owns the topic.
            url = target
        raise AdminUnavailable(f"it answers with status {status}")

    def _request(self, url: SplitResult) -> tuple[int, bytes, str]:
        """Return status, body and the Location header; the latter is empty if there is none."""
        connection = self._connection(url)
        headers = {"Accept": "application/json"}
        file = self._options["token_file"]
        token = read_token(Path(file)) if file else self._options["token"]
        if token:
            headers["Authorization"] = f"Bearer {token}"
        try:
            connection.request("GET", url._replace(scheme="", netloc="", fragment="").geturl(), headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.headers.get("Location", "")
        except (OSError, http.client.HTTPException) as failure:
            raise _no_answer(failure) from failure
        finally:
            connection.close()

    def _connection(self, url: SplitResult) -> http.client.HTTPConnection:
        host = url.hostname or ""
        if url.scheme != "https":
            return http.client.HTTPConnection(host, url.port or 8080, timeout=SECONDS)
        context = ssl.create_default_context(cafile=self._options["tls_trust_certs_file"] or None)
        if self._options["tls_allow_insecure"]:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        elif not self._options["tls_validate_hostname"]:
            context.check_hostname = False
        return http.client.HTTPSConnection(host, url.port or 8443, timeout=SECONDS, context=context)


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError as failure:
        raise _no_answer(failure) from failure


def _no_answer(failure: Exception) -> AdminUnavailable:
    return AdminUnavailable(f"no usable answer ({type(failure).__name__})")
