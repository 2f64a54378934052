"""The car park fills and empties within seconds: no moment's statistics may lead the planner astray."""

import pytest
from django.db import connection

from sagas.applying import statements
from tests.integration.plans import watched

pytestmark = pytest.mark.django_db

PARKED = """
    INSERT INTO sagas_parked (event, stream, key, entity, by_entity, reason, since)
    SELECT n, 'image_processing', 'task ' || n / 5, CASE WHEN %(named)s THEN 'image ' || n / 2 ELSE '' END,
           true, 'no_saga', now()
    FROM generate_series(%(first)s, %(last)s) AS n
"""


@pytest.fixture
def misled() -> None:
    """Statistics were taken when all that was parked named the same image: none."""
    with connection.cursor() as cursor:
        cursor.execute(PARKED, {"named": False, "first": 1, "last": 300})
        cursor.execute("ANALYZE sagas_parked")
        cursor.execute(PARKED, {"named": True, "first": 301, "last": 10_300})


@pytest.mark.usefixtures("misled")
def test_a_page_of_lanes_that_open_finds_its_parked_events_by_index() -> None:
    with watched() as watch:
        moved = statements.unpark_entities([("image_processing", f"image {number}") for number in range(1000, 2000)])
    assert moved == 2000
    assert [str(reading) for reading in watch.readings] == []


@pytest.mark.usefixtures("misled")
def test_a_page_of_births_finds_its_parked_events_by_index() -> None:
    with watched() as watch:
        statements.take_parked([("image_processing", f"task {number}") for number in range(500, 1500)], [])
    assert [str(reading) for reading in watch.readings] == []
