"""The tokens of a training example share its influence out among them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.formats.models_fixtures import write_language_model
from tests.influence.test_behaviours import behaviours_on, problem_of, texts
from tests.influence.test_language_models import encoded_pairs
from tests.influence.test_replay import recorded
from tests.networks.test_language_models import encoded_pairs as encoded_by_upload
from tests.training.problems import MLP
from tests.training.problems import problem_of as classifier_of
from workers.influence.behaviours import behaviour_values
from workers.influence.curvature import Curvature
from workers.influence.per_token import curvature_token_influence, replay_token_influence
from workers.influence.replay import Replay
from workers.training import trainer
from workers.training.encoding import token_texts
from workers.training.losses import LOSSES, token_shares
from workers.training.trainer import train

EXAMPLES = [0, 3, 4]


@pytest.mark.parametrize("network", ["bytes", "gpt2", "llama"])
def test_the_tokens_scores_sum_to_their_examples_score_by_replay(network):
    problem = problem_of(network)
    behaviours = behaviours_on(texts(4, 3))
    runs = [recorded(problem, seed) for seed in (3, 4)]
    whole = Replay().scores(runs, behaviours).per_seed
    found = replay_token_influence(runs, behaviours, EXAMPLES)
    assert [one.example for one in found] == EXAMPLES
    for one in found:
        assert len(one.tokens) == (problem.train.targets[one.example] >= 0).sum()
        np.testing.assert_allclose(one.per_seed.sum(2), whole[:, one.example], rtol=1e-5, atol=1e-9)


def test_the_tokens_scores_sum_to_their_examples_score_by_curvature():
    problem = problem_of("gpt2")
    behaviours = behaviours_on(texts(4, 3))
    runs = [train(problem, 3)]
    method = Curvature(damping=0.1, tolerance=1e-8)
    whole = method.scores(runs, behaviours).per_seed
    for one in curvature_token_influence(runs, behaviours, EXAMPLES, damping=0.1):
        np.testing.assert_allclose(one.per_seed.sum(2), whole[:, one.example], rtol=2e-2, atol=1e-6)


def test_a_tokens_score_is_the_derivative_of_training_in_its_own_weight(monkeypatch):
    """Against real training runs in which one token's share has another weight."""
    problem = problem_of("gpt2")
    behaviours = behaviours_on(texts(4, 3))
    run = recorded(problem)
    one = replay_token_influence([run], behaviours, [3])[0]
    network, layout = problem.build_network(3), run.layout
    for place, position in enumerate(one.positions):
        values = []
        for size in (1e-5, -1e-5):
            weights = torch.ones(problem.train.targets.shape[1], dtype=torch.float64)
            weights[position] += size
            changed = problem.train.targets[3]

            def weighted(logits, targets, weights=weights, changed=changed):
                own = (targets == changed).all(1, keepdim=True)
                return (token_shares(logits, targets) * torch.where(own, weights, 1.0)).sum(1)

            monkeypatch.setitem(LOSSES, "next_token", weighted)
            parameters = trainer.train(problem, 3).parameters
            monkeypatch.undo()
            values.append(behaviour_values(behaviours, network, layout, parameters))
        expected = ((values[0] - values[1]) / 2e-5).numpy()
        np.testing.assert_allclose(one.per_seed[0][:, place], expected, rtol=1e-3, atol=1e-7)


def test_a_classifier_has_no_tokens():
    problem = classifier_of(MLP)
    with pytest.raises(ValueError, match="language model"):
        replay_token_influence([recorded(problem)], [], [0])


def test_tokens_are_spelt_as_they_read(tmp_path):
    own = encoded_pairs(tokenizer="bytes")
    tokens = [token for token in own.train.targets[0].tolist() if token >= 0]
    assert token_texts(tokens, own.state) == [*"blue", "<end>"]
    folder = write_language_model(tmp_path / "model")
    uploaded = encoded_by_upload(folder)
    tokens = [token for token in uploaded.train.targets[0].tolist() if token >= 0]
    assert "".join(token_texts(tokens, uploaded.state, folder)) == " blue<|end|>"
