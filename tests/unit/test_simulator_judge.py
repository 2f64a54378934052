"""The judge finds every kind of difference, and nothing where there is none."""

import io
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from devtools.simulator import scenario, table
from devtools.simulator.api import ApiClient, SagaSeen
from devtools.simulator.judge import Judge
from devtools.simulator.options import Options
from devtools.simulator.predictor import Expectation
from devtools.simulator.report import Report, Unexpected
from devtools.simulator.run import Row, Snapshot
from devtools.simulator.scenario import Script, TaskScript
from devtools.simulator.services import Services

OPTIONS = Options(sagas=40, failure_rate=0.6, silence_rate=0.1, own_task_rate=0.1, orphans=2, seed=4)
GARBAGE = 7


class PerfectApi(ApiClient):
    """A service that shows what the script says, but for what a test changes."""

    def __init__(self, script: Script) -> None:
        super().__init__("http://nowhere.invalid")
        self.tasks = {f"saga-{task.number}": task for task in script.sagas}
        self.seen = {saga: SagaSeen(saga, task.correlation_id, _status(task)) for saga, task in self.tasks.items()}
        self.more_lanes: dict[str, str] = {}
        self.more_commands: dict[tuple[str, str], str] = {}
        self.more_events = 0
        self.in_quarantine = 3
        self.in_parking = Counter[str]()
        for task in script.tasks:
            self.in_parking.update(task.parked)

    def sagas(self, since: datetime) -> list[SagaSeen]:
        return list(self.seen.values())

    def lanes(self, saga_id: str) -> dict[str, str]:
        return dict(_expected(self.tasks[saga_id]).lanes) | self.more_lanes

    def commands(self, saga_id: str) -> dict[tuple[str, str], str]:
        commands = _expected(self.tasks[saga_id]).commands
        return {key: min(statuses) for key, statuses in commands.items()} | self.more_commands

    def events(self, saga_id: str) -> int:
        return _expected(self.tasks[saga_id]).events + self.more_events

    def quarantined(self) -> int:
        return self.in_quarantine

    def parked(self) -> Counter[str]:
        return self.in_parking


def _expected(task: TaskScript) -> Expectation:
    assert task.expected is not None
    return task.expected


def _status(task: TaskScript) -> str:
    return _expected(task).status


@pytest.fixture
def script() -> Script:
    return scenario.write_script(OPTIONS, "20260131T154500-aaaaaa")


@pytest.fixture
def api(script: Script) -> PerfectApi:
    return PerfectApi(script)


@pytest.fixture
def judge(script: Script, api: PerfectApi) -> Judge:
    judge = Judge(script, Services(script), api, details=1000, garbage=GARBAGE)
    judge.begin()
    api.in_quarantine += GARBAGE
    return judge


def test_nothing_is_unexpected_where_all_is_as_foreseen(judge: Judge, script: Script) -> None:
    assert len(judge.look()) == 40
    assert judge.settle()
    assert judge.look() == []
    assert judge.unexpected() == []
    assert judge.by_status() == script.foreseen()


def lose_a_saga(api: PerfectApi) -> None:
    del api.seen["saga-3"]


def end_otherwise(api: PerfectApi) -> None:
    api.seen["saga-3"] = SagaSeen("saga-3", api.seen["saga-3"].correlation_id, "COMPENSATING")


def make_two_of_one(api: PerfectApi) -> None:
    seen = api.seen["saga-3"]
    api.seen["twin"] = SagaSeen("twin", seen.correlation_id, seen.status)


def make_a_lane_more(api: PerfectApi) -> None:
    api.more_lanes = {"image-x": "open"}


def make_a_command_more(api: PerfectApi) -> None:
    api.more_commands = {("DeleteRetrievedImage", "image-x"): "confirmed"}


def count_an_event_twice(api: PerfectApi) -> None:
    api.more_events = 1


def lose_a_parked_event(api: PerfectApi) -> None:
    api.in_parking[max(api.in_parking)] -= 1


def park_what_has_a_saga(api: PerfectApi) -> None:
    api.in_parking[api.tasks["saga-3"].task.task_id] += 1


