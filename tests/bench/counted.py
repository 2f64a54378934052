"""What `tests.bench.instructions` runs under callgrind: it decodes, stores and applies the events of some sagas.

A script, run with PYTHONPATH naming the tree of any commit, from which everything is imported. DATABASE_URL names an
empty database. Each step ends with a dump of callgrind's counters, which sets them to zero. Prints how many events it
was.
"""

import importlib
import os
import random
import subprocess
import sys
import uuid
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any
from unittest import mock

import django

BATCH = 500


def main(sagas: int) -> None:
    chance = random.Random(1)
    django.setup()
    # Django's modules may be imported only from here on.
    from django.core.management import call_command
    from django.utils import timezone

    from bridge import event_log
    from bridge.codec import get_codec
    from bridge.envelope import Message
    from sagas.applying import apply
    from tests.bench import load

    call_command("migrate", verbosity=0)
    # The same ids each time: they decide about the order of sets, and where rows lie in an index.
    with mock.patch.object(uuid, "uuid4", side_effect=lambda: uuid.UUID(int=chance.getrandbits(128), version=4)):
        told = load.ordered(sagas, 3)
    # The commit to compare with may be older than the names.
    windows = importlib.import_module("sagas.applying.claim") if find_spec("sagas.applying.claim") else apply
    run_apply = getattr(apply, "run_apply", None) or getattr(apply, "drain")  # noqa: B009
    codec, now = get_codec(), timezone.now()
    messages = [
        Message(topic, topic, f"1:{number}", 1_000, body, {}) for number, (topic, body) in enumerate(told.messages)
    ]
    events: list[Any] = []

    def decode() -> None:
        events[:] = [codec.decode(message, now) for message in messages]

    def store() -> None:
        for start in range(0, len(events), BATCH):
            event_log.store_batch(events[start : start + BATCH])

    def apply_all() -> None:
        with mock.patch.object(windows, "WINDOW", 1):  # page by page as it came, as where the worker keeps up
            run_apply(3600)

    decode()  # caches are full wherever the service has run for a second
    steps: dict[str, Callable[[], None]] = {
        "nothing": lambda: None,
        "decode": decode,
        "store": store,
        "apply": apply_all,
    }
    _control("--instr=on")
    _control("--dump=before")
    for name, step in steps.items():
        step()
        _control(f"--dump={name}")
    _control("--instr=off")
    sys.stdout.write(f"{told.events}\n")


def _control(order: str) -> None:
    subprocess.run(
        ["callgrind_control", order, str(os.getpid())],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


if __name__ == "__main__":
    main(int(sys.argv[1]))
