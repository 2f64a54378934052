"""Stamps stories out into the tables: any number of sagas, a bounded number in each transaction."""

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
from sagaproject.filling.rehearsal import Rehearsal
from sagaproject.filling.template import TABLES, Stamped, Template, templates
from sagaproject.simulator.naming import dice
from sagaproject.simulator.options import Options
from sagas.models import SagaStatusChoice

# Shares of the sagas that ended, by how: a service that does its work, with the trouble of any week.
ENDED: Mapping[str, float] = {
    SagaStatusChoice.COMPLETED: 0.83,
    SagaStatusChoice.COMPENSATION_SUCCEEDED: 0.12,
    SagaStatusChoice.FAILED: 0.045,
    SagaStatusChoice.COMPENSATION_FAILED: 0.003,
    SagaStatusChoice.STARTED: 0.002,  # waits for ever for something that a service never said
}
UNDER_WAY: Mapping[str, float] = {SagaStatusChoice.STARTED: 0.7, SagaStatusChoice.COMPENSATING: 0.3}
STRAYS = 0.001  # for each saga: a task whose start was never heard, parked, and a message that could not be read

# Foreign keys hold by construction, and checking them takes half of the time; only a superuser may leave that out.
_HURRY = """
    SELECT set_config('synchronous_commit', 'off', true),
        CASE current_setting('is_superuser') WHEN 'on' THEN set_config('session_replication_role', 'replica', true) END
"""

CHUNK = 500  # sagas of a few images
_ROWS = 40_000  # and not many more rows than this
_STORIES, _ROWS_OF_STORIES = 200, 14_000
_PER_ORDER = 4


