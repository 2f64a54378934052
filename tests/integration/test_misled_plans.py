"""Statistics of a moment at which one saga was all there was: a page of many is looked up by key all the same."""

from __future__ import annotations

import pytest
from django.db import connection

from bridge import event_log
from sagas.applying import apply, statements
from tests.integration.plans import watched
from tests.integration.story import event, new_ids

pytestmark = pytest.mark.django_db

TABLES = "bridge_event, sagas_saga, sagas_saga_event"


@pytest.fixture
def keys() -> list[str]:
    """A thousand sagas, of which the planner knows what it learned when there was one."""
    first, *others = new_ids(1001)
    event_log.append([event("RetrievalStarted", first)])
    apply.run_apply()
    with connection.cursor() as cursor:
        cursor.execute(f"ANALYZE {TABLES}")
    event_log.append([event("RetrievalStarted", key) for key in others])
    apply.run_apply()
    return others


def test_sagas_by_key(keys: list[str]) -> None:
    with watched() as watch:
        loaded = statements.load_sagas([("image_processing", key) for key in keys])
    assert len(loaded) == 1000
    assert watch.indexes == {"saga_once"}, "any other holds all sagas of the type, and reads them for each"
