"""The built-in networks as the forms offer them.

The web process never imports the learning code, so its catalogue is repeated here in the form that
people need; a test holds the two together.
"""

from dataclasses import dataclass
from typing import Any

from curation.models import Task


@dataclass(frozen=True)
class NetworkSetting:
    """One setting a person may change. ``kind``: integer, integers, choice or switch."""

    name: str
    title: str
    kind: str
    default: Any
    minimum: int = 0
    maximum: int = 0
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Network:
    name: str
    title: str
    explanation: str
    tasks: tuple[str, ...]
    settings: tuple[NetworkSetting, ...]


_ACTIVATION = NetworkSetting(
    "activation", "Activation", "choice", "gelu", choices=("gelu", "tanh", "silu", "softplus")
)
_TOKENS = NetworkSetting(
    "tokenizer_size", "Tokens of a trained tokenizer", "integer", 2000, 300, 100_000
)
_TRANSFORMER = (
    NetworkSetting("width", "Width", "integer", 64, 4, 2048),
    NetworkSetting("layers", "Layers", "integer", 2, 1, 48),
    NetworkSetting("heads", "Attention heads", "integer", 4, 1, 64),
    NetworkSetting("maximum_length", "Longest text, in tokens", "integer", 64, 2, 4096),
    NetworkSetting("tokenizer", "Tokenizer", "choice", "trained", choices=("trained", "bytes")),
    _TOKENS,
)

NETWORKS: tuple[Network, ...] = (
    Network(
        "bag_of_embeddings",
        "Bag of embeddings",
        "Sums embeddings of words and character n-grams: a quick first text classifier.",
        (Task.TEXT_CLASSIFICATION,),
        (
            NetworkSetting("tokenizer", "Units", "choice", "hashed", choices=("hashed", "trained")),
            NetworkSetting(
                "buckets", "Hash buckets (a power of two)", "integer", 4096, 64, 262_144
            ),
            _TOKENS,
            NetworkSetting("width", "Embedding width", "integer", 16, 1, 1024),
            NetworkSetting("hidden", "Hidden units (0 for none)", "integer", 16, 0, 4096),
            _ACTIVATION,
        ),
    ),
    Network(
        "transformer",
        "Small transformer",
        "A small attention encoder trained from scratch on the texts.",
        (Task.TEXT_CLASSIFICATION,),
        _TRANSFORMER,
    ),
    Network(
        "mlp",
        "Multilayer perceptron",
        "Hidden layers on numeric features, for relations that are not linear.",
        (Task.TABULAR_CLASSIFICATION, Task.TABULAR_REGRESSION),
        (NetworkSetting("hidden", "Hidden layers", "integers", (64,), 1, 4096), _ACTIVATION),
    ),
    Network(
        "softmax_regression",
        "Softmax regression",
        "One linear score per class: fast, convex and easy to check.",
        (Task.TABULAR_CLASSIFICATION,),
        (),
    ),
    Network(
        "linear_regression",
        "Linear regression",
        "One linear score; with weight decay it is ridge regression.",
        (Task.TABULAR_REGRESSION,),
        (),
    ),
    Network(
        "convolutional",
        "Small convolutional network",
        "A few convolutions for small images stored as arrays.",
        (Task.IMAGE_CLASSIFICATION,),
        (NetworkSetting("channels", "Channels", "integers", (16, 32), 1, 512), _ACTIVATION),
    ),
    Network(
        "causal_transformer",
        "Small language model",
        "A small causal transformer that learns to predict the next token.",
        (Task.TEXT, Task.PROMPT_COMPLETION),
        (
            *_TRANSFORMER,
            NetworkSetting(
                "loss_on",
                "Tokens that count",
                "choice",
                "completion",
                choices=("completion", "all"),
            ),
        ),
    ),
)


def network_named(name: str) -> Network | None:
    return next((network for network in NETWORKS if network.name == name), None)


def title_of(architecture: dict[str, Any]) -> str:
    """The title of an architecture for headings; uploaded models are not in the catalogue."""
    name = str(architecture.get("name", ""))
    network = network_named(name)
    if network is not None:
        return network.title
    return "Uploaded model" if name == "transformers" else name.replace("_", " ").capitalize()
