"""`python -m benchmarks.peers LIBRARY METHOD FOLDER [first]` scores the task in FOLDER by one
method of one library and writes scores.safetensors and result.json there; seconds are without
imports. With `first` only at the library's usual damping. A method that is there to be timed
returns its seconds instead of scores."""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from safetensors.torch import save_file

from benchmarks.peers.exchange import load_task


def main() -> None:
    library, method, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    first_only = "first" in sys.argv[4:]
    torch.set_num_threads(1)
    task = load_task(folder)
    module = importlib.import_module(f"benchmarks.peers.{library}_peer")
    score = module.METHODS[method]
    before = peak_bytes()
    found, seconds, problem = [], [], None
    try:
        for seed in range(len(task.parameters)):
            torch.manual_seed(seed)
            began = time.perf_counter()
            answer = score(task, seed, folder / f"work-{method}-{seed}")
            if isinstance(answer, float):
                seconds.append(answer)
                continue
            seconds.append(time.perf_counter() - began)
            first, further = answer
            found.append(torch.stack([first, *(make() for make in further if not first_only)]))
    except Exception as error:
        traceback.print_exc()
        problem = f"{type(error).__name__}: {error}".splitlines()[0][:200]
    result = {
        "seconds": seconds,
        "peak_bytes": peak_bytes(),
        "bytes_before": before,
        "problem": problem,
    }
    if found and problem is None:
        save_file({"scores": torch.stack(found).float()}, folder / "scores.safetensors")
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")


def peak_bytes() -> int:
    """Of this program's own memory: getrusage would count the parent's before the exec too."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


if __name__ == "__main__":
    main()
