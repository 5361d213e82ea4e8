"""Changing a proposal's edits: ticked examples, the most influential ones, one by one; undo."""

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_POST

from curation.models import Proposal
from curation.queries.access import Right, get_for
from curation.queries.example_values import arrays_of
from curation.queries.examples import ExampleFilter, ExampleTable
from curation.queries.influence import extreme_indices
from curation.queries.predictions import DEFAULT_METHOD
from curation.services import proposals
from curation.web.example_listing import filter_of
from curation.web.formatting import plural
from curation.web.forms.proposals import MostInfluentialForm, WeightForm
from curation.web.views.examples import probe_set_of, ready_version, values_of
from curation.web.views.helpers import back, errors_in_words, tell


def draft_of(request: HttpRequest, pk: str) -> Proposal:
    return get_for(Proposal, pk, request.user, Right.WRITE)


def weight_of(values: Any) -> float:
    """The weight that a form asks for: 0 for removing, else the number given.

    Raises:
        ValidationError: it is no number.
    """
    if values.get("action") == "remove":
        return 0.0
    try:
        return float(values.get("weight", ""))
    except ValueError:
        raise ValidationError("Give the new weight as a number; 0 removes, 3 triples.") from None


@require_POST
@login_required
def from_examples(request: HttpRequest, pk: str) -> HttpResponse:
    """Give the ticked examples, or all matching ones, a weight in a draft."""
    version = ready_version(request, pk)
    here = reverse("examples", args=[version.pk])
    proposal_id = request.POST.get("proposal", "")
    if not proposal_id:
        messages.error(request, "Choose the proposal that the edits go to, or make one first.")
        return back(request, here)
    proposal = draft_of(request, proposal_id)
    if proposal.baseline.dataset_version_id != version.pk:
        raise Http404("The proposal belongs to another dataset version.")
    everything = request.POST.get("scope") == "all"
    chosen = filter_of(request.POST, probe_set_of(version, request.POST))
    if not everything:
        chosen = ExampleFilter(example_ids=tuple(request.POST.getlist("example")))

    def change() -> None:
        weight = weight_of(request.POST)
        if not everything and not chosen.example_ids:
            raise ValidationError("Tick at least one example.")
        with ExampleTable(version) as table:
            values = arrays_of(values_of(version, request.POST)) if chosen.ranges else {}
            rows = table.select(chosen, split="train", values=values)
        if not rows:
            raise ValidationError("None of these examples is in the train split.")
        proposals.set_weights(proposal=proposal, examples=rows, weight=weight, by=request.user)
        changed.append(len(rows))

    changed: list[int] = []
    try:
        change()
    except KeyError as error:
        raise Http404("The dataset has no such column.") from error
    except ValidationError as error:
        messages.error(request, " ".join(error.messages))
        return back(request, here)
    messages.success(request, f"{plural(changed[0], 'edit')} in “{proposal.name}”.")
    return redirect("proposal", proposal.pk) if request.POST.get("open") else back(request, here)


@require_POST
@login_required
def most_influential(request: HttpRequest, pk: str) -> HttpResponse:
    """Give the examples most harmful or most helpful to a behaviour a weight."""
    proposal = draft_of(request, pk)
    form = MostInfluentialForm(proposal, request.POST)
    if not form.is_valid():
        messages.error(request, errors_in_words(form))
        return redirect("proposal", proposal.pk)
    chosen = form.cleaned_data
    behaviour, harmful = chosen["behaviour"], chosen["which"] == "harmful"

    def change() -> None:
        indices, _ = extreme_indices(
            behaviour=behaviour,
            method=DEFAULT_METHOD,
            helpful=not harmful,
            count=chosen["count"],
        )
        with ExampleTable(proposal.baseline.dataset_version) as table:
            rows = table.by_train_index(indices)
        proposals.set_weights(
            proposal=proposal,
            examples=[(int(index), rows[int(index)]["example_id"]) for index in indices],
            weight=chosen["weight"],
            by=request.user,
            description=f"Weight {chosen['weight']:g} for the {len(indices):,} examples most "
            f"{chosen['which']} to {behaviour.name}",
        )

    tell(request, change, "The edits were added.")
    return redirect("proposal", proposal.pk)


@require_POST
@login_required
def set_weight(request: HttpRequest, pk: str) -> HttpResponse:
    """Change one example's weight; 1 takes the edit away."""
    proposal = draft_of(request, pk)
    form = WeightForm(request.POST)
    if not form.is_valid():
        messages.error(request, errors_in_words(form))
        return redirect("proposal", proposal.pk)
    chosen = form.cleaned_data
    with ExampleTable(proposal.baseline.dataset_version) as table:
        known = table.by_train_index([chosen["train_index"]]).get(chosen["train_index"])
    if known is None or known["example_id"] != chosen["example"]:
        raise Http404("No such training example.")
    tell(
        request,
        lambda: proposals.set_weights(
            proposal=proposal,
            examples=[(chosen["train_index"], chosen["example"])],
            weight=chosen["weight"],
            by=request.user,
        ),
        f"{chosen['example']} has weight {chosen['weight']:g}.",
    )
    return back(request, reverse("proposal", args=[proposal.pk]))


@require_POST
@login_required
def undo(request: HttpRequest, pk: str) -> HttpResponse:
    proposal = draft_of(request, pk)
    tell(
        request,
        lambda: proposals.undo(proposal=proposal, by=request.user),
        "The last change was taken back.",
    )
    return redirect("proposal", proposal.pk)


@require_POST
@login_required
def clear(request: HttpRequest, pk: str) -> HttpResponse:
    proposal = draft_of(request, pk)
    tell(
        request,
        lambda: proposals.clear(proposal=proposal, by=request.user),
        "All edits were taken away; undo brings them back.",
    )
    return redirect("proposal", proposal.pk)
