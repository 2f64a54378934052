"""Numbers for a start page. None of them counts more rows than it shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from django.db import connection

from sagas.models import SagaStatusChoice

# Beyond this a start page says «more than».
LIMIT = 10_000


@dataclass(frozen=True, slots=True)
class StatusCounts:
    """How many sagas have each status, in the order of the statuses; one at `limit` stands for «that many or more»."""

    by_status: Mapping[str, int]
    limit: int = LIMIT

    def is_more(self, status: str) -> bool:
        """Whether there may be more than the number says."""
        return self.by_status[status] >= self.limit


def status_counts(limit: int = LIMIT) -> StatusCounts:
    """Sagas by status, each counted up to `limit`: one query by index, some milliseconds at a million sagas."""
    one = "(SELECT count(*) FROM (SELECT 1 FROM sagas_saga WHERE status = %s LIMIT %s) AS counted)"
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {', '.join([one] * len(SagaStatusChoice.values))}",
            [value for status in SagaStatusChoice.values for value in (status, limit)],
        )
        row = cursor.fetchone()
    return StatusCounts(dict(zip(SagaStatusChoice.values, row, strict=True)), limit)
