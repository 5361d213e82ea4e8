"""A trial run of an uploaded model in a process of its own, under memory and time limits.

`run_trial` is called by the process that must survive; `python -m workers.formats.models_trial`
is what it starts.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.formats.errors import FormatError
from workers.formats.models_json import short

if TYPE_CHECKING:
    from workers.formats.models import ModelLimits, ModelSummary

PIECES = (" ", "a", "A", "1", "'", "\n", "\t", ".", "é", "aA", " a", "a ", "1a", "\r\n", "中", "😀")
LONG_TEXT = 20_000
REFUSED, PASSED = 3, 0
ROOT = Path(__file__).resolve().parents[2]


def run_trial(
    folder: Path, summary: ModelSummary, limits: ModelLimits, *, language_model: bool = False
) -> None:
    """Load the tokenizer and the weights of a checked folder and run both on hard texts.

    Raises FormatError when they fail, crash, or pass the limits of time (`trial_seconds`) or
    address space (`trial_memory`).
    """
    request = {
        "folder": str(folder.resolve()),
        "configuration": summary.configuration,
        "vocabulary_size": summary.vocabulary_size,
        "language_model": language_model,
        "memory": limits.trial_memory,
        "seconds": limits.trial_seconds,
    }
    with tempfile.TemporaryFile() as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "workers.formats.models_trial"],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.DEVNULL,
            cwd=ROOT,
            env={
                "PATH": os.environ.get("PATH", ""),
                "OMP_NUM_THREADS": "1",
                "RAYON_NUM_THREADS": "1",
                "HF_HUB_OFFLINE": "1",
            },
        )
        try:
            child.communicate(json.dumps(request).encode(), timeout=limits.trial_seconds)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            raise FormatError(
                rule=f"the model did not finish its trial run in {limits.trial_seconds} seconds"
            ) from None
        output.seek(0)
        answer = output.read(65_536)
    if child.returncode == REFUSED:
        raise FormatError(**json.loads(answer))
    if child.returncode != PASSED:
        raise FormatError(
            rule="the model's trial run crashed or needed more than "
            f"{limits.trial_memory // 1024**2:,} MiB of memory"
        )


def trial(request: dict[str, Any]) -> None:
    """The work inside the limited process; raises FormatError."""
    from workers.formats.models import load_backbone
    from workers.formats.models_tokenizer import load_tokenizer

    folder = Path(request["folder"])
    tokenizer = load_tokenizer(folder, request["vocabulary_size"])
    texts = ["", *(piece * (LONG_TEXT // len(piece)) for piece in PIECES)]
    texts.append("".join(PIECES) * (LONG_TEXT // 20))
    for text in texts:
        ids = tokenizer.encode(text).ids
        if ids and max(ids) >= request["vocabulary_size"]:
            raise FormatError(rule="the tokenizer makes ids outside the model's vocabulary")
    backbone = load_backbone(
        folder, request["configuration"], language_model=request["language_model"]
    )
    check_forward(backbone, tokenizer.encode("A short text, twice 12.").ids[:16] or [0])


def check_forward(backbone: Any, ids: list[int]) -> None:
    """One batch of two texts must give finite hidden states, or scores of next tokens."""
    import torch

    from workers.training.networks.language_model import UploadedLanguageModel
    from workers.training.networks.uploaded import hidden_states

    rows = torch.tensor([ids, ids])
    mask = torch.ones_like(rows, dtype=torch.bool)
    try:
        with torch.no_grad():
            if backbone.get_output_embeddings() is None:
                hidden = hidden_states(backbone, rows, mask)
            else:
                hidden = UploadedLanguageModel(backbone)(rows, mask)
    except Exception as error:
        raise FormatError(rule=f"the model does not run: {short(error)}") from error
    if not bool(torch.isfinite(hidden).all()):
        raise FormatError(rule="the model's outputs are not finite numbers")


def main() -> int:
    request = json.load(sys.stdin)
    resource.setrlimit(resource.RLIMIT_CPU, (request["seconds"], request["seconds"] + 5))
    resource.setrlimit(resource.RLIMIT_AS, (request["memory"], request["memory"]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        trial(request)
    except FormatError as error:
        answer = {"file": error.file, "row": error.row, "field": error.field, "rule": error.rule}
        sys.stdout.write(json.dumps(answer))
        return REFUSED
    return PASSED


if __name__ == "__main__":
    sys.exit(main())
