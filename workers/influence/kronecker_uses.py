"""Where a network multiplies by its trained matrices, and by vectors entry by entry as norms do:
each call's inputs, and the gradients that come back to its outputs. What is made of them lives in
`workers.influence.kronecker`.

The gradient of a matrix that is used as y_t = W x_t is Σ_t (∂ℓ/∂y_t) x_tᵀ, that of a vector as
y_t = w ∘ x_t is Σ_t (∂ℓ/∂y_t) ∘ x_t. A dispatch mode sees every linear map, product, convolution,
table lookup and norm, in networks of our own and of others alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

from workers.influence.linearised import Linearised


@dataclass(frozen=True)
class MatrixUse:
    """One call on a batch of B examples, with T input vectors for each."""

    weight: str
    """The name of a matrix, or of a vector where `is_vector`."""
    bias: str | None
    inputs: Tensor
    """(B, T, I), or the ids (B, T) of looked-up rows."""
    output: Tensor
    """As the network computed it; B · T vectors of length O."""
    inputs_are_rows: bool
    """Whether the matrix is stored as (I, O), as by tables and Conv1D; else as (O, I)."""
    has_channels_first: bool = False
    ignored: Tensor | None = None
    """(B, T) lookups that do not move the table (its padding entry)."""
    is_vector: bool = False

    @property
    def is_lookup(self) -> bool:
        return not self.inputs.is_floating_point()

    def output_gradients(self, found: Tensor | None, draws: int) -> Tensor:
        """(D, B, T, O) from gradients of the shape of the output; None stands for zero."""
        batch, length = self.inputs.shape[:2]
        if found is None:
            found = self.output.new_zeros(draws, *self.output.shape)
        if self.has_channels_first:
            found = found.flatten(3).mT
        vectors = found.reshape(draws, batch, length, -1)
        if self.ignored is not None:
            vectors = vectors.masked_fill(self.ignored[None, :, :, None], 0)
        return vectors


@dataclass(frozen=True)
class Recorded:
    """A use on a batch with its output gradients, detached."""

    use: MatrixUse
    gradients: Tensor
    """(D, B, T, O) for D cotangents of the network's outputs."""

    @property
    def nbytes(self) -> int:
        return self.use.inputs.nbytes + self.gradients.nbytes


Cotangents = Callable[[Tensor], Tensor]
"""From the outputs (B, ...) of a batch to D cotangents of them (D, B, ...)."""


def record_uses(
    at: Linearised,
    inputs: dict[str, Tensor],
    cotangents: Cotangents,
    vectors: bool = False,
) -> list[Recorded]:
    """Runs the network on a batch and pulls `cotangents` of its outputs back to every use of a
    matrix, and with `vectors` of a vector."""
    batch = len(next(iter(inputs.values())))
    parameters = at.layout.unflatten(at.parameters)
    with torch.enable_grad(), _Recorder(parameters, batch, vectors) as recorder:
        outputs: Tensor = functional_call(at.network, parameters, (), inputs)
    uses = recorder.uses
    if not uses:
        return []
    pulled = cotangents(outputs.detach())
    draws = len(pulled)
    is_batched = draws > 1
    found = torch.autograd.grad(
        outputs,
        [use.output for use in uses],
        pulled if is_batched else pulled[0],
        is_grads_batched=is_batched,
        allow_unused=True,
    )
    return [
        Recorded(
            use,
            use.output_gradients(one if one is None or is_batched else one[None], draws).detach(),
        )
        for use, one in zip(uses, found, strict=True)
    ]


def vector_gradients(recorded: Sequence[Recorded]) -> dict[str, Tensor]:
    """(D, B, I) the gradients of each example in every vector among the uses, by name."""
    found: dict[str, Tensor] = {}
    for one in recorded:
        if not one.use.is_vector:
            continue
        own = {one.use.weight: (one.gradients * one.use.inputs).sum(2)}
        if one.use.bias is not None:
            own[one.use.bias] = one.gradients.sum(2)
        for name, rows in own.items():
            found[name] = rows if name not in found else found[name] + rows
    return found