def let_rubbish_through(api: PerfectApi) -> None:
    api.in_quarantine -= 1


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lose_a_saga, "status"),
        (end_otherwise, "status"),
        (make_two_of_one, "sagas of this task"),
        (make_a_lane_more, "lane image-x"),
        (make_a_command_more, "DeleteRetrievedImage of image-x"),
        (count_an_event_twice, "events in its history"),
        (lose_a_parked_event, "unmatched events under this key"),
        (park_what_has_a_saga, "unmatched events under this key"),
        (let_rubbish_through, "messages in quarantine"),
    ],
)
def test_every_difference_is_found(
    judge: Judge, api: PerfectApi, spoil: Callable[[PerfectApi], None], what: str
) -> None:
    spoil(api)
    judge.look()
    judge.settle()
    assert what in {item.what for item in judge.unexpected()}


@pytest.mark.parametrize(("repeated", "well"), [(3, True), (-1, False)])
def test_with_an_unsteady_broker_rubbish_may_come_twice_but_not_be_lost(
    script: Script, api: PerfectApi, repeated: int, well: bool
) -> None:
    judge = Judge(script, Services(script), api, details=1000, garbage=GARBAGE, unsteady=True)
    judge.begin()
    api.in_quarantine += GARBAGE + repeated
    judge.look()
    assert judge.settle() is well


def test_with_an_unsteady_broker_an_event_with_an_id_is_still_one(script: Script, api: PerfectApi) -> None:
    judge = Judge(script, Services(script), api, details=1000, garbage=0, unsteady=True)
    judge.begin()
    judge.look()
    api.more_events = 1
    assert not judge.settle()
    assert len([item for item in judge.unexpected() if item.what == "events in its history"]) >= 30


def test_a_saga_that_moves_after_all_was_well_is_looked_into_again(judge: Judge, api: PerfectApi) -> None:
    judge.look()
    assert judge.settle()
    end_otherwise(api)
    assert len(judge.look()) == 1
    assert not judge.settle()


def test_complaints_of_the_services_are_unexpected(script: Script, api: PerfectApi) -> None:
    services = Services(script)
    task = script.sagas[0].task.task_id
    body = f'{{"type": "DeleteRetrievedImage", "id": "x", "data": {{"task_id": "{task}"}}}}'.encode()
    services.receive("data-retrieval-commands", body, script.began)
    judge = Judge(script, services, api, details=0, garbage=0)
    judge.begin()
    judge.look()
    assert [item.expected for item in judge.unexpected()] == ["exactly the fields of the contract"]


def snapshot(**changes: Any) -> Snapshot:
    told: dict[str, Any] = {
        "run": "r",
        "seconds": 3.2,
        "sent": 10,
        "total": 20,
        "sagas": 4,
        "as_expected": 2,
        "by_status": {"COMPLETED": 2, "STARTED": 1},
        "foreseen": {"COMPLETED": 4},
        "commands": {"confirmed": 1, "received": 2},
        "rows": [Row("task", "everything_works", 3, "STARTED", "COMPLETED")],
        "trouble": "",
    }
    return Snapshot(**told | changes)


def test_a_line_says_how_far_a_run_is() -> None:
    assert table.line(snapshot()) == (
        "3 s; 10/20 messages sent; 2/4 sagas as expected; 1 STARTED, 2 COMPLETED; 1/2 commands confirmed"
    )
    assert table.line(snapshot(by_status={}, trouble="GET sagas: 500")).endswith("; GET sagas: 500")


def test_without_a_terminal_there_are_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", io.StringIO())
    with table.display() as show:
        show(snapshot())
        show(snapshot())
    import sys

    assert isinstance(sys.stderr, io.StringIO)
    assert sys.stderr.getvalue().count("\n") == 1


def test_on_a_terminal_there_is_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with table.display() as show:
        show(snapshot())
    assert "everything works" in terminal.getvalue()


def report(*unexpected: Unexpected, interrupted: bool = False) -> Report:
    return Report("r", 1, 4, 40, {"COMPLETED": 4}, {"confirmed": 1}, {}, {}, unexpected, interrupted, 9.5)


def test_a_summary_names_what_is_unexpected() -> None:
    assert "Every saga ended as expected." in table.summary(report())
    said = table.summary(report(Unexpected("t", "s", "everything_works", "status", "COMPLETED", "STARTED")))
    assert "everything_works s: status: expected COMPLETED, seen STARTED" in said
    assert "before the verdict" in table.summary(report(interrupted=True))


def test_only_a_whole_run_without_surprises_is_as_foreseen() -> None:
    assert report().as_foreseen
    assert not report(interrupted=True).as_foreseen
    assert not report(Unexpected("t", None, "", "status", "a", "b")).as_foreseen
    assert {"sagas", "events", "by_status", "commands", "unexpected", "seconds"} <= report().as_json().keys()
