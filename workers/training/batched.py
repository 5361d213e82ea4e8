"""Many training runs at once: one batched program over seeds and example weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from workers.training.examples import EncodedExamples
from workers.training.losses import LOSSES
from workers.training.optimizers import build_optimizer
from workers.training.problem import TrainingProblem
from workers.training.program import TrainingProgram, deterministic
from workers.training.trainer import Progress, Throttle, full_weights, train

LARGEST_BATCHED_PART = {True: 50_000, False: 20_000}
"""Trained parameters above which batching saves nothing, for chains and for other networks: there
a step's own arithmetic outweighs the overhead that runs can share."""
CACHE_BYTES = 2 << 20
"""A vector of all runs of a chunk should stay in the processor's cache between passes."""

GradientOfRuns = Callable[[Tensor, EncodedExamples, Tensor, Tensor], None]
"""From θ (R, P), a batch (R, B, ...) or shared (B, ...), and weights (R, B), writes the gradients
into the last argument (R, P): fresh memory for them at every step costs more than the arithmetic.
"""


def train_many(
    problem: TrainingProblem,
    seeds: Sequence[int],
    weights: Tensor,
    *,
    progress: Progress | None = None,
    memory_budget: int = 1 << 30,
    runs_at_once: int | None = None,
) -> Tensor:
    """(R, P) final parameters of R runs; run r has seed seeds[r] and example weights[r] (R, N).

    The same as R calls of `train`, within float tolerance. Runs share one batched program as far
    as that is faster and fits `memory_budget` bytes; a large trained part is trained one by one.
    `progress(done, total)` counts steps of all runs. Raises ValueError for weights of a wrong
    shape or not finite.
    """
    if weights.ndim != 2 or len(weights) != len(seeds):
        raise ValueError(
            f"weights of shape ({len(seeds)}, {len(problem.train)}) are needed, "
            f"not {tuple(weights.shape)}"
        )
    rows = torch.stack([full_weights(problem, row) for row in weights]) if seeds else weights
    program = TrainingProgram(problem, 0)
    number = runs_at_once or _runs_at_once(program, memory_budget)
    final = torch.empty(len(seeds), len(program.parameters), dtype=problem.dtype)
    # Runs of one seed share their batches: neighbours go into the same chunk.
    places = sorted(range(len(seeds)), key=lambda place: seeds[place])
    report = Throttle(progress, len(seeds) * problem.number_of_steps)
    done = 0
    for start in range(0, len(places), number):
        chunk = places[start : start + number]
        own_seeds = [seeds[place] for place in chunk]

        def advance(step: int, before: int = done, runs: int = len(chunk)) -> None:
            report(before + step * runs)

        if len(chunk) == 1:
            run = train(
                problem, own_seeds[0], rows[chunk[0]], progress=lambda step, _: advance(step)
            )
            final[chunk[0]] = run.parameters
        else:
            final[chunk] = _train_together(problem, own_seeds, rows[chunk], advance)
        done += len(chunk) * problem.number_of_steps
    return final


def _train_together(
    problem: TrainingProblem, seeds: Sequence[int], weights: Tensor, advance: Callable[[int], None]
) -> Tensor:
    program = TrainingProgram(problem, seeds[0])
    optimizer = build_optimizer(problem.recipe, problem.number_of_steps)
    distinct = dict.fromkeys(seeds)
    starts = {seed: program.layout.flatten(problem.build_network(seed)) for seed in distinct}
    states = optimizer.initial_rows(torch.stack([starts[seed] for seed in seeds]))
    gradient = torch.empty_like(states[0])
    gradient_of_runs = (
        vmapped_gradient(program) if program.chain is None else (program.chain.gradient)
    )
    orders = {seed: problem.batch_order(seed) for seed in distinct}
    is_shared = len(distinct) == 1
    order = orders[seeds[0]] if is_shared else torch.stack([orders[seed] for seed in seeds], 1)
    runs = torch.arange(len(seeds))[:, None]
    with deterministic():
        for step in range(problem.number_of_steps):
            # Padding takes the same places in every run.
            indices = order[step][..., : problem.batch_length(step)]
            own_weights = weights[:, indices] if is_shared else weights[runs, indices]
            batch = problem.examples.select(indices)
            gradient_of_runs(states[0], batch, own_weights, gradient)
            optimizer.step(states, gradient, step)
            advance(step + 1)
    return states[0]


def vmapped_gradient(program: TrainingProgram) -> GradientOfRuns:
    """The gradients of many runs of any stateless network, by `torch.func.vmap`."""
    network, layout, problem = program.network, program.layout, program.problem
    loss_of = LOSSES[problem.loss]

    def loss(theta: Tensor, inputs: dict[str, Tensor], targets: Tensor, weights: Tensor) -> Tensor:
        outputs = functional_call(network, layout.unflatten(theta), (), inputs)
        return torch.dot(loss_of(outputs, targets), weights) / problem.recipe.batch_size

    own = vmap(grad(loss), in_dims=(0, 0, 0, 0))
    shared = vmap(grad(loss), in_dims=(0, None, None, 0))

    def gradient_of_runs(
        theta: Tensor, batch: EncodedExamples, weights: Tensor, out: Tensor
    ) -> None:
        # Runs have their own batches exactly when the targets have one leading dimension more.
        is_own = batch.targets.ndim > problem.train.targets.ndim
        of_runs = own if is_own else shared
        out.copy_(of_runs(theta, batch.inputs, batch.targets, weights))

    return gradient_of_runs


def _runs_at_once(program: TrainingProgram, memory_budget: int) -> int:
    problem, size = program.problem, len(program.parameters)
    recipe = problem.recipe
    if recipe.dropout > 0 or recipe.precision.startswith("mixed") or recipe.recompute_activations:
        return 1
    if recipe.micro_batch_size or program.device.type != "cpu":
        return 1
    if size > LARGEST_BATCHED_PART[program.chain is not None]:
        return 1
    vector = program.parameters.nbytes
    inputs = problem.examples.inputs.values()
    batch = problem.recipe.batch_size * sum(tensor[0].nbytes for tensor in inputs)
    in_budget = memory_budget // (8 * vector + 4 * batch)
    return max(1, min(in_budget, max(8, CACHE_BYTES // vector)))
