"""Pulsar's client: how it is made, and what becomes of its exceptions."""

import logging
import os
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


def connect(options: Mapping[str, Any], operation_timeout_seconds: int | None = None) -> pulsar.Client:
    """A client by the setting PULSAR. Opens no connection yet; only for this process, never across a fork."""
    return pulsar.Client(
        options["service_url"],
        authentication=_authentication(options),
        operation_timeout_seconds=operation_timeout_seconds or options["operation_timeout_seconds"],
        tls_trust_certs_file_path=options["tls_trust_certs_file"] or None,
        tls_allow_insecure_connection=options["tls_allow_insecure"],
        tls_validate_hostname=options["tls_validate_hostname"],
        logger=_client_logger(),
    )


def _authentication(options: Mapping[str, Any]) -> pulsar.Authentication | None:
    if options["token_file"]:
        return pulsar.AuthenticationToken(partial(_read_token, Path(options["token_file"])))
    return pulsar.AuthenticationToken(options["token"]) if options["token"] else None


def _read_token(path: Path) -> str:
    """Called at each connection, so that a rotated token is taken up. From the client's thread: it must not raise."""
    try:
        return path.read_text().strip()
    except (OSError, ValueError) as error:
        logger.error("no token can be read from PULSAR_TOKEN_FILE: %s", type(error).__name__)
        return ""


def _client_logger() -> Any:
    """The client's own logger in C++: one written in Python takes the GIL for every debug line, and may abort at exit.

    stdout belongs to commands that print JSON, so it writes to stderr where that can be opened by name.
    """
    mode = os.fstat(sys.__stderr__.fileno()).st_mode if sys.__stderr__ else stat.S_IFSOCK
    if stat.S_ISSOCK(mode):
        return pulsar.ConsoleLogger(pulsar.LoggerLevel.Warn)
    return pulsar.FileLogger(pulsar.LoggerLevel.Warn, "/dev/stderr")


@contextmanager
def translated() -> Iterator[None]:
    """Pulsar's exceptions as ours: Interrupted if a signal handler raised, else BrokerUnavailable."""
    try:
        yield
    except pulsar.Interrupted:
        raise Interrupted("a signal ended the call to Pulsar") from None
    except pulsar.PulsarException as error:
        raise BrokerUnavailable(f"Pulsar answers {type(error).__name__}") from error


@contextmanager
def quietly(what: str) -> Iterator[None]:
    """For calls whose failure costs nothing: said in the log, and over."""
    try:
        yield
    except pulsar.PulsarException as error:
        logger.warning("Pulsar: could not %s: %s", what, type(error).__name__)
