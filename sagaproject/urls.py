"""All URLs of the service."""

from django.contrib import admin
from django.urls import include, path, re_path
from django.views.generic import RedirectView

from sagaproject import error_pages
from sagaproject.health import health
from sagas.api.schema import Docs, Schema

handler400 = "sagaproject.error_pages.bad_request"
handler403 = "sagaproject.error_pages.permission_denied"
handler404 = "sagaproject.error_pages.page_not_found"
handler500 = "sagaproject.error_pages.server_error"

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index"), name="root"),
    re_path(r"^health/?$", health, name="health"),
    re_path(r"^api/v1/saga/health/?$", health, name="api-health"),
    path("api/v1/saga/", include("sagas.api.urls")),
    re_path(r"^api/schema/?$", Schema.as_view(), name="schema"),
    re_path(r"^api/docs/?$", Docs.as_view(url_name="schema"), name="docs"),
    path("i18n/", include("django.conf.urls.i18n")),
    # Django's redirect from a row to its page on a site: no row has such a page, and it fails for malformed keys.
    path("admin/r/<path:rest>", error_pages.absent),
    path("admin/", admin.site.urls),
]
