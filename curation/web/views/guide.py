"""The guide: what a prediction answers, what it does not, and how a verdict is reached."""

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe


@require_safe
@login_required
def guide(request: HttpRequest) -> HttpResponse:
    return render(request, "guide.html")
