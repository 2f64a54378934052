"""Whether sagas are what their logs fold to: many of them, in constant memory, beside a system at work."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from django.db import DatabaseError, InterfaceError, transaction
from django.db.models import QuerySet

from sagas import statements
from sagas.apply import error_location
from sagas.models import SagaLog
from sagas.replay import Difference, compare

logger = logging.getLogger(__name__)

PAGE = 1000


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found of one saga. `error` is set where its log cannot be folded at all."""

    saga_id: UUID
    differences: Sequence[Difference] = ()
    error: str = ""

    @property
    def well(self) -> bool:
        """Whether the stored state is what the log folds to."""
        return not self.differences and not self.error


def each(saga_ids: Iterable[UUID]) -> Iterator[Verdict]:
    """The verdict on each of these sagas, as it is found. Reads only; one that is deleted meanwhile is left out."""
    for saga_id in saga_ids:
        verdict = _verdict(saga_id)
        if verdict is not None:
            yield verdict


def all_ids() -> Iterator[UUID]:
    """Every saga, a page at a time."""
    page = list(_ids()[:PAGE])
    while page:
        yield from page
        page = list(_ids().filter(id__gt=page[-1])[:PAGE])


def some_ids(count: int) -> Iterator[UUID]:
    """So many sagas, chosen by chance."""
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
    except Exception as error:  # a log that cannot be folded is what this looks for
        logger.debug("saga %s cannot be folded", saga_id, exc_info=True)
        return Verdict(saga_id, error=f"its log cannot be folded ({error_location(error)})")


def _differences(saga_id: UUID) -> Sequence[Difference]:
    """A first look may fall between two statements of somebody's commit; what it finds must hold under the lock."""
    if not compare(saga_id):
        return ()
    saga = SagaLog.objects.get(id=saga_id)
    with transaction.atomic():
        statements.lock(f"{saga.saga_type}:{saga.key}")
        return compare(saga_id)
