"""Pulsar: its token, its transport, whether it answers and what we may do there."""

import base64
import json
from datetime import datetime

from django.conf import settings
from django.utils import timezone

from bridge.catalog import get_catalog
from bridge.errors import BrokerUnavailable
from bridge.heartbeats import bridge_state
from bridge.publisher import get_publisher
from sagaproject import pulsar_address
from sagaproject.doctor.celery import host
from sagaproject.doctor.finding import Finding, error, first_line, ok, warning
from sagas.definitions.registry import all_definitions


def check_token() -> Finding:
    """Whether a token is set and has not expired; in production one is expected."""
    token = str(settings.PULSAR["token"])
    if not token and settings.ENVIRONMENT == "prod":
        return warning(
            "token",
            "No PULSAR_TOKEN is set in production: if the broker asks for none, anybody who reaches it can read every "
            "event and send commands.",
            "Turn on authentication in Pulsar and set PULSAR_TOKEN_FILE.",
        )
    if not token:
        return ok("token", "No PULSAR_TOKEN is set: right for a broker that asks for none.")
    expires = _expiry(token)
    if expires and expires < timezone.now():
        return error("token", f"PULSAR_TOKEN expired on {expires:%Y-%m-%d %H:%M} UTC.", "Put a new one in its place.")
    return ok("token", "A token is set" + (f"; it expires on {expires:%Y-%m-%d}." if expires else "."))


def check_transport() -> Finding:
    """Whether the connection to Pulsar is encrypted; in production it is expected to be."""
    if settings.PULSAR["service_url"].startswith("pulsar+ssl://"):
        return ok("tls", "The connection to Pulsar is encrypted.")
    if settings.ENVIRONMENT == "prod":
        return warning(
            "tls",
            "PULSAR_SERVICE_URL is pulsar:// in production: events and the token cross the network unencrypted.",
            "Use pulsar+ssl:// with PULSAR_TLS_TRUST_CERTS_FILE.",
        )
    return ok("tls", "The connection to Pulsar is not encrypted: right on one machine.")


def check_pulsar() -> Finding:
    """Whether Pulsar answers, and lets us look up a topic and prepare to send to those of the commands."""
    url = settings.PULSAR["service_url"]
    place = host(url)
    if not pulsar_address.answers(url):
        return error(
            "pulsar",
            f"Nothing answers at {place}.",
            "Start Pulsar, or correct PULSAR_SERVICE_URL. An outage exhausts nothing: commands wait.",
        )
    complaint = pulsar_address.tls_complaint(settings.PULSAR)
    if complaint:
        return error(
            "pulsar",
            f"{place} accepts connections, but {complaint}.",
            "Name the certificates that signed the broker's in PULSAR_TLS_TRUST_CERTS_FILE, and the broker in "
            "PULSAR_SERVICE_URL as its certificate does; a port without TLS is pulsar://, not pulsar+ssl://.",
        )
    try:
        publisher = get_publisher()
        publisher.probe()
        for topic in command_topics():
            publisher.prepare(topic)
    except BrokerUnavailable as failure:
        return error(
            "pulsar", f"{place} accepts connections, but {first_line(failure)}.", _pulsar_advice(failure.answer)
        )
    return ok("pulsar", f"Pulsar at {place} answers.")


def check_topics(pulsar_is_well: bool = True) -> Finding:
    """Whether the bridges subscribe to all topics, by what they say."""
    expected = get_catalog().topics
    state = bridge_state()
    if state.errors:
        return error(
            "topics",
            f"The bridge says: {state.errors[0]}",
            "Grant the token's role 'consume' on the namespace, or correct "
            "PULSAR_TENANT, PULSAR_NAMESPACE or PULSAR_TOPICS."
            if pulsar_is_well
            else "See pulsar, above.",
        )
    if not state.connected:
        return error("topics", "No bridge is subscribed now.", "See bridge, below.")
    return ok("topics", f"The bridge is subscribed to what the {len(expected)} declared topics name.")


def command_topics() -> list[str]:
    """The short names of the topics that commands are sent to."""
    return sorted({item.topic for definition in all_definitions() for item in definition.compensations})


def _pulsar_advice(answer: str) -> str:
    pulsar = settings.PULSAR
    if answer.startswith("ProducerBlockedQuotaExceeded"):
        return "See whether the service that takes the commands runs. Until then they wait, and no attempt is counted."
    if answer == "AuthorizationError":
        return (
            "Grant the token's role 'produce' and 'consume' on "
            f"{pulsar['tenant']}/{pulsar['namespace']}, or correct PULSAR_TENANT or PULSAR_NAMESPACE."
        )
    if pulsar_address.only_speaks_tls(pulsar["service_url"]):
        return "It speaks TLS: PULSAR_SERVICE_URL must begin with pulsar+ssl://."
    token = "a wrong token: look at PULSAR_TOKEN" if pulsar["token"] else "a missing token: PULSAR_TOKEN is not set"
    return (
        f"If it timed out, it may be {token}. On Apache Pulsar a wrong or missing token shows itself as a time-out, "
        "not as an authorization error; only the broker's log names it. Then see whether the broker is overloaded."
    )


def _expiry(token: str) -> datetime | None:
    """Give when a JWT expires; None if it does not, or is no JWT."""
    try:
        middle = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
        return datetime.fromtimestamp(float(claims["exp"]), tz=timezone.get_default_timezone())
    except (IndexError, KeyError, ValueError, TypeError):
        return None
