"""The route table: pages for people, the API for programs, the review site for reviewers. Probes
are answered before it, in operations/probes."""

from django.contrib import admin
from django.urls import include, path

from curation.api import api

urlpatterns = [
    path("admin/", admin.site.urls),
    path("api/v1/", api.urls),
    path("", include("curation.web.urls")),
]