@dataclass(frozen=True, slots=True)
class FillSpec:
    """What to fill a database with.

    sagas: how many. images: least and most of a saga. in_flight: the share of sagas that are under way just now.
    since, until: the first and last of their start times; UTC. seed: the same seed tells the same stories in the same
    order, under other ids. writers: how many connections write at once.
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
    """Templates to choose from, and how many copies are to be made of them in all."""

    templates: Sequence[Template]
    copies: int


@dataclass(frozen=True, slots=True)
class Copy:
    """One saga to be: from which template, moved in time by how much."""

    template: Template
    shift: timedelta


def fill(wish: FillSpec, progress: Callable[[int], None] = lambda done: None) -> Filled:
    """Writes that many sagas with all that belongs to them; `progress` hears how many there are.

    Opens its own transactions, on connections of its own threads too; cut off at any point, what is there is whole.
    Run twice it writes twice. Nothing is nudged: what is due goes out when a sweeper looks.
    """
    ended, under_way, strays = rehearse(wish)
    copies = _copies(wish, ended, under_way, strays)
    return _write(copies, wish, progress)


def analyze() -> None:
    """Tells the planner what is there now, and marks the pages as visible to all. Outside of any transaction."""
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")  # a table of millions takes minutes
        try:
            for table in TABLES:
                cursor.execute(f"VACUUM (ANALYZE) {table.name}")
        finally:
            cursor.execute("RESET statement_timeout")


# --- stories --------------------------------------------------------------------------------------------------------


def rehearse(wish: FillSpec) -> tuple[list[TemplateCast], list[TemplateCast], TemplateCast]:
    """Plays the stories: how many copies of those that ended, by status, that are under way, and without a saga."""
    stories = max(1, min(_STORIES, 3 * wish.sagas, _ROWS_OF_STORIES // _rows_of(wish.images)))
    troubled = Options(
        sagas=stories,
        images=wish.images,
        failure_rate=0.6,
        duplicate_rate=0.01,
        refuse_rate=0.15,
        silence_rate=0.05,
        stubborn_rate=0.05,
        own_task_rate=0.04,
        seed=wish.seed,
    )
    ended = _by_status(_play(troubled))
    flying = round(wish.sagas * wish.in_flight)
    hurried = Options(sagas=stories, images=wish.images, failure_rate=0.6, silence_rate=0.3, seed=wish.seed + 1)
    under_way = _by_status(_play(hurried, cut=True)) if flying else {}
    strays = _play(Options(sagas=0, orphans=12, images=(1, 2), seed=wish.seed + 2), garbage=True)
    return (
        [TemplateCast(ended[status], copies) for status, copies in _shares(wish.sagas - flying, ENDED, ended).items()],
        [TemplateCast(under_way[status], copies) for status, copies in _shares(flying, UNDER_WAY, under_way).items()],
        TemplateCast(strays, max(1, round(wish.sagas * STRAYS))),
    )


def _play(options: Options, *, cut: bool = False, garbage: bool = False) -> list[Template]:
    """Templates of all stories, played to their end, or `cut` where the last of them begins."""
    with _unheard(), transaction.atomic():
        newest = Event.objects.order_by("-id").values_list("id", flat=True).first() or 0
        rehearsal = Rehearsal(options, garbage=garbage)
        stories = rehearsal.play(rehearsal.script.tasks[-1].begins if cut else None)
        found = templates(stories, newest)
        transaction.set_rollback(True)
    return found


@contextmanager
def _unheard() -> Iterator[None]:
    """Lets nothing be logged: it would be told of what is rolled back."""
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
    """Divides a number by shares among what there is; each gets one at least, as long as there are enough."""
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
    wish: FillSpec, ended: Sequence[TemplateCast], under_way: Sequence[TemplateCast], strays: TemplateCast
) -> Iterator[Copy]:
    """All copies by their start, so that new rows land beside each other as they do in life."""
    rng = dice(f"{wish.seed}/copies")
    yield from _spread(_drawn([*ended, strays], rng), wish, rng)
    for template in _drawn(under_way, rng):
        ago = timedelta(seconds=rng.random() * 60)
        yield Copy(template, _whole(wish.until - ago, template.ends))


def _drawn(casts: Sequence[TemplateCast], rng: Random) -> list[Template]:
    drawn = [template for cast in casts for template in rng.choices(cast.templates, k=cast.copies) if cast.templates]
    rng.shuffle(drawn)
    return drawn


def _spread(drawn: Sequence[Template], wish: FillSpec, rng: Random) -> Iterator[Copy]:
    longest = max((template.ends - template.begins for template in drawn), default=timedelta())
    span = max(wish.until - wish.since - longest, timedelta())
    for number, template in enumerate(drawn):
        at = wish.since + span * ((number + rng.random()) / len(drawn))
        yield Copy(template, _whole(at, template.begins))


def _whole(at: datetime, instead_of: datetime) -> timedelta:
    """By how many whole seconds a story must be moved."""
    return timedelta(seconds=int((at.astimezone(UTC).replace(tzinfo=None) - instead_of).total_seconds()))


# --- writing --------------------------------------------------------------------------------------------------------


def _write(copies: Iterator[Copy], wish: FillSpec, progress: Callable[[int], None]) -> Filled:
    rng = dice(f"{wish.seed}/correlations")
    statuses: Counter[str] = Counter()
    events = written = 0
    running: dict[Future[None], int] = {}
    with ThreadPoolExecutor(wish.writers, "fill") as pool:
        for chunk in _chunks(copies, max(1, min(CHUNK, _ROWS // _rows_of(wish.images)))):
            texts = _stamp(chunk, wish, rng)
            while len(running) > wish.writers:  # one more than can write: the next is ready when one of them is
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
    """Waits until at least one chunk is committed; returns of how many sagas. Raises what a writer raised."""
    finished, _ = wait(running, return_when=FIRST_COMPLETED)
    for future in finished:
        future.result()
    return sum(running.pop(future) for future in finished)


def _chunks(copies: Iterator[Copy], size: int) -> Iterator[list[Copy]]:
    while chunk := list(islice(copies, size)):
        yield chunk


def _stamp(chunk: Sequence[Copy], wish: FillSpec, rng: Random) -> Stamped:
    numbers = iter(_event_numbers(sum(copy.template.events for copy in chunk)))
    texts: dict[str, StringIO] = defaultdict(StringIO)
    for copy in chunk:
        events = list(islice(numbers, copy.template.events))
        # Some sagas share one: an order of several tasks.
        correlation = f"order-{wish.seed}-{rng.randrange(max(1, wish.sagas // _PER_ORDER)):08}"
        for name, text in copy.template.stamp(copy.shift, events, correlation).items():
            texts[name].write(text)
    return {name: text.getvalue() for name, text in texts.items()}


def _event_numbers(count: int) -> list[int]:
    """Numbers that no other event has or gets."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT nextval(pg_get_serial_sequence('bridge_event', 'id')) FROM generate_series(1, %s) ORDER BY 1",
            [count],
        )
        return [number for (number,) in cursor.fetchall()]


def _copy(texts: Stamped) -> None:
    """Writes one chunk in one transaction. On a thread of its own."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(_HURRY)
            for table in TABLES:
                if table.name in texts:
                    columns = sql.names(table.columns)
                    cursor.copy_expert(f"COPY {table.name} ({columns}) FROM STDIN", StringIO(texts[table.name]))
    finally:
        connection.close()


def _rows_of(images: tuple[int, int]) -> int:
    """About how many rows a saga of so many images has."""
    return 10 + 20 * (images[0] + images[1]) // 2
