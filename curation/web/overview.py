"""What people see first: projects with counts, what needs attention, what runs, the next step."""

from dataclasses import dataclass, replace

from django.db.models import Count, F, Max, Q, QuerySet
from django.urls import reverse

from curation.models import (
    Baseline,
    BaselineState,
    DatasetVersion,
    Job,
    JobState,
    Project,
    Proposal,
    Registration,
    RegistrationState,
    Verdict,
    VersionState,
)

MOST_SHOWN = 8


@dataclass(frozen=True)
class Attention:
    """Something that waits for a person: what, in which project, and where to go."""

    text: str
    project: str
    address: str


@dataclass(frozen=True)
class Step:
    """One step of the whole job in a project."""

    name: str
    explanation: str
    done: bool
    address: str
    action: str
    current: bool = False


def with_counts(projects: QuerySet[Project]) -> QuerySet[Project]:
    """Each project with `number_of_baselines`, `number_of_proposals`, `number_of_tests`."""
    return projects.annotate(
        number_of_datasets=Count("datasets", distinct=True),
        number_of_proposals=Count("proposals", distinct=True),
        number_of_tests=Count(
            "registrations",
            filter=Q(registrations__state=RegistrationState.COMPLETE),
            distinct=True,
        ),
        last_job_at=Max("jobs__created_at"),
    )


def needs_attention(projects: QuerySet[Project]) -> list[Attention]:
    """Mappings to choose, plans to start, and failures of the last jobs that nobody has retried."""
    found = [
        Attention(
            f"Map the columns of {version}",
            version.dataset.project.name,
            reverse("columns", args=[version.pk]),
        )
        for version in DatasetVersion.objects.filter(
            dataset__project__in=projects, state=VersionState.INSPECTED
        )
        .select_related("dataset__project")
        .order_by("-created_at")[:MOST_SHOWN]
    ]
    found += [
        Attention(
            f"Start the retrains of “{registration.proposal.name}”: its plan is locked",
            registration.project.name,
            reverse("registration", args=[registration.pk]),
        )
        for registration in Registration.objects.filter(
            project__in=projects, state=RegistrationState.LOCKED
        )
        .select_related("project", "proposal")
        .order_by("-created_at")[:MOST_SHOWN]
    ]
    found += [
        Attention(
            f"{job.get_kind_display()} failed", job.project.name, reverse("job", args=[job.pk])
        )
        for job in Job.objects.filter(
            project__in=projects, state=JobState.FAILED, retries__isnull=True
        )
        .select_related("project")
        .order_by("-ended_at")[:MOST_SHOWN]
    ]
    return found[:MOST_SHOWN]


def running_jobs(projects: QuerySet[Project]) -> list[Job]:
    return list(
        Job.objects.filter(project__in=projects, state__in=(JobState.QUEUED, JobState.RUNNING))
        .select_related("project")
        .order_by("created_at")[:MOST_SHOWN]
    )


def recent_verdicts(projects: QuerySet[Project]) -> list[Verdict]:
    """The newest verdicts on primary behaviours."""
    return list(
        Verdict.objects.filter(
            registration__project__in=projects,
            behaviour=F("registration__primary_behaviour"),
        )
        .select_related("registration__proposal", "registration__project", "behaviour")
        .order_by("-created_at")[:5]
    )


def steps(project: Project) -> list[Step]:
    """The whole job, step by step, with what is done and where each step is taken."""
    ready_version = DatasetVersion.objects.filter(
        dataset__project=project, state=VersionState.READY
    ).exists()
    baselines = Baseline.objects.filter(project=project)
    trained = baselines.filter(state=BaselineState.READY).order_by("-created_at").first()
    has_behaviours = trained is not None and trained.behaviours.filter(archived_at=None).exists()
    attributed = trained is not None and trained.influences.exists()
    proposal = (
        Proposal.objects.filter(project=project, archived_at=None).order_by("-created_at").first()
    )
    registration = Registration.objects.filter(project=project).order_by("-created_at").first()
    here = project.pk
    baseline_address = (
        reverse("baseline", args=[trained.pk]) if trained else reverse("baselines", args=[here])
    )
    return _marked(
        [
            Step(
                "Upload a dataset",
                "Examples to train on, and probe examples to measure on.",
                ready_version,
                reverse("new-dataset", args=[here]),
                "Upload",
            ),
            Step(
                "Choose a model and a recipe",
                "What is trained, and how.",
                project.models.exists() and project.recipes.exists(),
                reverse("models", args=[here]),
                "Choose",
            ),
            Step(
                "Train a baseline",
                "The model on the unedited data, for several seeds.",
                trained is not None,
                reverse("new-baseline", args=[here]),
                "Train",
            ),
            Step(
                "Define behaviours",
                "What you care about: numbers measured on probe examples.",
                has_behaviours,
                reverse("new-behaviour", args=[trained.pk]) if trained else baseline_address,
                "Define",
            ),
            Step(
                "Compute influence",
                "How each training example moves each behaviour.",
                attributed,
                baseline_address,
                "Compute",
            ),
            Step(
                "Propose edits and read the prediction",
                "Remove or re-weight examples; see the predicted changes at once.",
                proposal is not None,
                reverse("proposal", args=[proposal.pk])
                if proposal
                else reverse("new-proposal", args=[trained.pk])
                if trained
                else baseline_address,
                "Propose",
            ),
            Step(
                "Register and retrain",
                "Lock the prediction, retrain on fresh seeds, and read the verdict.",
                registration is not None and registration.state == RegistrationState.COMPLETE,
                reverse("registration", args=[registration.pk])
                if registration
                else reverse("register", args=[proposal.pk])
                if proposal
                else baseline_address,
                "Register",
            ),
        ]
    )


def _marked(found: list[Step]) -> list[Step]:
    """The first step that is not done is the current one."""
    first = next((step for step in found if not step.done), None)
    return [replace(step, current=step is first) for step in found]
