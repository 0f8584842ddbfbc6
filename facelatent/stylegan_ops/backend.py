"""Which implementation of an operator runs: plain PyTorch, or compiled kernels for the CPU or a GPU."""

from __future__ import annotations

import os
from typing import Literal, get_args

import torch

from facelatent import cuda_kernels
from facelatent.errors import KernelsUnavailable

Backend = Literal["auto", "reference", "cpu", "cuda"]


def chosen(backend: Backend | None, device: torch.device) -> Literal["reference", "cpu", "cuda"]:
    """The backend to use for tensors on ``device``.

    Args:
        backend: ``auto`` takes the device's kernels where they can be had, else plain PyTorch; ``reference`` is always
            plain PyTorch; None asks the environment variable FACELATENT_BACKEND, and is ``auto`` without it.
        device: of the tensors.

    Raises:
        ValueError: an unknown backend.
        KernelsUnavailable: named kernels that do not fit the device or cannot be built here.
    """
    name = backend or os.environ.get("FACELATENT_BACKEND") or "auto"
    if name not in get_args(Backend):
        raise ValueError(f"backend must be one of {', '.join(get_args(Backend))}, got {name!r}")
    if name == "reference":
        return "reference"
    kind: Literal["cpu", "cuda"] | None = {"cpu": "cpu", "cuda": "cuda"}.get(device.type)  # type: ignore[assignment]
    if name == "auto":
        return kind if kind is not None and cuda_kernels.available(kind) else "reference"
    if name != kind:
        raise KernelsUnavailable(f"backend {name!r} does not run on {device}; try auto")
    cuda_kernels.library(kind)
    return kind
