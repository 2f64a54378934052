"""Who may in, and who not: tokens, grants, certificates; and what a person sees of it in doctor, health and logs."""

import time
import uuid
from datetime import datetime
from pathlib import Path

import pytest

from bridge.models import Event, Heartbeat
from sagaproject import health
from tests.apache.conftest import Guarded
from tests.apache.papers import Authority, Mint
from tests.apache.rig import Bridge, Space, bridges, doctor, eventually, starts

# Where a time-out is what is waited for.
IMPATIENT = {"PULSAR_OPERATION_TIMEOUT": "2"}

pytestmark = [pytest.mark.apache, pytest.mark.timeout(180)]


@pytest.fixture
def space(guarded: Guarded, transactional_db: None) -> Space:
    """Give a namespace where the role saga may consume and produce."""
    return guarded.space("saga")


def is_ready() -> bool:
    return bool(health.report()["pulsar_consumer_status"] == "ready")


def well_since() -> list[datetime | None]:
    """Since when each bridge is connected and has caught up."""
    return list(Heartbeat.objects.filter(kind="bridge").values_list("well_since", flat=True))


def has_failed(bridge: Bridge) -> bool:
    """Whether the bridge has told of its failure in the log, and by its heartbeat."""
    return "WARNING bridge.consumer" in bridge.words and any(
        row.detail.get("error") for row in Heartbeat.objects.filter(kind="bridge")
    )


def tls_url(guarded: Guarded, host: str = "127.0.0.1") -> str:
    return f"pulsar+ssl://{host}:{guarded.tls_port}"


def test_the_right_token_with_its_grants(guarded: Guarded, space: Space, tmp_path: Path) -> None:
    environment = {**space.environment, "PULSAR_TOKEN": guarded.mint.token("saga")}
    space.publish("retrieval-started", starts(3))
    with bridges(environment, tmp_path):
        assert eventually(lambda: Event.objects.count() == 3)
        # A bridge that has just subscribed has not caught up, and says so until its next beat.
        assert eventually(lambda: is_ready() and None not in well_since())
        said = doctor(environment)
        ours = ("token", "pulsar", "topics", "bridge")
        assert {name: said[name]["says"] for name in ours if not said[name]["well"]} == {}


@pytest.mark.parametrize(
    ("token", "words"),
    [
        ("", "PULSAR_TOKEN is not set"),
        ("wrong", "may be a wrong token"),
        ("garbage", "may be a wrong token"),
        ("expired", "may be a wrong token"),
    ],
)
def test_a_token_that_is_not_good_is_reported_as_the_likely_cause_of_a_time_out(
    token: str, words: str, guarded: Guarded, space: Space, tmp_path: Path
) -> None:
    tokens = {
        "wrong": Mint(b"another secret of thirty-two byte").token("saga"),
        "garbage": "no-token-at-all",
        "expired": guarded.mint.token("saga", -60),
        "": "",
    }
    environment = {**space.environment, "PULSAR_TOKEN": tokens[token], **IMPATIENT}
    with bridges(environment, tmp_path) as (bridge,):
        assert eventually(lambda: has_failed(bridge))
        assert "possibly a missing or wrong token" in bridge.words
        assert not is_ready()
        said = doctor(environment)
    assert not said["pulsar"]["well"]
    assert "possibly a missing or wrong token" in said["pulsar"]["says"]
    assert words in said["pulsar"]["do"]
    assert "missing or wrong token" in said["topics"]["says"]
    assert said["topics"]["do"] == "See pulsar, above."
    assert said["token"]["well"] is (token != "expired")
    if token == "expired":
        assert "PULSAR_TOKEN expired on" in said["token"]["says"]


def test_a_role_without_a_grant_names_the_one_it_lacks(guarded: Guarded, space: Space, tmp_path: Path) -> None:
    environment = {**space.environment, "PULSAR_TOKEN": guarded.mint.token("stranger")}
    space.publish("retrieval-started", starts(2))
    with bridges(environment, tmp_path) as (bridge,):
        assert eventually(lambda: has_failed(bridge))
        assert "the token's role lacks a grant: AuthorizationError" in bridge.words
        said = doctor(environment)
        assert "the token's role lacks a grant" in said["pulsar"]["says"]
        assert f"on public/{space.name}" in said["pulsar"]["do"]
        assert not is_ready()

        guarded.broker.ask("POST", f"namespaces/public/{space.name}/permissions/stranger", ["consume", "produce"])
        assert eventually(lambda: Event.objects.count() == 2)
        assert eventually(is_ready)


def test_a_role_that_may_only_consume_is_reported_before_a_command_is_required(
    guarded: Guarded, space: Space, tmp_path: Path
) -> None:
    guarded.broker.ask("POST", f"namespaces/public/{space.name}/permissions/listener", ["consume"])
    environment = {**space.environment, "PULSAR_TOKEN": guarded.mint.token("listener")}
    with bridges(environment, tmp_path):
        assert eventually(is_ready)
        said = doctor(environment)
    assert not said["pulsar"]["well"]
    assert "the token's role lacks a grant" in said["pulsar"]["says"]
    assert "Grant the token's role 'produce'" in said["pulsar"]["do"]
    assert said["bridge"]["well"]


