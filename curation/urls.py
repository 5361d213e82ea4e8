"""The route table: pages for people, the API for programs, the review site for reviewers."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("", include("curation.web.urls")),
]
