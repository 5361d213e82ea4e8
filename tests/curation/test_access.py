"""One helper decides who sees what: a stranger finds nothing, a member without the right is told
so."""

from uuid import uuid4

import pytest
from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404

from curation.models import Dataset, Project, Role
from curation.queries.access import PROJECT_PATH, Right, get_for, visible
from curation.services import datasets, projects


@pytest.fixture
def project(owner):
    return projects.create_project(name="Tweets", by=owner)


@pytest.fixture
def dataset(project, owner):
    return datasets.create_dataset(project=project, name="Tweets", by=owner)


def test_a_stranger_cannot_tell_a_foreign_object_from_one_that_does_not_exist(dataset, stranger):
    for key in (dataset.pk, uuid4(), "not an id"):
        with pytest.raises(Http404):
            get_for(Dataset, key, stranger)
    assert not visible(Dataset, stranger).exists()


@pytest.mark.parametrize(
    ("role", "rights"),
    [
        (Role.OWNER, {Right.READ, Right.WRITE, Right.REVIEW, Right.MANAGE}),
        (Role.EDITOR, {Right.READ, Right.WRITE}),
        (Role.REVIEWER, {Right.READ, Right.REVIEW}),
        (Role.VIEWER, {Right.READ}),
    ],
)
def test_each_role_has_its_rights_and_no_others(project, dataset, owner, stranger, role, rights):
    projects.set_member(project=project, user=stranger, role=role, by=owner)
    for right in Right:
        if right in rights:
            assert get_for(Dataset, dataset.pk, stranger, right) == dataset
        else:
            with pytest.raises(PermissionDenied):
                get_for(Dataset, dataset.pk, stranger, right)


def test_an_id_nested_in_another_projects_path_is_not_found(dataset, owner):
    other = projects.create_project(name="Other", by=owner)
    with pytest.raises(Http404):
        get_for(Dataset, dataset.pk, owner, project=other)


def test_every_path_to_the_project_exists():
    user = get_user_model()(pk=1)
    for model in PROJECT_PATH:
        str(visible(model, user).query)


def test_a_project_keeps_an_owner(project, owner):
    with pytest.raises(ValidationError, match="owner"):
        projects.remove_member(project=project, user=owner, by=owner)
    with pytest.raises(ValidationError, match="owner"):
        projects.set_member(project=project, user=owner, role=Role.VIEWER, by=owner)
    assert Project.objects.get().memberships.get().role == Role.OWNER