def test_a_token_is_rotated_in_its_file_while_the_bridge_runs(guarded: Guarded, space: Space, tmp_path: Path) -> None:
    file = tmp_path / "token"

    def put(seconds: float) -> float:
        file.write_text(guarded.mint.token("saga", seconds), encoding="utf-8")
        return time.monotonic() + seconds

    expires = put(25)
    environment = {**space.environment, "PULSAR_TOKEN_FILE": str(file)}
    with bridges(environment, tmp_path):
        assert eventually(lambda: is_ready() and well_since() != [None])
        # In time, as one should: nobody notices.
        began = well_since()
        next_expires = put(expires - time.monotonic() + 15)
        assert not eventually(lambda: not is_ready(), expires - time.monotonic() + 5)
        assert well_since() == began

        # Too late: the broker ends the connection, until there is a new one.
        assert eventually(lambda: not is_ready(), next_expires - time.monotonic() + 30)
        assert "PULSAR_TOKEN expired on" in doctor(environment)["token"]["says"]
        space.publish("retrieval-started", starts(2))
        put(600)
        assert eventually(lambda: Event.objects.count() == 2 and is_ready())


def test_tls_with_the_hosts_name_in_a_trusted_certificate(guarded: Guarded, space: Space, tmp_path: Path) -> None:
    environment = {
        **space.environment,
        "PULSAR_TOKEN": guarded.mint.token("saga"),
        "PULSAR_SERVICE_URL": tls_url(guarded),
        "PULSAR_TLS_TRUST_CERTS_FILE": str(guarded.authority.certificate),
    }
    space.publish("retrieval-started", starts(3))
    with bridges(environment, tmp_path):
        assert eventually(lambda: Event.objects.count() == 3)
        assert doctor(environment)["pulsar"]["well"]


def test_tls_with_the_systems_certificates(guarded: Guarded, space: Space, tmp_path: Path) -> None:
    environment = {
        **space.environment,
        "PULSAR_TOKEN": guarded.mint.token("saga"),
        "PULSAR_SERVICE_URL": tls_url(guarded),
        "SSL_CERT_FILE": str(guarded.authority.certificate),
    }
    with bridges(environment, tmp_path) as (bridge,):
        assert eventually(is_ready), bridge.words
        assert doctor(environment)["pulsar"]["well"]


def test_without_the_check_of_the_name_any_name_is_good(guarded: Guarded, space: Space, tmp_path: Path) -> None:
    environment = {
        **space.environment,
        "PULSAR_TOKEN": guarded.mint.token("saga"),
        "PULSAR_SERVICE_URL": tls_url(guarded, "localhost"),
        "PULSAR_TLS_TRUST_CERTS_FILE": str(guarded.authority.certificate),
        "PULSAR_TLS_VALIDATE_HOSTNAME": "false",
    }
    with bridges(environment, tmp_path):
        assert eventually(is_ready)
        assert doctor(environment)["pulsar"]["well"]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("another authority", "its certificate is not accepted: unable to get local issuer certificate"),
        ("another name", "its certificate is not accepted: Hostname mismatch"),
        ("no TLS there", "TLS"),
        ("only TLS there", "no answer in time"),
    ],
)
def test_what_is_wrong_with_tls_is_named(how: str, words: str, guarded: Guarded, space: Space, tmp_path: Path) -> None:
    plain = guarded.broker.server.url
    environment = {
        **space.environment,
        "PULSAR_TOKEN": guarded.mint.token("saga"),
        "PULSAR_SERVICE_URL": {
            "another name": tls_url(guarded, "localhost"),
            "no TLS there": plain.replace("pulsar:", "pulsar+ssl:"),
            "only TLS there": tls_url(guarded).replace("+ssl", ""),
        }.get(how, tls_url(guarded)),
        "PULSAR_TLS_TRUST_CERTS_FILE": str(guarded.authority.certificate),
    }
    if words.endswith(("TLS", "in time")):
        environment |= IMPATIENT
    if how == "another authority":
        other = Authority(tmp_path / str(uuid.uuid4())).found()
        environment["PULSAR_TLS_TRUST_CERTS_FILE"] = str(other.certificate)
    with bridges(environment, tmp_path) as (bridge,):
        assert eventually(lambda: has_failed(bridge))
        assert not is_ready()
        said = doctor(environment)
    assert not said["pulsar"]["well"]
    assert words in said["pulsar"]["says"]
    assert ("pulsar+ssl://" if how == "only TLS there" else "PULSAR_TLS_TRUST_CERTS_FILE") in said["pulsar"]["do"]
