"""Forms of the account pages: Django's own, with autocomplete hints, our words and our limits."""

import math
from typing import Any

import redis
from django import forms
from django.contrib.auth.forms import AuthenticationForm, PasswordChangeForm

from curation.client_address import client_address
from curation.services import rate_limits, sign_in
from curation.services.rate_limits import RateLimited
from curation.web.formatting import duration


class Limited(forms.Form):
    """A form that guesses could be tried on. `refused` is the wait in seconds where a limit was
    reached, infinite where no limit could be asked, and None where the form was looked at."""

    refused: float | None = None

    def too_many(self, error: RateLimited) -> forms.ValidationError:
        self.refused = error.retry_after
        return forms.ValidationError(
            f"Too many attempts. Wait {duration(error.retry_after)}, then try again.",
            code="too_many",
        )

    def away(self) -> forms.ValidationError:
        self.refused = math.inf
        return forms.ValidationError(
            "Passwords cannot be checked just now. Try again in a minute.", code="away"
        )


class SignInForm(Limited, AuthenticationForm):
    error_messages = {
        "invalid_login": "This name and password do not match an active account.",
        "inactive": "This account is closed.",
    }

    def clean(self) -> dict[str, Any]:
        if self.cleaned_data.get("username") and self.cleaned_data.get("password"):
            assert self.request is not None
            try:
                self.attempt = sign_in.begin(
                    name=self.cleaned_data["username"],
                    address=client_address(self.request),
                    device=self.request.COOKIES.get(sign_in.DEVICE_COOKIE, ""),
                )
            except RateLimited as error:
                raise self.too_many(error) from error
            except redis.RedisError as error:
                raise self.away() from error
        return super().clean()


class PasswordForm(Limited, PasswordChangeForm):
    old_password = forms.CharField(
        label="Current password",
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )

    def clean_old_password(self) -> str:
        try:
            rate_limits.take(limit=sign_in.PASSWORD, identity=str(self.user.pk), fail_open=False)
        except RateLimited as error:
            raise self.too_many(error) from error
        except redis.RedisError as error:
            raise self.away() from error
        return super().clean_old_password()
