"""Apache Pulsar's admin REST interface, as far as bridge and doctor read it. Optional: PULSAR_ADMIN_URL."""

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
    """The interface does not answer, or does not allow the question. The text is ours: it quotes no answer."""


class PulsarAdmin:
    """Reads from the admin interface. Each call opens a connection of its own and waits SECONDS at most for an answer.

    options: the setting PULSAR.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._url = urlsplit(options["admin_url"])
        self._options = options

    def topics(self, namespace: str) -> list[str]:
        """The full names of the topics of a namespace ("tenant/name"), partitioned ones by their own name too."""
        found: set[str] = set()
        for part in ("", "/partitioned"):
            found.update(self._get(f"/admin/v2/persistent/{quote(namespace)}{part}") or [])
        return sorted(found)

    def stats(self, topic: str) -> Mapping[str, Any] | None:
        """Backlog, subscriptions and their consumers of a topic (its full name); None if there is no such topic."""
        place = "/admin/v2/" + quote(topic.replace("://", "/", 1))
        found = self._get(f"{place}/stats")
        if found is None:
            found = self._get(f"{place}/partitioned-stats?perPartition=false")
        return found if isinstance(found, Mapping) else None

    def _get(self, path: str) -> Any:
        url = self._url._replace(path=self._url.path.rstrip("/") + path.partition("?")[0], query=path.partition("?")[2])
        for _ in range(_REDIRECTS):
            status, body, elsewhere = self._ask(url)
            if status == 404:
                return None
            if status == 200:
                return _parsed(body)
            there = urlsplit(urljoin(url.geturl(), elsewhere))
            # The token goes along: never from https to http.
            if status not in (302, 307) or not elsewhere or there.scheme != url.scheme:
                break
            # A broker of several names the one that has the topic.
            url = there
        raise AdminUnavailable(f"it answers with status {status}")

    def _ask(self, url: SplitResult) -> tuple[int, bytes, str]:
        """Status, body and where to ask instead, if it says so."""
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
        place = url.hostname or "", url.port
        if url.scheme != "https":
            return http.client.HTTPConnection(place[0], place[1] or 8080, timeout=SECONDS)
        context = ssl.create_default_context(cafile=self._options["tls_trust_certs_file"] or None)
        if self._options["tls_allow_insecure"]:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        elif not self._options["tls_validate_hostname"]:
            context.check_hostname = False
        return http.client.HTTPSConnection(place[0], place[1] or 8443, timeout=SECONDS, context=context)


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError as failure:
        raise _no_answer(failure) from failure


def _no_answer(failure: Exception) -> AdminUnavailable:
    return AdminUnavailable(f"no answer that can be used ({type(failure).__name__})")
