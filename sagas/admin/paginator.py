"""Pages of a list that may have a million rows: counted only up to CAP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.paginator import Paginator
from django.utils.functional import cached_property

if TYPE_CHECKING:
    _Paginator = Paginator[Any]
else:
    _Paginator = Paginator

# Beyond it the list shows "10000+", and a person narrows it by filters.
CAP = 10_000


class CappedPaginator(_Paginator):
    """Count at most CAP rows."""

    template_name = "sagas/admin/pagination.html"

    @cached_property
    def count(self) -> int:
        """Return the number of rows; CAP means that many or more."""
        found = self.object_list
        # An order would decide which rows are counted; without it PostgreSQL may stop at the first CAP that it finds.
        return int(found.order_by()[:CAP].count()) if hasattr(found, "order_by") else len(found)

    @property
    def is_capped(self) -> bool:
        """Return whether there may be more rows than `count`."""
        return self.count >= CAP
