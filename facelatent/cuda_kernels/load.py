"""Load the compiled kernels; a failure is remembered for the process and told once."""

from __future__ import annotations

import ctypes
import warnings
from functools import cache
from typing import Literal

from facelatent.cuda_kernels.build import build, build_cpu
from facelatent.errors import KernelsUnavailable

Kind = Literal["cpu", "cuda"]


@cache
def _outcome(kind: Kind) -> ctypes.CDLL | KernelsUnavailable:
    try:
        return ctypes.CDLL(str(build_cpu() if kind == "cpu" else build()))
    except KernelsUnavailable as error:
        return error


def library(kind: Kind) -> ctypes.CDLL:
    """The loaded library, compiled first where needed.

    Raises:
        KernelsUnavailable: it cannot be compiled or loaded here; the message says why.
    """
    outcome = _outcome(kind)
    if isinstance(outcome, KernelsUnavailable):
        raise outcome
    return outcome


@cache
def available(kind: Kind) -> bool:
    """Whether :func:`library` works; if not, warns once."""
    try:
        library(kind)
    except KernelsUnavailable as error:
        warnings.warn(f"{kind} kernels: {error}; using plain PyTorch", RuntimeWarning, stacklevel=2)
        return False
    return True


def status() -> str:
    """One line for each kind of kernels."""
    return "not examined"
