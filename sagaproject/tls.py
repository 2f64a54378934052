"""What a server shows when it is asked for TLS, in words that say what is wrong. For the doctor."""

import socket
import ssl

SECONDS = 3.0


def complaint(host: str, port: int, ca_file: str, *, check_host: bool) -> str:
    """Say why the server's certificate is not accepted, or that it speaks no TLS; empty if all is well.

    ca_file: certificates to trust; empty for the system's. check_host: whether the certificate must name the host.
    Raises OSError if there is no connection at all.
    """
    context = ssl.create_default_context(cafile=ca_file or None)
    context.check_hostname = check_host
    try:
        _shake_hands(host, port, context)
    except ssl.SSLCertVerificationError as error:
        return f"its certificate is not accepted: {error.verify_message}"
    except ssl.SSLError as error:
        return f"no TLS comes about ({error.reason or type(error).__name__})"
    except ConnectionError:
        return "it ends the connection when asked for TLS"
    return ""


def is_spoken(host: str, port: int) -> bool:
    """Whether the server speaks TLS, whoever it is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        _shake_hands(host, port, context)
    except OSError:  # of which SSLError is one
        return False
    return True


def _shake_hands(host: str, port: int, context: ssl.SSLContext) -> None:
    with (
        socket.create_connection((host, port), timeout=SECONDS) as plain,
        context.wrap_socket(plain, server_hostname=host),
    ):
        return
