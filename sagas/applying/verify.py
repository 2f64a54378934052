"""Verify that sagas equal the folds of their logs: any number of them, in constant memory, while the system works."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from django.db import DatabaseError, InterfaceError, transaction
from django.db.models import QuerySet

from bridge import routing
from sagas.applying import statements
from sagas.applying.fold import error_location
from sagas.applying.replay import Difference, compare
from sagas.models import SagaLog

logger = logging.getLogger(__name__)

PAGE = 1000


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result for one saga. `error` is set if its log cannot be folded at all."""

    saga_id: UUID
    differences: Sequence[Difference] = ()
    error: str = ""

    @property
    def well(self) -> bool:
        """Return whether the stored state equals the fold of the log."""
        return not self.differences and not self.error


def each(saga_ids: Iterable[UUID]) -> Iterator[Verdict]:
    """Yield the verdict on each of these sagas. Reads only; a saga that is deleted meanwhile is left out."""
    for saga_id in saga_ids:
        verdict = _verdict(saga_id)
        if verdict is not None:
            yield verdict


def all_ids() -> Iterator[UUID]:
    """Yield the ids of all sagas, read page by page."""
    page = list(_ids()[:PAGE])
    while page:
        yield from page
        page = list(_ids().filter(id__gt=page[-1])[:PAGE])


def some_ids(count: int) -> Iterator[UUID]:
    """Return the ids of `count` random sagas."""
    return iter(_ids().order_by("?")[:count])


def _ids() -> QuerySet[SagaLog, UUID]:
    return SagaLog.objects.order_by("id").values_list("id", flat=True)


def _verdict(saga_id: UUID) -> Verdict | None:
    try:
        return Verdict(saga_id, _differences(saga_id))
    except SagaLog.DoesNotExist:
        return None
    except (DatabaseError, InterfaceError):
        raise
    except Exception as error:  # finding logs that cannot be folded is the purpose
        logger.debug("saga %s cannot be folded", saga_id, exc_info=True)
        return Verdict(saga_id, error=f"its log cannot be folded ({error_location(error)})")


def _differences(saga_id: UUID) -> Sequence[Difference]:
    """Compare without the lock first, and again under it: another transaction may commit between two statements."""
    if not compare(saga_id):
        return ()
    saga = SagaLog.objects.get(id=saga_id)
    with transaction.atomic():
        statements.lock(routing.routing_key(saga.saga_type, saga.key))
        return compare(saga_id)
