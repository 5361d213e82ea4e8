"""Influence of the single tokens of training examples of a language model.

An example's loss is ℓᵢ = Σₜ ℓᵢₜ, each token's share being -log p over the number of tokens. Give
each share a weight of its own, Σₜ wᵢₜ ℓᵢₜ: the score of a token is d behaviour / d wᵢₜ, and since
the example's weight moves all of them alike, the scores of its tokens sum to its own. Every method
whose score is v · ∇ℓᵢ for some vector v splits so, into v · ∇ℓᵢₜ: replay, where v is the
cotangent of a step's gradient over the batch size, summed over the steps that visit the example;
and curvature, where v = -(H + λI)⁻¹ ∇b / n at the final parameters.

Cost: that of the method for the same behaviours, and for each visit of a chosen example a Jacobian
product of its losses, about two training steps shared by all behaviours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workers.influence.behaviours import Behaviour
from workers.influence.damped_method import penalty
from workers.influence.damping import training_time_damping
from workers.influence.gauss_newton import GaussNewton, conjugate_gradients
from workers.influence.interface import Progress, shared_problem
from workers.influence.linearised import Linearised
from workers.influence.replay import NotReplayable, check_replayable
from workers.influence.replay_walk import BackwardWalk
from workers.training.examples import EncodedExamples
from workers.training.losses import token_shares
from workers.training.trainer import TrainingRun


@dataclass(frozen=True)
class TokenInfluence:
    """The tokens of one training example that count in its loss, and their scores."""

    example: int
    """Train index."""
    positions: NDArray[np.int64]
    """(L,) places in the example's row of targets."""
    tokens: NDArray[np.int64]
    """(L,) ids; `workers.training.encoding.token_texts` spells them."""
    per_seed: NDArray[np.float32]
    """(S, K, L) in the behaviour's unit per unit of the token's weight."""

    def mean(self) -> NDArray[np.float32]:
        """(K, L) over seeds."""
        found: NDArray[np.float32] = self.per_seed.mean(0)
        return found


def replay_token_influence(
    runs: Sequence[TrainingRun],
    behaviours: Sequence[Behaviour],
    examples: Sequence[int],
    progress: Progress | None = None,
    *,
    growth_limit: float = 1e4,
) -> list[TokenInfluence]:
    """By replay of runs with their trajectories, one entry for each train index in `examples`.

    Raises NotReplayable, replay's BlowUp, and ValueError where the loss is not next_token.
    """
    _check(runs)
    check_replayable(runs[0].problem)
    per_seed = []
    for number, run in enumerate(runs):
        if run.trajectory is None or not run.trajectory.is_complete:
            raise NotReplayable(f"the run of seed {run.seed} has no complete trajectory")
        before = number * run.problem.number_of_steps

        def shifted(done: int, total: int, before: int = before) -> None:
            if progress is not None:
                progress(before + done, total * len(runs))

        walk = _TokenWalk(run, behaviours, examples, growth_limit)
        walk.finish(shifted)
        per_seed.append(walk.token_scores)
    return _collected(runs[0].problem.train, examples, torch.stack(per_seed))


def curvature_token_influence(
    runs: Sequence[TrainingRun],
    behaviours: Sequence[Behaviour],
    examples: Sequence[int],
    progress: Progress | None = None,
    *,
    damping: float | None = None,
) -> list[TokenInfluence]:
    """By the generalised Gauss–Newton influence function at the end of each run; no trajectory is
    needed. `damping` is λ; None takes `training_time_damping` of each run.

    Raises ValueError where the loss is not next_token.
    """
    _check(runs)
    per_seed = []
    for number, run in enumerate(runs):
        at = Linearised.of(run)
        full = (damping or training_time_damping(run)) + penalty(run.problem)
        gradients = at.behaviour_gradients(behaviours)
        rows = conjugate_gradients(GaussNewton(at).product, gradients, full, tolerance=1e-3).rows
        chosen = at.train.select(torch.tensor(list(examples)))
        products = [
            token_products(at, chosen.select(place), rows / -at.denominator)
            for place in torch.arange(len(chosen)).split(EXAMPLES_AT_ONCE)
        ]
        per_seed.append(torch.cat(products, 1))
        if progress is not None:
            progress(number + 1, len(runs))
    return _collected(runs[0].problem.train, examples, torch.stack(per_seed))


EXAMPLES_AT_ONCE = 8


def token_products(at: Linearised, batch: EncodedExamples, vectors: Tensor) -> Tensor:
    """(K, B, L) the products of `vectors` (K, P) with the gradient of every token's share of its
    example's loss, at the parameters of `at`: J v as the derivative of Jᵀd in d, since reverse
    mode alone goes through every network."""
    leaf = at.parameters.clone().requires_grad_()
    shares = token_shares(at.outputs(batch.inputs, leaf), batch.targets)
    dummy = torch.zeros_like(shares, requires_grad=True)
    (pulled,) = torch.autograd.grad(shares, leaf, dummy, create_graph=True)
    (products,) = torch.autograd.grad(pulled, dummy, vectors, is_grads_batched=True)
    return products


class _TokenWalk(BackwardWalk):
    """A walk that also scores the tokens of some examples: `token_scores` (K, E, L)."""

    def __init__(
        self,
        run: TrainingRun,
        behaviours: Sequence[Behaviour],
        examples: Sequence[int],
        growth_limit: float,
    ) -> None:
        super().__init__(run, behaviours, growth_limit)
        length = run.problem.train.targets.shape[1]
        self.token_scores = self.scores.new_zeros(len(behaviours), len(examples), length)
        self.places = {example: place for place, example in enumerate(examples)}
        self.at = Linearised(run.problem, run.seed, run.parameters)

    def _visit(self, indices: Tensor, pulled: Tensor) -> None:
        chosen = [one for one in indices.tolist() if one in self.places]
        if not chosen:
            return
        self.at.parameters = self.program.parameters.detach().cpu()
        batch = self.run.problem.examples.select(torch.tensor(chosen))
        rows = pulled.cpu() / self.run.problem.recipe.batch_size
        products = token_products(self.at, batch, rows)
        places = torch.tensor([self.places[one] for one in chosen])
        self.token_scores.index_add_(1, places, products)


def _check(runs: Sequence[TrainingRun]) -> None:
    problem = shared_problem(runs)
    if problem.loss != "next_token":
        raise ValueError("only the examples of a language model have tokens with a loss each")


def _collected(
    train: EncodedExamples, examples: Sequence[int], scores: Tensor
) -> list[TokenInfluence]:
    """From (S, K, E, L) scores to the counted tokens of each example."""
    found = []
    for place, example in enumerate(examples):
        targets = train.targets[example]
        positions = (targets >= 0).nonzero()[:, 0]
        found.append(
            TokenInfluence(
                example,
                positions.numpy(),
                targets[positions].numpy(),
                scores[:, :, place, positions].to(torch.float32).numpy(),
            )
        )
    return found
