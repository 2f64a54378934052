"""Compare what the service shows with the script and list the differences."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from devtools.simulator.api import ApiClient, ApiError, SagaSeen
from devtools.simulator.predictor import Expectation
from devtools.simulator.report import Unexpected
from devtools.simulator.scenario import Script, TaskScript
from devtools.simulator.services import Services
from devtools.simulator.wire import Quirk

WORST = 200  # differences that are listed at most


@dataclass(slots=True)
class Found:
    """One task's saga as it was last seen. `settled`: its details have been compared and are as expected."""

    script: TaskScript
    expected: Expectation
    saga: SagaSeen | None = None
    others: set[str] = field(default_factory=set)
    settled: bool = False
    exhausted: int = 0

    @property
    def status(self) -> str:
        return self.saga.status if self.saga else "–"

    @property
    def as_expected(self) -> bool:
        return self.status == self.expected.status


class Judge:
    """Compare the API with the script. Every method may raise ApiError.

    details: number of sagas, from the start of the script, whose lanes, commands and history are compared.
    unsteady: messages may have been sent twice; see Options.
    """

    def __init__(
        self, script: Script, services: Services, api: ApiClient, *, details: int, garbage: int, unsteady: bool = False
    ) -> None:
        self._script = script
        self._services = services
        self._api = api
        self._garbage = garbage
        self._unsteady = unsteady
        # By their key: a message without an id that is sent twice is two events.
        self._nameless = Counter(
            event.fields["task_id"] for task in script.tasks for event in task.events if event.quirk is Quirk.NAMELESS
        )
        self._quarantined_before = 0
        self.found = [Found(task, task.expected) for task in script.tasks if task.expected is not None]
        self._looked_into = self.found[:details]
        self._by_name = {
            name: found
            for found in self.found
            for name in (found.script.task.task_id, found.script.task.correlation_id)
            if name
        }

    def begin(self) -> None:
        """Record how many messages are in quarantine before the first message is sent."""
        self._quarantined_before = self._api.quarantined()

    def look(self) -> list[Found]:
        """Read the status of every saga; return those that changed."""
        moved = []
        for seen in self._api.sagas(self._script.began):
            found = self._by_name.get(seen.correlation_id)
            if found is None:
                continue
            if found.saga is not None and found.saga.saga_id != seen.saga_id:
                found.others.add(seen.saga_id)
            elif found.saga != seen:
                found.saga, found.settled = seen, False
                moved.append(found)
        return moved

    def by_status(self) -> dict[str, int]:
        """Return how many sagas were last seen in each status."""
        return dict(Counter(found.status for found in self.found if found.saga))

    def settle(self) -> bool:
        """Compare the details once every saga has its expected status; return whether everything is as expected."""
        if not all(found.as_expected for found in self.found):
            return False
        unsettled = [found for found in self._looked_into if not found.settled]
        for found in unsettled:
            if any(self._inside(found)):
                return False
            found.settled = True
        return not any(self._outside())

    def exhausted(self) -> int:
        """Return how many commands of the compared sagas were last seen exhausted."""
        return sum(found.exhausted for found in self._looked_into)

    def waiting(self) -> dict[str, dict[str, int]]:
        """Return the counts of events parked under the run's keys and of messages quarantined since it began."""
        parked, expected = self._api.parked(), self._parked()
        seen = sum(parked[key] for key in expected)
        return {
            "parked": {"expected": sum(expected.values()), "seen": seen},
            "quarantined": {"expected": self._garbage, "seen": self._api.quarantined() - self._quarantined_before},
        }

    def unexpected(self) -> list[Unexpected]:
        """Return the current differences, at most WORST of them."""
        listed = [*self._complaints(), *self._outside(), *self._statuses()]
        for found in self._looked_into:
            if len(listed) >= WORST:
                break
            if found.saga and not found.settled:
                listed += self._inside(found)
        return listed[:WORST]

    def _statuses(self) -> Iterator[Unexpected]:
        for found in self.found:
            if not found.as_expected:
                yield _unexpected(found, "status", found.expected.status, found.status)
            if found.others:
                yield _unexpected(found, "sagas of this task", "one", f"{1 + len(found.others)}")

    def _inside(self, found: Found) -> Iterator[Unexpected]:
        if found.saga is None:
            return
        saga_id = found.saga.saga_id
        if found.saga.correlation_id != found.script.correlation_id:
            yield _unexpected(found, "correlation_id", found.script.correlation_id, found.saga.correlation_id)
        lanes = self._api.lanes(saga_id)
        for image, outcome in _differences(found.expected.lanes, lanes):
            yield _unexpected(found, f"lane {image}", found.expected.lanes.get(image, "none"), outcome)
        commands = self._api.commands(saga_id)
        found.exhausted = sum(status == "exhausted" for status in commands.values())
        for key in found.expected.commands.keys() | commands.keys():
            allowed, status = found.expected.commands.get(key, frozenset({"none"})), commands.get(key, "none")
            if status not in allowed:
                yield _unexpected(found, f"{key[0]} of {key[1]}", " or ".join(sorted(allowed)), status)
        answers = self._services.tally.answers[found.script.task.task_id]
        events, count = self._api.events(saga_id), found.expected.events + answers
        repeats = sum(event.quirk is Quirk.NAMELESS for event in found.script.events)
        if not self._is_right(events, count, repeats):
            yield _unexpected(found, "events in its history", f"{count}", f"{events}")

    def _outside(self) -> Iterator[Unexpected]:
        expected, parked = self._parked(), self._api.parked()
        for key, count in expected.items():
            if not self._is_right(parked[key], count, self._nameless[key]):
                yield Unexpected(key, None, "", "unmatched events under this key", f"{count}", f"{parked[key]}")
        for script in self._script.tasks:
            key = script.task.task_id
            if key in parked and key not in expected:
                yield Unexpected(key, None, script.plot, "unmatched events under this key", "0", f"{parked[key]}")
        quarantined = self._api.quarantined() - self._quarantined_before
        if not self._is_right(quarantined, self._garbage, repeats=5 * self._garbage):
            yield Unexpected("", None, "", "messages in quarantine", f"{self._garbage}", f"{quarantined}")

    def _is_right(self, seen: int, expected: int, repeats: int) -> bool:
        """Return whether the count is as expected; with an unsteady broker it may be higher by `repeats`."""
        return expected <= seen <= expected + (repeats if self._unsteady else 0)

    def _parked(self) -> Counter[str]:
        parked = Counter(self._services.tally.parked)
        for script in self._script.tasks:
            parked.update(script.parked)
        return parked

    def _complaints(self) -> Iterable[Unexpected]:
        for complaint in list(self._services.complaints):
            plot = self._script.by_task[complaint.task_id].plot
            yield Unexpected(complaint.task_id, None, plot, complaint.command, complaint.expected, complaint.seen)


def _differences(expected: Mapping[str, str], seen: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for key in sorted(expected.keys() | seen.keys()):
        if expected.get(key) != seen.get(key):
            yield key, seen.get(key, "none")


def _unexpected(found: Found, what: str, expected: str, seen: str) -> Unexpected:
    saga_id = found.saga.saga_id if found.saga else None
    return Unexpected(found.script.task.task_id, saga_id, found.script.plot, what, expected, seen)


def unreachable(error: ApiError) -> Unexpected:
    """Return the entry that is listed when the API itself cannot be read."""
    return Unexpected("", None, "", "the API", "an answer", str(error))
