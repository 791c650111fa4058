"""Routes. Under /api/ both slash forms work; whatever else is asked for there gets the API's 404."""

from django.contrib import admin
from django.urls import include, path, re_path

from retire_cluster import zipapp
from retire_cluster.api.views import IndexView, UnknownPathView
from retire_cluster.dashboard.pages.home import favicon
from retire_cluster.live.views import LiveView
from retire_cluster.openapi import DocumentView, RedocView, SwaggerView
from retire_cluster.ops.metrics import MetricsView
from retire_cluster.ops.views import agent_view, health_view

urlpatterns = [
    path("api/v1/", include("tasks.urls")),  # first: looked for in this order, and asked for most
    path("", include("retire_cluster.dashboard.urls")),
    # Browsers ask for it on pages that name no icon: the admin's, the browsable API's.
    path("favicon.ico", favicon),
    path(zipapp.NAME, agent_view, name="agent"),
    re_path(r"^health/?$", health_view, name="health"),
    re_path(r"^metrics/?$", MetricsView.as_view(), name="metrics"),
    re_path(r"^ws/?$", LiveView.as_view(), name="ws"),
    re_path(r"^api/v1/?$", IndexView.as_view(), name="api-index"),
    path("api/v1/", include("retire_cluster.ops.urls")),
    path("api/v1/", include("clusterconfig.urls")),
    path("api/v1/", include("devices.urls")),
    re_path(r"^api/schema/?$", DocumentView.as_view(), name="api-schema"),
    re_path(r"^api/docs/?$", SwaggerView.as_view(url_name="api-schema"), name="api-docs"),
    re_path(r"^api/redoc/?$", RedocView.as_view(url_name="api-schema"), name="api-redoc"),
    path("api/auth/", include("rest_framework.urls")),
    re_path(r"^api(?:/.*)?$", UnknownPathView.as_view()),
    path("admin/", admin.site.urls),
]

handler400 = "retire_cluster.fallback.bad_request"
handler403 = "retire_cluster.fallback.forbidden"
handler404 = "retire_cluster.fallback.not_found"
handler500 = "retire_cluster.fallback.server_error"
