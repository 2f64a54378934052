"""Models of append-only tables: rows are inserted, and later only the columns that the model names may change.

A trigger in the database enforces the same for every writer (`bridge_append_only` and the migrations called
`append_only`). Retention is the only exception: see `bridge.retention.deleting`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, NoReturn, TypeVar

from django.db import models

from bridge.errors import HistoryIsAppendOnly

M = TypeVar("M", bound=models.Model)


class AppendOnlyQuerySet(models.QuerySet[M, M]):
    """A queryset that reads and inserts; every method that could change rows raises HistoryIsAppendOnly.

    The ORM itself calls `_update` for `save` and `_raw_delete` for cascades.
    """

    def update(self, **kwargs: Any) -> int:
        check_changes(self.model, kwargs)
        return super().update(**kwargs)

    def _update(self, values: Sequence[tuple[Any, Any, Any]], *returning: Any) -> Any:
        check_changes(self.model, (field.name for field, _model, _value in values))
        return super()._update(values, *returning)  # type: ignore[misc]

    def bulk_update(self, objs: Iterable[M], fields: Iterable[str], batch_size: int | None = None) -> int:
        names = list(fields)
        check_changes(self.model, names)
        return super().bulk_update(objs, names, batch_size)

    def bulk_create(self, objs: Iterable[M], *args: Any, **kwargs: Any) -> list[M]:
        if len(args) > 2 or kwargs.get("update_conflicts"):
            refuse(self.model)
        return super().bulk_create(objs, *args, **kwargs)

    def update_or_create(self, *_args: Any, **_kwargs: Any) -> Any:
        refuse(self.model)

    def delete(self) -> Any:
        refuse(self.model)

    def _raw_delete(self, using: Any) -> NoReturn:
        refuse(self.model)


class AppendOnly(models.Model):
    """A row that is inserted and kept. CHANGEABLE: the columns that may be updated later, if any."""

    CHANGEABLE: ClassVar[frozenset[str]] = frozenset()

    class Meta:
        abstract = True
        base_manager_name = "objects"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Insert the row, or store changeable columns that `update_fields` names. Raises HistoryIsAppendOnly."""
        fields = kwargs.get("update_fields")
        if fields is not None:
            check_changes(type(self), fields)
            super().save(*args, **kwargs)
            return
        if not self._state.adding or kwargs.get("force_update"):
            refuse(type(self))
        # A pk set by the caller must not turn the insert into an update of another row.
        super().save(*args, **{**kwargs, "force_insert": True})

    def delete(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        """Raise HistoryIsAppendOnly."""
        refuse(type(self))


def check_changes(model: type[models.Model], fields: Iterable[str]) -> None:
    """Raise HistoryIsAppendOnly unless all of these columns may change."""
    names = set(fields)
    if not names or names - getattr(model, "CHANGEABLE", frozenset()):
        refuse(model)


def refuse(model: type[models.Model]) -> NoReturn:
    """Raise HistoryIsAppendOnly."""
    raise HistoryIsAppendOnly(f"{model._meta.db_table} is append-only: rows are never changed or deleted")
