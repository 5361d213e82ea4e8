"""An owner, a project, and a storage folder of the test's own."""

import pytest
from django.contrib.auth import get_user_model

from curation.models import Project
from curation.services import projects


@pytest.fixture
def user(db):
    return get_user_model().objects.create_user("owner", password="a long pass phrase")


@pytest.fixture
def project(user) -> Project:
    return projects.create_project(name="Tweets", by=user)


@pytest.fixture
def storage(tmp_path, settings):
    """Storage and work folder for this test alone."""
    settings.MEDIA_ROOT = tmp_path / "files"
    settings.WORK_ROOT = tmp_path / "work"
    return settings.MEDIA_ROOT
