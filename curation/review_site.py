"""The review site: Django's admin under the project's name. Its pages are in `curation/admin`,
which may be imported only once the site exists."""

from typing import Any

from django.contrib.admin import AdminSite
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect


class ReviewSite(AdminSite):
    site_header = "Hunch review"
    site_title = "Hunch review"
    index_title = "Results are read-only; review them, never edit them"

    def login(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The one sign-in page, so that its limits hold here too."""
        if self.has_permission(request):
            return redirect("admin:index")
        if request.user.is_authenticated:
            raise PermissionDenied
        return redirect_to_login(request.GET.get("next", "/admin/"), "sign-in")
