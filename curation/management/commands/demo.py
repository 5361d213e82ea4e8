"""`demo`: the whole job on real data, from upload to verdict, beside a running site."""

import secrets
import time
from collections.abc import Callable
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from curation.management.commands.serve import migrate
from curation.models import Job, JobState, Project, Proposal, Registration, RegistrationState
from curation.services import registrations, sample_project
from embedded.site import SiteSettings, start_site
from embedded.supervisor import AlreadyRunning, ProcessFailed, Supervisor

USER_NAME = "demo"
FRESH_SEEDS = 8
POLL_SECONDS = 0.3
STALLED_AFTER_SECONDS = 30.0
HYPOTHESIS = "A prediction is a hypothesis, never a guarantee: the actual columns show what "
"retraining really did."


class Command(BaseCommand):
    help = "Run the whole job once on the sample data, print predicted beside actual, and leave "
    "the site running."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--exit", action="store_true", help="End after the table instead of serving."
        )
        parser.add_argument("--port", type=int, default=8000)
        parser.add_argument(
            "--rows", type=int, default=None, help="Load only the first rows (for a quick look)."
        )

    def handle(self, *args: Any, port: int, rows: int | None, **options: Any) -> None:
        settings = SiteSettings(port=port)
        console = Console()
        try:
            with Supervisor(settings.var) as supervisor:
                console.print("Starting database, broker, web server and workers …")
                address = start_site(supervisor, settings, migrate=migrate)
                run_demo(console, supervisor.check, rows)
                if options["exit"]:
                    return
                console.print(f"\nThe site stays up at [bold]{address}[/bold] (Ctrl-C stops it).")
                supervisor.watch()
        except (AlreadyRunning, ProcessFailed) as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            console.print("Stopped.")


def run_demo(
    console: Console, check: Callable[[], None], rows: int | None = None
) -> list[Registration]:
    """Load the sample project, wait for each step, register and test both proposals, print the
    table.

    Raises CommandError when a job fails; `check` raises when a process of the site has ended.
    """
    user, password = demo_user()
    if password:
        console.print(
            f"Sign in as [bold]{USER_NAME}[/bold] with the password [bold]{password}[/bold] "
            "(shown only this once)."
        )
    project = sample_project.load_sample_project(by=user, rows=rows)
    with progress_bars(console) as bars:
        wait_for(
            bars, check, project, lambda: Proposal.objects.filter(project=project).count() == 2
        )
        tests = [register(proposal, user) for proposal in project.proposals.order_by("created_at")]
        wait_for(bars, check, project, lambda: not running(tests))
    for test in tests:
        test.refresh_from_db()
        console.print(table_of(test))
        console.print(
            f"[dim]Plan {test.plan_sha256[:16]}…, {len(test.seeds)} fresh seeds. "
            f"{test.decision_rule}[/dim]"
        )
    console.print(f"\n[bold]{HYPOTHESIS}[/bold]")
    return tests


def demo_user() -> tuple[Any, str | None]:
    """The demo user, and its password if it was made just now."""
    users = get_user_model().objects
    if existing := users.filter(username=USER_NAME).first():
        return existing, None
    password = secrets.token_urlsafe(12)
    return users.create_user(USER_NAME, password=password), password


def register(proposal: Proposal, user: Any) -> Registration:
    """Register the proposal's test with the behaviour it was made for as the primary one, and
    start it."""
    primary = proposal.baseline.behaviours.get(name__startswith="Negative tweets")
    test = registrations.register(
        proposal=proposal,
        primary_behaviour=primary,
        number_of_seeds=FRESH_SEEDS,
        smallest_effect=0.0,
        by=user,
    )
    registrations.start(registration=test, by=user)
    return test


def running(tests: list[Registration]) -> bool:
    keys = [test.pk for test in tests]
    return Registration.objects.filter(pk__in=keys, state=RegistrationState.RUNNING).exists()


def progress_bars(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:<52}"),
        BarColumn(bar_width=30),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        console=console,
    )


def wait_for(
    bars: Progress, check: Callable[[], None], project: Project, finished: Callable[[], bool]
) -> None:
    """Show every job of the project as a bar until `finished` holds."""
    shown: dict[Any, TaskID] = {}
    stalls_at = time.monotonic() + STALLED_AFTER_SECONDS
    while True:
        is_finished = finished()
        for job in Job.objects.filter(project=project).order_by("created_at"):
            show(bars, shown, job)
            if job.state in (JobState.FAILED, JobState.CANCELLED):
                raise CommandError(f"{job.get_kind_display()} ended: {job.error}")
            if not job.has_ended:
                stalls_at = time.monotonic() + STALLED_AFTER_SECONDS
        if is_finished:
            return
        if time.monotonic() > stalls_at:
            raise CommandError("No job is under way, yet the demo is not finished; see var/logs.")
        check()
        time.sleep(POLL_SECONDS)


def show(bars: Progress, shown: dict[Any, TaskID], job: Job) -> None:
    if job.pk not in shown:
        shown[job.pk] = bars.add_task(job.get_kind_display(), total=None)
    if job.state == JobState.SUCCEEDED:
        bars.update(shown[job.pk], description=job.get_kind_display(), total=1, completed=1)
    elif job.stage:
        bars.update(
            shown[job.pk],
            description=f"{job.get_kind_display()}: {job.stage}",
            total=job.total or None,
            completed=job.done,
        )


def table_of(test: Registration) -> Table:
    """Behaviour, predicted, actual, placebo, verdict."""
    table = Table(title=test.proposal.name, title_justify="left")
    for heading in (
        "Behaviour",
        "Predicted [interval]",
        "Actual [interval]",
        "Placebo [interval]",
        "Verdict",
    ):
        table.add_column(heading)
    verdicts = test.verdicts.select_related("behaviour").order_by("behaviour__position")
    for verdict in verdicts:
        mark = " (primary)" if verdict.behaviour_id == test.primary_behaviour_id else ""
        table.add_row(
            f"{verdict.behaviour}{mark}",
            spread(verdict.predicted, verdict.predicted_low, verdict.predicted_high),
            spread(verdict.actual, verdict.actual_low, verdict.actual_high),
            spread(verdict.placebo, verdict.placebo_low, verdict.placebo_high),
            verdict.get_outcome_display(),
        )
    return table


def spread(value: float | None, low: float | None, high: float | None) -> str:
    if value is None or low is None or high is None:
        return "not available"
    return f"{value:+.4f} \\[{low:+.4f}, {high:+.4f}]"
