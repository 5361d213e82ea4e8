"""The account pages: signing in, the password, who one is and what one may do."""

import math
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import views as auth
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from curation.models import Membership
from curation.services import sign_in
from curation.web.forms.account import PasswordForm, SignInForm


@require_safe
@login_required
def account(request: HttpRequest) -> HttpResponse:
    own = Membership.objects.filter(user__username=request.user.get_username())
    memberships = own.select_related("project")
    return render(
        request, "account/account.html", {"memberships": memberships.order_by("project__name")}
    )


class SignIn(auth.LoginView):
    """Signing in; the form counts the attempt before it looks at the password."""

    template_name = "account/sign_in.html"
    authentication_form = SignInForm
    redirect_authenticated_user = True

    def form_valid(self, form: Any) -> HttpResponse:
        answer = super().form_valid(form)
        answer.set_cookie(
            sign_in.DEVICE_COOKIE,
            sign_in.succeeded(attempt=form.attempt, name=form.cleaned_data["username"]),
            max_age=sign_in.DEVICE_COOKIE_SECONDS,
            path=self.request.path,
            secure=settings.SESSION_COOKIE_SECURE,
            httponly=True,
            samesite="Lax",
        )
        return answer

    def form_invalid(self, form: Any) -> HttpResponse:
        return _with_wait(super().form_invalid(form), form.refused)


class ChangePassword(auth.PasswordChangeView):
    """A new password ends every other session of the account."""

    template_name = "account/password.html"
    form_class = PasswordForm
    success_url = "/account/"

    def form_valid(self, form: Any) -> HttpResponse:
        messages.success(
            self.request, "The password is changed; other browsers have been signed out."
        )
        return super().form_valid(form)

    def form_invalid(self, form: Any) -> HttpResponse:
        return _with_wait(super().form_invalid(form), form.refused)


def _with_wait(answer: HttpResponse, refused: float | None) -> HttpResponse:
    """429 with the seconds to wait, 503 where no limit could be asked; else the answer as it is."""
    if refused is not None:
        answer.status_code = 429 if math.isfinite(refused) else 503
        if math.isfinite(refused):
            answer["Retry-After"] = str(int(refused))
    return answer
