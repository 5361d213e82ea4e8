"""The account page: who one is and what one may do."""

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from curation.models import Membership


@require_safe
@login_required
def account(request: HttpRequest) -> HttpResponse:
    own = Membership.objects.filter(user__username=request.user.get_username())
    memberships = own.select_related("project")
    return render(
        request, "account/account.html", {"memberships": memberships.order_by("project__name")}
    )
