"""What the views share: rendering inside a project, services behind forms, pages of a list."""

from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.core.paginator import Page, Paginator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme

from curation.models import Project
from curation.queries.access import ROLES_WITH_RIGHT, Right, role_of
from curation.services.uploads import TooLarge

T = TypeVar("T")
Trail = list[tuple[str, str]]


def project_page(
    request: HttpRequest,
    template: str,
    project: Project,
    *,
    tab: str,
    trail: Trail = [],  # noqa: B006 - never changed
    status: int = 200,
    **context: Any,
) -> HttpResponse:
    """Render a page inside a project. ``trail`` leads from the tab to the page itself."""
    role = role_of(request.user, project)
    return render(
        request,
        template,
        context
        | {
            "project": project,
            "tab": tab,
            "trail": trail,
            "may_write": role in ROLES_WITH_RIGHT[Right.WRITE],
            "may_review": role in ROLES_WITH_RIGHT[Right.REVIEW],
            "may_manage": role in ROLES_WITH_RIGHT[Right.MANAGE],
        },
        status=status,
    )


def attempt(form: forms.Form, action: Callable[[], T]) -> T | None:
    """Run a service; what it refuses becomes errors of the form, and None is returned."""
    try:
        return action()
    except TooLarge as error:
        form.add_error(None, str(error))
        return None
    except ValidationError as error:
        add_errors(form, error)
        return None


def add_errors(form: forms.Form, error: ValidationError) -> None:
    """Put a service's errors at the fields they name; others stand above the form."""
    if not hasattr(error, "error_dict"):
        form.add_error(None, error)
        return
    for name, errors in error.error_dict.items():
        form.add_error(name if name in form.fields else None, errors)


def tell(request: HttpRequest, action: Callable[[], object], done: str) -> bool:
    """Run a service of a plain button and say how it went; False when it was refused."""
    try:
        action()
    except ValidationError as error:
        messages.error(request, " ".join(error.messages))
        return False
    messages.success(request, done)
    return True


def back(request: HttpRequest, fallback: str) -> HttpResponse:
    """To where the form stood, if that is a page of this site."""
    address = request.POST.get("next", "")
    safe = url_has_allowed_host_and_scheme(address, allowed_hosts=None)
    return redirect(address if safe and not urlsplit(address).netloc else fallback)


def errors_in_words(form: forms.Form) -> str:
    """Everything that is wrong with a form, for a message: it is not shown again."""
    return " ".join(str(error) for errors in form.errors.values() for error in errors)


def status_of(form: forms.Form) -> int:
    """422 for a form shown again with its errors, 200 for a fresh one."""
    return 422 if form.is_bound else 200


def page_of(request: HttpRequest, rows: QuerySet[Any], per_page: int = 50) -> Page[Any]:
    return Paginator(rows, per_page).get_page(request.GET.get("page"))


def is_fragment(request: HttpRequest) -> bool:
    """Whether htmx asks for a part of a page."""
    return request.headers.get("HX-Request") == "true"
