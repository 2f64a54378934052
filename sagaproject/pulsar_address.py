"""Check whether the addresses of a Pulsar URL accept connections, and their TLS. For the doctor."""

import socket
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

SECONDS = 3.0


def addresses(url: str) -> list[tuple[str, int]]:
    """Return the hosts and ports of a Pulsar URL, which may contain several."""
    parts = urlsplit(url)
    default_port = 6651 if parts.scheme == "pulsar+ssl" else 6650
    found = []
    for address in parts.netloc.split(","):
        host, _, port = address.rpartition(":") if address.rpartition(":")[2].isdigit() else (address, "", "")
        found.append((host.strip("[]"), int(port or default_port)))
    return found


def answers(url: str) -> bool:
    """Return whether one of the addresses accepts a connection. Waits up to SECONDS for each."""
    for address in addresses(url):
        try:
            socket.create_connection(address, timeout=SECONDS).close()
        except OSError:
            continue
        return True
    return False


def tls_complaint(options: Mapping[str, Any]) -> str:
    """Describe the TLS problem of the first address that answers; empty if there is none or TLS is not used.

    options: the setting PULSAR.
    """
    if not options["service_url"].startswith("pulsar+ssl://") or options["tls_allow_insecure"]:
        return ""
    context = ssl.create_default_context(cafile=options["tls_trust_certs_file"] or None)
    context.check_hostname = options["tls_validate_hostname"]
    for address in addresses(options["service_url"]):
        try:
            return _complaint(address, context)
        except OSError:
            continue
    return ""


def only_speaks_tls(url: str) -> bool:
    """Return whether the URL is without TLS but its first address requires it."""
    if not url.startswith("pulsar://"):
        return False
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        _handshake(addresses(url)[0], context)
    except OSError:  # SSLError is a subclass
        return False
    return True


def _complaint(address: tuple[str, int], context: ssl.SSLContext) -> str:
    try:
        _handshake(address, context)
    except ssl.SSLCertVerificationError as error:
        return f"its certificate is not accepted: {error.verify_message}"
    except ssl.SSLError as error:
        return f"the TLS handshake failed ({error.reason or type(error).__name__})"
    except (ConnectionResetError, BrokenPipeError):
        return "it closes the connection during the TLS handshake"
    return ""


def _handshake(address: tuple[str, int], context: ssl.SSLContext) -> None:
    with (
        socket.create_connection(address, timeout=SECONDS) as plain,
        context.wrap_socket(plain, server_hostname=address[0]),
    ):
        return
