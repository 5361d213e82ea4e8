"""The device on which steps of training and replay are computed: the processor, or a graphics card
that the operator names. What is kept (examples, recorded states, scores) lies in main memory."""

from __future__ import annotations

import os
import re

import torch

DEVICES = re.compile(r"cpu|cuda(:\d+)?")


class DeviceError(ValueError):
    """A device that cannot be used; the message says why."""


def checked_device(name: str) -> str:
    """`name` where this machine has that device. Raises DeviceError.

    A graphics card repeats its sums only with a fixed workspace of its matrix products, which has
    to be asked for before the first of them.
    """
    if DEVICES.fullmatch(name) is None:
        raise DeviceError(f"HUNCH_DEVICE is “{name}”; it must be cpu, cuda or cuda:N")
    if name == "cpu":
        return name
    if not torch.cuda.is_available():
        raise DeviceError(f"HUNCH_DEVICE is {name}, but torch finds no CUDA device here")
    if torch.device(name).index not in (None, *range(torch.cuda.device_count())):
        raise DeviceError(
            f"HUNCH_DEVICE is {name}, but this machine has {torch.cuda.device_count()} CUDA devices"
        )
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    return name
