"""Every example's loss and confidence come with the training, its self-influence when asked for, in
upload order and for those alone who may write."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from django.core.exceptions import ValidationError

from curation.models import Baseline, BaselineState, ExampleValues, Job, JobKind, JobState
from curation.queries.arrays import stored_array
from curation.services import example_values, projects
from curation.services.files import local_path
from tests.curation.test_language_job import built_in_model, trained_baseline
from tests.running import run_jobs
from workers.influence.interface import NoUsableSeed
from workers.influence.self_influence import sparse_trajectory
from workers.tasks import example_values as task
from workers.tasks.loading import load_baseline
from workers.training.trainer import train


@pytest.fixture
def baseline(small_sample):
    return Baseline.objects.get(project=small_sample)


def measured(baseline, owner) -> ExampleValues:
    example_values.request_example_values(baseline=baseline, by=owner)
    (job,) = run_jobs(baseline.project)
    assert (job.state, job.error) == (JobState.SUCCEEDED, "")
    return ExampleValues.objects.get(baseline=baseline)


def splits_of(baseline) -> np.ndarray:
    return pq.read_table(local_path(baseline.dataset_version.examples_file))["split"].to_numpy()


def test_training_leaves_the_loss_and_confidence_of_every_example(baseline):
    found = ExampleValues.objects.get(baseline=baseline)
    assert (found.seeds, found.self_influence_file) == (baseline.seeds, None)
    losses, confidences = stored_array(found.loss_file), stored_array(found.confidence_file)
    splits = splits_of(baseline)
    assert losses.shape == confidences.shape == splits.shape
    for split in ("train", "probe"):
        reported = np.mean([run.metrics[split]["loss"] for run in baseline.runs.all()])
        assert losses[splits == split].mean() == pytest.approx(reported, rel=1e-5)
    assert ((confidences > 0) & (confidences < 1)).all()
    assert (confidences >= np.exp(-losses) - 1e-6).all()  # Jensen: means over seeds


def test_self_influence_is_measured_on_request_once_and_for_train_examples_alone(baseline, owner):
    before = ExampleValues.objects.get(baseline=baseline)
    found = measured(baseline, owner)
    values = stored_array(found.self_influence_file)
    is_train = splits_of(baseline) == "train"
    assert np.isfinite(values[is_train]).all() and (values[is_train] >= 0).all()
    assert np.isnan(values[~is_train]).all()
    assert (found.loss_file, found.left_out) == (before.loss_file, [])
    problem = load_baseline(baseline.pk).problem
    each = []
    for seed in baseline.seeds:
        run = train(problem, seed, trajectory=sparse_trajectory(problem))
        each.append(task.self_influence(run).numpy())
    np.testing.assert_allclose(values[is_train], np.mean(each, 0), rtol=1e-5)
    with pytest.raises(ValidationError, match="measured"):
        example_values.request_example_values(baseline=baseline, by=owner)


def test_a_second_request_while_one_runs_is_refused(baseline, owner):
    example_values.request_example_values(baseline=baseline, by=owner)
    with pytest.raises(ValidationError, match="being measured"):
        example_values.request_example_values(baseline=baseline, by=owner)
    assert Job.objects.filter(kind=JobKind.MEASURE_EXAMPLES).count() == 1


def test_an_untrained_baseline_cannot_be_measured(baseline, owner):
    Baseline.objects.filter(pk=baseline.pk).update(state=BaselineState.FAILED)
    with pytest.raises(ValidationError, match="not trained"):
        example_values.request_example_values(baseline=baseline, by=owner)


def test_a_baseline_trained_before_values_were_kept_gets_them_all(baseline, owner):
    before = ExampleValues.objects.get(baseline=baseline)
    before.delete()
    found = measured(baseline, owner)
    assert found.loss_file == before.loss_file
    assert found.confidence_file == before.confidence_file


def test_a_seed_without_finite_values_is_left_out_and_named(baseline, owner, monkeypatch):
    usual, calls = task.self_influence, []

    def broken(run, progress):
        calls.append(run.seed)
        return usual(run, progress) * (np.nan if run.seed == baseline.seeds[0] else 1)

    monkeypatch.setattr(task, "self_influence", broken)
    found = measured(baseline, owner)
    assert calls == baseline.seeds
    assert [one["seed"] for one in found.left_out] == baseline.seeds[:1]


def test_without_any_usable_seed_the_job_says_so(baseline, owner, monkeypatch):
    monkeypatch.setattr(task, "self_influence", lambda run, _: task.torch.tensor([np.inf]))
    example_values.request_example_values(baseline=baseline, by=owner)
    (job,) = run_jobs(baseline.project)
    assert job.state == JobState.FAILED
    assert str(NoUsableSeed([])).split("(")[0] in job.error


def test_the_estimate_grows_with_seeds_and_is_more_than_training_again(baseline):
    trained = sum(run.seconds for run in baseline.runs.all())
    assert example_values.expected_seconds(baseline) > trained
    baseline.runs.first().delete()
    assert example_values.expected_seconds(baseline) < 100 * trained


def test_a_language_models_texts_are_measured_too(owner, tmp_path):
    project = projects.create_project(name="Language", by=owner)
    baseline = trained_baseline(owner, project, built_in_model(project, owner, tmp_path), epochs=1)
    found = measured(baseline, owner)
    is_train = splits_of(baseline) == "train"
    losses, confidences = stored_array(found.loss_file), stored_array(found.confidence_file)
    assert (losses > 0).all()
    assert (confidences >= np.exp(-losses) - 1e-6).all()  # Jensen: means over tokens and seeds
    assert (stored_array(found.self_influence_file)[is_train] > 0).all()
