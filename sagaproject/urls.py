"""Every address of the service."""

from django.contrib import admin
from django.urls import include, path, re_path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView

from sagaproject.health import health

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index"), name="root"),
    re_path(r"^health/?$", health, name="health"),
    re_path(r"^api/v1/saga/health/?$", health, name="api-health"),
    path("api/v1/saga/", include("sagas.api.urls")),
    re_path(r"^api/schema/?$", SpectacularAPIView.as_view(), name="schema"),
    re_path(r"^api/docs/?$", SpectacularSwaggerView.as_view(url_name="schema"), name="docs"),
    path("i18n/", include("django.conf.urls.i18n")),
    path("admin/", admin.site.urls),
]

handler400 = "sagas.admin.errors.bad_request"
handler403 = "sagas.admin.errors.permission_denied"
handler404 = "sagas.admin.errors.not_found"
handler500 = "sagas.admin.errors.server_error"
