"""Write copies of rehearsed tasks: any number of sagas, a limited number in each transaction."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import StringIO
from itertools import islice
from random import Random

from django.db import connection, transaction

from bridge import sql
from bridge.models import Event
from devtools.filling.copying import copy_in
from devtools.filling.rehearsal import Rehearsal
from devtools.filling.template import TABLES, Stamped, Template, templates
from devtools.simulator.naming import dice
from devtools.simulator.options import Options
from sagas.models import SagaStatusChoice

# Shares of the ended sagas by status: a service that works, with a usual number of failures.
ENDED: Mapping[str, float] = {
    SagaStatusChoice.COMPLETED: 0.83,
    SagaStatusChoice.COMPENSATION_SUCCEEDED: 0.12,
    SagaStatusChoice.FAILED: 0.045,
    SagaStatusChoice.COMPENSATION_FAILED: 0.003,
    SagaStatusChoice.STARTED: 0.002,  # waits permanently for an event that a service never sent
}
UNDER_WAY: Mapping[str, float] = {SagaStatusChoice.STARTED: 0.7, SagaStatusChoice.COMPENSATING: 0.3}
UNMATCHED = 0.001  # for each saga: a task without a start, whose events are parked, and an unreadable message

# Foreign keys hold by construction, and checking them takes half of the time; only a superuser may skip the check.
_FAST_WRITES = """
    SELECT set_config('synchronous_commit', 'off', true),
        CASE current_setting('is_superuser') WHEN 'on' THEN set_config('session_replication_role', 'replica', true) END
"""

CHUNK = 500  # sagas of a few images
_ROWS = 40_000  # approximate maximum of rows
_REHEARSED_TASKS, _REHEARSED_ROWS = 200, 14_000
_PER_ORDER = 4


@dataclass(frozen=True, slots=True)
class FillSpec:
    """What to fill a database with.

    sagas: number of sagas. images: minimum and maximum per saga. in_flight: the share of sagas that are open now.
    since, until: the first and last of their start times; UTC. seed: the same seed gives the same sagas in the same
    order, under other ids. writers: number of connections that write in parallel.
    """

    sagas: int
    images: tuple[int, int]
    since: datetime
    until: datetime
    in_flight: float = 0.01
    seed: int = 1
    writers: int = 2


@dataclass(frozen=True, slots=True)
class Filled:
    """What was written."""

    sagas: int
    events: int
    statuses: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class TemplateCast:
    """Templates to choose from, and the total number of copies of them."""

    templates: Sequence[Template]
    copies: int


@dataclass(frozen=True, slots=True)
class Copy:
    """A saga to write: its template and its shift in time."""

    template: Template
    shift: timedelta


def fill(spec: FillSpec, progress: Callable[[int], None] = lambda done: None) -> Filled:
    """Write the sagas with everything that belongs to them; `progress` is called with the number written so far.

    Opens its own transactions, also on connections of its own threads; if it is interrupted, all written sagas are
    complete. Running it twice writes twice as many. It does not nudge: the next sweep finds due work.
    """
    ended, under_way, unmatched = rehearse(spec)
    copies = _copies(spec, ended, under_way, unmatched)
    return _write(copies, spec, progress)


def analyze() -> None:
    """Update the planner's statistics and the visibility map (VACUUM ANALYZE). Must run outside any transaction."""
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")  # a table of millions takes minutes
        try:
            for table in TABLES:
                cursor.execute(f"VACUUM (ANALYZE) {table.name}")
        finally:
            cursor.execute("RESET statement_timeout")


# --- rehearsal ------------------------------------------------------------------------------------------------------


