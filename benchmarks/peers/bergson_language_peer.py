"""bergson's replay scores of a language model, one backward walk a behaviour over one recorded
run. It starts at the weights that the benchmark wrote beside the task and must end where Hunch's
own run did."""

from __future__ import annotations

import copy
import time
from pathlib import Path

import torch
import torchopt
from bergson.magic.trainer import BackwardState, Trainer
from safetensors.torch import load_file
from torch import Tensor
from torchopt.pytree import tree_iter

from benchmarks.peers.bergson_peer import Stream, Weighted
from benchmarks.peers.exchange import PeerTask, load_parameters
from workers.training.optimizers import learning_rates
from workers.training.recipe import Recipe


def replay(task: PeerTask, seed: int, folder: Path) -> tuple[Tensor, tuple[()]]:
    """(K, N); the seconds of the walks alone go to `walk-SEED.txt` beside the task."""
    recipe = task.recipe
    rates = learning_rates(Recipe.from_json(recipe), len(task.order[seed]))
    optimizer = torchopt.adamw(
        lambda count: rates[min(int(count), len(rates) - 1)],
        betas=(recipe["beta1"], recipe["beta2"]),
        eps=0.0,
        eps_root=recipe["epsilon"],
        weight_decay=recipe["weight_decay"],
    )
    model, stream = Weighted(task), Stream(task, seed)
    load_parameters(model.network, load_file(folder.parent / "initial.safetensors")[str(seed)])
    trainer, state = Trainer.initialize(model, optimizer)
    stream.requires_grad = False
    finished = trainer.train(state, stream, save_dir=str(folder))
    finished.detach_()
    final = torch.cat([one.flatten() for one in finished.params.values()])
    torch.testing.assert_close(final.detach(), task.parameters[seed], rtol=1e-2, atol=1e-3)
    stream.requires_grad = True
    probes = task.probes[0]
    rows, seconds = [], []
    for coefficients in probes.coefficients:
        began = time.perf_counter()
        state = copy.deepcopy(finished)  # a walk takes its state back to the start
        state.requires_grad = True
        loss = torch.func.functional_call(
            model,
            state.params,
            (),
            {
                "input_ids": probes.examples.inputs["ids"],
                "mask": probes.examples.inputs["mask"],
                "labels": probes.examples.targets,
                # The raw loss divides by the batch size; a behaviour does not.
                "example_weight": coefficients * recipe["batch_size"],
            },
        )
        names = list(state.params)
        gradients = torch.autograd.grad(loss, [state.params[name] for name in names])
        state.detach_()
        moments = [
            torch.zeros_like(one)
            for one in tree_iter(state.opt_state)
            if isinstance(one, Tensor) and one.is_floating_point()
        ]
        backward = BackwardState(
            dict(zip(names, gradients, strict=True)), moments, torch.zeros_like(stream.weights)
        )
        found = trainer.backward(str(folder), stream, backward, state, cleanup=False)
        rows.append(found.weight_grads.detach().clone())
        seconds.append(time.perf_counter() - began)
    (folder.parent / f"walk-{seed}.txt").write_text(str(sum(seconds) / len(seconds)))
    return torch.stack(rows), ()


METHODS = {"replay": replay}
