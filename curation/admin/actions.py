"""Actions on ticked rows that ask for a reason first, on a page of their own."""

from collections.abc import Callable, Iterable
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.template.response import TemplateResponse

from curation.web.formatting import plural


class ReasonForm(forms.Form):
    reason = forms.CharField(max_length=2000, widget=forms.Textarea(attrs={"rows": 3}))


def for_each(
    request: HttpRequest, rows: Iterable[Any], change: Callable[[Any], object], done: str
) -> None:
    """Run a service for each row; say how many it changed and why it refused the others."""
    changed = 0
    for row in rows:
        try:
            change(row)
        except ValidationError as error:
            messages.error(request, f"{row}: {' '.join(error.messages)}")
        else:
            changed += 1
    if changed:
        messages.success(request, f"{plural(changed, 'row')} {done}.")


def ask(
    admin: ModelAdmin,
    request: HttpRequest,
    rows: Any,
    *,
    action: str,
    title: str,
    form_class: type[forms.Form] = ReasonForm,
) -> forms.Form | TemplateResponse:
    """The filled form, or the page that asks for it; its button sends the ticked rows again."""
    form = form_class(request.POST) if "confirmed" in request.POST else form_class()
    if form.is_bound and form.is_valid():
        return form
    context = {
        **admin.admin_site.each_context(request),
        "title": title,
        "form": form,
        "rows": rows,
        "action": action,
        "checkbox_name": ACTION_CHECKBOX_NAME,
        "opts": admin.model._meta,
    }
    return TemplateResponse(request, "admin/ask.html", context)
