"""Every route of the pages, with the object of the small world that it shows."""

from dataclasses import dataclass
from typing import Any

from django.urls import reverse

from curation.models import Deletion, ProbeSet, Suggestion, Token
from curation.web.urls import urlpatterns
from tests.api.world import World

PUBLIC = {"sign-in"}
OWN = {
    "home", "guide", "account", "password", "new-project", "sign-out", "load-sample",
    "tokens", "revoke-token", "deleted",
}  # fmt: skip
POST_ONLY = {
    "revoke-token", "sign-out", "load-sample", "remove-member", "edit-examples", "attribute",
    "behaviours-per-class", "edit-hypothesis", "edit-most-influential", "set-weight", "undo",
    "clear", "predict", "copy-proposal", "apply-proposal", "start", "deviation", "abandon",
    "ladder", "score-tokens", "measure-examples", "check-labels", "cancel-job", "retry-job",
    "sign-off", "invalidate", "restore", "save-probe-set", "delete-probe-set",
}  # fmt: skip
NEEDS_WRITE = {
    "new-dataset", "new-version", "columns", "new-model", "upload-model", "new-recipe",
    "new-baseline", "new-behaviour", "new-proposal", "register", "suggest",
}  # fmt: skip
NEEDS_MANAGE = {
    "edit-project", "delete-project", "delete-dataset", "delete-version", "delete-model",
    "delete-baseline", "delete-proposal",
}  # fmt: skip
NOT_YET = {"report", "report-json", "version-diff"}  # no ended test, no second version

FRAGMENTS = {"effects", "job-progress", "registration-progress"}  # parts of pages, for htmx
DOWNLOADS = {"export-proposal", "report-json"}


@dataclass(frozen=True)
class Page:
    name: str
    address: str


def object_of(route: str, world: World) -> Any:
    """The object whose id stands in a route."""
    if route.startswith("projects/"):
        return world.project
    return {
        "account": Token(pk=world.objects["token_id"]),
        "datasets": world.dataset,
        "versions": world.version,
        "models": world.baseline.model,
        "recipes": world.baseline.recipe,
        "baselines": world.baseline,
        "behaviours": world.behaviour,
        "suggestions": suggestion_of(world),
        "probe-sets": probe_set_of(world),
        "proposals": world.proposal,
        "registrations": world.registration,
        "jobs": world.job,
        "deleted": Deletion(pk=world.objects["deletion_id"]),
    }[route.split("/")[0]]


def suggestion_of(world: World) -> Suggestion:
    return Suggestion.objects.get_or_create(
        behaviour=world.behaviour,
        method="replay",
        number_of_edits=2,
        new_weight=0,
        created_by=world.behaviour.created_by,
    )[0]


def probe_set_of(world: World) -> ProbeSet:
    return ProbeSet.objects.get_or_create(
        dataset_version=world.version,
        name="ten",
        defaults={"probe_indices": [*range(10)], "chosen": "ticked", "created_by": world.owner},
    )[0]


def all_pages(world: World) -> list[Page]:
    """Each route once; a route of a new noun fails here until it has an object above."""
    pages = []
    for pattern in urlpatterns:
        route, name = str(pattern.pattern), pattern.name
        arguments = [object_of(route, world).pk] if "<uuid:pk>" in route else []
        pages.append(Page(name, reverse(name, args=arguments)))
    return pages


def object_pages(world: World) -> list[Page]:
    return [page for page in all_pages(world) if page.name not in PUBLIC | OWN]


def readable_pages(world: World) -> list[Page]:
    """The pages that GET shows; the example's page needs an example."""
    pages = [page for page in all_pages(world) if page.name not in POST_ONLY | NOT_YET | PUBLIC]
    return [
        Page(page.name, page.address + "?id=e1") if page.name == "example" else page
        for page in pages
    ]
