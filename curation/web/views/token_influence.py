"""The prompts of a behaviour beside its most influential training examples, token by token."""

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from curation.models import Behaviour, TokenInfluence
from curation.queries.access import Right, get_for
from curation.queries.examples import ExampleTable
from curation.queries.predictions import DEFAULT_METHOD
from curation.queries.token_influence import scored_examples
from curation.services import token_influence
from curation.web.views.baselines import trail_to
from curation.web.views.behaviours import selection_in_words
from curation.web.views.helpers import project_page, tell
from curation.web.views.jobs import progress_context

PROMPTS = 5


@require_safe
@login_required
def tokens(request: HttpRequest, pk: str) -> HttpResponse:
    found = get_for(Behaviour, pk, request.user)
    job = token_influence.token_job(found)
    examples = scored_examples(found)
    return project_page(
        request,
        "behaviours/tokens.html",
        found.project,
        tab="baselines",
        trail=[
            *trail_to(found.baseline),
            (found.name, reverse("behaviour", args=[found.pk])),
            ("Tokens", ""),
        ],
        behaviour=found,
        baseline=found.baseline,
        has_tokens=token_influence.has_tokens(found),
        has_influence=found.influences.filter(method=DEFAULT_METHOD).exists(),
        examples=examples,
        seeds=TokenInfluence.objects.get(behaviour=found).seeds if examples else [],
        prompts=prompts_of(found),
        selection=selection_in_words(found),
        **(progress_context(job) if job else {}),
    )


@require_POST
@login_required
def score_tokens(request: HttpRequest, pk: str) -> HttpResponse:
    found = get_for(Behaviour, pk, request.user, Right.WRITE)
    tell(
        request,
        lambda: token_influence.request_token_influence(behaviour=found, by=request.user),
        "The influence of the strongest examples is being split among their tokens.",
    )
    return redirect("token-influence", found.pk)


def prompts_of(behaviour: Behaviour) -> list[dict[str, str]]:
    """The first texts that the behaviour reads, as prompt and completion."""
    if behaviour.pasted_examples:
        return [
            {
                "prompt": example.get("prompt", ""),
                "completion": example.get("completion", example.get("text", "")),
            }
            for example in behaviour.pasted_examples[:PROMPTS]
        ]
    with ExampleTable(behaviour.baseline.dataset_version) as table:
        rows = table.by_probe_index(behaviour.probe_indices[:PROMPTS])
    return [{"prompt": "", "completion": row["content"]} for row in rows]
