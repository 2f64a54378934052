"""Pulsar's client: how it is made, and what becomes of its exceptions."""

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

# What the client's words mean to a person who has to do something about them.
_MEANINGS = {
    "Timeout": "Pulsar gives no answer in time (may be a missing or wrong token)",
    "ConnectError": "no connection to Pulsar comes about (nobody listens, or its certificate is not accepted)",
    "AuthenticationError": "Pulsar does not accept the token",
    "AuthorizationError": "Pulsar does not allow it: the token's role lacks a grant",
    "LookupError": "Pulsar does not say where the topics are (a pattern of topics takes a grant of consume on the "
    "whole namespace, which the token's role may lack)",
    "TopicNotFound": "Pulsar knows no such topic, and makes none by itself",
    "ProducerBlockedQuotaExceededError": "the topic is full: nobody takes its messages",
    "ProducerBlockedQuotaExceededException": "the topic is full: nobody takes its messages",
    "InvalidTopicName": "Pulsar accepts no topic of this name",
    "TopicTerminated": "the topic was terminated: it takes no further messages",
    "NotAllowedError": "Pulsar does not allow this on the topic",
    "IncompatibleSchema": "the topic has a schema, and messages without one do not fit it",
    "ConsumerBusy": "another system holds the subscription exclusively, or the subscription has another type",
    "ProducerBusy": "another producer holds the topic exclusively",
    "ProducerFenced": "another producer has taken the topic over exclusively",
}

# The broker is there, and it is about this one topic: trying again is in vain until somebody changes something. A topic
# is also not found while brokers hand it over to each other, which ends by itself.
TOPIC_ANSWERS = frozenset(_MEANINGS) - {"Timeout", "ConnectError", "LookupError"}


def connect(options: Mapping[str, Any], operation_timeout_seconds: int | None = None) -> pulsar.Client:
    """A client by the setting PULSAR. Opens no connection yet; only for this process, never across a fork."""
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
    """The file of the system's certificates. Left to itself the client takes those of a package, certifi.

    A hospital's own authority is known to its machines, and not to a package.
    """
    paths = (ssl.get_default_verify_paths().cafile, *_BUNDLES)
    return next((path for path in paths if path and Path(path).is_file()), None)


def _authentication(options: Mapping[str, Any]) -> pulsar.Authentication | None:
    if options["token_file"]:
        return pulsar.AuthenticationToken(partial(read_token, Path(options["token_file"])))
    return pulsar.AuthenticationToken(options["token"]) if options["token"] else None


def read_token(path: Path) -> str:
    """Read the token at each connection, so that a rotated one is taken up; empty if it cannot be read.

    Called from the client's thread: it must not raise.
    """
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
        name = type(error).__name__
        raise BrokerUnavailable(in_words(name), name) from error


def in_words(answer: str) -> str:
    """Say what an answer of the client means, and its name; nothing of a message's content is ever in it."""
    return f"{_MEANINGS.get(answer, 'Pulsar does not do what was asked')}: {answer}"


@contextmanager
def quietly(what: str) -> Iterator[None]:
    """For calls whose failure costs nothing: said in the log, and over."""
    try:
        yield
    except pulsar.PulsarException as error:
        logger.warning("Pulsar: could not %s: %s", what, type(error).__name__)