def rehearse(spec: FillSpec) -> tuple[list[TemplateCast], list[TemplateCast], TemplateCast]:
    """Rehearse the tasks and choose the numbers of copies: of ended sagas, of open ones, and of unmatched tasks."""
    tasks = max(1, min(_REHEARSED_TASKS, 3 * spec.sagas, _REHEARSED_ROWS // _rows_of(spec.images)))
    options = Options(
        sagas=tasks,
        images=spec.images,
        failure_rate=0.6,
        duplicate_rate=0.01,
        refuse_rate=0.15,
        silence_rate=0.05,
        stubborn_rate=0.05,
        own_task_rate=0.04,
        seed=spec.seed,
    )
    ended = _by_status(_play(options))
    in_flight = round(spec.sagas * spec.in_flight)
    interrupted = Options(sagas=tasks, images=spec.images, failure_rate=0.6, silence_rate=0.3, seed=spec.seed + 1)
    under_way = _by_status(_play(interrupted, cut=True)) if in_flight else {}
    unmatched = _play(Options(sagas=0, orphans=12, images=(1, 2), seed=spec.seed + 2), garbage=True)
    ended_shares, open_shares = _shares(spec.sagas - in_flight, ENDED, ended), _shares(in_flight, UNDER_WAY, under_way)
    return (
        [TemplateCast(ended[status], copies) for status, copies in ended_shares.items()],
        [TemplateCast(under_way[status], copies) for status, copies in open_shares.items()],
        TemplateCast(unmatched, max(1, round(spec.sagas * UNMATCHED))),
    )


def _play(options: Options, *, cut: bool = False, garbage: bool = False) -> list[Template]:
    """Return the templates of all tasks, run to their end, or `cut` at the start of the last one."""
    with _without_logs(), transaction.atomic():
        newest = Event.objects.order_by("-id").values_list("id", flat=True).first() or 0
        rehearsal = Rehearsal(options, garbage=garbage)
        results = rehearsal.play(rehearsal.script.tasks[-1].begins if cut else None)
        found = templates(results, newest)
        transaction.set_rollback(True)
    return found


@contextmanager
def _without_logs() -> Iterator[None]:
    """Suppress logs: the work is rolled back."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _by_status(found: Sequence[Template]) -> dict[str, list[Template]]:
    by_status: dict[str, list[Template]] = defaultdict(list)
    for template in found:
        by_status[template.status].append(template)
    return by_status


def _shares(total: int, shares: Mapping[str, float], there: Mapping[str, object]) -> dict[str, int]:
    """Divide a number among the existing names by their shares; each gets at least one, if there are enough."""
    wanted = {name: share for name, share in shares.items() if name in there}
    if not total or not wanted:
        return {}
    whole = sum(wanted.values())
    given = {name: max(1, int(total * share / whole)) for name, share in wanted.items()}
    most = max(wanted, key=lambda name: wanted[name])
    given[most] = max(0, given[most] + total - sum(given.values()))
    surplus = sum(given.values()) - total
    return {name: count for name, count in list(given.items())[: len(given) - surplus or None] if count}


# --- copies ---------------------------------------------------------------------------------------------------------


def _copies(
    spec: FillSpec, ended: Sequence[TemplateCast], under_way: Sequence[TemplateCast], unmatched: TemplateCast
) -> Iterator[Copy]:
    """Yield all copies by their start, so that new rows are stored next to each other as in production."""
    rng = dice(f"{spec.seed}/copies")
    yield from _spread(_drawn([*ended, unmatched], rng), spec, rng)
    for template in _drawn(under_way, rng):
        ago = timedelta(seconds=rng.random() * 60)
        yield Copy(template, _whole(spec.until - ago, template.ends))


def _drawn(casts: Sequence[TemplateCast], rng: Random) -> list[Template]:
    drawn = [template for cast in casts for template in rng.choices(cast.templates, k=cast.copies) if cast.templates]
    rng.shuffle(drawn)
    return drawn


def _spread(drawn: Sequence[Template], spec: FillSpec, rng: Random) -> Iterator[Copy]:
    longest = max((template.ends - template.begins for template in drawn), default=timedelta())
    span = max(spec.until - spec.since - longest, timedelta())
    for number, template in enumerate(drawn):
        at = spec.since + span * ((number + rng.random()) / len(drawn))
        yield Copy(template, _whole(at, template.begins))


def _whole(at: datetime, instead_of: datetime) -> timedelta:
    """Return the shift between two times in whole seconds."""
    return timedelta(seconds=int((at.astimezone(UTC).replace(tzinfo=None) - instead_of).total_seconds()))


# --- writing --------------------------------------------------------------------------------------------------------


def _write(copies: Iterator[Copy], spec: FillSpec, progress: Callable[[int], None]) -> Filled:
    rng = dice(f"{spec.seed}/correlations")
    statuses: Counter[str] = Counter()
    events = written = 0
    running: dict[Future[None], int] = {}
    with ThreadPoolExecutor(spec.writers, "fill") as pool:
        for chunk in _chunks(copies, max(1, min(CHUNK, _ROWS // _rows_of(spec.images)))):
            texts = _stamp(chunk, spec, rng)
            while len(running) > spec.writers:  # one more than can write, so that the next is ready when one ends
                written += _finished(running)
                progress(written)
            born = Counter(copy.template.status for copy in chunk if copy.template.status)
            running[pool.submit(_copy, texts)] = born.total()
            statuses += born
            events += sum(copy.template.events for copy in chunk)
        while running:
            written += _finished(running)
            progress(written)
    return Filled(written, events, dict(statuses))


def _finished(running: dict[Future[None], int]) -> int:
    """Wait until at least one chunk is committed; return its number of sagas. Raises the error of a writer."""
    finished, _ = wait(running, return_when=FIRST_COMPLETED)
    for future in finished:
        future.result()
    return sum(running.pop(future) for future in finished)


def _chunks(copies: Iterator[Copy], size: int) -> Iterator[list[Copy]]:
    while chunk := list(islice(copies, size)):
        yield chunk


def _stamp(chunk: Sequence[Copy], spec: FillSpec, rng: Random) -> Stamped:
    numbers = iter(_event_numbers(sum(copy.template.events for copy in chunk)))
    texts: dict[str, StringIO] = defaultdict(StringIO)
    for copy in chunk:
        events = list(islice(numbers, copy.template.events))
        # Some sagas share a correlation id: an order of several tasks.
        correlation = f"order-{spec.seed}-{rng.randrange(max(1, spec.sagas // _PER_ORDER)):08}"
        for name, text in copy.template.stamp(copy.shift, events, correlation).items():
            texts[name].write(text)
    return {name: text.getvalue() for name, text in texts.items()}


def _event_numbers(count: int) -> list[int]:
    """Return unused event numbers, which no other event will get."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT nextval(pg_get_serial_sequence('bridge_event', 'id')) FROM generate_series(1, %s) ORDER BY 1",
            [count],
        )
        return [number for (number,) in cursor.fetchall()]


def _copy(texts: Stamped) -> None:
    """Write one chunk in one transaction, on a separate thread."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(_FAST_WRITES)
            for table in TABLES:
                if table.name in texts:
                    columns = sql.names(table.columns)
                    copy_in(cursor, f"COPY {table.name} ({columns}) FROM STDIN", texts[table.name])
    finally:
        connection.close()


def _rows_of(images: tuple[int, int]) -> int:
    """Return the approximate number of rows of a saga with this number of images."""
    return 10 + 20 * (images[0] + images[1]) // 2
