"""The review site: Django's admin under the project's name. Its pages are in `curation/admin`,
which may be imported only once the site exists."""

from django.contrib.admin import AdminSite


class ReviewSite(AdminSite):
    site_header = "Hunch review"
    site_title = "Hunch review"
    index_title = "Results are read-only; review them, never edit them"
