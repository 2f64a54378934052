"""The options of a simulator run, and their command line arguments."""

import argparse
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

RUN_FORMAT = "%Y%m%dT%H%M%S"
RATES = (
    "failure_rate",
    "duplicate_rate",
    "delay_rate",
    "garbage_rate",
    "quirk_rate",
    "refuse_rate",
    "silence_rate",
    "stubborn_rate",
    "own_task_rate",
    "complete_rate",
    "restart_rate",
    "none_rate",
    "status_rate",
)


class OptionError(Exception):
    """The options are invalid. The text says which one and why."""


@dataclass(frozen=True, slots=True)
class Options:
    """The options of one run.

    sagas: number of tasks. images: minimum and maximum of images per task.
    rate: events per second, 0 for as fast as possible. timeout: seconds that the sagas get after the last event.
    seed: the same seed gives the same script: kinds of ending, images, order, answers.
    run: the name of the run, from which its ids are made, so that the same script can run again under other ids; the
        same run and seed send exactly the same bytes. Empty: a new one.
    Shares between 0 and 1: failure_rate of the tasks fail somewhere; duplicate_rate of the messages come twice;
        delay_rate come after all others (and that share of the answers takes seconds); garbage_rate: unreadable
        messages for each readable one; quirk_rate: valid but unusual envelopes; refuse_rate of the deletions are
        refused at first; silence_rate of the commands are never answered; stubborn_rate of the deletions are refused
        every time; own_task_rate of the images are processed under a task id of Processing and without their image id.
    What the platform really does: complete_rate of the tasks get a RetrievalCompleted (its own services send none, so 0
        is the platform as it is); restart_rate of the tasks that failed or completed are started again, with new
        images; none_rate of the tasks have events whose missing ids read "None"; status_rate of the failures in
        Processing come as a ProcessingCompleted whose status says so. redeliver: seconds after which a service that
        refused a command receives the same copy again, without end (the platform's 60); 0: never.
    intake_silence: the setting of the service under test (SAGA_INTAKE_SILENCE), if it is short enough to end the
        intake of tasks within the run; else 0. It must be longer than 2 s: no pause within a task is.
    shuffle: a task's messages come in any order.
    orphans: additional tasks whose RetrievalStarted never comes: no saga, all events parked.
    failure_scope: the setting of the service under test (SAGA_FAILURE_SCOPE).
    details: number of sagas whose lanes, commands and history are compared (of the others only the status).
    once: stop after the verdict; otherwise the services go on answering until they are stopped.
    answer_all: also answer commands of tasks that are not of this run. Never against a production broker.
    unsteady: the broker is being disturbed, so any message may have been sent twice. Where the service correctly
        counts a repetition as another message (unreadable, or without an id), higher counts are accepted too.
    """

    sagas: int = 50
    images: tuple[int, int] = (1, 5)
    rate: float = 200.0
    failure_rate: float = 0.3
    duplicate_rate: float = 0.0
    shuffle: bool = False
    delay_rate: float = 0.0
    garbage_rate: float = 0.0
    quirk_rate: float = 0.05
    regions: tuple[str, ...] = ("usa", "latam")
    seed: int = 1
    run: str = ""
    refuse_rate: float = 0.0
    silence_rate: float = 0.0
    stubborn_rate: float = 0.0
    own_task_rate: float = 0.0
    complete_rate: float = 1.0
    restart_rate: float = 0.0
    none_rate: float = 0.0
    status_rate: float = 0.0
    redeliver: float = 0.0
    intake_silence: float = 0.0
    orphans: int = 0
    failure_scope: str = "lane"
    timeout: float = 180.0
    details: int = 1000
    once: bool = False
    answer_all: bool = False
    unsteady: bool = False

    def __post_init__(self) -> None:
        for name in RATES:
            if not 0 <= getattr(self, name) <= 1:
                raise OptionError(f"{name} must be between 0 and 1")
        if min(self.sagas, self.orphans, self.rate, self.redeliver, self.intake_silence) < 0 or self.timeout <= 0:
            raise OptionError(
                "sagas, orphans, rate, redeliver and intake_silence cannot be negative, and the timeout must be above 0"
            )
        if not 0 <= self.images[0] <= self.images[1]:
            raise OptionError("images must be A-B with 0 ≤ A ≤ B")
        if self.failure_scope not in ("lane", "saga"):
            raise OptionError("failure_scope must be lane or saga")
        if not self.regions:
            raise OptionError("regions must contain at least one region")
        if self.run:
            started_at(self.run)


