"""An uploaded causal language model: trained whole, in its last layers, or by low-rank adapters.

Reading the upload is the job of `workers.formats.models`, its tokens of
`workers.training.encoding`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from workers.training.networks.full_precision import keep_precision
from workers.training.networks.low_rank import add_adapters
from workers.training.networks.uploaded import blocked_attention, freeze_all_but_last


class UploadedLanguageModel(nn.Module):
    """ids (B, L) int, mask (B, L) bool -> next-token scores (B, L, V), aligned with targets that
    the encoding has shifted. Texts are padded on the right."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        blocked = blocked_attention(mask, causal=True, dtype=self.model.dtype)
        scores: Tensor = self.model(
            input_ids=ids.long(), attention_mask=blocked, use_cache=False
        ).logits
        return scores


def build_language_model(architecture: dict[str, Any], generator: torch.Generator) -> nn.Module:
    """The weights are drawn from the seed; an upload's own come as starting weights. Frozen
    parameters have `requires_grad` off."""
    from transformers import AutoConfig, AutoModelForCausalLM

    settings = dict(architecture["model_configuration"])
    config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator.initial_seed() % 2**63)
        model: Any = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    keep_precision(model)
    part = architecture["trained_part"]
    if part != "all":
        model.requires_grad_(False)
    if part == "last_layers":
        freeze_all_but_last(model.base_model, architecture["last_layers"])
    elif part == "lora":
        rank = architecture["lora_rank"]
        add_adapters(model.base_model, rank, architecture["lora_scale"] / rank, generator)
    return UploadedLanguageModel(model)
