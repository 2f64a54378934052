"""Run the simulator, from the first event to the verdict and, if requested, until it is stopped."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

from devtools.simulator import mischief, scenario
from devtools.simulator import options as simulator_options
from devtools.simulator.answering import Answering
from devtools.simulator.api import ApiClient, ApiError
from devtools.simulator.judge import Found, Judge, unreachable
from devtools.simulator.mischief import Kind
from devtools.simulator.options import Options
from devtools.simulator.report import Report, Unexpected
from devtools.simulator.sender import Sender
from devtools.simulator.services import Services
from devtools.simulator.transport import Broker, SimulatorTransport

POLL_SECONDS = 0.5  # the shortest interval between two reads of the API
ROWS = 14


@dataclass(frozen=True, slots=True)
class Row:
    """One saga that changed recently."""

    task_id: str
    plot: str
    images: int
    status: str
    expected: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The progress of a run. `foreseen` and `by_status`: sagas by status, as they must end and as they are."""

    run: str
    seconds: float
    sent: int
    total: int
    sagas: int
    as_expected: int
    by_status: dict[str, int]
    foreseen: dict[str, int]
    commands: dict[str, int]
    rows: Sequence[Row]
    trouble: str


def simulate(
    options: Options,
    broker: Broker,
    api_url: str,
    *,
    api_token: str = "",
    on_progress: Callable[[Snapshot], None] = lambda snapshot: None,
    on_verdict: Callable[[Report], None] = lambda report: None,
    stop: threading.Event | None = None,
) -> Report:
    """Play the three services until every saga has ended as the script predicts, or the timeout has passed.

    api_url: …/api/v1/saga. on_progress is called about twice a second, on_verdict once, both in the caller's thread.
    Without options.once the services go on answering after the verdict (every command, from then on) until `stop` is
    set. Setting `stop` ends a run at any time, within about a second. Raises TransportError if the broker, and ApiError
    if the API, cannot be reached when the run begins.
    """
    run_options = replace(options, run=options.run or simulator_options.fresh_run())
    return Run(run_options, broker, ApiClient(api_url, api_token)).play(
        on_progress, on_verdict, stop or threading.Event()
    )


class Run:
    """The threads of a run: one sends the events, one answers commands, the caller's checks the results."""

    def __init__(self, options: Options, broker: Broker, api: ApiClient) -> None:
        self._options = options
        self._script = scenario.write_script(options, options.run)
        sendings = mischief.order(self._script, options)
        garbage = sum(sending.kind is Kind.GARBAGE for sending in sendings)
        self._total = len(sendings)
        self._services = Services(self._script, answer_all=options.answer_all, redeliver=options.redeliver)
        self._judge = Judge(
            self._script, self._services, api, details=options.details, garbage=garbage, unsteady=options.unsteady
        )
        self._judge.begin()
        self._transport = SimulatorTransport(broker, f"simulator-{options.run}")
        self._sender = Sender(self._transport, sendings, options.rate)
        self._answering = Answering(self._transport, self._services, options.duplicate_rate, options.seed)
        self._moved: deque[Found] = deque(maxlen=ROWS)
        self._trouble = ""
        self._began = time.monotonic()

    def play(
        self, on_progress: Callable[[Snapshot], None], on_verdict: Callable[[Report], None], stop: threading.Event
    ) -> Report:
        """Run; see simulate(). May be called once."""
        over = threading.Event()
        threads = ThreadPoolExecutor(2, thread_name_prefix="simulator")
        try:
            work = [threads.submit(self._sender.run, over), threads.submit(self._answering.run, over)]
            settled = self._watch(work, on_progress, stop)
            report = self._report(interrupted=stop.is_set() and not settled)
            self._services.heal()
            self._answering.expecting.clear()
            on_verdict(report)
            while not self._options.once and not stop.wait(1):
                _raise_errors(work)
            return report
        finally:
            # However this ends, for example with Ctrl-C, both threads stop and the subscriptions are removed.
            over.set()
            threads.shutdown(wait=True)
            self._transport.close()

    def _watch(self, work: list[Future[None]], on_progress: Callable[[Snapshot], None], stop: threading.Event) -> bool:
        """Check until all sagas have ended as predicted (true), the timeout has passed or `stop` is set (false)."""
        deadline = float("inf")
        while not stop.is_set() and time.monotonic() < deadline:
            _raise_errors(work)
            if self._sender.finished:
                deadline = min(deadline, time.monotonic() + self._options.timeout)
            began = time.monotonic()
            settled = self._look()
            on_progress(self._snapshot())
            if settled:
                return True
            stop.wait(max(POLL_SECONDS, time.monotonic() - began))
        return False

    def _list(self, moved: Iterable[Found]) -> None:
        """Keep the sagas that changed last, each once."""
        for saga in moved:
            if saga in self._moved:
                self._moved.remove(saga)
            self._moved.append(saga)

    def _look(self) -> bool:
        try:
            self._list(self._judge.look())
            done = self._sender.finished and not self._answering.pending
            settled = done and self._judge.settle()
            # Sagas that were checked first may have changed since then: read all of them once more.
            settled = settled and not self._judge.look()
            self._trouble = ""
        except ApiError as error:
            self._trouble = str(error)
            return False
        return settled

    def _snapshot(self) -> Snapshot:
        found = self._judge.found
        return Snapshot(
            run=self._options.run,
            seconds=time.monotonic() - self._began,
            sent=self._sender.sent.total(),
            total=self._total,
            sagas=len(found),
            as_expected=sum(saga.as_expected for saga in found),
            by_status=self._judge.by_status(),
            foreseen=self._script.foreseen(),
            commands=self._commands(),
            rows=[_row(saga) for saga in reversed(self._moved)],
            trouble=self._trouble,
        )

    def _commands(self) -> dict[str, int]:
        tally = self._services.tally
        return {
            "received": tally.received,
            "received_again": tally.again,
            "confirmed": tally.confirmed,
            "refused": tally.refused,
            "unanswered": tally.unanswered,
            "exhausted": self._judge.exhausted(),
        }

    def _report(self, *, interrupted: bool) -> Report:
        seconds = time.monotonic() - self._began
        waiting: dict[str, dict[str, int]] = {}
        try:
            # A run that was stopped has no verdict: its sagas are still open.
            unexpected: list[Unexpected] = [] if interrupted else self._judge.unexpected()
            waiting = self._judge.waiting()
        except ApiError as error:
            unexpected = [unreachable(error)]
        sent, tally = self._sender.sent, self._services.tally
        return Report(
            run=self._options.run,
            seed=self._options.seed,
            sagas=len(self._judge.found),
            events=sent[Kind.EVENT] + tally.answers.total() + tally.parked.total(),
            by_status=self._judge.by_status(),
            commands=self._commands(),
            messages={"sent": sent.total() + self._answering.sent, **{kind.value: sent[kind] for kind in Kind}},
            waiting=waiting,
            unexpected=unexpected,
            interrupted=interrupted,
            seconds=round(seconds, 1),
        )


def _raise_errors(work: list[Future[None]]) -> None:
    """Raise the error of a thread that has failed."""
    for thread in work:
        if thread.done():
            thread.result()


def _row(found: Found) -> Row:
    script = found.script
    return Row(script.task.task_id, script.plot, len(script.images), found.status, found.expected.status)
