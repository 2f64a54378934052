"""What open lanes wait for, asked of real PostgreSQL, against the pure rule over the fold of the same facts."""

from __future__ import annotations

import random
import uuid
from collections import Counter
from unittest import mock

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from bridge import event_log
from sagas.applying import apply, route
from sagas.engine.decide import LANE_SCOPE, SagaIdentity
from sagas.engine.expected import expected
from sagas.engine.fold import replay
from sagas.models import SagaLog
from sagas.queries import waiting
from sagas.queries.waiting import lanes_by_expected
from tests.integration.story import image_through, new_ids, retrieval
from tests.integration.test_apply_is_the_fold import Cast, Plot, batches, lacks_image, plots, store, tell
from tests.properties.histories import IMAGES
from tests.properties.test_expected import came, is_open, shown

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(300)]


@settings(
    max_examples=40,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(plots(), st.integers(0, 2**32))
def test_the_database_and_the_fold_wait_for_the_same_events(plot: Plot, seed: int) -> None:
    chance = random.Random(seed)
    cast = Cast.of(plot.images)
    story = tell(plot, cast)
    note("\n".join(map(str, story)))
    told = []
    with mock.patch.object(route, "new_saga_id", return_value=uuid.UUID(cast.saga_id)):
        for batch in batches(story, chance):
            store(batch, cast)
            apply.run_apply()
            told += [fact for fact in batch if fact not in told and not lacks_image(IMAGES, fact)]
            row = SagaLog.objects.filter(id=cast.saga_id).first()
            if row is None:
                continue
            fold = replay(SagaIdentity(IMAGES, LANE_SCOPE, cast.saga_id, cast.task), told)
            lanes = [lane for lane in fold.lanes.values() if is_open(fold, lane)]
            whole = shown(fold.lanes.get(cast.task))
            wanted = Counter(tuple(event.type for event in expected(IMAGES, shown(lane), whole)) for lane in lanes)
            found = lanes_by_expected(IMAGES, row)
            assert {events: group.lanes for events, group in found.items()} == wanted
            by_entity = {lane.entity: lane for lane in lanes}
            for events, group in found.items():
                assert not set(events) & came(IMAGES, by_entity[group.entity], cast.task, told)


def test_three_thousand_images_cost_as_many_queries_as_one() -> None:
    task, small, *images = new_ids(3002)
    event_log.append(retrieval(small, images[:1]))
    event_log.append(retrieval(task, images))
    event_log.append([fact for image in images[:1000] for fact in image_through(task, image)[:3]])
    apply.run_apply()
    counts = []
    for key in (small, task):
        row = SagaLog.objects.get(key=key)
        with CaptureQueriesContext(connection) as asked:
            found = waiting(row)
        counts.append(len(asked))
    assert found is not None
    assert (found.count, found.event) == (2000, "ImageReadyForAnonymization")
    assert counts[0] == counts[1] <= 5
