"""Make Pulsar's client and translate its exceptions."""

import logging
import os
import ssl
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pulsar

from bridge.errors import BrokerUnavailable, Interrupted

logger = logging.getLogger(__name__)

# Where Debian, Red Hat and Alpine keep all certificates in one file.
_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")

# The broker is available and the error concerns one topic: a retry fails until a person changes something. A topic is
# also not found while brokers hand it over to each other, which ends without a change.
TOPIC_ANSWERS = frozenset(
    {
        "AuthenticationError",
        "AuthorizationError",
        "TopicNotFound",
        "ProducerBlockedQuotaExceededError",
        "ProducerBlockedQuotaExceededException",
        "InvalidTopicName",
        "TopicTerminated",
        "NotAllowedError",
        "IncompatibleSchema",
        "ConsumerBusy",
        "ProducerBusy",
        "ProducerFenced",
    }
)


def connect(options: Mapping[str, Any], operation_timeout_seconds: int | None = None) -> pulsar.Client:
    """Make a client from the setting PULSAR. Opens no connection yet; only for this process, never across a fork."""
    return pulsar.Client(
        options["service_url"],
        authentication=_authentication(options),
        operation_timeout_seconds=operation_timeout_seconds or options["operation_timeout_seconds"],
        tls_trust_certs_file_path=options["tls_trust_certs_file"] or _system_certificates(),
        tls_allow_insecure_connection=options["tls_allow_insecure"],
        tls_validate_hostname=options["tls_validate_hostname"],
        logger=_client_logger(),
    )


def _system_certificates() -> str | None:
    """Return the file of the system's certificates; by default the client uses those of the package certifi.

    A hospital's own certificate authority is installed on its machines and is not part of a package.
    """
    paths = (ssl.get_default_verify_paths().cafile, *_BUNDLES)
    return next((path for path in paths if path and Path(path).is_file()), None)


def _authentication(options: Mapping[str, Any]) -> pulsar.Authentication | None:
    if options["token_file"]:
        return pulsar.AuthenticationToken(partial(read_token, Path(options["token_file"])))
    return pulsar.AuthenticationToken(options["token"]) if options["token"] else None


def read_token(path: Path) -> str:
    """Read the token at each connection, so that a rotated one takes effect; empty if it cannot be read.

    Runs on the client's thread and must not raise.
    """
    try:
        return path.read_text().strip()
    except (OSError, ValueError) as error:
        logger.error("cannot read a token from PULSAR_TOKEN_FILE: %s", type(error).__name__)
        return ""


def _client_logger() -> Any:
    """Return a logger of the client itself, written in C++.

    A logger in Python takes the GIL for every debug line and may abort at exit. It writes to stderr where that can be
    opened by name, because some commands print JSON to stdout.
    """
    mode = os.fstat(sys.__stderr__.fileno()).st_mode if sys.__stderr__ else stat.S_IFSOCK
    if stat.S_ISSOCK(mode):
        return pulsar.ConsoleLogger(pulsar.LoggerLevel.Warn)
    return pulsar.FileLogger(pulsar.LoggerLevel.Warn, "/dev/stderr")


@contextmanager
def translated() -> Iterator[None]:
    """Translate Pulsar's exceptions: Interrupted if a signal handler raised, else BrokerUnavailable."""
    try:
        yield
    except pulsar.Interrupted:
        raise Interrupted("a signal ended the call to Pulsar") from None
    except pulsar.PulsarException as error:
        name = type(error).__name__
        raise BrokerUnavailable(describe(name), name) from error


def describe(answer: str) -> str:
    """Return the client's error as the code of a reason. Never contains anything of a message."""
    return f"pulsar:{answer}"


@contextmanager
def quietly(what: str) -> Iterator[None]:
    """Log a Pulsar exception instead of raising it, for calls whose failure is harmless."""
    try:
        yield
    except pulsar.PulsarException as error:
        logger.warning("Pulsar: could not %s: %s", what, type(error).__name__)