def fresh_run() -> str:
    """Return a unique name for a run; it begins with the time (UTC) at which the run's events start."""
    return f"{datetime.now(UTC):{RUN_FORMAT}}-{secrets.token_hex(3)}"


def started_at(run: str) -> datetime:
    """Return the time at which a run's events start. Raises OptionError if `run` is not the name of a run."""
    try:
        return datetime.strptime(run.partition("-")[0], RUN_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        raise OptionError(f"{run!r} is not a run: it must begin with a time such as 20260131T154500") from None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add one argument for each option."""
    standard = Options()
    add = parser.add_argument_group("the simulator").add_argument
    add("--sagas", type=int, default=standard.sagas, help="number of tasks (default %(default)s)")
    add("--images", type=image_range, default=standard.images, metavar="A-B", help="images per task (default 1-5)")
    add("--rate", type=float, default=standard.rate, help="events per second; 0: as fast as possible (%(default)s)")
    add("--failure-rate", type=share, default=standard.failure_rate, help="share of failing tasks (%(default)s)")
    add("--duplicate-rate", type=share, default=standard.duplicate_rate, help="share of messages that come twice")
    add("--shuffle", action="store_true", help="the messages of a task come in any order")
    add("--delay-rate", type=share, default=standard.delay_rate, help="share of messages that come after all others")
    add("--garbage-rate", type=share, default=standard.garbage_rate, help="unreadable messages for each readable one")
    add("--quirk-rate", type=share, default=standard.quirk_rate, help="share of unusual envelopes (%(default)s)")
    add("--regions", type=word_list, default=standard.regions, help="regions of Processing (usa,latam)")
    add("--seed", type=int, default=standard.seed, help="the same seed gives the same script (%(default)s)")
    add("--run", default="", help="repeat this run, with exactly the same ids")
    add("--refuse-rate", type=share, default=standard.refuse_rate, help="share of deletions refused at first")
    add("--silence-rate", type=share, default=standard.silence_rate, help="share of commands never answered")
    add("--stubborn-rate", type=share, default=standard.stubborn_rate, help="share of deletions always refused")
    add(
        "--own-task-rate",
        type=share,
        default=standard.own_task_rate,
        help="share of images whose Processing events contain neither task nor image",
    )
    add(
        "--complete-rate",
        type=share,
        default=standard.complete_rate,
        help="share of tasks whose retrieval reports its end (%(default)s); the platform's own services never do: 0",
    )
    add("--restart-rate", type=share, default=standard.restart_rate, help="share of ended tasks started again")
    add("--none-rate", type=share, default=standard.none_rate, help='share of tasks with ids that read "None"')
    add("--status-rate", type=share, default=standard.status_rate, help="share of processing failures told by a status")
    add(
        "--redeliver",
        type=float,
        default=standard.redeliver,
        metavar="SECONDS",
        help="a refused command is delivered and refused again after this time, without end (the platform: 60; off)",
    )
    add("--orphans", type=int, default=standard.orphans, help="additional tasks whose start never comes")
    add("--timeout", type=float, default=standard.timeout, help="seconds that the sagas get to end (%(default)s)")
    add("--details", type=int, default=standard.details, help="number of sagas whose lanes and commands are compared")
    add("--once", action="store_true", help="stop after the verdict")


def from_arguments(given: Mapping[str, Any], **more: Any) -> Options:
    """Make Options from parsed arguments; `more` takes precedence. Raises OptionError."""
    names = {field.name for field in fields(Options)}
    return Options(**{**{name: value for name, value in given.items() if name in names}, **more})


def ending(silence: float, timeout: float) -> float:
    """Return SAGA_INTAKE_SILENCE if it can end the intake within the run's timeout (both in seconds), else 0."""
    return silence if silence < timeout else 0.0


def image_range(text: str) -> tuple[int, int]:
    """Read "3" or "1-5"."""
    least, dash, most = text.partition("-")
    try:
        return int(least), int(most) if dash else int(least)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a range such as 1-5") from None


def share(text: str) -> float:
    """Read a number between 0 and 1."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not between 0 and 1")
    return value


def word_list(text: str) -> tuple[str, ...]:
    """Read a list separated by commas."""
    return tuple(word.strip() for word in text.split(",") if word.strip())
