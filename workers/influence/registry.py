"""All influence methods by name. A method is added by one file and one line here."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from workers.influence.interface import InfluenceMethod

METHODS: dict[str, str] = {
    "replay": "workers.influence.replay:Replay",
    "curvature": "workers.influence.curvature:Curvature",
    "ekfac": "workers.influence.ekfac:Ekfac",
    "unrolled": "workers.influence.unrolled:Unrolled",
    "shrunken_replay": "workers.influence.shrunken_replay:ShrunkenReplay",
    "gradient_dot": "workers.influence.similarity:GradientDot",
    "gradient_cosine": "workers.influence.similarity:GradientCosine",
    "checkpoints": "workers.influence.checkpoints:Checkpoints",
    "projected": "workers.influence.projected:Projected",
    "leave_one_out": "workers.influence.leave_one_out:LeaveOneOut",
    "control_gradient_norm": "workers.influence.controls:GradientNorm",
    "control_loss": "workers.influence.controls:Loss",
    "control_random": "workers.influence.controls:Random",
    "control_text_overlap": "workers.influence.controls:TextOverlap",
    "control_embedding_similarity": "workers.influence.controls:EmbeddingSimilarity",
}
"""name → "module:Class"; imported on use, so that one method's imports cannot break another."""


def method_class(name: str) -> type[InfluenceMethod]:
    """The class of the method called `name`. Raises KeyError that lists the known names."""
    if name not in METHODS:
        raise KeyError(f"unknown influence method “{name}”; known: {', '.join(sorted(METHODS))}")
    module, _, attribute = METHODS[name].partition(":")
    found: type[InfluenceMethod] = getattr(import_module(module), attribute)
    return found


def build_method(name: str, **options: Any) -> InfluenceMethod:
    """An instance of the method called `name`, built with its own options."""
    return method_class(name)(**options)
