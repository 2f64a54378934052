"""The brokers of these tests. Without java or mvn each test is skipped, and says what is missing."""

import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pulsar
import pytest

from devtools.embedded import apache_pulsar, ports
from tests.apache.papers import Authority, Mint
from tests.apache.rig import Broker, Space

PROVIDER = "org.apache.pulsar.broker.authentication.AuthenticationProviderToken"
PLUGIN = "org.apache.pulsar.client.impl.auth.AuthenticationToken"


@dataclass(frozen=True)
class Guarded:
    """A broker that asks for a token and a grant, and also speaks TLS with a certificate for 127.0.0.1."""

    broker: Broker
    mint: Mint
    authority: Authority
    tls_port: int

    def space(self, *roles: str) -> Space:
        """Make a namespace where these roles may consume and produce."""
        space = self.broker.space()
        for role in roles:
            self.broker.ask("POST", f"namespaces/public/{space.name}/permissions/{role}", ["consume", "produce"])
        space.options = {"authentication": pulsar.AuthenticationToken(self.mint.token("admin"))}
        return space


@pytest.fixture(scope="session")
def apache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """Give an Apache Pulsar that asks nobody for anything."""
    _skip_if_missing()
    # How often it looks whether a topic is full; a minute, as it comes.
    broker = Broker(tmp_path_factory.mktemp("apache"), {"backlogQuotaCheckIntervalInSeconds": "1"})
    broker.start()
    yield broker
    broker.close()


@pytest.fixture
def space(apache: Broker, transactional_db: None) -> Space:
    """Give a namespace of the test's own on a broker that runs, and an empty database."""
    return apache.space()


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Give an Apache Pulsar that lets in only whom it knows."""
    _skip_if_missing()
    if shutil.which("openssl") is None:
        pytest.skip("openssl is needed to make certificates")
    folder = tmp_path_factory.mktemp("guarded")
    mint = Mint(secrets.token_bytes(32))
    authority = Authority(folder / "authority").found()
    tls_port = ports.free()
    broker = Broker(folder, _guards(folder, mint, authority, tls_port), mint.token("admin"))
    broker.start()
    yield Guarded(broker, mint, authority, tls_port)
    broker.close()


def _guards(folder: Path, mint: Mint, authority: Authority, tls_port: int) -> dict[str, str]:
    secret = folder / "secret.key"
    secret.write_bytes(mint.secret)
    certificate, key = authority.certify("IP:127.0.0.1")
    return {
        "authenticationEnabled": "true",
        "authorizationEnabled": "true",
        "authenticationProviders": PROVIDER,
        "tokenSecretKey": secret.as_uri(),
        "superUserRoles": "admin",
        "brokerClientAuthenticationPlugin": PLUGIN,
        "brokerClientAuthenticationParameters": f'{{"token":"{mint.token("admin")}"}}',
        # How often it looks whether a connection's token has expired; a minute, as it comes.
        "authenticationRefreshCheckSeconds": "1",
        "brokerServicePortTls": str(tls_port),
        "tlsCertificateFilePath": str(certificate),
        "tlsKeyFilePath": str(key),
        "tlsTrustCertsFilePath": str(authority.certificate),
    }


def _skip_if_missing() -> None:
    missing = apache_pulsar.missing()
    if missing:
        pytest.skip(missing)