class _Recorder(TorchFunctionMode):
    """Notes each call that multiplies by one of `parameters`, whole and as it is stored."""

    def __init__(self, parameters: Mapping[str, Tensor], batch: int, vectors: bool) -> None:
        super().__init__()
        self.vectors = vectors
        self.names = {id(tensor): name for name, tensor in parameters.items()}
        self.batch = batch
        self.uses: list[MatrixUse] = []

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        keywords = kwargs or {}
        handler = _HANDLERS.get(func)
        return func(*args, **keywords) if handler is None else handler(self, func, args, keywords)

    def name_of(self, tensor: Any) -> str | None:
        return self.names.get(id(tensor))

    def note(self, output: Tensor, inputs: Tensor | None, **described: Any) -> None:
        """Keeps a use whose vectors can be shared out among the examples of the batch."""
        if inputs is not None:
            # Differentiated here, so that nothing below the first use is.
            if not output.requires_grad:
                output.requires_grad_()
            self.uses.append(MatrixUse(inputs=inputs.detach(), output=output, **described))

    def by_example(self, vectors: Tensor) -> Tensor | None:
        """(B, T, I) from (..., I), the batch outermost; None where the vectors do not divide."""
        flat = vectors.reshape(-1, vectors.shape[-1])
        if len(flat) == 0 or len(flat) % self.batch:
            return None
        return flat.reshape(self.batch, -1, flat.shape[1])

    def linear(self, func: Any, args: Sequence[Any], keywords: dict[str, Any]) -> Tensor:
        output: Tensor = func(*args, **keywords)
        values, weight, bias = _arguments(args, keywords, ("input", "weight", "bias"))
        name = self.name_of(weight)
        if name is not None:
            self.note(
                output,
                self.by_example(values),
                weight=name,
                bias=self.name_of(bias),
                inputs_are_rows=False,
            )
        return output

    def matmul(self, func: Any, args: Sequence[Any], keywords: dict[str, Any]) -> Tensor:
        output: Tensor = func(*args, **keywords)
        values, weight = args[0], _argument(args, keywords, 1, ("other", "mat2"))
        name = self.name_of(weight)
        if name is not None and weight.ndim == 2 and values.ndim >= 2:
            self.note(output, self.by_example(values), weight=name, bias=None, inputs_are_rows=True)
        return output

    def addmm(self, func: Any, args: Sequence[Any], keywords: dict[str, Any]) -> Tensor:
        output: Tensor = func(*args, **keywords)
        bias, values, weight = _arguments(args, keywords, ("input", "mat1", "mat2"))
        name = self.name_of(weight)
        if name is not None and not {"alpha", "beta"} & set(keywords):
            self.note(
                output,
                self.by_example(values),
                weight=name,
                bias=self.name_of(bias),
                inputs_are_rows=True,
            )
        return output

    def convolution(self, func: Any, args: Sequence[Any], keywords: dict[str, Any]) -> Tensor:
        output: Tensor = func(*args, **keywords)
        values, weight, bias, stride, padding, dilation, groups = _arguments(
            args,
            keywords,
            ("input", "weight", "bias", "stride", "padding", "dilation", "groups"),
            (None, None, None, 1, 0, 1, 1),
        )
        name = self.name_of(weight)
        if (
            name is not None
            and groups == 1
            and not isinstance(padding, str)
            and len(values) == self.batch
        ):
            patches = functional.unfold(
                values.detach(),
                weight.shape[2:],
                dilation=dilation,
                padding=padding,
                stride=stride,
            ).mT
            self.note(
                output,
                patches,
                weight=name,
                bias=self.name_of(bias),
                inputs_are_rows=False,
                has_channels_first=True,
            )
        return output

    def lookup(self, func: Any, args: Sequence[Any], keywords: dict[str, Any]) -> Tensor:
        ids, weight, entry, largest_norm, _, by_frequency, sparse = _arguments(
            args,
            keywords,
            (
                "input",
                "weight",
                "padding_idx",
                "max_norm",
                "norm_type",
                "scale_grad_by_freq",
                "sparse",
            ),
            (None, None, None, None, 2.0, False, False),
        )
        name = self.name_of(weight)
        if name is None or largest_norm is not None or by_frequency or sparse:
            return func(*args, **keywords)  # type: ignore[no-any-return]
        if ids.ndim == 2 and len(ids) == 1 < self.batch:
            # One row of positions for the whole batch: each example gets its own.
            ids = ids.expand(self.batch, -1)
        output: Tensor = func(ids, weight, padding_idx=entry)
        if ids.numel() and ids.numel() % self.batch == 0:
            places = ids.reshape(self.batch, -1).long()
            ignored = None
            if entry is not None and entry >= 0:
                ignored = places == entry
            self.note(output, places, weight=name, bias=None, inputs_are_rows=True, ignored=ignored)
        return output

    def product(self, func: Any, args: Sequence[Any], keywords: dict[str, Any]) -> Tensor:
        output: Tensor = func(*args, **keywords)
        if not self.vectors or keywords:
            return output
        for weight, values in (args, args[::-1]):
            name = self.name_of(weight)
            if name is not None and weight.ndim == 1 and _ends_like(values, weight):
                self.note_vector(output, values, name, None)
        return output

    def layer_norm(self, func: Any, args: Sequence[Any], keywords: dict[str, Any]) -> Tensor:
        output: Tensor = func(*args, **keywords)
        values, shape, weight, bias, epsilon = _arguments(
            args,
            keywords,
            ("input", "normalized_shape", "weight", "bias", "eps"),
            (None, None, None, None, 1e-5),
        )
        name = self.name_of(weight)
        if self.vectors and name is not None and weight.ndim == 1:
            normed = functional.layer_norm(values.detach(), shape, eps=epsilon)
            self.note_vector(output, normed, name, self.name_of(bias))
        return output

    def note_vector(self, output: Tensor, values: Tensor, weight: str, bias: str | None) -> None:
        self.note(
            output,
            self.by_example(values),
            weight=weight,
            bias=bias,
            inputs_are_rows=False,
            is_vector=True,
        )


