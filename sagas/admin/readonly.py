"""The base of our models' admins: lists and pages to read. Rows cannot be added, changed or deleted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from unfold.admin import ModelAdmin

from sagas import nouns
from sagas.admin.paginator import CappedPaginator
from sagas.admin.parameters import DeclaredParameters
from sagas.admin.rights import may_view_payload


class ReadOnlyAdmin(DeclaredParameters, ModelAdmin):  # type: ignore[misc]
    """A list, and for each row a page of our own template. Decisions are links to their pages."""

    paginator = CappedPaginator
    show_full_result_count = False
    list_per_page = 50
    list_max_show_all = 50
    list_filter_sheet = False
    list_fullwidth = True
    list_disable_select_all = False
    sortable_by: ClassVar[tuple[str, ...]] = ()
    actions: Any = None
    change_list_template = "sagas/admin/list.html"
    page_template = ""
    # The title of the list; empty: the model's plural.
    list_title: Any = ""

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def get_urls(self) -> list[URLPattern]:
        """Return the list, the page and our own URLs; those for adding, deleting and history do not exist."""
        kept = {self._name("changelist"), self._name("change")}
        urls = [url for url in super().get_urls() if getattr(url, "name", None) in kept]
        return [*self.own_urls(), *urls]

    def own_urls(self) -> list[URLPattern]:
        """Return further URLs; they come before the page of a row, which matches any path."""
        return []

    def own_path(self, route: str, view: Callable[..., HttpResponse], name: str) -> URLPattern:
        """Return a URL of this admin that requires a login; the view checks the permission."""
        own: URLPattern = path(route, self.admin_site.admin_view(view), name=self._name(name))
        return own

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show the page of one row."""
        row = self.get_object(request, unquote(object_id))
        if not self.has_view_permission(request, row):
            raise PermissionDenied
        if row is None:
            redirect: HttpResponse = self._get_obj_does_not_exist_redirect(request, self.opts, object_id)
            return redirect
        return self.draw(request, self.page_template, {"title": str(row), "row": row, **self.page(request, row)})

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Return the list. Its foot shows the number of rows; unfold's head would repeat it without the cap."""
        found = super().get_changelist_instance(request)
        found.full_result_count = found.result_count
        return found

    def page(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """Return the further context of a row's page."""
        return {}

    def draw(self, request: HttpRequest, template: str, context: dict[str, Any], status: int = 200) -> HttpResponse:
        """Render a page with the menu and breadcrumbs: the list, then `crumbs`."""
        request.current_app = self.admin_site.name
        top = reverse(f"admin:{self._name('changelist')}")
        title = self.list_title or self.opts.verbose_name_plural
        crumbs = [] if request.path == top else [(top, title), *context.get("crumbs", [])]
        may = {"may_view_payload": may_view_payload(request)}
        words = {"nouns": nouns.shared()}
        whole = {**self.admin_site.each_context(request), **may, **words, **context, "crumbs": crumbs}
        return TemplateResponse(request, template, whole, status=status)

    def need_view(self, request: HttpRequest) -> None:
        """Raise PermissionDenied unless the current user may read this model."""
        if not self.has_view_permission(request):
            raise PermissionDenied

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: QuerySet[Any] = self.model._default_manager.all()
        return rows

    def _name(self, page: str) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}_{page}"
