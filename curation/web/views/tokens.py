"""Your API tokens: make one, see it once, revoke it."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from curation.models import Token
from curation.services import tokens
from curation.web.forms.tokens import TokenForm
from curation.web.views.helpers import attempt, status_of


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
@never_cache
def token_list(request: HttpRequest) -> HttpResponse:
    """A new token's text is in the answer to the form alone, which no cache keeps."""
    form = TokenForm(request.POST or None)
    text = ""
    if request.method == "POST" and form.is_valid():
        made = attempt(
            form,
            lambda: tokens.create_token(
                user=request.user,
                name=form.cleaned_data["name"],
                scopes=form.cleaned_data["scopes"],
                expires_at=form.expires_at(),
            ),
        )
        if made:
            text, form = made[1], TokenForm()
    context = {
        "form": form,
        "text": text,
        "tokens": Token.objects.filter(user=request.user.pk, revoked_at=None),
        "trail": [("Account", reverse("account")), ("API tokens", "")],
    }
    status = 200 if text else status_of(form)
    return render(request, "account/tokens.html", context, status=status)


@require_POST
@login_required
def revoke_token(request: HttpRequest, pk: str) -> HttpResponse:
    token = get_object_or_404(Token, pk=pk, user_id=request.user.pk)
    tokens.revoke_token(token=token, by=request.user)
    messages.success(request, f"The token “{token.name}” is revoked.")
    return redirect("tokens")
