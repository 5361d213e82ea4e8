"""Activation checkpointing (Chen et al. 2016): layers that keep their inputs alone for the way
back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint


class Recomputation:
    """Lets every layer of a network's stacks compute its activations again in the backward pass,
    for forward passes made in a block `on`; outputs and first derivatives stay what they were.

    Outside it nothing changes, for two uses would go wrong without a word: second derivatives,
    since what is computed again has no graph to the layer's inputs; and `functional_call`, whose
    parameters are gone when layers are computed again.
    """

    def __init__(self, network: nn.Module) -> None:
        self.is_on = False
        for stack in network.modules():
            if isinstance(stack, nn.ModuleList):
                for layer in stack:
                    layer.forward = self._wrapped(layer.forward)

    def _wrapped(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        def recomputed(*arguments: Any, **named: Any) -> Any:
            if not self.is_on:
                return forward(*arguments, **named)
            return checkpoint(forward, *arguments, use_reentrant=False, **named)

        return recomputed

    @contextmanager
    def on(self) -> Iterator[None]:
        self.is_on = True
        try:
            yield
        finally:
            self.is_on = False
