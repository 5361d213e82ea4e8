"""One key makes one thing, however often and however parallel the call is sent."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection

from curation.models import Dataset, IdempotentRequest, Job, Project
from curation.services import tokens
from tests.api.conftest import Api


def parallel(number, work):
    def closing(argument):
        try:
            return work(argument)
        finally:
            connection.close()

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(closing, range(number)))


@pytest.mark.django_db(transaction=True)
def test_parallel_calls_with_one_key_make_one_thing(people):
    _, text = tokens.create_token(user=people["owner"], name="ci", scopes=["read", "write"])

    def create(_):
        return Api(text).post("/projects", {"name": "once"}, Idempotency_Key="k1")

    answers = parallel(8, create)
    assert [answer.status_code for answer in answers] == [201] * 8
    assert len({answer.content for answer in answers}) == 1
    assert Project.objects.filter(name="once").count() == 1
    assert sum(answer.get("Idempotent-Replayed") == "true" for answer in answers) == 7


@pytest.mark.django_db(transaction=True)
def test_parallel_calls_without_a_key_make_many(people):
    _, text = tokens.create_token(user=people["owner"], name="ci", scopes=["read", "write"])
    parallel(4, lambda _: Api(text).post("/projects", {"name": "often"}))
    assert Project.objects.filter(name="often").count() == 4


@pytest.mark.django_db
def test_a_key_belongs_to_one_request(api):
    assert api.post("/projects", {"name": "a"}, Idempotency_Key="k").status_code == 201
    answer = api.post("/projects", {"name": "b"}, Idempotency_Key="k")
    assert answer.status_code == 422
    assert answer.data["errors"][0]["field"] == "header.Idempotency-Key"
    assert not Project.objects.filter(name="b").exists()


@pytest.mark.django_db
def test_keys_of_two_users_are_apart(world, api_of):
    for name in ("owner", "stranger"):
        answer = api_of(world.people[name]).post("/projects", {"name": name}, Idempotency_Key="k")
        assert answer.status_code == 201
        assert answer.data["name"] == name


@pytest.mark.django_db
def test_a_refused_call_is_not_remembered(api, world):
    path = f"/projects/{world.project.pk}/datasets"
    assert api.post(path, {"name": "sentences"}, Idempotency_Key="k").status_code == 409
    assert not IdempotentRequest.objects.exists()
    Dataset.objects.filter(pk=world.dataset.pk).update(name="renamed")
    assert api.post(path, {"name": "sentences"}, Idempotency_Key="k").status_code == 201


@pytest.mark.django_db
@pytest.mark.parametrize("key", [" ", "a b", "é", "x" * 201])
def test_a_malformed_key_is_refused(api, key):
    assert api.post("/projects", {"name": "a"}, Idempotency_Key=key).status_code == 422
    assert not Project.objects.filter(name="a").exists()


@pytest.mark.django_db
def test_a_form_upload_is_made_once(api, world):
    from django.core.files.uploadedfile import SimpleUploadedFile

    path = f"/api/v1/datasets/{world.dataset.pk}/versions/file"
    answers = [
        api.client.post(
            path,
            {"file": SimpleUploadedFile("a.jsonl", content)},
            headers={**api.headers, "Idempotency-Key": "k"},
        )
        for content in (b'{"text": "a"}\n', b'{"text": "a"}\n', b'{"text": "b"}\n')
    ]
    assert [answer.status_code for answer in answers] == [201, 201, 422]
    assert answers[0].content == answers[1].content
    assert Job.objects.filter(kind="inspect_dataset").count() == 1
