"""No page of API or admin asks more often for more rows: the same number of queries for few rows as for many."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django import DjangoDbBlocker

from tests.integration import deciding as actions
from tests.integration.filled import filled, wish
from tests.integration.pages import Page, World, admin_pages, api_pages

pytestmark = [pytest.mark.django_db, pytest.mark.timeout(600)]

# A page that needs more is put together wrongly, however constant it is. The start page looks at each kind of trouble.
MOST = 20
# The counts by status are asked again where the machine is so busy that five seconds are over.
MOST_OF_THE_START = 46
# The list alone looks at each kind of trouble, and reads what it says of those on the page.
MOST_OF_ATTENTION = 37
# What the saga waits for and what holds its deadlines, its parts, its buttons, and the banner of all pages.
MOST_OF_A_SAGA = 26
MOST_OF_NO_SERVICE = 14
# What is told of a kind of trouble is asked only where the page shows one, and chance makes which kinds there are:
# tests/integration/test_queries.py compares them with the same kinds, few and many.
BY_KIND = ("attention", "incidents", "admin start")


class Counted(NamedTuple):
    """Queries by page, and of how many rows the largest things were."""

    queries: dict[str, int]
    sagas: int
    steps: int


@pytest.fixture(scope="module")
def few_and_many(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[tuple[Counted, Counted]]:
    with django_db_blocker.unblock():
        staff = User.objects.create_superuser("counts", "counts@example.org", "x")
        try:
            with filled(wish(30, (2, 2))) as told:
                few = counted(staff, told.sagas)
            with filled(wish(120, (6, 6))) as told:
                many = counted(staff, told.sagas)
            yield few, many
        finally:
            staff.delete()


def counted(staff: User, sagas: int) -> Counted:
    client = Client()
    client.force_login(staff)
    client.get("/admin/")  # what is asked once in a process
    world = World.look()
    found = {page.name: queries_of(client, page) for page in (*api_pages(world), *admin_pages(world))}
    return Counted({name: count for name, count in found.items() if count}, sagas, world.saga.steps_count)


def queries_of(client: Client, page: Page) -> int:
    """How many queries a page takes; 0 where the database has nothing to show on it, and so less is asked."""
    headers = {"accept": "application/json, text/html"}
    with CaptureQueriesContext(connection) as captured:
        answer = client.get(page.address, headers=headers)
    if page.name.endswith(("page 2", "last page", "turned")) or _is_empty(answer):
        return 0
    assert answer.status_code == 200 or page.name == "health", (page, answer.status_code)
    return len(captured)


def _is_empty(answer: Any) -> bool:
    content = answer.json() if answer["Content-Type"] == "application/json" else []
    return isinstance(content, dict) and content.get("items") == []


def test_the_second_database_has_more_of_everything(few_and_many: tuple[Counted, Counted]) -> None:
    few, many = few_and_many
    assert len(few.queries.keys() & many.queries.keys()) > 100
    assert many.sagas == 4 * few.sagas
    assert many.steps > 2 * few.steps


def test_more_rows_take_no_more_queries(few_and_many: tuple[Counted, Counted]) -> None:
    few, many = few_and_many
    both = {name: (few.queries[name], many.queries[name]) for name in few.queries.keys() & many.queries.keys()}
    more = {n: counts for n, counts in both.items() if counts[1] > counts[0] and not n.startswith(BY_KIND)}
    assert not more, "\n".join(f"{name}: {counts}" for name, counts in more.items())


def test_no_page_takes_many_queries(few_and_many: tuple[Counted, Counted]) -> None:
    most = dict.fromkeys(few_and_many[1].queries, MOST)
    most |= {name: MOST_OF_THE_START for name in most if name.startswith("admin start")}
    most |= {name: MOST_OF_ATTENTION for name in most if name.startswith(("attention", "incidents"))}
    most["admin saga"] = MOST_OF_A_SAGA
    # Of each service it counts what waits, what was sent and what is exhausted. A saga type brings services of its own.
    most["admin compensation_switch"] = MOST_OF_NO_SERVICE + 3 * len(actions.services())
    assert {name: n for name, n in few_and_many[1].queries.items() if n > most[name]} == {}


def test_the_list_of_sagas_takes_two(few_and_many: tuple[Counted, Counted]) -> None:
    """As does every other list that has one kind of rows; login and session are two more."""
    lists = [name for name in few_and_many[1].queries if name.startswith("sagas")]
    assert len(lists) > 8
    assert {few_and_many[1].queries[name] for name in lists} == {4}
