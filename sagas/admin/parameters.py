"""Accept only the declared GET parameters of a list of the admin.

Django's ChangeList turns every GET parameter that it does not know into a lookup of the ORM. Anyone who may see a list
could then read every column letter by letter, also across relations: ?payload__error_message__startswith=a.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from django.contrib.admin import FieldListFilter, ListFilter, ShowFacets, SimpleListFilter
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import ModelAdmin
from django.contrib.admin.utils import get_fields_from_path
from django.contrib.admin.views.main import ALL_VAR, ERROR_FLAG, ORDER_VAR, PAGE_VAR, SEARCH_VAR
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _

if TYPE_CHECKING:
    _Base = ModelAdmin[Any]
else:
    _Base = object

# Names and values come from the address: show enough of them to recognise a typo.
SHOWN, SHOWN_LETTERS = 5, 60


class DeclaredParameters(_Base):
    """A list that answers 400 with an explanation to any parameter or selection that it does not accept.

    `own_parameters` names what the list reads besides filters, search, order and page.
    """

    own_parameters: tuple[str, ...] = ()
    # Facets count every choice of every filter over the whole table.
    show_facets = ShowFacets.NEVER

    def get_urls(self) -> list[URLPattern]:
        name = f"{self.opts.app_label}_{self.opts.model_name}_changelist"
        checked = path("", self.admin_site.admin_view(self.list_view), name=name)
        return [checked if getattr(url, "name", None) == name else url for url in super().get_urls()]

    def list_view(self, request: HttpRequest) -> HttpResponse:
        """Show the list, or a page with what is wrong in the request. Raises PermissionDenied."""
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        problems = [*self._wrong_parameters(request), *self._wrong_selection(request)]
        return self._refuse(request, problems) if problems else self.changelist_view(request)

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """Return the object of a page. Django takes an empty `_to_field` for the name of a field and fails."""
        return super().get_object(request, object_id, from_field or None)

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        """Allow only the parameters of the declared filters."""
        return request is not None and lookup in set(self._of_filters(request))

    def declared_parameters(self, request: HttpRequest) -> frozenset[str]:
        """Return every parameter that this list accepts from this person."""
        sorts = self.get_sortable_by(request)
        searches = self.get_search_fields(request)
        return frozenset(
            [
                *(ALL_VAR, ERROR_FLAG, PAGE_VAR),
                *([ORDER_VAR] if sorts else []),
                *([SEARCH_VAR] if searches else []),
                *self.own_parameters,
                *self._of_filters(request),
            ]
        )

    def _of_filters(self, request: HttpRequest) -> Iterator[str]:
        for item in self.get_list_filter(request):
            if isinstance(item, type) and issubclass(item, SimpleListFilter):
                yield str(item.parameter_name)
            else:
                yield from _expected(item, request, self)

    def _wrong_parameters(self, request: HttpRequest) -> Iterator[str]:
        declared = self.declared_parameters(request)
        unknown = [name for name in request.GET if name not in declared]
        if unknown:
            yield _("Unknown parameter: %(names)s.") % {"names": _listed(unknown)}
        for name, values in request.GET.lists():
            if name in declared and any("\x00" in value for value in values):
                yield _("%(name)s contains a character that is not allowed.") % {"name": name}

    def _wrong_selection(self, request: HttpRequest) -> Iterator[str]:
        chosen = request.POST.getlist(ACTION_CHECKBOX_NAME) if request.method == "POST" else []
        wrong = [value for value in chosen if not self._is_key(value)]
        if wrong:
            yield _("No such row: %(names)s.") % {"names": _listed(wrong)}

    def _is_key(self, value: str) -> bool:
        """Return whether a text can be the key of a row, for the query of the chosen rows."""
        key: Any = self.opts.pk
        try:
            key.run_validators(key.to_python(value))  # validators know the range of a number
        except (ValidationError, ValueError, OverflowError):
            return False
        return "\x00" not in value

    def _refuse(self, request: HttpRequest, problems: list[str]) -> HttpResponse:
        request.current_app = self.admin_site.name
        back = reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist")
        context = {
            **self.admin_site.each_context(request),
            "title": _("Invalid request for this list"),
            "crumbs": [(back, self.opts.verbose_name_plural)],
            "problems": problems,
            "back": back,
        }
        return TemplateResponse(request, "sagas/admin/bad_request.html", context, status=400)


def _expected(item: Any, request: HttpRequest, admin: Any) -> list[str]:
    """Return the parameters of a filter declared as a field's name, or as a field and a class for it."""
    field_path, make = item if isinstance(item, tuple | list) else (item, FieldListFilter.create)
    field = get_fields_from_path(admin.model, field_path)[-1]
    found: ListFilter = make(field, request, {}, admin.model, admin, field_path=field_path)
    return [str(name) for name in found.expected_parameters()]


def _listed(names: list[str]) -> str:
    shown = [name if len(name) <= SHOWN_LETTERS else f"{name[:SHOWN_LETTERS]}…" for name in names[:SHOWN]]
    return ", ".join([*shown, *(["…"] if len(names) > SHOWN else [])])
