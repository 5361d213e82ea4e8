"""The review site: Django's admin under the project's name."""

from django.contrib.admin import AdminSite


class ReviewSite(AdminSite):
    site_header = "Hunch review"
    site_title = "Hunch review"
    index_title = "Results are read-only; review them, never edit them"
