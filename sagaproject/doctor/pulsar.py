"""Check Pulsar: token, encryption, whether it answers, and our rights there."""

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
    """Check that a token is set and has not expired; a missing one is only reported in production."""
    token = str(settings.PULSAR["token"])
    if not token and settings.ENVIRONMENT == "prod":
        return warning(
            "token",
            "No PULSAR_TOKEN is set in production: if the broker requires none, any client that can connect to it can "
            "read every event and send commands.",
            "Turn on authentication in Pulsar and set PULSAR_TOKEN_FILE.",
        )
    if not token:
        return ok("token", "No PULSAR_TOKEN is set: correct for a broker without authentication.")
    expires = _expiry(token)
    if expires and expires < timezone.now():
        return error("token", f"PULSAR_TOKEN expired on {expires:%Y-%m-%d %H:%M} UTC.", "Replace it with a new one.")
    return ok("token", "A token is set" + (f"; it expires on {expires:%Y-%m-%d}." if expires else "."))


def check_transport() -> Finding:
    """Check that the connection to Pulsar is encrypted; a missing encryption is only reported in production."""
    if settings.PULSAR["service_url"].startswith("pulsar+ssl://"):
        return ok("tls", "The connection to Pulsar is encrypted.")
    if settings.ENVIRONMENT == "prod":
        return warning(
            "tls",
            "PULSAR_SERVICE_URL is pulsar:// in production: events and the token cross the network unencrypted.",
            "Use pulsar+ssl:// with PULSAR_TLS_TRUST_CERTS_FILE.",
        )
    return ok("tls", "The connection to Pulsar is not encrypted: acceptable on one machine.")


def check_pulsar() -> Finding:
    """Check that Pulsar answers, and that we may look up a topic and send to the command topics."""
    url = settings.PULSAR["service_url"]
    address = host(url)
    if not pulsar_address.answers(url):
        return error(
            "pulsar",
            f"No server answers at {address}.",
            "Start Pulsar, or correct PULSAR_SERVICE_URL. An outage uses up no attempts: commands wait.",
        )
    complaint = pulsar_address.tls_complaint(settings.PULSAR)
    if complaint:
        return error(
            "pulsar",
            f"{address} accepts connections, but {complaint}.",
            "Set PULSAR_TLS_TRUST_CERTS_FILE to the certificates that signed the broker's, and use the host name of "
            "its certificate in PULSAR_SERVICE_URL; a port without TLS needs pulsar://, not pulsar+ssl://.",
        )
    try:
        publisher = get_publisher()
        publisher.probe()
        for topic in command_topics():
            publisher.prepare(topic)
    except BrokerUnavailable as failure:
        return error(
            "pulsar", f"{address} accepts connections, but {first_line(failure)}.", _pulsar_advice(failure.answer)
        )
    return ok("pulsar", f"Pulsar at {address} answers.")


def check_topics(is_pulsar_ok: bool = True) -> Finding:
    """Check that the bridges are subscribed to all topics, as they report it."""
    expected = get_catalog().topics
    state = bridge_state()
    if state.errors:
        return error(
            "topics",
            f"The bridge reports: {state.errors[0]}",
            "Grant the token's role 'consume' on the namespace, or correct "
            "PULSAR_TENANT, PULSAR_NAMESPACE or PULSAR_TOPICS."
            if is_pulsar_ok
            else "See pulsar, above.",
        )
    if not state.connected:
        return error("topics", "No bridge is subscribed.", "See bridge, below.")
    return ok("topics", f"The bridge is subscribed to the {len(expected)} declared topics.")


def command_topics() -> list[str]:
    """Return the short names of the topics to which commands are sent."""
    return sorted({item.topic for definition in all_definitions() for item in definition.compensations})


def _pulsar_advice(answer: str) -> str:
    pulsar = settings.PULSAR
    if answer.startswith("ProducerBlockedQuotaExceeded"):
        return "Check whether the service that receives these commands runs. They wait, and no attempt is counted."
    if answer == "AuthorizationError":
        return (
            "Grant the token's role 'produce' and 'consume' on "
            f"{pulsar['tenant']}/{pulsar['namespace']}, or correct PULSAR_TENANT or PULSAR_NAMESPACE."
        )
    if pulsar_address.only_speaks_tls(pulsar["service_url"]):
        return "The server requires TLS: PULSAR_SERVICE_URL must begin with pulsar+ssl://."
    token = "a wrong token: check PULSAR_TOKEN" if pulsar["token"] else "a missing token: PULSAR_TOKEN is not set"
    return (
        f"After a timeout, the cause may be {token}. Apache Pulsar reports a wrong or missing token as a timeout, not "
        "as an authorization error; only the broker's log names it. Otherwise check whether the broker is overloaded."
    )


def _expiry(token: str) -> datetime | None:
    """Return when a JWT expires; None if it does not expire or is not a JWT."""
    try:
        middle = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
        return datetime.fromtimestamp(float(claims["exp"]), tz=timezone.get_default_timezone())
    except (IndexError, KeyError, ValueError, TypeError):
        return None
