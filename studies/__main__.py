"""`python -m studies NAME…` runs studies and writes docs/studies; without a name, all of them. A
study is a file beside this one with a function `run(folder, small) -> Path`."""

from __future__ import annotations

import argparse
import importlib
import tempfile
from pathlib import Path

import torch

from studies.report import FOLDER

NAMES = ("reversal", "memorisation", "poison", "out_of_distribution")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m studies", description=__doc__)
    parser.add_argument("name", nargs="*", help=f"one of: {', '.join(NAMES)}")
    parser.add_argument(
        "--small", action="store_true", help="a quick look, written to a temporary folder"
    )
    chosen = parser.parse_args()
    for name in chosen.name:
        if name not in NAMES:
            parser.error(f"there is no study “{name}”; there are: {', '.join(NAMES)}")
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(prefix="hunch-study-")) if chosen.small else FOLDER
    for name in chosen.name or NAMES:
        print(f"{name}:")
        path = importlib.import_module(f"studies.{name}").run(folder, small=chosen.small)
        print(f"told in {path}")


if __name__ == "__main__":
    main()
