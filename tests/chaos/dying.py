"""One piece of the service's work, done by a process that is killed at a named point of it.

At the nth call of a function the process gets SIGKILL from itself, before the call or after it; COMMIT stands for the
database's commit. Pulsar is played by files, so that what was delivered, acknowledged and sent outlives the process;
nudges go nowhere.
"""

import importlib
import json
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from django.db import connection
from django.utils import timezone

from bridge.codec import get_codec
from bridge.consumer import Consumer
from bridge.envelope import Message
from bridge.publisher import OutgoingMessage, PublishResult
from bridge.pulsar.inlet import Batch
from compensation import deadlines, delivery
from sagas.actions import ActionRequest, ActionResult
from sagas.applying import sweeper
from sagas.applying.apply import run_apply
from tests.integration.deciding import force_compensation

COMMIT = "django.db.backends.base.base.BaseDatabaseWrapper._commit"


def killed(folder: Path, work: Callable[[Path], Any], when: str, name: str, nth: int = 1) -> None:
    """Do a piece of work in a process of its own that dies of it. Raises AssertionError if it never came to the point.

    Returns when the database, too, has noticed.
    """
    connection.close()  # or both processes would speak on it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads: the child only works and dies
        child = os.fork()
    if child == 0:
        try:
            patch(when, name, nth)
            work(folder)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), f"it never came to {name}"
    assert os.WTERMSIG(status) == signal.SIGKILL
    while _others_are_there():
        time.sleep(0.01)


def _others_are_there() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND backend_type = 'client backend'"
        )
        return bool(cursor.fetchone()[0])


def patch(when: str, name: str, nth: int) -> None:
    """Put a function that kills this process in the place of the named one."""
    owner, attribute = _find(COMMIT if name == "COMMIT" else name)
    real = getattr(owner, attribute)
    calls = iter(range(1, sys.maxsize))

    def deadly(*args: Any, **kwargs: Any) -> Any:
        is_time = next(calls) == nth
        if is_time and when == "before":
            die()
        result = real(*args, **kwargs)
        if is_time:
            die()
        return result

    setattr(owner, attribute, deadly)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _find(name: str) -> tuple[Any, str]:
    """The module or class that holds the named function, and the function's name in it."""
    words = name.split(".")
    for count in range(len(words) - 1, 0, -1):
        try:
            owner: Any = importlib.import_module(".".join(words[:count]))
        except ModuleNotFoundError:
            continue
        for word in words[count:-1]:
            owner = getattr(owner, word)
        return owner, words[-1]
    raise LookupError(name)


# --- Pulsar, as files ------------------------------------------------------------------------------------------------


class Lines:
    """A file of JSON lines that nothing but a disk's failure undoes."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def add(self, value: Any) -> None:
        with self._file.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(value) + "\n")

    def __iter__(self) -> Iterator[Any]:
        if self._file.exists():
            yield from map(json.loads, self._file.read_text(encoding="utf-8").splitlines())


class Topic:
    """A topic and its subscription: what is not acknowledged is delivered to whoever opens it next."""

    is_connected = True
    is_blocking = False
    unread = ()

    def __init__(self, folder: Path) -> None:
        self._messages = Lines(folder / "messages")
        self._acked = Lines(folder / "acked")
        self._delivered: set[str] = set()

    @property
    def acked(self) -> list[str]:
        return list(self._acked)

    @property
    def places(self) -> list[str]:
        return [place for place, _, _ in self._messages]

    def publish(self, topic: str, body: bytes) -> None:
        self._messages.add((f"1:{len(self.places)}:-1:-1", topic, body.decode()))

    def open(self) -> None:
        """Nothing to do; a consumer's Source has it."""

    def close(self) -> None:
        """Nothing to do; a consumer's Source has it."""

    def receive(self) -> Batch:

        known = self._delivered.union(self.acked)
        messages = [
            Message(topic, topic, place, 1_700_000_000_000, body.encode(), {})
            for place, topic, body in self._messages
            if place not in known
        ]
        self._delivered.update(message.message_id for message in messages)
        return Batch(messages)

    def acknowledge(self, batch: Batch) -> None:
        for message in batch.messages:
            self._acked.add(message.message_id)


class Broker:
    """A publisher whose broker is always there."""

    def __init__(self, folder: Path) -> None:
        self._sent = Lines(folder / "sent")

    @property
    def sent(self) -> list[tuple[str, str]]:
        """(command id, body) of every message, in order."""
        return [(id_, body) for id_, body in self._sent]

    def probe(self) -> None:
        """It is there."""

    def publish(self, page: Sequence[OutgoingMessage]) -> list[PublishResult]:
        return [self.send(message) for message in page]

    def send(self, message: OutgoingMessage) -> PublishResult:

        self._sent.add((message.id, message.body.decode()))
        return PublishResult(message.id, f"9:{len(self.sent)}:-1:-1", None, reachable=True, permanent=False)


# --- the works -------------------------------------------------------------------------------------------------------


def wake() -> None:
    """The bridge's nudge, which nobody hears."""


def bridge(folder: Path) -> None:
    """Take in all that is there."""

    consumer = Consumer(Topic(folder), get_codec(), wake=lambda: wake())  # noqa: PLW0108 (looked up when called: it may be deadly by then)
    while consumer.step():
        pass


def apply(folder: Path) -> None:
    """Apply all that waits."""

    run_apply()


def sweep(folder: Path) -> None:
    """The sagas' sweep, and what it nudges for."""

    sweeper.sweep()
    apply(folder)


def publish(folder: Path) -> None:
    """Send all that is due."""

    delivery.publish_due(Broker(folder), worker=f"process {os.getpid()}")


def pass_time(folder: Path) -> None:
    """The commands' sweep."""

    now = timezone.now()
    deadlines.pass_deadlines(now)
    deadlines.recover_lost(now)


def decide(folder: Path) -> ActionResult:
    """Force the compensation of the saga that the folder names, as a press with a request key does."""

    request = ActionRequest(actor="ana", door="api", reason="the patient asked for it", idempotency_key="press-1")
    return force_compensation((folder / "saga").read_text(encoding="utf-8"), request=request)
