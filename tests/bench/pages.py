"""How long the pages of API and admin take on top of many sagas: each against its goal.

python -m tests.bench.pages [--sagas 1000000] [--images 1-5] [--repeats 40] [--only WORD…] [--json FILE]

Fills a PostgreSQL of its own (minutes, and 35 GB for a million sagas), or the one of DATABASE_URL, where there is
nothing yet. Each page is asked for through the whole of Django, session and login included, on one connection as in a
web process; pages of one saga are asked of another saga each time.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

NOWHERE = {"CELERY_BROKER_URL": "redis://127.0.0.1:1/0", "PULSAR_SERVICE_URL": "pulsar://127.0.0.1:1"}
LIST, DETAIL, BY_TASK, ADMIN = 30.0, 15.0, 10.0, 300.0  # ms, goals for the p95
LARGE = 3000  # images
SAMPLE = 40


@dataclass(frozen=True, slots=True)
class Asked:
    """One page with the addresses to ask in turn, and its goal in milliseconds.

    look_up: instead of a page, a function that looks each of the addresses up, which are ids then.
    """

    name: str
    goal: float
    addresses: Sequence[str]
    look_up: Callable[[str], Sequence[int]] | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """Milliseconds of a page; `first` is the first time, with nothing remembered or cached by us.

    cpu: of this process and of its PostgreSQL backend together, where that is on this machine. On a machine that does
    nothing else it is about the median; where others work too, it tells what the page itself takes.
    """

    name: str
    goal: float
    median: float
    p95: float
    most: float
    first: float
    cpu: float
    queries: int
    bytes: int

    @property
    def well(self) -> bool:
        return self.p95 <= self.goal


def main(words: Sequence[str]) -> None:
    options = _options(words)
    with _database() as url:
        _set_up(url)
        filled = _fill(options)
        pages = [page for page in asked() if not options.only or any(word in page.name for word in options.only)]
        answered = [measure(page, options.repeats) for page in pages]
        content = {"machine": _machine(), "filled": filled, "pages": [asdict(one) for one in answered]}
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(table(answered))
    _say(f"every number: {options.json}")


def _options(words: Sequence[str]) -> argparse.Namespace:
    from devtools.simulator.options import image_range
    from sagaproject import env

    parser = argparse.ArgumentParser(prog="python -m tests.bench.pages", description="Measure API and admin.")
    parser.add_argument("--sagas", type=int, default=1_000_000, help="on top of how many (default %(default)s)")
    parser.add_argument("--images", type=image_range, default=(1, 5), metavar="A-B", help="of a saga (default 1-5)")
    parser.add_argument("--repeats", type=int, default=40, help="how often each page is asked for (%(default)s)")
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="pages with such a word in their name")
    parser.add_argument("--json", type=Path, default=env.ROOT / "var" / "bench-pages.json")
    return parser.parse_args(words)


# --- a filled database ------------------------------------------------------------------------------------------------


@contextmanager
def _database() -> Iterator[str]:
    from devtools.embedded import postgres

    said = os.environ.get("DATABASE_URL")
    if said:
        yield said
        return
    folder = Path(tempfile.mkdtemp(prefix="saga-pages-", dir="/var/tmp"))
    folder.chmod(0o755)
    try:
        with postgres.temporary(folder, settings=()) as url:
            yield url
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _set_up(url: str) -> None:
    os.environ.update({"DJANGO_SETTINGS_MODULE": "sagaproject.settings", "ENVIRONMENT": "dev", "DATABASE_URL": url})
    for name, nowhere in NOWHERE.items():
        os.environ.setdefault(name, nowhere)
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)


def _fill(options: argparse.Namespace) -> dict[str, Any]:
    """Fills an empty database, adds a saga of LARGE images where there is none; tells how large it all is."""
    from django.utils import timezone

    from devtools.filling import fill
    from devtools.filling.fill import FillSpec
    from sagas.models import SagaLog

    now = timezone.now()
    since, began = now - timedelta(days=365), time.monotonic()
    told: dict[str, Any] = {}
    if not SagaLog.objects.exists():
        wish = FillSpec(options.sagas, options.images, since, now)
        filled = fill.fill(wish, lambda done: _say(f"{done:,} sagas") if done % 50_000 < fill.CHUNK else None)
        told["fill"] = {**asdict(filled), "seconds": round(time.monotonic() - began, 1)}
    large = SagaLog.objects.filter(lanes_known__gte=LARGE, commands_confirmed__gt=0)
    seed, filled_now = 0, bool(told)
    while not large.exists():  # until a story of such a saga has something undone
        seed += 1
        fill.fill(FillSpec(1, (LARGE, LARGE), since, now, in_flight=0, seed=seed))
        filled_now = True
    if filled_now:
        fill.analyze()
    return {**told, **_size()}


def _size() -> dict[str, Any]:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_database_size(current_database()), (SELECT count(*) FROM sagas_saga)")
        size, sagas = cursor.fetchone()
        cursor.execute("SELECT relname, pg_total_relation_size(oid) FROM pg_class WHERE relkind = 'r' ORDER BY 2 DESC")
        tables = dict(cursor.fetchmany(9))
    return {"sagas": sagas, "bytes": size, "bytes_a_saga": round(size / sagas), "tables": tables}


# --- what is asked ----------------------------------------------------------------------------------------------------


def asked() -> Iterator[Asked]:
    """Every page that reads, those of the tests and some more; of single sagas a sample of them."""
    from django.urls import reverse

    from sagas.models import Lane, SagaLog
    from tests.integration.pages import API, World, admin_pages, api_pages

    world = World.look(most_steps=40)
    for page in api_pages(world):
        is_detail = page.name == "saga" or page.name.startswith(("by-correlation", "steps", "lanes", "commands"))
        yield Asked(page.name, DETAIL if is_detail else LIST, [page.address])
    sample = list(SagaLog.objects.filter(steps_count__range=(18, 22)).order_by("key")[:SAMPLE])
    yield Asked("saga of 20 steps", DETAIL, [f"{API}/sagas/{saga.id}" for saga in sample])
    yield Asked("by-task of many", BY_TASK, [f"{API}/sagas/by-task/{saga.key}" for saga in sample])
    lanes = Lane.objects.filter(saga__in=sample).values_list("entity", flat=True)
    yield Asked("sagas image of many", LIST, [f"{API}/sagas?image_id={entity}" for entity in lanes])
    yield Asked("sagas task of many", LIST, [f"{API}/sagas?task_id={saga.key}" for saga in sample])
    deep = [f"{API}/sagas?limit=100&offset={offset}" for offset in range(9_000, 10_001, 100)]
    yield Asked("sagas around 10,000", LIST, deep)
    large = SagaLog.objects.filter(lanes_known__gte=LARGE, commands_confirmed__gt=0)[0]
    for part in ("", "/steps", "/lanes", "/commands", "/events", "/timeline", "/timeline?offset=10000&limit=100"):
        yield Asked(f"saga of {LARGE} images {part}".rstrip(), ADMIN, [f"{API}/sagas/{large.id}{part}"])
    for page in admin_pages(world):
        yield Asked(page.name, ADMIN, [page.address])
    one = "admin:sagas_sagalog_change"
    yield Asked("admin saga of many", ADMIN, [reverse(one, args=[saga.id]) for saga in sample])
    address = reverse(one, args=[large.id])
    yield Asked(f"admin saga of {LARGE} images", ADMIN, [address])
    yield Asked(f"admin saga of {LARGE} images turned", ADMIN, [f"{address}?lanes=90&commands=90&timeline=200"])
    yield from _look_ups()


def _look_ups() -> Iterator[Asked]:
    """Events by id and message id, of all days, whole and by the first characters."""
    from bridge import look_up
    from bridge.models import Event

    newest = Event.objects.order_by("-id").values_list("id", flat=True)[0]
    spread = [newest * part // SAMPLE for part in range(1, SAMPLE + 1)]
    rows = [Event.objects.filter(id__lte=pk, source="pulsar").order_by("-id")[0] for pk in spread]
    ids, messages = [row.event_id for row in rows], [row.message_id for row in rows]
    yield Asked("look-up event id", LIST, ids, lambda text: look_up.by_event_id([text]))
    yield Asked("look-up event id, 6 characters", LIST, [text[:6] for text in ids], look_up.by_event_id_prefix)
    yield Asked("look-up message id", LIST, messages, look_up.by_message_id)
    yield Asked("look-up message id, 6 characters", LIST, [text[:6] for text in messages], look_up.by_message_id)


def measure(page: Asked, repeats: int) -> Answered:
    """Asks for a page again and again; the first time with nothing remembered or cached by us."""
    from django.core.cache import cache
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    from sagas.queries import pages

    client = _client()
    pages._known.clear()
    cache.clear()
    times: list[float] = []
    with CaptureQueriesContext(connection) as captured:
        size = _ask(client, page, 0, times)
    queries, before = len(captured), _cpu()
    for number in range(repeats):
        _ask(client, page, number, times)
    first, rest = times[0], sorted(times[1:])
    return Answered(
        page.name,
        page.goal,
        round(statistics.median(rest), 1),
        round(rest[int(0.95 * (len(rest) - 1))], 1),
        round(rest[-1], 1),
        round(first, 1),
        round((_cpu() - before) / repeats, 1),
        queries,
        size,
    )


def _cpu() -> float:
    """Milliseconds of processor time that this process and its backend have had."""
    import psutil
    from django.db import connection

    backend = connection.connection.info.backend_pid
    spent = time.process_time()
    if connection.settings_dict["HOST"] in ("127.0.0.1", "localhost", "") and psutil.pid_exists(backend):
        used = psutil.Process(backend).cpu_times()
        spent += used.user + used.system
    return spent * 1000


def _client() -> Any:
    from django.contrib.auth.models import User
    from django.test import Client

    staff, _ = User.objects.get_or_create(username="bench", defaults={"is_staff": True, "is_superuser": True})
    client = Client(SERVER_NAME="localhost")
    client.force_login(staff)
    return client


def _ask(client: Any, page: Asked, number: int, times: list[float]) -> int:
    address = page.addresses[number % len(page.addresses)]
    began = time.perf_counter()
    if page.look_up:
        found = page.look_up(address)
        times.append((time.perf_counter() - began) * 1000)
        if not found:
            raise RuntimeError(f"{page.name}: {address} is not found")
        return 0
    answer = client.get(address, headers={"accept": "application/json, text/html"})
    size = len(answer.content)
    times.append((time.perf_counter() - began) * 1000)
    if answer.status_code >= 400 and not address.endswith("health"):
        raise RuntimeError(f"{address}: {answer.status_code}")
    return size


# --- what is told -----------------------------------------------------------------------------------------------------


def table(answered: Sequence[Answered]) -> str:
    """A row a page; what misses its goal is marked."""
    head = ("page", "median ms", "p95", "most", "first", "cpu", "queries", "kB", "goal p95", "")
    rows = [head, *(_row(one) for one in answered)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    missed = sum(not one.well for one in answered)
    return "\n".join([*lines, "", f"{len(answered)} pages, {missed} over their goal", ""])


def _row(one: Answered) -> tuple[str, ...]:
    numbers = (one.median, one.p95, one.most, one.first, one.cpu)
    kilobytes = f"{one.bytes / 1000:.0f}"
    return (
        one.name,
        *map(str, numbers),
        str(one.queries),
        kilobytes,
        f"< {one.goal:.0f}",
        "" if one.well else "MISSED",
    )


def _machine() -> dict[str, Any]:
    import psutil
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT version(), current_setting('random_page_cost'), current_setting('shared_buffers')")
        version, cost, buffers = cursor.fetchone()
    return {
        "cpus": psutil.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "postgresql": version,
        "random_page_cost": cost,
        "shared_buffers": buffers,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _say(words: str) -> None:
    sys.stderr.write(f"{words}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
