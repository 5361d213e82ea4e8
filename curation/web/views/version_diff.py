"""The difference of two versions of a dataset: counts first, then each kind in its tab."""

from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from curation.models import DatasetVersion, VersionState
from curation.queries.access import get_for
from curation.queries.version_diff import KINDS, diff_of, rows_of
from curation.web.charts.histogram import Bar, bar_list
from curation.web.views.datasets import trail_to
from curation.web.views.helpers import project_page

PER_PAGE = 50
TITLES = {
    "removed": "Removed",
    "added": "Added",
    "relabelled": "Relabelled",
    "rewritten": "Rewritten",
    "moved": "Moved to the other split",
    "weighted": "Re-weighted",
}


@require_safe
@login_required
def version_diff(request: HttpRequest, pk: str) -> HttpResponse:
    target = get_for(DatasetVersion, pk, request.user)
    others = list(
        target.dataset.versions.filter(state=VersionState.READY)
        .exclude(pk=target.pk)
        .select_related("dataset", "examples_file")
    )
    base = _base(request, target, others)
    if target.state != VersionState.READY or base is None:
        raise Http404("There are no two versions to compare.")
    diff = diff_of(base, target)
    weighted = _weighted(base, target)
    counts = diff.counts | ({"weighted": len(weighted)} if weighted else {})
    shown = request.GET.get("show") or next((k for k, n in counts.items() if n), "removed")
    if shown not in counts:
        raise Http404("No such kind of change.")
    page = Paginator(range(counts[shown]), PER_PAGE).get_page(request.GET.get("page"))
    start = max(page.start_index() - 1, 0)
    rows = (
        weighted[start : start + PER_PAGE]
        if shown == "weighted"
        else rows_of(base, target, shown, offset=start, limit=PER_PAGE)
    )
    return project_page(
        request,
        "datasets/diff.html",
        target.project,
        tab="datasets",
        trail=[*trail_to(target), ("Difference", "")],
        base=base,
        target=target,
        others=others,
        diff=diff,
        shown=shown,
        title=TITLES[shown],
        tabs=[
            (name, TITLES[name], counts[name]) for name in (*KINDS, "weighted") if name in counts
        ],
        rows=rows,
        page_obj=page,
        class_shift=bar_list(
            [Bar(name, after, before) for name, before, after in diff.classes],
            identifier="class-shift",
            title="Classes in the train split",
        )
        if diff.classes
        else "",
    )


def _base(
    request: HttpRequest, target: DatasetVersion, others: list[DatasetVersion]
) -> DatasetVersion | None:
    """The version that is asked for, or the target's parent, or the one before it."""
    wanted = request.GET.get("base", "")
    if wanted:
        try:
            return next((one for one in others if one.pk == UUID(wanted)), None)
        except ValueError:
            return None
    parent = next((one for one in others if one.pk == target.parent_id), None)
    return parent or next((one for one in others if one.number < target.number), None)


def _weighted(base: DatasetVersion, target: DatasetVersion) -> list[dict[str, object]]:
    """The examples that the target's proposal weighted up, when base is what it started from."""
    if target.from_proposal is None or target.parent_id != base.pk:
        return []
    edits = target.from_proposal.edits.exclude(weight=0).order_by("train_index")
    return [{"example_id": edit.example_id, "weight": edit.weight} for edit in edits]
