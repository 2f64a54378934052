"""Pages of a list that may have a million rows: counted no further than anybody would turn pages."""

from __future__ import annotations

from typing import Any

from django.core.paginator import Paginator
from django.utils.functional import cached_property

# Beyond it the list says «or more», and a person narrows it down.
CAP = 10_000


class CappedPaginator(Paginator[Any]):
    """Counts at most CAP rows, however many there are."""

    template_name = "sagas/admin/pagination.html"

    @cached_property
    def count(self) -> int:
        """How many rows there are, CAP standing for «that many or more»."""
        found = self.object_list
        # The order decides which rows are counted first: without it PostgreSQL may stop at the first CAP it meets.
        return int(found.order_by()[:CAP].count()) if hasattr(found, "order_by") else len(found)

    @property
    def is_capped(self) -> bool:
        """Whether there may be more rows than `count` says."""
        return self.count >= CAP
