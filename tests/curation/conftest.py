"""People, and a small sample project that has gone the whole way to predictions."""

from collections.abc import Iterator

import pytest
from django.contrib.auth import get_user_model
from django.db import transaction

from curation.models import Project, Proposal
from curation.services import sample_project
from tests.running import run_jobs

ROWS = 300


@pytest.fixture
def owner(db):
    return get_user_model().objects.create_user("owner", password="a long pass phrase")


@pytest.fixture
def stranger(db):
    return get_user_model().objects.create_user("stranger", password="a long pass phrase")


@pytest.fixture(scope="module")
def trained_sample(django_db_setup, django_db_blocker) -> Iterator[Project]:
    """The sample project on few rows, with two proposals predicted; made once for a module, in a
    transaction that every test of it builds on and that is rolled back at its end."""
    with (
        django_db_blocker.unblock(),
        pytest.MonkeyPatch.context() as patch,
        transaction.atomic(durable=True),
    ):
        patch.setattr(sample_project, "BANK_EDITS", 6)
        patch.setattr(sample_project, "EDITS", 10)
        patch.setattr(sample_project, "NUMBER_OF_SEEDS", 2)
        patch.setitem(sample_project.RECIPE, "epochs", 2)
        user = get_user_model().objects.create_user("sample owner", password="a long pass phrase")
        project = sample_project.load_sample_project(by=user, rows=ROWS)
        jobs = run_jobs(project)
        assert [job.error for job in jobs if job.error] == []
        assert Proposal.objects.filter(project=project).count() == 2
        yield project
        transaction.set_rollback(True)


@pytest.fixture
def small_sample(trained_sample, db, settings) -> Project:
    # A heartbeat comes over a connection of its own, which this transaction's rows do not reach.
    settings.JOB_LEASE_SECONDS = 3600
    trained_sample.refresh_from_db()
    return trained_sample
