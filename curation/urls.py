"""The route table: pages for people, the API for programs, the review site for reviewers."""

from django.contrib import admin
from django.urls import include, path

from curation.api import api
from curation.health import healthz, readyz

urlpatterns = [
    path("healthz", healthz, name="healthz"),
    path("readyz", readyz, name="readyz"),
    path("admin/", admin.site.urls),
    path("api/v1/", api.urls),
    path("", include("curation.web.urls")),
]
