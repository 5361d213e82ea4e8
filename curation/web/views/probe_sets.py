"""Probe sets: saved from the list of examples, shown in it, deleted."""

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_POST

from curation.models import ProbeSet
from curation.queries.access import Right, get_for, require
from curation.queries.example_values import arrays_of
from curation.queries.examples import ExampleFilter
from curation.services import probe_sets
from curation.web.example_listing import filter_of, filter_words
from curation.web.formatting import plural
from curation.web.views.examples import probe_set_of, ready_version, values_of
from curation.web.views.helpers import back, tell


@require_POST
@login_required
def save(request: HttpRequest, pk: str) -> HttpResponse:
    """Save the ticked probe examples, or all matching ones, under a name."""
    version = ready_version(request, pk)
    require(request.user, version.project, Right.WRITE)
    within = probe_set_of(version, request.POST)
    wanted = filter_of(request.POST, within)
    chosen = filter_words(request.POST, wanted, within)
    if request.POST.get("scope") != "all":
        ticked = tuple(request.POST.getlist("example"))
        # No id is empty, so that nothing ticked is nothing found, not everything.
        wanted, chosen = ExampleFilter(example_ids=ticked or ("",)), "ticked one by one"
    values = arrays_of(values_of(version, request.POST)) if wanted.ranges else {}

    def act() -> None:
        saved.append(
            probe_sets.save_probe_set(
                version=version,
                name=request.POST.get("name", ""),
                wanted=wanted,
                chosen=chosen,
                by=request.user,
                values=values,
            )
        )

    saved: list[ProbeSet] = []
    here = reverse("examples", args=[version.pk])
    if not tell(request, act, "The probe set was saved."):
        return back(request, here)
    return redirect(f"{here}?split=probe&probe_set={saved[0].pk}")


@require_POST
@login_required
def delete(request: HttpRequest, pk: str) -> HttpResponse:
    found = get_for(ProbeSet, pk, request.user, Right.WRITE)
    version = found.dataset_version
    tell(
        request,
        lambda: probe_sets.delete_probe_set(probe_set=found, by=request.user),
        f"The probe set “{found.name}” of {plural(found.size, 'example')} was deleted; behaviours "
        "that read it stay as they are.",
    )
    return redirect("version", version.pk)