def _ends_like(values: Any, weight: Tensor) -> bool:
    return isinstance(values, Tensor) and values.ndim > 1 and values.shape[-1] == len(weight)


def _argument(
    args: Sequence[Any], keywords: Mapping[str, Any], place: int, names: Sequence[str]
) -> Any:
    if place < len(args):
        return args[place]
    return next((keywords[name] for name in names if name in keywords), None)


def _arguments(
    args: Sequence[Any],
    keywords: Mapping[str, Any],
    names: Sequence[str],
    defaults: Sequence[Any] = (),
) -> list[Any]:
    """The arguments in the order of `names`, however they were passed."""
    padded = [*defaults, *[None] * (len(names) - len(defaults))]
    return [
        args[place] if place < len(args) else keywords.get(name, default)
        for place, (name, default) in enumerate(zip(names, padded, strict=True))
    ]


_HANDLERS: dict[Any, Callable[[_Recorder, Any, Sequence[Any], dict[str, Any]], Tensor]] = {
    functional.linear: _Recorder.linear,
    functional.conv2d: _Recorder.convolution,
    functional.embedding: _Recorder.lookup,
    functional.layer_norm: _Recorder.layer_norm,
    torch.mul: _Recorder.product,
    torch.Tensor.mul: _Recorder.product,
    torch.Tensor.__mul__: _Recorder.product,
    torch.Tensor.__rmul__: _Recorder.product,
    torch.addmm: _Recorder.addmm,
    torch.matmul: _Recorder.matmul,
    torch.mm: _Recorder.matmul,
    torch.Tensor.matmul: _Recorder.matmul,
    torch.Tensor.__matmul__: _Recorder.matmul,
    torch.Tensor.mm: _Recorder.matmul,
}
