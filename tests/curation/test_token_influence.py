"""The influence of a language model's strongest examples is split among their tokens, shown without
colour alone, and only for those who may see it."""

import numpy as np
import pytest
from django.core.exceptions import ValidationError

from curation.models import Behaviour, Influence, JobKind, TokenInfluence
from curation.queries.arrays import stored_array
from curation.queries.examples import ExampleTable
from curation.queries.token_influence import scored_examples
from curation.services import behaviours, projects, token_influence
from tests.curation.test_language_job import built_in_model, trained_baseline
from tests.running import run_jobs


@pytest.fixture
def project(owner):
    return projects.create_project(name="Tokens", by=owner)


@pytest.fixture
def asked(project, owner, tmp_path) -> Behaviour:
    baseline = trained_baseline(owner, project, built_in_model(project, owner, tmp_path), epochs=2)
    behaviour = behaviours.add_behaviour(
        baseline=baseline,
        name="blue",
        kind="completion_log_probability",
        definition={
            "selection": "pasted",
            "examples": [{"prompt": "The sky is", "completion": " blue"}],
        },
        by=owner,
    )
    behaviours.attribute(baseline=baseline, by=owner)
    run_jobs(project)
    return behaviour


def test_the_tokens_of_an_example_sum_to_its_influence(asked, owner, project):
    token_influence.request_token_influence(behaviour=asked, by=owner)
    assert [job.error for job in run_jobs(project) if job.error] == []
    examples = scored_examples(asked)
    scores = stored_array(Influence.objects.get(behaviour=asked).scores_file)
    assert examples
    for one in examples:
        assert one["score"] == pytest.approx(float(scores[one["train_index"]]), rel=1e-3, abs=1e-6)
        assert one["helps"] == (one["score"] > 0)
        text = "".join(token["text"] for token in one["tokens"])
        assert text == one["content"].replace(" → ", "") + "<end>"
    marked = [token["strength"] for one in examples for token in one["tokens"]]
    assert set(marked) <= {0, 1, 2, 3}
    assert np.mean(np.array(marked) == 0) == pytest.approx(0.5, abs=0.1)


def test_the_page_marks_tokens_by_class_word_and_table(asked, owner, project, client, settings):
    settings.STORAGES = settings.STORAGES | {
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    }
    client.force_login(owner)
    address = f"/behaviours/{asked.pk}/tokens/"
    assert "Score the tokens" in client.get(address).content.decode()
    assert client.post(f"{address}score/").status_code == 302
    waiting = client.get(address).content.decode()
    assert "Running job" in waiting and "Score the tokens" not in waiting
    run_jobs(project)
    page = client.get(address).content.decode()
    assert "The sky is<b> blue</b>" in page
    assert "token-helps-3" in page and "Strongest tokens as a table" in page and "Legend" in page
    assert "style=" not in page
    assert address in client.get(f"/behaviours/{asked.pk}/").content.decode()


def test_scoring_is_asked_for_once_and_only_where_there_are_tokens_and_scores(
    asked, owner, project
):
    token_influence.request_token_influence(behaviour=asked, by=owner)
    with pytest.raises(ValidationError, match="are scored or being scored"):
        token_influence.request_token_influence(behaviour=asked, by=owner)
    run_jobs(project)
    assert project.jobs.filter(kind=JobKind.TOKEN_INFLUENCE).count() == 1
    with pytest.raises(ValidationError, match="are scored or being scored"):
        token_influence.request_token_influence(behaviour=asked, by=owner)
    unscored = behaviours.add_behaviour(
        baseline=asked.baseline, name="all", kind="mean_loss", definition={"selection": "all"},
        by=owner,
    )  # fmt: skip
    with pytest.raises(ValidationError, match="Compute influence first"):
        token_influence.request_token_influence(behaviour=unscored, by=owner)


def test_a_loss_is_helped_by_tokens_that_lower_it(asked, owner):
    loss = behaviours.add_behaviour(
        baseline=asked.baseline, name="loss", kind="mean_loss", definition={"selection": "all"},
        by=owner,
    )  # fmt: skip
    TokenInfluence.objects.create(
        behaviour=loss,
        seeds=[0],
        examples=[{"train_index": 0, "tokens": ["a", "b"], "scores": [-2.0, 1.0]}],
    )
    (one,) = scored_examples(loss)
    assert one["helps"] and [token["helps"] for token in one["tokens"]] == [True, False]
    assert [token["text"] for token in one["strongest"]] == ["a", "b"]


def test_an_examples_panel_leads_to_its_tokens_once_they_are_scored(
    asked, owner, project, client, settings
):
    settings.STORAGES = settings.STORAGES | {
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    }
    client.force_login(owner)
    token_influence.request_token_influence(behaviour=asked, by=owner)
    run_jobs(project)
    scored = {one["train_index"]: one for one in scored_examples(asked)}
    version = asked.baseline.dataset_version
    with ExampleTable(version) as table:
        rows = table.by_train_index(range(version.train_count))
    for index, row in rows.items():
        page = client.get(f"/versions/{version.pk}/examples/one/?id={row['example_id']}")
        link = f"/behaviours/{asked.pk}/tokens/#example-{index}"
        assert (link in page.content.decode()) == (index in scored)
    tokens = client.get(f"/behaviours/{asked.pk}/tokens/").content.decode()
    assert all(f'id="example-{index}"' in tokens for index in scored)
