"""What goes with something that is deleted, what stands against it, and what can be restored."""

from dataclasses import dataclass
from typing import Any

from django.db.models import Q, QuerySet

from curation.models import (
    ENDED,
    Baseline,
    Behaviour,
    Dataset,
    DatasetVersion,
    Deletable,
    Deletion,
    Job,
    Model,
    Project,
    Proposal,
    Registration,
    Role,
)


@dataclass(frozen=True)
class Affected:
    """Everything that goes when `target` is deleted, itself included, parents first."""

    target: Deletable
    projects: QuerySet[Any]
    datasets: QuerySet[Any]
    versions: QuerySet[Any]
    models: QuerySet[Any]
    baselines: QuerySet[Any]
    proposals: QuerySet[Any]

    @property
    def rows(self) -> tuple[QuerySet[Any], ...]:
        return (
            self.projects,
            self.datasets,
            self.versions,
            self.models,
            self.baselines,
            self.proposals,
        )

    def behaviours(self) -> QuerySet[Any]:
        return Behaviour.objects.filter(baseline__in=self.baselines)

    def registrations(self) -> QuerySet[Any]:
        return Registration.objects.filter(proposal__in=self.proposals)

    def counts(self) -> dict[str, int]:
        """How many of each kind go with the target, which is not counted; none is left out."""
        parts = (*self.rows[1:], self.behaviours(), self.registrations())
        found = {
            str(rows.model._meta.verbose_name_plural): rows.exclude(pk=self.target.pk).count()
            for rows in parts
        }
        return {kind: number for kind, number in found.items() if number}

    def unfinished_jobs(self) -> QuerySet[Job]:
        """Jobs that work on anything of it; of a project any."""
        works_on = Q(project__in=self.projects)
        for rows in (*self.rows[1:], self.behaviours(), self.registrations()):
            works_on |= Q(target_id__in=rows.values("pk"))
        return Job.objects.filter(works_on).exclude(state__in=ENDED)

    def made_from_it(self) -> QuerySet[Any]:
        """Dataset versions that stay, and came from a version or proposal that goes."""
        descends = Q(parent__in=self.versions) | Q(from_proposal__in=self.proposals)
        return DatasetVersion.objects.filter(descends).exclude(pk__in=self.versions.values("pk"))


def affected_by(target: Deletable) -> Affected:
    """Ids are unguessable and unique, so that one filter serves whatever kind the target is."""
    key = target.pk
    datasets = Dataset.objects.filter(Q(pk=key) | Q(project=key))
    versions = DatasetVersion.objects.filter(Q(pk=key) | Q(dataset__in=datasets))
    models = Model.objects.filter(Q(pk=key) | Q(project=key))
    baselines = Baseline.objects.filter(
        Q(pk=key) | Q(dataset_version__in=versions) | Q(model__in=models)
    )
    proposals = Proposal.objects.filter(Q(pk=key) | Q(baseline__in=baselines))
    projects = Project.objects.filter(pk=key)
    return Affected(target, projects, datasets, versions, models, baselines, proposals)


def hindrance(affected: Affected) -> str:
    """Why it cannot be deleted now, in words; empty when it can."""
    if number := affected.unfinished_jobs().count():
        one = "A job works" if number == 1 else f"{number} jobs work"
        return f"{one} on it or wait to. Wait for the end, or cancel first."
    if isinstance(affected.target, Project):
        return ""
    if number := affected.registrations().count():
        plans = "A registered plan depends" if number == 1 else f"{number} registered plans depend"
        return (
            f"{plans} on it. Registered evidence is kept; "
            "only the whole project can be put away, as an archive."
        )
    if version := affected.made_from_it().first():
        return f"Version {version.number} of {version.dataset.name} was made from it."
    return ""


def restorable_by(user: Any) -> QuerySet[Deletion]:
    """What was deleted in the projects that the user owns, the newest first."""
    owned = Deletion.objects.filter(
        project__memberships__user=user, project__memberships__role=Role.OWNER
    )
    return owned.select_related("project", "deleted_by").order_by("-created_at", "pk")
