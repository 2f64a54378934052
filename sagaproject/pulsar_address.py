"""What answers at the addresses of a Pulsar URL, and whether its TLS is right, in words. For the doctor."""

import socket
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

SECONDS = 3.0


def addresses(url: str) -> list[tuple[str, int]]:
    """Give the hosts and ports of a Pulsar URL, which may name several."""
    parts = urlsplit(url)
    usual = 6651 if parts.scheme == "pulsar+ssl" else 6650
    found = []
    for address in parts.netloc.split(","):
        host, _, port = address.rpartition(":") if address.rpartition(":")[2].isdigit() else (address, "", "")
        found.append((host.strip("[]"), int(port or usual)))
    return found


def answers(url: str) -> bool:
    """Whether one of the addresses accepts a connection."""
    for address in addresses(url):
        try:
            socket.create_connection(address, timeout=SECONDS).close()
        except OSError:
            continue
        return True
    return False


def tls_complaint(options: Mapping[str, Any]) -> str:
    """Say what is wrong with the TLS of the first address that answers; empty if nothing is, or none is wanted.

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
    """Whether the URL says plain, and its first address speaks TLS."""
    if not url.startswith("pulsar://"):
        return False
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        _shake_hands(addresses(url)[0], context)
    except OSError:  # of which SSLError is one
        return False
    return True


def _complaint(address: tuple[str, int], context: ssl.SSLContext) -> str:
    try:
        _shake_hands(address, context)
    except ssl.SSLCertVerificationError as error:
        return f"its certificate is not accepted: {error.verify_message}"
    except ssl.SSLError as error:
        return f"no TLS comes about ({error.reason or type(error).__name__})"
    except (ConnectionResetError, BrokenPipeError):
        return "it ends the connection when asked for TLS"
    return ""


def _shake_hands(address: tuple[str, int], context: ssl.SSLContext) -> None:
    with (
        socket.create_connection(address, timeout=SECONDS) as plain,
        context.wrap_socket(plain, server_hostname=address[0]),
    ):
        return
