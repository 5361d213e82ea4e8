"""An uploaded transformers model as a classifier: its backbone, pooling, and a new head.

With a frozen encoder only the head is built, since the encoder's features are computed once by
`workers.training.encoding`. Reading the upload itself is the job of `workers.formats.models`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from workers.training.networks.full_precision import keep_precision
from workers.training.networks.layers import masked_mean
from workers.training.networks.mlp import MultilayerPerceptron
from workers.training.networks.settings import ArchitectureError

FINAL_NORMS = ("norm", "ln_f", "final_layer_norm", "final_layernorm")
ENCODERS = ("bert", "roberta", "xlm-roberta", "camembert", "distilbert", "electra", "mpnet")


class UploadedClassifier(nn.Module):
    """ids (B, L) int, mask (B, L) bool -> class scores (B, C)."""

    def __init__(self, backbone: Any, pooling: str, head: MultilayerPerceptron) -> None:
        super().__init__()
        self.backbone = backbone
        self.pooling = pooling
        self.head = head

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        scores: Tensor = self.head(pooled_features(self.backbone, ids, mask, self.pooling))
        return scores


def pooled_features(backbone: Any, ids: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """One vector a text, (B, H): the mean over its tokens, its first token, or its last."""
    hidden = hidden_states(backbone, ids, mask)
    if pooling == "mean":
        return masked_mean(hidden, mask)
    if pooling == "first":
        return hidden[:, 0]
    after = torch.nn.functional.pad(mask[:, 1:], (0, 1))
    return masked_mean(hidden, mask & ~after)


def hidden_states(backbone: Any, ids: Tensor, mask: Tensor) -> Tensor:
    """Last hidden states (B, L, H) of texts padded on the right.

    The four-dimensional mask is made here: transformers passes it through as it is, whereas its
    own mask building branches on the data, which batched derivatives cannot follow.
    """
    dtype = next(backbone.parameters()).dtype
    blocked = blocked_attention(mask, not is_encoder(backbone.config.model_type), dtype)
    hidden: Tensor = backbone(input_ids=ids.long(), attention_mask=blocked).last_hidden_state
    return hidden


def blocked_attention(mask: Tensor, causal: bool, dtype: torch.dtype) -> Tensor:
    """(B, 1, L, L), 0 where a token may attend and very negative where not."""
    length = mask.shape[-1]
    allowed = mask[:, None, None, :].expand(-1, 1, length, -1)
    if causal:
        allowed = allowed & torch.ones(length, length, dtype=torch.bool, device=mask.device).tril()
    return (~allowed).to(dtype) * torch.finfo(torch.float32).min


def is_encoder(model_type: str) -> bool:
    """Whether every token may attend to later ones."""
    return model_type in ENCODERS


def build_backbone(configuration: dict[str, Any], seed: int) -> Any:
    """The transformers model without any head, dropout off, weights drawn from `seed`.

    `configuration` must have passed `workers.formats.models.checked_configuration`.
    """
    from transformers import AutoConfig, AutoModel

    settings = dict(configuration)
    config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    extra = {"add_pooling_layer": False} if has_optional_pooler(config.model_type) else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = AutoModel.from_config(config, attn_implementation="eager", **extra)
    if not is_encoder(config.model_type):
        keep_precision(backbone)
    return backbone.eval()


def has_optional_pooler(model_type: str) -> bool:
    """Whether the model class would add a pooling layer of its own, which Hunch leaves out."""
    return model_type in ("bert", "roberta", "xlm-roberta", "camembert", "mpnet")


def build_uploaded(architecture: dict[str, Any], generator: torch.Generator) -> nn.Module:
    frozen = architecture["trained_part"] == "head"
    backbone: Any = None
    features = architecture["number_of_features"]
    if not frozen:
        backbone = build_backbone(
            architecture["model_configuration"], generator.initial_seed() % 2**63
        )
        features = backbone.config.hidden_size
    head = MultilayerPerceptron(
        features,
        architecture["hidden"],
        architecture["number_of_outputs"],
        architecture["activation"],
        generator,
    )
    if backbone is None:
        return head
    if architecture["trained_part"] == "last_layers":
        freeze_all_but_last(backbone, architecture["last_layers"])
    return UploadedClassifier(backbone, architecture["pooling"], head)


def freeze_all_but_last(backbone: Any, last_layers: int) -> None:
    """Leave only the last layers, and a final norm where the model has one, to be trained."""
    total = backbone.config.num_hidden_layers
    stacks = [
        module
        for module in backbone.modules()
        if isinstance(module, nn.ModuleList) and len(module) == total
    ]
    if last_layers > total or not stacks:
        raise ArchitectureError("last_layers", f"the model has {total} layers")
    backbone.requires_grad_(False)
    for layer in stacks[0][total - last_layers :]:
        layer.requires_grad_(True)
    for name, module in backbone.named_children():
        if name in FINAL_NORMS:
            module.requires_grad_(True)
